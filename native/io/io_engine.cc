#include "io_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "backend.h"

namespace nandu {

FileEngine::FileEngine(const IoOptions& options, const FaultPlan& plan, bool want_direct, std::function<void()> wake)
    // A window of less than a page would have shares of nothing.
    : queue_({std::max(options.window_bytes, kIoAlign), plan.short_transfers, plan.seed,
              wake ? UINT32_MAX : std::max(options.pool_threads, 2u) - 1, std::move(wake)}),
      want_direct_(want_direct) {}

FileEngine::~FileEngine() {
  for (IoFile& file : files_)
    if (file.fd >= 0) ::close(file.fd);
}

Result<uint32_t> FileEngine::add_file(const std::string& path, bool create, bool read_only) {
  const std::lock_guard lock(mutex_);
  const uint32_t index = num_files_.load(std::memory_order_relaxed);
  if (index == kMostFiles) return error(Code::kIo, "%s: more than %u files are open", path.c_str(), kMostFiles);
  // O_NONBLOCK, until we know that it is a file: opening a pipe that somebody left here would wait for its other end.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | (create ? O_CREAT : 0) | O_CLOEXEC | O_NONBLOCK;
  IoFile& file = files_[index];
  if (want_direct_) file.fd = open(path.c_str(), flags | O_DIRECT, 0600);
  file.opened_direct = file.fd >= 0;
  if (file.fd < 0 && (!want_direct_ || errno == EINVAL)) {
    file.fd = open(path.c_str(), flags, 0600);
    if (file.fd >= 0 && want_direct_) remark_ += "O_DIRECT is refused for " + path + ": buffered; ";
  }
  if (file.fd < 0) return error(Code::kIo, "%s: %s", path.c_str(), strerror(errno));
  struct stat status;
  if (fstat(file.fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file.fd);
    file.fd = -1;
    return error(Code::kIo, "%s: not a regular file", path.c_str());
  }
  fcntl(file.fd, F_SETFL, fcntl(file.fd, F_GETFL) & ~O_NONBLOCK);
  file.path = path;
  file.direct = file.opened_direct;
  num_files_.store(index + 1, std::memory_order_release);
  return index;
}

const IoFile& FileEngine::at(uint32_t file) const {
  NANDU_CHECK(file < num_files_.load(std::memory_order_acquire));
  return files_[file];
}

void FileEngine::submit(IoRequest request) {
  at(request.file);
  queue_.submit(std::move(request));
}

int32_t FileEngine::truncate(uint32_t file, uint64_t bytes) {
  return ftruncate(at(file).fd, static_cast<off_t>(bytes)) == 0 ? 0 : -errno;
}

uint64_t FileEngine::file_bytes(uint32_t file) const {
  struct stat status;
  return fstat(at(file).fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

std::string FileEngine::remark() const {
  const std::lock_guard lock(mutex_);
  return remark_.substr(0, remark_.empty() ? 0 : remark_.size() - 2);
}

void FileEngine::add_remark(const std::string& text) {
  const std::lock_guard lock(mutex_);
  remark_ += text + "; ";
}

void FileEngine::finish(IoQueue::Piece& piece, int32_t result) {
  IoFile& file = files_[piece.file];
  if (result == -EINVAL && file.opened_direct && moves_data(piece.op) && piece.attempts == 0) {
    // Some file systems accept O_DIRECT at open and refuse the transfer, or want more than kIoAlign.
    give_up_direct(file);
    result = -EAGAIN;
  } else if (result >= 0 && !file.direct.load(std::memory_order_relaxed)) {
    // Buffered: the rows are in our own memory already, the page cache must not keep them a second time. Written pages
    // can only go once they are clean.
    if (piece.op == IoOp::kRead)
      posix_fadvise(file.fd, static_cast<off_t>(piece.offset), piece.bytes, POSIX_FADV_DONTNEED);
    else if (piece.op == IoOp::kSync) posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
  }
  queue_.finish(piece, result);
}

void FileEngine::give_up_direct(IoFile& file) {
  if (!file.direct.exchange(false)) return;
  fcntl(file.fd, F_SETFL, fcntl(file.fd, F_GETFL) & ~O_DIRECT);
  add_remark("O_DIRECT transfers are refused for " + file.path + ": buffered");
}

Result<std::unique_ptr<IoEngine>> open_io_engine(const IoOptions& options) {
  Result<FaultPlan> plan = parse_faults(options.fault);
  if (!plan.ok()) return plan.error();
  std::unique_ptr<FileEngine> engine;
  if (options.backend == IoBackend::kMmap) {
    engine = open_threads(options, plan.value(), "mmap", false, transfer_mapped);
  } else {
    std::string refusal;
    if (options.backend != IoBackend::kPool) engine = open_uring(options, plan.value(), refusal);
    if (!engine) engine = open_threads(options, plan.value(), "pool", true, transfer_plain);
    if (!refusal.empty()) engine->add_remark("io_uring is refused (" + refusal + "): pool instead");
  }
  if (options.fault.empty()) return std::unique_ptr<IoEngine>(std::move(engine));
  return inject_faults(std::move(engine), plan.value());
}

}  // namespace nandu
