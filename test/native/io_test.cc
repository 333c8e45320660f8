// Block I/O: the same tests on io_uring, pool and mmap, alone and behind the fault shim, against an image in memory.
// Not proved here: that data survive a power loss (the store's tests), and bandwidth (bench/io).
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "../../native/base/mapping_guard.h"
#include "io_fixture.h"

using namespace nandu;
using namespace nandu::test;

namespace {

// Random writes and reads, many in flight, against an image. Requests of a round do not overlap, so any order is right.
void compare_with_image(IoBackend backend, const std::string& fault, uint64_t seed) {
  Folder folder;
  constexpr uint32_t kFilePages = 2048, kRounds = 8, kSlots = 32, kSlotPages = kFilePages / kSlots;
  auto io = open_engine(backend, fault, 1u << 20);
  const uint32_t file = add(*io, folder.file("a"));
  Pages image(size_t{kFilePages} * kPage), buffer(size_t{kFilePages} * kPage);
  Random random(seed);
  EXPECT(allocate(*io, file, 0, image.bytes) == 0);
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
    EXPECT(allocate(*io, file, 0, uint64_t{1} << 62) != 0);  // no disk is so large
    EXPECT(mkfifo(folder.file("b").c_str(), 0600) == 0);     // opening it for reading would wait for ever
    for (const char* odd : {"b", "."}) {
      Result<uint32_t> none = io->add_file(folder.file(odd), false, true);
      EXPECT(!none.ok() && none.error().message == folder.file(odd) + ": not a regular file");
    }
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
  // An older kernel and an emulated processor have no such call, and refuse it by themselves.
  const bool absent = syscall(SYS_io_uring_setup, 0, nullptr) < 0 && errno == ENOSYS;
  const char* const why = absent ? "Function not implemented" : "Operation not permitted";
  for (const uint32_t refused_call : {SYS_io_uring_setup, SYS_io_uring_enter})
    std::thread([&] {
      if (!absent) refuse_call(refused_call, EPERM);
      for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kUring}) {
        Folder folder;
        auto io = open_engine(backend);
        EXPECT(std::string(io->backend()) == "pool");
        EXPECT_MSG(io->remark().find(why) != std::string::npos, io->remark());
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
