// What the tests of block I/O share: aligned memory, a folder on a disk, answers that are counted and waited for.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../native/io/io_engine.h"
#include "test.h"

namespace nandu::test {

inline constexpr uint32_t kPage = kIoAlign;
inline constexpr IoBackend kBackends[] = {IoBackend::kUring, IoBackend::kPool, IoBackend::kMmap};

inline const char* name_of(IoBackend backend) {
  return backend == IoBackend::kUring ? "uring" : backend == IoBackend::kPool ? "pool" : "mmap";
}

// Memory aligned for O_DIRECT.
struct Pages {
  uint8_t* data;
  size_t bytes;
  explicit Pages(size_t size) : data(static_cast<uint8_t*>(std::aligned_alloc(kPage, size))), bytes(size) {
    memset(data, 0, bytes);
  }
  ~Pages() { std::free(data); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void fill(Random& random) {
    for (size_t i = 0; i < bytes; i += 8) {
      const uint64_t value = random.next();
      memcpy(data + i, &value, 8);
    }
  }
};

// A folder that goes with the test.
struct Folder {
  std::string path;
  Folder() {
    char name[] = "/var/tmp/nandu-io-XXXXXX";  // a disk, where /tmp may be memory
    if (mkdtemp(name)) path = name;
  }
  ~Folder() {
    for (const char* file : {"a", "b"}) unlink((path + "/" + file).c_str());
    rmdir(path.c_str());
  }
  std::string file(const char* name) const { return path + "/" + name; }
};

// Counts answers and waits for them.
struct Answers {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int32_t> results;  // in order
  std::vector<int32_t> times;    // by number of the request: how often it was answered
  std::vector<uint32_t> order;   // numbers
  std::function<void(int32_t)> expect(uint32_t number) {
    const std::lock_guard lock(mutex);
    if (times.size() <= number) times.resize(number + 1);
    return [this, number](int32_t result) {
      const std::lock_guard inner(mutex);
      results.push_back(result);
      times[number]++;
      order.push_back(number);
      changed.notify_all();
    };
  }
  void wait(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return results.size() >= count; });
  }
  bool once_each() {
    const std::lock_guard lock(mutex);
    return std::all_of(times.begin(), times.end(), [](int32_t n) { return n == 1; });
  }
  size_t count(int32_t result) {
    const std::lock_guard lock(mutex);
    return static_cast<size_t>(std::count(results.begin(), results.end(), result));
  }
};

inline std::unique_ptr<IoEngine> open_engine(IoBackend backend, const std::string& fault = "",
                                             uint32_t window = 8u << 20) {
  IoOptions options;
  options.backend = backend;
  options.fault = fault;
  options.window_bytes = window;
  Result<std::unique_ptr<IoEngine>> engine = open_io_engine(options);
  if (!engine.ok()) {
    fprintf(stderr, "io_test: %s\n", engine.error().message.c_str());
    abort();
  }
  return std::move(engine.value());
}

inline uint32_t add(IoEngine& io, const std::string& path) {
  Result<uint32_t> file = io.add_file(path, true, false);
  EXPECT_MSG(file.ok(), file.ok() ? "" : file.error().message);
  return file.ok() ? file.value() : 0;
}

inline IoRequest make(IoOp op, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes,
                      std::function<void(int32_t)> done, IoClass priority = IoClass::kDemandKv, uint64_t group = 0) {
  IoRequest request;
  request.op = op;
  request.priority = priority;
  request.file = file;
  request.offset = offset;
  request.data = data;
  request.bytes = bytes;
  request.group = group;
  request.done = std::move(done);
  return request;
}

inline int32_t run(IoEngine& io, IoOp op, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes) {
  Answers answers;
  io.submit(make(op, file, offset, data, bytes, answers.expect(0)));
  answers.wait(1);
  return answers.results[0];
}
inline int32_t allocate(IoEngine& io, uint32_t file, uint64_t offset, uint64_t length) {
  Answers answers;
  IoRequest request = make(IoOp::kAllocate, file, offset, nullptr, 0, answers.expect(0));
  request.length = length;
  io.submit(std::move(request));
  answers.wait(1);
  return answers.results[0];
}

}  // namespace nandu::test
