// The block I/O engine against fio on the same file, with the same block size and depth: reads, and appends with an
// fdatasync every 16 MiB. Rounds of the two take turns; a line of JSON a back end and pattern, with the median of the
// rounds' ratios and the CPU time that a GB costs.
//
//   bench/io/io.sh [--file PATH] [--mib N] [--seconds S] [--rounds N] [--drain S] [--backend io_uring|pool|mmap]
//
// Reads are cold: both use O_DIRECT (mmap: its pages are dropped as they are read). Disks of virtual machines have a
// burst to spend: --drain reads that many seconds first. For figures to quote: --seconds 60 --drain 60.
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "../../native/io/io_engine.h"
#include "../../native/io/queue.h"

using namespace nandu;

namespace {

constexpr uint32_t kBlock = kIoPieceBytes, kDepth = 8, kBlocksPerSync = 16;

struct Options {
  std::string file = "/var/tmp/nandu-bench-io", backend;
  uint64_t mib = 1024;
  double seconds = 1, drain = 0;
  uint32_t rounds = 3;
};

struct Speed {
  double gb_per_s = 0, cpu_s_per_gb = 0;
};

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

[[noreturn]] void stop(const std::string& why) {
  fprintf(stderr, "bench/io: %s\n", why.c_str());
  exit(1);
}

// kDepth requests in flight, each submitting its successor from its callback, around the file and around.
struct Load {
  IoEngine& io;
  const uint32_t file;
  const IoOp op;
  const uint64_t blocks;
  uint8_t* const memory;  // kDepth blocks
  std::mutex mutex;
  std::condition_variable idle;
  uint64_t next = 0, ended = 0;
  uint32_t running = 0;
  bool stopping = false;

  void start(uint8_t* data) {
    IoRequest request;
    request.op = op;
    // Alone, each class has the whole window but write-back, which keeps to its share.
    request.priority = op == IoOp::kRead ? IoClass::kDemandKv : IoClass::kWriteBack;
    request.file = file;
    request.offset = next++ % blocks * kBlock;
    request.data = data;
    request.bytes = kBlock;
    request.done = [this, data](int32_t result) { end(data, result); };
    running++;
    io.submit(std::move(request));
  }
  void end(uint8_t* data, int32_t result) {
    const std::lock_guard lock(mutex);
    if (result != 0) stop("a transfer failed: " + std::to_string(result));
    running--;
    if (data && ++ended % kBlocksPerSync == 0 && op == IoOp::kWrite) {
      IoRequest sync;
      sync.op = IoOp::kSync;
      sync.priority = IoClass::kWriteBack;
      sync.file = file;
      sync.done = [this](int32_t r) { end(nullptr, r); };
      running++;
      io.submit(std::move(sync));
    }
    if (data && !stopping) start(data);
    if (running == 0) idle.notify_all();
  }
  double run(double seconds) {
    const uint64_t begin = monotonic_us();
    std::unique_lock lock(mutex);
    for (uint32_t i = 0; i < kDepth; i++) start(memory + size_t{i} * kBlock);
    lock.unlock();
    usleep(static_cast<useconds_t>(seconds * 1e6));
    lock.lock();
    stopping = true;
    idle.wait(lock, [this] { return running == 0; });
    return 1e-6 * static_cast<double>(monotonic_us() - begin);
  }
};

Speed ours(const Options& options, IoBackend backend, IoOp op, double seconds, uint8_t* memory, std::string* name) {
  IoOptions io_options;
  io_options.backend = backend;
  Result<std::unique_ptr<IoEngine>> io = open_io_engine(io_options);
  if (!io.ok()) stop(io.error().message);
  const Result<uint32_t> file = io.value()->add_file(options.file, false, false);
  if (!file.ok()) stop(file.error().message);
  if (name) *name = io.value()->backend();
  const double cpu = cpu_seconds();
  Load load{*io.value(), file.value(), op, options.mib, memory, {}, {}};
  const double elapsed = load.run(seconds);
  const double gb = 1e-9 * static_cast<double>(load.ended) * kBlock;
  return {gb / elapsed, (cpu_seconds() - cpu) / gb};
}

// Fields of fio's terse output, version 3.
Speed fio(const Options& options, IoOp op, double seconds) {
  char command[2048];
  snprintf(command, sizeof command,
           "fio --minimal --terse-version=3 --name=x --filename=%s --size=%lluM --bs=%u --iodepth=%u --direct=1 "
           "--ioengine=io_uring --time_based --runtime=%dms %s",
           options.file.c_str(), static_cast<unsigned long long>(options.mib), kBlock, kDepth,
           static_cast<int>(seconds * 1000),
           op == IoOp::kRead ? "--rw=read" : ("--rw=write --fdatasync=" + std::to_string(kBlocksPerSync)).c_str());
  FILE* pipe = popen(command, "r");
  if (!pipe) stop("fio cannot be started");
  std::string text;
  char chunk[4096];
  while (const size_t bytes = fread(chunk, 1, sizeof chunk, pipe)) text.append(chunk, bytes);
  if (pclose(pipe) != 0) stop("fio failed: " + text);
  std::vector<std::string> fields(1);
  for (const char c : text) {
    if (c == ';') fields.emplace_back();
    else fields.back() += c;
  }
  constexpr size_t kReadKib = 6, kWriteKib = 47, kUserPercent = 87, kSystemPercent = 88;
  if (fields.size() <= kSystemPercent) stop("fio's output is not understood: " + text);
  const double gb_per_s = atof(fields[op == IoOp::kRead ? kReadKib : kWriteKib].c_str()) * 1024e-9;
  const double cores = (atof(fields[kUserPercent].c_str()) + atof(fields[kSystemPercent].c_str())) / 100;
  return {gb_per_s, cores / gb_per_s};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int32_t wait_for(IoEngine& io, IoRequest request) {
  std::mutex mutex;
  std::condition_variable changed;
  int32_t answer = 1;
  request.done = [&](int32_t result) {
    const std::lock_guard lock(mutex);
    answer = result;
    changed.notify_all();
  };
  std::unique_lock lock(mutex);
  io.submit(std::move(request));
  changed.wait(lock, [&] { return answer != 1; });
  return answer;
}

// Every block written once, so that nobody measures unwritten extents; and read back, so that somebody looked at them.
void make_file(const Options& options, uint8_t* memory) {
  auto io = std::move(open_io_engine({}).value());
  const Result<uint32_t> file = io->add_file(options.file, true, false);
  if (!file.ok()) stop(file.error().message);
  IoRequest room;
  room.op = IoOp::kAllocate;
  room.file = file.value();
  room.length = options.mib << 20;
  if (wait_for(*io, std::move(room)) != 0) stop("the file cannot be allocated");
  for (const IoOp op : {IoOp::kWrite, IoOp::kRead})
    for (uint64_t block = 0; block < options.mib; block += op == IoOp::kRead ? 64 : 1) {  // reads a sample
      const auto filling = static_cast<uint8_t>(block * 7 + 1);
      memset(memory, op == IoOp::kWrite ? filling : 0, kBlock);
      IoRequest request;
      request.op = op;
      request.file = file.value();
      request.offset = block * kBlock;
      request.data = memory;
      request.bytes = kBlock;
      if (wait_for(*io, std::move(request)) != 0 || memory[0] != filling || memory[kBlock - 1] != filling)
        stop("the file does not hold what was written");
    }
}

void compare(const Options& options, IoBackend backend, IoOp op, uint8_t* memory) {
  std::vector<double> ratios, speeds, fio_speeds, cpu, fio_cpu;
  std::string name;
  for (uint32_t round = 0; round < options.rounds; round++) {
    Speed mine, theirs;
    // In changing order: the first of two spends more of the burst.
    if (round % 2 == 0) mine = ours(options, backend, op, options.seconds, memory, &name);
    theirs = fio(options, op, options.seconds);
    if (round % 2 == 1) mine = ours(options, backend, op, options.seconds, memory, &name);
    ratios.push_back(mine.gb_per_s / theirs.gb_per_s);
    speeds.push_back(mine.gb_per_s);
    fio_speeds.push_back(theirs.gb_per_s);
    cpu.push_back(mine.cpu_s_per_gb);
    fio_cpu.push_back(theirs.cpu_s_per_gb);
  }
  printf(
      "{\"bench\":\"io\",\"backend\":\"%s\",\"pattern\":\"%s\",\"block\":%u,\"depth\":%u,\"gb_per_s\":%.3f,"
      "\"fio_gb_per_s\":%.3f,\"ratio\":%.3f,\"cpu_s_per_gb\":%.4f,\"fio_cpu_s_per_gb\":%.4f,\"rounds\":%u,\"seconds\":%"
      "g}\n",
      name.c_str(), op == IoOp::kRead ? "read" : "append", kBlock, kDepth, median(speeds), median(fio_speeds),
      median(ratios), median(cpu), median(fio_cpu), options.rounds, options.seconds);
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--file") options.file = argv[i + 1];
    else if (name == "--mib") options.mib = std::max(1, atoi(argv[i + 1]));
    else if (name == "--seconds") options.seconds = std::clamp(atof(argv[i + 1]), 0.1, 600.0);
    else if (name == "--rounds") options.rounds = static_cast<uint32_t>(std::clamp(atoi(argv[i + 1]), 1, 1000));
    else if (name == "--drain") options.drain = atof(argv[i + 1]);
    else if (name == "--backend") options.backend = argv[i + 1];
    else stop("no such option: " + name);
  }
  if (argc % 2 == 0) stop("an option has no value");
  auto* memory = static_cast<uint8_t*>(std::aligned_alloc(kIoAlign, size_t{kDepth} * kBlock));
  make_file(options, memory);
  if (options.drain > 0) ours(options, IoBackend::kAuto, IoOp::kRead, options.drain, memory, nullptr);
  const std::pair<const char*, IoBackend> backends[] = {
      {"io_uring", IoBackend::kUring}, {"pool", IoBackend::kPool}, {"mmap", IoBackend::kMmap}};
  for (const IoOp op : {IoOp::kRead, IoOp::kWrite})
    for (const auto& [name, backend] : backends)
      if (options.backend.empty() || options.backend == name) compare(options, backend, op, memory);
  unlink(options.file.c_str());
  std::free(memory);
  return 0;
}
