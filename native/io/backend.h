// What the three back ends share beside the queue (files, fall-backs), and what open_io_engine puts together from.
#pragma once

#include <atomic>
#include <mutex>

#include "io_engine.h"
#include "queue.h"

namespace nandu {

// IoOptions::fault, parsed. Probabilities are per request (`short_transfers`: per piece).
struct FaultPlan {
  uint64_t seed = 0;
  double read_error = 0, write_error = 0, sync_error = 0;
  int32_t read_errno, write_errno, sync_errno;  // set by parse_faults
  double short_transfers = 0, flip = 0, lost = 0, misdirect = 0, torn = 0, stale = 0, delay = 0, reorder = 0, hang = 0;
  uint64_t delay_ms = 0;
  uint64_t full_after = UINT64_MAX;  // bytes by which the files may grow together
  uint64_t crash_after = 0;          // number of the request that ends the process; 0: none
};
Result<FaultPlan> parse_faults(const std::string& spec);
std::unique_ptr<IoEngine> inject_faults(std::unique_ptr<IoEngine> engine, const FaultPlan& plan);

// More than the store ever has open (data, index, superblock, lock and a few temporary ones) and the model files.
inline constexpr uint32_t kMostFiles = 64;

struct IoFile {
  int fd = -1;
  std::string path;
  bool opened_direct = false;
  std::atomic<bool> direct{false};  // goes false for good when the first transfer is refused
};

// All of IoEngine but the transfers. A back end starts I/O threads that serve `queue_`, and closes it and joins them in
// its destructor.
class FileEngine : public IoEngine {
 public:
  ~FileEngine() override;
  Result<uint32_t> add_file(const std::string& path, bool create, bool read_only) override;
  void submit(IoRequest request) override;
  void cancel(uint64_t group) override { queue_.cancel(group); }
  int32_t truncate(uint32_t file, uint64_t bytes) override;
  uint64_t file_bytes(uint32_t file) const override;
  IoStats stats() const override { return queue_.stats(); }
  bool direct(uint32_t file) const override { return at(file).direct.load(std::memory_order_relaxed); }
  std::string remark() const override;
  void add_remark(const std::string& text);

 protected:
  // `want_direct`: open with O_DIRECT where that works. `wake`: see IoQueue::Setup.
  FileEngine(const IoOptions& options, const FaultPlan& plan, bool want_direct, std::function<void()> wake);
  const IoFile& at(uint32_t file) const;
  // An I/O thread has transferred a piece: `result` bytes or -errno.
  void finish(IoQueue::Piece& piece, int32_t result);

  IoQueue queue_;

 private:
  void give_up_direct(IoFile& file);

  const bool want_direct_;
  std::atomic<uint32_t> num_files_{0};
  IoFile files_[kMostFiles];
  mutable std::mutex mutex_;  // adding files; the remark
  std::string remark_;
};

// Null: the kernel refuses io_uring; `refusal` says how.
std::unique_ptr<FileEngine> open_uring(const IoOptions& options, const FaultPlan& plan, std::string& refusal);

// Threads that transfer one piece at a time.
using Transfer = int32_t (*)(const IoFile& file, const IoQueue::Piece& piece);
std::unique_ptr<FileEngine> open_threads(const IoOptions& options, const FaultPlan& plan, const char* backend,
                                         bool want_direct, Transfer transfer);
int32_t transfer_plain(const IoFile& file, const IoQueue::Piece& piece);
int32_t transfer_mapped(const IoFile& file, const IoQueue::Piece& piece);
// kSync and kAllocate, which move no data: the same for both.
int32_t transfer_nothing(const IoFile& file, const IoQueue::Piece& piece);

}  // namespace nandu
