// Block I/O: the same tests on io_uring, pool and mmap, alone and behind the fault shim, against an image in memory.
// The queue's order and shares are driven by hand with a clock of our own, so nothing here depends on a disk's speed.
// Not proved here: that data survive a power loss (the store's tests), and bandwidth (bench/io).
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "../../native/base/mapping_guard.h"
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

namespace {

// The queue driven by hand: we are its device and its clock.
uint64_t clock_us;
struct Desk {
  bool woken = false;
  IoQueue queue;
  Answers answers;
  explicit Desk(uint32_t window, double short_transfers = 0)
      : queue({window, short_transfers, 7, [this] { woken = true; }, [] { return clock_us; }}) {
    clock_us = 1'000'000;
  }
  void submit(IoClass priority, uint32_t number, uint32_t bytes = kIoPieceBytes, uint64_t group = 0) {
    // Nothing is moved, so any aligned address does.
    queue.submit(make(priority == IoClass::kWriteBack ? IoOp::kWrite : IoOp::kRead, number, 0,
                      reinterpret_cast<uint8_t*>(uintptr_t{kPage}), bytes, answers.expect(number), priority, group));
  }
  // Number of the request whose piece comes next; -1: none now; -2: closed.
  int32_t take(std::vector<IoQueue::Piece>& taken) {
    IoQueue::Piece piece;
    const IoQueue::Take result = queue.take(piece);
    if (result != IoQueue::Take::kPiece) return result == IoQueue::Take::kClosed ? -2 : -1;
    const int32_t number = static_cast<int32_t>(piece.file);
    taken.push_back(std::move(piece));
    return number;
  }
  void finish(std::vector<IoQueue::Piece>& taken, size_t index = 0) {
    IoQueue::Piece piece = std::move(taken[index]);
    taken.erase(taken.begin() + static_cast<ptrdiff_t>(index));
    const int32_t bytes = static_cast<int32_t>(piece.bytes);
    queue.finish(piece, bytes);
  }
  // Takes all that is given out now and counts it.
  size_t take_all(std::vector<IoQueue::Piece>& taken) {
    size_t count = 0;
    while (take(taken) >= 0) count++;
    return count;
  }
};

}  // namespace

TEST(io_queue_lets_a_demand_read_pass_a_hundred_write_backs) {
  Desk desk(kIoPieceBytes);
  std::vector<IoQueue::Piece> taken;
  for (uint32_t i = 0; i < 100; i++) desk.submit(IoClass::kWriteBack, i);
  EXPECT(desk.take(taken) == 0);
  EXPECT(desk.take(taken) == -1);  // the window is one piece
  desk.submit(IoClass::kPrefetch, 100);
  desk.submit(IoClass::kDemandKv, 101);
  desk.submit(IoClass::kDemandExpert, 102);
  EXPECT(desk.woken);
  for (const int32_t next : {102, 101, 100, 1, 2}) {
    desk.finish(taken);
    EXPECT(desk.take(taken) == next);
  }
}

TEST(io_queue_keeps_the_shares_of_its_classes) {
  for (const bool contended : {false, true}) {
    const auto pieces = [&](IoClass priority) {
      Desk desk(8 * kIoPieceBytes);
      std::vector<IoQueue::Piece> taken;
      if (contended) {
        desk.submit(IoClass::kDemandKv, 20, kPage);
        EXPECT(desk.take(taken) == 20);
      }
      for (uint32_t i = 0; i < 20; i++) desk.submit(priority, i);
      const size_t count = desk.take_all(taken);
      // Once everything has come back, the rest comes too.
      size_t all = count;
      while (!taken.empty()) {
        desk.finish(taken);
        all += desk.take_all(taken);
      }
      EXPECT(all == 20 && desk.answers.once_each());
      return count;
    };
    EXPECT(pieces(IoClass::kDemandExpert) == (contended ? 7 : 8));
    EXPECT(pieces(IoClass::kPrefetch) == (contended ? 2 : 8));
    EXPECT(pieces(IoClass::kGuess) == (contended ? 0 : 4));
    EXPECT(pieces(IoClass::kWriteBack) == (contended ? 1 : 4));
  }
}

TEST(io_queue_starves_nobody_under_endless_demand) {
  for (const IoClass low : {IoClass::kDemandKv, IoClass::kPrefetch, IoClass::kGuess, IoClass::kWriteBack}) {
    Desk desk(4 * kIoPieceBytes);
    std::vector<IoQueue::Piece> taken;
    for (uint32_t i = 0; i < 3; i++) desk.submit(low, i);
    uint32_t number = 3;
    while (number < 20) desk.submit(IoClass::kDemandExpert, number++);
    const uint64_t begin = clock_us;
    size_t most_together = 0;
    while (clock_us - begin < 2'500'000 && !(desk.answers.times[0] && desk.answers.times[2])) {
      while (desk.take(taken) >= 0) {
      }
      const auto low_in_flight = static_cast<size_t>(
          std::count_if(taken.begin(), taken.end(), [](const IoQueue::Piece& piece) { return piece.file < 3; }));
      most_together = std::max(most_together, low_in_flight);
      desk.finish(taken);
      desk.submit(IoClass::kDemandExpert, number++);
      clock_us += 1000;  // 1 GB/s
    }
    // Patience: 50 ms a class, 2 s for write-back.
    EXPECT_MSG(clock_us - begin < (low == IoClass::kWriteBack ? 2'200'000u : 250'000u),
               std::to_string(clock_us - begin));
    EXPECT(clock_us - begin >= (low == IoClass::kWriteBack ? 2'000'000u : 50'000u));
    // However long they waited, demand keeps most of the window.
    if (low != IoClass::kDemandKv) EXPECT(most_together == 1);
    while (!taken.empty()) {
      desk.finish(taken);
      desk.take_all(taken);
    }
    EXPECT(desk.answers.once_each());
  }
}

TEST(io_queue_cuts_requests_and_tries_again_what_was_short) {
  Desk desk(64u << 20);
  std::vector<IoQueue::Piece> taken;
  desk.submit(IoClass::kDemandKv, 0, 2 * kIoPieceBytes + kPage);
  EXPECT(desk.take_all(taken) == 3);
  EXPECT(taken[0].bytes == kIoPieceBytes && taken[2].bytes == kPage && taken[2].offset == 2 * kIoPieceBytes);
  IoQueue::Piece piece = std::move(taken[0]);
  desk.queue.finish(piece, 5 * kPage + 17);  // goes on at a whole page
  std::vector<IoQueue::Piece> again;
  EXPECT(desk.take_all(again) == 1);
  EXPECT(again[0].offset == 5 * kPage && again[0].bytes == kIoPieceBytes - 5 * kPage);
  EXPECT(again[0].data == reinterpret_cast<uint8_t*>(uintptr_t{kPage}) + 5 * kPage);
  for (const int32_t error : {-EINTR, -EAGAIN}) {
    piece = std::move(again[0]);
    desk.queue.finish(piece, error);
    again.clear();
    EXPECT(desk.take_all(again) == 1 && again[0].offset == 5 * kPage);
  }
  desk.finish(again);
  taken.erase(taken.begin());
  desk.finish(taken);
  EXPECT(desk.take_all(again) == 0 && desk.answers.results.empty());
  desk.finish(taken);
  EXPECT(desk.take_all(again) == 0 && desk.answers.count(0) == 1);
  EXPECT(desk.queue.stats().read_bytes[static_cast<uint32_t>(IoClass::kDemandKv)] == 2 * kIoPieceBytes + kPage);
}

TEST(io_queue_gives_up_on_a_device_that_never_moves_a_byte) {
  for (const int32_t answer : {-EINTR, -EAGAIN, 0, 511, -EIO}) {
    Desk desk(64u << 20);
    std::vector<IoQueue::Piece> taken;
    desk.submit(IoClass::kDemandKv, 0, 3 * kIoPieceBytes);
    uint32_t attempts = 0;
    while (desk.take(taken) == 0 && attempts < 1000) {
      IoQueue::Piece piece = std::move(taken.back());
      taken.pop_back();
      desk.queue.finish(piece, answer);
      attempts++;
    }
    EXPECT(attempts == (answer == 0 || answer == -EIO ? 1 : 64));
    EXPECT(desk.answers.once_each() && desk.answers.count(answer < 0 ? answer : -EIO) == 1);
    const IoStats stats = desk.queue.stats();
    EXPECT(stats.inflight_bytes == 0 && stats.errors == 1);
    EXPECT(stats.queued_bytes[static_cast<uint32_t>(IoClass::kDemandKv)] == 0);
  }
}

TEST(io_queue_ends_each_request_once_when_cancelled_or_closed) {
  Desk desk(2 * kIoPieceBytes);
  std::vector<IoQueue::Piece> taken;
  desk.submit(IoClass::kDemandKv, 0, 4 * kIoPieceBytes, 1);  // half of it in flight
  desk.submit(IoClass::kDemandKv, 1, kPage, 2);
  desk.submit(IoClass::kDemandKv, 2, kPage, 1);
  desk.submit(IoClass::kDemandKv, 3, kPage);
  EXPECT(desk.take_all(taken) == 2);
  desk.queue.cancel(0);  // nobody's group
  desk.queue.cancel(1);
  EXPECT(desk.answers.results.empty());  // never inside cancel
  desk.finish(taken);
  EXPECT(desk.take(taken) == 1);
  EXPECT(desk.answers.times[0] == 0 && desk.answers.times[2] == 1);  // a piece of 0 is still out
  desk.finish(taken);
  desk.queue.close();
  desk.submit(IoClass::kDemandKv, 4);
  EXPECT(desk.take(taken) == -1);  // 1 is out
  EXPECT(desk.answers.times[0] == 1 && desk.answers.times[3] == 1 && desk.answers.times[4] == 1);
  desk.finish(taken);
  EXPECT(desk.take(taken) == -2);
  EXPECT(desk.answers.once_each() && desk.answers.count(0) == 1 && desk.answers.count(-ECANCELED) == 4);
}

TEST(io_demand_passes_write_backs_on_every_back_end) {
  for (const IoBackend backend : kBackends) {
    Folder folder;
    IoOptions options;
    options.backend = backend;
    options.window_bytes = kIoPieceBytes;
    options.pool_threads = 1;
    auto io = std::move(open_io_engine(options).value());
    const uint32_t file = add(*io, folder.file("a"));
    Pages pages(kPage);
    EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, kPage) == 0);
    Answers answers;
    // On the I/O thread, which cannot begin anything meanwhile.
    io->submit(make(IoOp::kSync, file, 0, nullptr, 0, [&](int32_t) {
      for (uint32_t i = 0; i < 100; i++)
        io->submit(make(IoOp::kWrite, file, 0, pages.data, kPage, answers.expect(i), IoClass::kWriteBack));
      io->submit(make(IoOp::kRead, file, 0, pages.data, kPage, answers.expect(100), IoClass::kDemandKv));
    }));
    answers.wait(101);
    EXPECT(answers.order[0] == 100);
    EXPECT(answers.once_each() && answers.count(0) == 101);
  }
}

TEST(io_cancel_ends_queued_requests_once) {
  for (const IoBackend backend : kBackends)
    for (const char* fault : {"", "seed=4,reorder=0.5,delay-ms=3:0.3,short=0.2"}) {
      Folder folder;
      auto io = open_engine(backend, fault, 64 * kPage);
      const uint32_t file = add(*io, folder.file("a"));
      Pages pages(512 * kPage);
      EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, 512 * kPage) == 0);
      Answers answers;
      for (uint32_t i = 0; i < 256; i++) {
        io->submit(make(IoOp::kRead, file, 0, pages.data + (i * 2) * kPage, 2 * kPage, answers.expect(i),
                        IoClass::kPrefetch, 1 + i % 2));
        if (i % 64 == 63) io->cancel(1);
      }
      answers.wait(256);
      EXPECT(answers.once_each());
      EXPECT(answers.count(0) + answers.count(-ECANCELED) == 256);
      EXPECT(answers.count(0) >= 128);  // the other group
      EXPECT(io->stats().errors == 0);
    }
}

TEST(io_closing_ends_everything_once) {
  for (const IoBackend backend : kBackends)
    for (const char* fault : {"", "seed=5,reorder=0.5,delay-ms=1000:0.1,hang=0.1,short=0.2,torn=0.1,stale=0.1"}) {
      Folder folder;
      Answers answers;
      Pages pages(256 * kPage);
      std::atomic<uint32_t> late{0};
      {
        auto io = open_engine(backend, fault, 64 * kPage);
        const uint32_t file = add(*io, folder.file("a"));
        IoEngine* raw = io.get();
        for (uint32_t i = 0; i < 256; i++) {
          const auto done = answers.expect(i);
          io->submit(make(i % 2 ? IoOp::kWrite : IoOp::kRead, file, i / 2 * kPage, pages.data + i * kPage, kPage,
                          [&, raw, file, done](int32_t result) {
                            // A user that goes on from its callbacks, also while the engine closes.
                            if (late.load() < 300 && late.fetch_add(1) < 300)
                              raw->submit(make(IoOp::kSync, file, 0, nullptr, 0, answers.expect(1000 + late.load())));
                            done(result);
                          }));
        }
      }
      const std::lock_guard lock(answers.mutex);
      for (uint32_t i = 0; i < 256; i++) EXPECT(answers.times[i] == 1);
      EXPECT(answers.results.size() == 512);
    }
}

TEST(io_reports_errors_once_and_goes_on) {
  for (const IoBackend backend : kBackends) {
    Folder folder;
    auto io = open_engine(backend);
    Pages pages(4 * kPage);
    const uint32_t file = add(*io, folder.file("a"));
    EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, 2 * kPage) == 0);
    EXPECT(run(*io, IoOp::kRead, file, kPage, pages.data, 2 * kPage) == -EIO);  // half of it behind the end
    EXPECT(run(*io, IoOp::kRead, file, 1u << 30, pages.data, kPage) == -EIO);
    EXPECT(run(*io, IoOp::kRead, file, 0, pages.data, 2 * kPage) == 0);
    EXPECT(io->stats().errors == 2);
    Result<uint32_t> read_only = io->add_file(folder.file("a"), false, true);
    EXPECT(read_only.ok());
    const int32_t refused = run(*io, IoOp::kWrite, read_only.value(), 0, pages.data, kPage);
    EXPECT(refused == -EBADF || refused == -EACCES);
    EXPECT(run(*io, IoOp::kRead, read_only.value(), 0, pages.data, kPage) == 0);
    EXPECT(truncate(folder.file("a").c_str(), 3 * kPage + 100) == 0);  // somebody else's last page
    EXPECT(run(*io, IoOp::kRead, file, 0, pages.data, 3 * kPage) == 0);
    EXPECT(run(*io, IoOp::kRead, file, 0, pages.data, 4 * kPage) == (backend == IoBackend::kMmap ? 0 : -EIO));
    EXPECT(io->truncate(file, kPage) == 0 && io->file_bytes(file) == kPage);
    EXPECT(io->allocate(file, 0, uint64_t{1} << 62) != 0);  // no disk is so large
    Result<uint32_t> missing = io->add_file(folder.file("missing"), false, false);
    EXPECT(!missing.ok() && missing.error().code == Code::kIo);
    EXPECT(missing.error().message == folder.file("missing") + ": No such file or directory");
  }
}

TEST(io_on_a_file_that_was_truncated_is_an_error_and_no_signal) {
  // The model file's mapping is guarded in the same process: its own answer to SIGBUS stays.
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    Folder folder;
    const int fd = open(folder.file("b").c_str(), O_RDWR | O_CREAT, 0600);
    if (ftruncate(fd, kPage) != 0) _exit(1);
    const auto* model = static_cast<const uint8_t*>(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0));
    guard_mapping(model, kPage, "model.gguf");
    auto io = open_engine(IoBackend::kMmap);
    const uint32_t file = add(*io, folder.file("a"));
    Pages pages(256 * kPage);
    if (run(*io, IoOp::kWrite, file, 0, pages.data, 256 * kPage) != 0) _exit(2);
    if (truncate(folder.file("a").c_str(), 8 * kPage) != 0) _exit(3);
    for (uint32_t i = 0; i < 3; i++)
      if (run(*io, IoOp::kRead, file, 0, pages.data, 256 * kPage) != -EIO) _exit(4);
    if (run(*io, IoOp::kRead, file, 0, pages.data, 8 * kPage) != 0) _exit(5);
    if (dup2(open("/dev/null", O_WRONLY), STDERR_FILENO) < 0 || ftruncate(fd, 0) != 0) _exit(6);
    unlink(folder.file("a").c_str());
    unlink(folder.file("b").c_str());
    rmdir(folder.path.c_str());
    const volatile uint8_t gone = model[0];
    _exit(gone ? 7 : 8);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
  EXPECT_MSG(WEXITSTATUS(status) == 66, std::to_string(WEXITSTATUS(status)));
}

TEST(io_add_file_without_descriptors_is_an_error) {
  for (const IoBackend backend : kBackends) {
    Folder folder;
    auto io = open_engine(backend);
    rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{3, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    Result<uint32_t> file = io->add_file(folder.file("a"), true, false);
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT(!file.ok() && file.error().message == folder.file("a") + ": Too many open files");
    const uint32_t works = add(*io, folder.file("a"));
    Pages pages(kPage);
    EXPECT(run(*io, IoOp::kWrite, works, 0, pages.data, kPage) == 0);
    for (uint32_t i = 1; i < 64; i++) add(*io, folder.file("a"));
    Result<uint32_t> many = io->add_file(folder.file("a"), false, false);
    EXPECT(!many.ok() && many.error().message == folder.file("a") + ": more than 64 files are open");
    EXPECT(run(*io, IoOp::kRead, 63, 0, pages.data, kPage) == 0);
  }
}

namespace {

// For this thread and those that it makes, as containers do it for a process: the system call fails with `error`.
void refuse_call(uint32_t call, uint32_t error) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof code / sizeof code[0], code};
  EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

}  // namespace

TEST(io_falls_back_to_the_pool_where_io_uring_is_refused) {
  for (const uint32_t refused_call : {SYS_io_uring_setup, SYS_io_uring_enter})
    std::thread([&] {
      refuse_call(refused_call, EPERM);
      for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kUring}) {
        Folder folder;
        auto io = open_engine(backend);
        EXPECT(std::string(io->backend()) == "pool");
        EXPECT_MSG(io->remark().find("Operation not permitted") != std::string::npos, io->remark());
        Pages pages(kPage);
        EXPECT(run(*io, IoOp::kWrite, add(*io, folder.file("a")), 0, pages.data, kPage) == 0);
      }
    }).join();
}

TEST(io_is_buffered_where_o_direct_is_refused) {
  for (const IoBackend backend : {IoBackend::kUring, IoBackend::kPool}) {
    auto io = open_engine(backend);
    const std::string before = io->remark();
    Result<uint32_t> file = io->add_file("/proc/self/maps", false, true);
    EXPECT(file.ok() && !io->direct(file.value()));
    EXPECT_MSG(io->remark().find("O_DIRECT is refused for /proc/self/maps: buffered") != std::string::npos,
               io->remark());
    Folder folder;
    const uint32_t normal = add(*io, folder.file("a"));
    Pages pages(kPage);
    EXPECT(run(*io, IoOp::kWrite, normal, 0, pages.data, kPage) == 0);
  }
}

TEST(io_gives_o_direct_up_once_where_transfers_are_refused) {
  std::thread([] {
    refuse_call(SYS_pread64, EINVAL);
    Folder folder;
    auto io = open_engine(IoBackend::kPool);
    const uint32_t file = add(*io, folder.file("a"));
    Pages pages(kPage);
    const bool direct = io->direct(file);
    EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, kPage) == 0 && io->direct(file) == direct);
    // The second attempt is refused as well, and that is the answer.
    EXPECT(run(*io, IoOp::kRead, file, 0, pages.data, kPage) == -EINVAL && !io->direct(file));
    if (direct) EXPECT(io->remark() == "O_DIRECT transfers are refused for " + folder.file("a") + ": buffered");
    EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, kPage) == 0);
  }).join();
}

TEST(io_leaves_nothing_in_the_page_cache) {
  for (const IoBackend backend : kBackends) {
    Folder folder;
    auto io = open_engine(backend);
    const uint32_t file = add(*io, folder.file("a"));
    constexpr uint32_t kPages = 2048;
    Pages pages(kPages * kPage);
    const auto resident = [&] {
      const int fd = open(folder.file("a").c_str(), O_RDONLY);
      void* map = mmap(nullptr, pages.bytes, PROT_READ, MAP_SHARED, fd, 0);
      std::vector<unsigned char> in(kPages);
      EXPECT(mincore(map, pages.bytes, in.data()) == 0);
      munmap(map, pages.bytes);
      close(fd);
      return std::count_if(in.begin(), in.end(), [](unsigned char c) { return c & 1; });
    };
    EXPECT(run(*io, IoOp::kWrite, file, 0, pages.data, kPages * kPage) == 0);
    EXPECT(run(*io, IoOp::kSync, file, 0, nullptr, 0) == 0);
    EXPECT_MSG(resident() < kPages / 8, std::to_string(resident()));
    EXPECT(run(*io, IoOp::kRead, file, 0, pages.data, kPages * kPage) == 0);
    EXPECT_MSG(resident() < kPages / 8, std::to_string(resident()));
  }
}

// What each fault does, on one page of a file of 64 that holds page numbers.
namespace {

struct Faulty {
  Folder folder;
  std::unique_ptr<IoEngine> io;
  uint32_t file;
  Pages image{64 * kPage}, buffer{64 * kPage};
  Faulty(IoBackend backend, const std::string& fault) {
    for (uint32_t i = 0; i < image.bytes; i++) image.data[i] = static_cast<uint8_t>(i / kPage);
    auto plain = open_engine(backend);
    EXPECT(run(*plain, IoOp::kWrite, add(*plain, folder.file("a")), 0, image.data, 64 * kPage) == 0);
    io = open_engine(backend, fault);
    file = add(*io, folder.file("a"));
  }
  int32_t write(uint32_t page, uint32_t pages, uint8_t value) {
    Pages data(size_t{pages} * kPage);
    memset(data.data, value, data.bytes);
    return run(*io, IoOp::kWrite, file, uint64_t{page} * kPage, data.data, pages * kPage);
  }
  int32_t read() { return run(*io, IoOp::kRead, file, 0, buffer.data, 64 * kPage); }
  // Pages of the file that differ from the image now, read by an honest engine.
  std::set<uint32_t> changed() {
    io.reset();
    auto plain = open_engine(IoBackend::kPool);
    EXPECT(run(*plain, IoOp::kRead, add(*plain, folder.file("a")), 0, buffer.data, 64 * kPage) == 0);
    std::set<uint32_t> pages;
    for (uint32_t i = 0; i < 64; i++)
      if (memcmp(image.data + i * kPage, buffer.data + i * kPage, kPage) != 0) pages.insert(i);
    return pages;
  }
};

}  // namespace

TEST(io_faults_do_what_they_are_called) {
  for (const IoBackend backend : kBackends) {
    {
      Faulty f(backend, "lost=1");
      EXPECT(f.write(5, 3, 0xff) == 0 && f.io->stats().faults == 1 && f.changed().empty());
    }
    {
      Faulty f(backend, "misdirect=1");
      EXPECT(f.write(5, 1, 0xff) == 0);
      const std::set<uint32_t> changed = f.changed();
      EXPECT(changed.size() == 1 && !changed.contains(5));
    }
    std::set<std::set<uint32_t>> torn;
    for (uint32_t seed = 0; seed < 16; seed++) {
      Faulty f(backend, "torn=1,seed=" + std::to_string(seed));
      EXPECT(f.write(8, 8, 0xff) == 0);
      const std::set<uint32_t> changed = f.changed();
      EXPECT(changed.size() <= 8 && (changed.empty() || (*changed.begin() >= 8 && *changed.rbegin() < 16)));
      torn.insert(changed);
    }
    EXPECT(torn.size() > 8);  // many different ways
    {
      Faulty f(backend, "flip=1");
      EXPECT(f.read() == 0);
      uint32_t bits = 0;
      for (uint32_t i = 0; i < f.image.bytes; i++) bits += std::popcount(uint8_t(f.image.data[i] ^ f.buffer.data[i]));
      EXPECT(bits == 1);
      EXPECT(f.write(5, 1, 5) == 0);  // what is there already, but for a bit
      EXPECT(f.changed() == std::set<uint32_t>{5});
    }
    {
      Faulty f(backend, "stale=1");
      EXPECT(f.write(5, 1, 0xff) == 0);
      EXPECT(f.read() == 0 && memcmp(f.buffer.data, f.image.data, f.image.bytes) == 0);
      EXPECT(f.io->stats().faults == 1 && f.changed() == std::set<uint32_t>{5});
    }
    {
      Faulty f(backend, "read-error=1,write-error=1:28,sync-error=1:30");
      EXPECT(f.read() == -EIO && f.write(5, 1, 0xff) == -ENOSPC);
      EXPECT(run(*f.io, IoOp::kSync, f.file, 0, nullptr, 0) == -EROFS);
      EXPECT(f.io->stats().errors == 3 && f.io->stats().faults == 3 && f.changed().empty());
    }
    {
      Faulty f(backend, "full-after=8192");  // two pages
      EXPECT(f.write(63, 1, 0xff) == 0 && f.write(64, 2, 0xff) == 0);
      EXPECT(f.write(66, 1, 0xff) == -ENOSPC && f.io->allocate(f.file, 66 * kPage, kPage) == -ENOSPC);
      EXPECT(f.write(65, 1, 0xfe) == 0);
      EXPECT(f.io->truncate(f.file, 65 * kPage) == 0 && f.io->allocate(f.file, 65 * kPage, kPage) == 0);
    }
    {
      Faulty f(backend, "hang=1");
      Answers answers;
      f.io->submit(make(IoOp::kRead, f.file, 0, f.buffer.data, kPage, answers.expect(0), IoClass::kDemandKv, 1));
      f.io->cancel(1);  // in flight, so it stays
      EXPECT(answers.results.empty());
      f.io.reset();
      EXPECT(answers.once_each() && answers.count(-ECANCELED) == 1);
    }
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      Faulty f(backend, "crash-after=3");
      const bool alive = f.read() == 0 && f.write(5, 1, 0xff) == 0;
      f.write(6, 1, 0xff);
      _exit(alive);
    }
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
}

TEST(io_faults_repeat_with_their_seed) {
  const auto outcome = [](uint32_t seed) {
    Faulty f(IoBackend::kPool, "seed=" + std::to_string(seed) + ",lost=0.3,write-error=0.2,torn=0.2,flip=0.2");
    std::vector<int32_t> results;
    for (uint32_t page = 0; page < 64; page += 2) results.push_back(f.write(page, 2, 0xff));
    f.changed();
    return std::pair(results, std::string(reinterpret_cast<char*>(f.buffer.data), f.buffer.bytes));
  };
  EXPECT(outcome(1) == outcome(1));
  EXPECT(outcome(1) != outcome(2));
}

TEST(io_fault_specs_are_read_or_refused_by_part) {
  const auto message = [](const std::string& spec) {
    IoOptions options;
    options.backend = IoBackend::kPool;
    options.fault = spec;
    Result<std::unique_ptr<IoEngine>> io = open_io_engine(options);
    EXPECT(io.ok() || io.error().code == Code::kInvalidArgument);
    return io.ok() ? "" : io.error().message;
  };
  EXPECT(message("") == "");
  EXPECT(message("seed=18446744073709,read-error=0.5,write-error=1,short=.25,flip=0,lost=0.1,misdirect=0.1,torn=0.1,"
                 "delay-ms=10:0.01,full-after=1000000,crash-after=9,sync-error=1:5,stale=0.1,reorder=1,hang=0") == "");
  EXPECT(message("flip=1.5") == "fault 'flip=1.5': a probability from 0 to 1 is wanted");
  for (const char* bad : {"flip",
                          "flip=",
                          "flip=-1",
                          "flip=nan",
                          "flip=1e-3",
                          "flip=0x1",
                          "flip=0.1.2",
                          "flip=.",
                          "seed=-1",
                          "seed=99999999999999999999",
                          "delay-ms=5",
                          "delay-ms=5:2",
                          "delay-ms=:1",
                          "flip=0.1:5",
                          "read-error=1:0",
                          "read-error=1:x",
                          "read-error=1:",
                          "read-error=0.5:5000",
                          "speed=1",
                          ",",
                          "=",
                          " flip=1",
                          "crash-after=1.5"}) {
    const std::string told = message("seed=1," + std::string(bad));
    EXPECT_MSG(told.rfind("fault '", 0) == 0, std::string(bad) + " -> " + told);
  }
}
