// Block I/O: the same tests on io_uring, pool and mmap, alone and behind the fault shim, against an image in memory.
// The queue's order and shares are driven by hand with a clock of our own, so nothing here depends on a disk's speed.
// Not proved here: that data survive a power loss (the store's tests), and bandwidth (bench/io).
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "../../native/io/io_engine.h"
#include "../../native/io/queue.h"
#include "test.h"

using namespace nandu;
using test::Random;

namespace {

constexpr uint32_t kPage = kIoAlign;
constexpr IoBackend kBackends[] = {IoBackend::kUring, IoBackend::kPool, IoBackend::kMmap};

const char* name_of(IoBackend backend) {
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

std::unique_ptr<IoEngine> open_engine(IoBackend backend, const std::string& fault = "", uint32_t window = 8u << 20) {
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

uint32_t add(IoEngine& io, const std::string& path) {
  Result<uint32_t> file = io.add_file(path, true, false);
  EXPECT_MSG(file.ok(), file.ok() ? "" : file.error().message);
  return file.ok() ? file.value() : 0;
}

IoRequest make(IoOp op, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes,
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

int32_t run(IoEngine& io, IoOp op, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes) {
  Answers answers;
  io.submit(make(op, file, offset, data, bytes, answers.expect(0)));
  answers.wait(1);
  return answers.results[0];
}

// Random writes and reads, many in flight, against an image. Requests of a round do not overlap, so any order is right.
void compare_with_image(IoBackend backend, const std::string& fault, uint64_t seed) {
  Folder folder;
  constexpr uint32_t kFilePages = 2048, kRounds = 8, kSlots = 32, kSlotPages = kFilePages / kSlots;
  auto io = open_engine(backend, fault, 1u << 20);
  const uint32_t file = add(*io, folder.file("a"));
  Pages image(size_t{kFilePages} * kPage), buffer(size_t{kFilePages} * kPage);
  Random random(seed);
  EXPECT(io->allocate(file, 0, image.bytes) == 0);
  EXPECT(io->file_bytes(file) == image.bytes);
  for (uint32_t round = 0; round < kRounds; round++) {
    Answers answers;
    std::vector<std::pair<size_t, size_t>> reads;
    for (uint32_t slot = 0; slot < kSlots; slot++) {
      const uint32_t first = random.below(kSlotPages), pages = 1 + random.below(kSlotPages - first);
      const size_t at = (size_t{slot} * kSlotPages + first) * kPage, bytes = size_t{pages} * kPage;
      const IoClass priority = static_cast<IoClass>(random.below(kIoClasses));
      if (random.below(2)) {
        for (size_t i = 0; i < bytes; i += 8) {
          const uint64_t value = random.next();
          memcpy(image.data + at + i, &value, 8);
        }
        io->submit(make(IoOp::kWrite, file, at, image.data + at, static_cast<uint32_t>(bytes), answers.expect(slot),
                        priority));
      } else {
        memset(buffer.data + at, 0xee, bytes);
        reads.push_back({at, bytes});
        io->submit(make(IoOp::kRead, file, at, buffer.data + at, static_cast<uint32_t>(bytes), answers.expect(slot),
                        priority));
      }
    }
    io->submit(make(IoOp::kSync, file, 0, nullptr, 0, answers.expect(kSlots)));
    answers.wait(kSlots + 1);
    EXPECT(answers.once_each());
    EXPECT(answers.count(0) == kSlots + 1);
    for (const auto& [at, bytes] : reads) EXPECT(memcmp(buffer.data + at, image.data + at, bytes) == 0);
  }
  EXPECT(run(*io, IoOp::kRead, file, 0, buffer.data, static_cast<uint32_t>(buffer.bytes)) == 0);
  EXPECT(memcmp(buffer.data, image.data, image.bytes) == 0);
  const IoStats stats = io->stats();
  EXPECT(stats.inflight_bytes == 0 && stats.errors == 0);
  for (uint32_t c = 0; c < kIoClasses; c++) EXPECT(stats.queued_bytes[c] == 0);
  EXPECT((stats.faults > 0) == !fault.empty());
  EXPECT(stats.read_p50_us > 0 && stats.read_p99_us >= stats.read_p50_us);
}

}  // namespace

TEST(io_reads_what_was_written_with_many_in_flight) {
  for (const IoBackend backend : kBackends) {
    compare_with_image(backend, "", 1);
    auto io = open_engine(backend);
    if (backend != IoBackend::kUring || io->remark().empty())
      EXPECT(std::string(io->backend()) == (backend == IoBackend::kUring ? "io_uring" : name_of(backend)));
  }
}

TEST(io_hides_short_transfers_eintr_and_eagain) {
  for (const IoBackend backend : kBackends) compare_with_image(backend, "seed=2,short=0.5", 2);
}

TEST(io_is_right_when_requests_are_late_and_out_of_order) {
  for (const IoBackend backend : kBackends) compare_with_image(backend, "seed=3,reorder=0.5,delay-ms=2:0.2", 3);
}
