// The fault shim: each fault does what it is called, repeats with its seed, and a specification is read or refused.
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include <bit>
#include <set>

#include "io_fixture.h"

using namespace nandu;
using namespace nandu::test;

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
      EXPECT(f.write(66, 1, 0xff) == -ENOSPC && allocate(*f.io, f.file, 66 * kPage, kPage) == -ENOSPC);
      EXPECT(f.write(65, 1, 0xfe) == 0);
      EXPECT(f.io->truncate(f.file, 65 * kPage) == 0 && allocate(*f.io, f.file, 65 * kPage, kPage) == 0);
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
    Folder folder;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      auto io = open_engine(backend, "crash-after=3");
      const uint32_t file = add(*io, folder.file("a"));
      Pages page(kPage);
      for (uint32_t i = 0; i < 3; i++) run(*io, IoOp::kWrite, file, i * kPage, page.data, kPage);
      _exit(0);
    }
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    auto plain = open_engine(backend);
    EXPECT(plain->file_bytes(add(*plain, folder.file("a"))) == 2 * kPage);  // the third did not land
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
