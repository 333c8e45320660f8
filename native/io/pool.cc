// Back end of plain system calls: a few threads, one piece each at a time. For kernels and containers without io_uring;
// mmap.cc runs on the same threads.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "backend.h"

namespace nandu {
namespace {

constexpr uint32_t kMostThreads = 64;

class ThreadEngine : public FileEngine {
 public:
  ThreadEngine(const IoOptions& options, const FaultPlan& plan, const char* backend, bool want_direct,
               Transfer transfer)
      : FileEngine(options, plan, want_direct, nullptr), backend_(backend), transfer_(transfer) {
    for (uint32_t i = 0; i < std::clamp(options.pool_threads, 1u, kMostThreads); i++)
      threads_.emplace_back([this] { loop(); });
  }
  ~ThreadEngine() override {
    queue_.close();
    for (std::thread& thread : threads_) thread.join();
  }
  const char* backend() const override { return backend_; }

 private:
  void loop() {
    IoQueue::Piece piece;
    while (queue_.take(piece) == IoQueue::Take::kPiece) finish(piece, transfer_(at(piece.file), piece));
  }

  const char* const backend_;
  const Transfer transfer_;
  std::vector<std::thread> threads_;
};

}  // namespace

int32_t transfer_nothing(const IoFile& file, const IoQueue::Piece& piece) {
  const int result = piece.op == IoOp::kSync
                         ? fdatasync(file.fd)
                         : fallocate(file.fd, 0, static_cast<off_t>(piece.offset), static_cast<off_t>(piece.length));
  return result == 0 ? 0 : -errno;
}

int32_t transfer_plain(const IoFile& file, const IoQueue::Piece& piece) {
  const off_t offset = static_cast<off_t>(piece.offset);
  ssize_t result = 0;
  if (piece.op == IoOp::kRead) result = pread(file.fd, piece.data, piece.bytes, offset);
  else if (piece.op == IoOp::kWrite) result = pwrite(file.fd, piece.data, piece.bytes, offset);
  else return transfer_nothing(file, piece);
  return result >= 0 ? static_cast<int32_t>(result) : -errno;
}

std::unique_ptr<FileEngine> open_threads(const IoOptions& options, const FaultPlan& plan, const char* backend,
                                         bool want_direct, Transfer transfer) {
  return std::make_unique<ThreadEngine>(options, plan, backend, want_direct, transfer);
}

}  // namespace nandu
