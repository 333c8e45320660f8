// Back end on io_uring: one thread owns the ring, submits and reaps. Raw system calls; whatever is newer than the
// oldest kernel we take (5.15) is tried and given up flag by flag, so that the binary needs no header newer than its
// kernel.
//
// Not used, because measurements say no (kernels-and-io.md 9.2): SQPOLL, IOPOLL, IOSQE_ASYNC, an eventfd a completion.
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "backend.h"

// The same numbers on every architecture.
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif
#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7)
#endif
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif
#ifndef IORING_FEAT_NATIVE_WORKERS
#define IORING_FEAT_NATIVE_WORKERS (1U << 9)
#endif
#ifndef IORING_FEAT_RSRC_TAGS
#define IORING_FEAT_RSRC_TAGS (1U << 10)
#endif

namespace nandu {
namespace {

// Far more than a window of pieces; a window of single pages uses them all. The completion ring is twice as long, so it
// cannot overflow.
constexpr uint32_t kEntries = 256;
constexpr uint32_t kMostInFlight = kEntries - 1;  // one stays for the wake-up
constexpr uint64_t kWakeUp = UINT64_MAX;          // user_data; else the slot of a piece

// Wanted first to last; each line drops a flag that older kernels answer with EINVAL.
constexpr uint32_t kSetups[] = {
    IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_NO_SQARRAY,                                                                             // 6.6
    IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,  // 6.1
    IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,   // 6.0
    IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,                                // 5.19
    IORING_SETUP_CLAMP,                                                                                      // 5.15
};
// In one mapping, nothing dropped, plain reads at an offset, workers that are threads of ours, resource tags (5.13).
constexpr uint32_t kFeatures = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS |
                               IORING_FEAT_NATIVE_WORKERS | IORING_FEAT_RSRC_TAGS;

// The two rings shared with the kernel. One thread.
class Ring {
 public:
  ~Ring() {
    if (rings_) munmap(rings_, rings_bytes_);
    if (sqes_) munmap(sqes_, sqes_bytes_);
    if (fd_ >= 0) close(fd_);
  }

  // Empty, or what is refused.
  std::string open() {
    io_uring_params params;
    for (const uint32_t flags : kSetups) {
      params = {};
      params.flags = flags;
      fd_ = static_cast<int>(syscall(SYS_io_uring_setup, kEntries, &params));
      if (fd_ >= 0 || errno != EINVAL) break;
    }
    if (fd_ < 0) return std::string("io_uring_setup: ") + strerror(errno);
    if ((params.features & kFeatures) != kFeatures) return "the kernel is older than 5.15";
    rings_bytes_ = std::max<size_t>(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                    params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
    sqes_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
    rings_ = map(rings_bytes_, IORING_OFF_SQ_RING);
    sqes_ = map(sqes_bytes_, IORING_OFF_SQES);
    if (!rings_ || !sqes_) return std::string("mmap of the rings: ") + strerror(errno);
    sq_tail_ = word(params.sq_off.tail);
    sq_mask_ = *word(params.sq_off.ring_mask);
    cq_head_ = word(params.cq_off.head);
    cq_tail_ = word(params.cq_off.tail);
    cq_mask_ = *word(params.cq_off.ring_mask);
    cqes_ = reinterpret_cast<io_uring_cqe*>(rings_ + params.cq_off.cqes);
    if (!(params.flags & IORING_SETUP_NO_SQARRAY))
      for (uint32_t i = 0; i < params.sq_entries; i++) word(params.sq_off.array)[i] = i;
    // A profile may let the set-up pass and refuse the rest; an enter with nothing to do shows that.
    if (enter(0) < 0) return std::string("io_uring_enter: ") + strerror(errno);
    return "";
  }

  // Valid until enter. Never more than kEntries between two of them: kMostInFlight and the wake-up.
  io_uring_sqe& next(uint8_t opcode, int32_t fd, uint64_t user_data) {
    io_uring_sqe& sqe = reinterpret_cast<io_uring_sqe*>(sqes_)[(tail_ + prepared_++) & sq_mask_];
    sqe = {};
    sqe.opcode = opcode;
    sqe.fd = fd;
    sqe.user_data = user_data;
    return sqe;
  }

  // Hands over what was prepared and waits for `completions`. -1 with errno.
  int enter(uint32_t completions) {
    __atomic_store_n(sq_tail_, tail_ + prepared_, __ATOMIC_RELEASE);
    const long taken = syscall(SYS_io_uring_enter, fd_, prepared_, completions, IORING_ENTER_GETEVENTS, nullptr, 0);
    if (taken < 0) return -1;
    tail_ += static_cast<uint32_t>(taken);
    prepared_ -= static_cast<uint32_t>(taken);
    return 0;
  }

  // False: nothing has completed.
  bool reap(uint64_t& user_data, int32_t& result) {
    const uint32_t head = *cq_head_;
    if (head == __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE)) return false;
    const io_uring_cqe& cqe = cqes_[head & cq_mask_];
    user_data = cqe.user_data;
    result = cqe.res;
    __atomic_store_n(cq_head_, head + 1, __ATOMIC_RELEASE);
    return true;
  }

  bool register_table(uint32_t size) {
    const std::vector<int32_t> empty(size, -1);
    return syscall(SYS_io_uring_register, fd_, IORING_REGISTER_FILES, empty.data(), size) == 0;
  }
  bool register_file(uint32_t slot, int32_t fd) {
    io_uring_files_update update = {};
    update.offset = slot;
    update.fds = reinterpret_cast<uint64_t>(&fd);
    return syscall(SYS_io_uring_register, fd_, IORING_REGISTER_FILES_UPDATE, &update, 1) == 1;
  }

 private:
  uint8_t* map(size_t bytes, uint64_t offset) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, static_cast<off_t>(offset));
    return at == MAP_FAILED ? nullptr : static_cast<uint8_t*>(at);
  }
  uint32_t* word(uint32_t offset) const { return reinterpret_cast<uint32_t*>(rings_ + offset); }

  int fd_ = -1;
  uint8_t* rings_ = nullptr;
  uint8_t* sqes_ = nullptr;
  size_t rings_bytes_ = 0, sqes_bytes_ = 0;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  io_uring_cqe* cqes_ = nullptr;
  uint32_t sq_mask_ = 0, cq_mask_ = 0;
  uint32_t tail_ = 0;      // taken by the kernel
  uint32_t prepared_ = 0;  // behind it
};

class UringEngine : public FileEngine {
 public:
  UringEngine(const IoOptions& options, const FaultPlan& plan)
      : FileEngine(options, plan, true, [this] { wake(); }), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    // The thread sets the ring up, because the kernel wants the same one to submit; we wait to hear how it went.
    thread_ = std::thread([this] {
      std::string refusal = event_ < 0 ? std::string("eventfd: ") + strerror(errno) : ring_.open();
      const bool opened = refusal.empty();
      refusal_ = std::move(refusal);
      ready_.store(true);
      ready_.notify_one();
      if (opened) loop();
    });
    ready_.wait(false);
  }
  ~UringEngine() override {
    queue_.close();
    thread_.join();
    if (event_ >= 0) close(event_);
  }
  const std::string& refusal() const { return refusal_; }
  const char* backend() const override { return "io_uring"; }

 private:
  // Under the queue's lock, from any thread. Full is impossible: the counter would have to reach 2^64.
  void wake() {
    const uint64_t one = 1;
    NANDU_CHECK(write(event_, &one, sizeof one) == sizeof one);
  }

  void loop() {
    fixed_files_ = ring_.register_table(kMostFiles);
    for (uint32_t slot = 0; slot < kMostInFlight; slot++) free_[num_free_++] = slot;
    bool wake_armed = false;
    for (;;) {
      IoQueue::Take taken = IoQueue::Take::kPiece;
      while (num_free_ > 0) {
        IoQueue::Piece piece;
        taken = queue_.take(piece);
        if (taken != IoQueue::Take::kPiece) break;
        send(std::move(piece));
      }
      if (taken == IoQueue::Take::kClosed) return;
      if (!wake_armed) ring_.next(IORING_OP_POLL_ADD, event_, kWakeUp).poll_events = POLLIN;
      wake_armed = true;
      if (ring_.enter(1) < 0) {
        // EAGAIN, ENOMEM: no memory for requests just now. EBUSY: completions have to be reaped first.
        const bool is_short_of_memory = errno == EAGAIN || errno == ENOMEM;
        NANDU_CHECK(is_short_of_memory || errno == EINTR || errno == EBUSY);
        if (is_short_of_memory) pause_a_little();
      }
      uint64_t user_data;
      int32_t result;
      while (ring_.reap(user_data, result)) {
        if (user_data == kWakeUp) {
          wake_armed = false;
          uint64_t count;
          // Nothing to read is fine: the poll may have been cancelled.
          if (read(event_, &count, sizeof count) < 0) NANDU_CHECK(errno == EAGAIN || errno == EINTR);
          continue;
        }
        IoQueue::Piece& piece = flying_[user_data];
        free_[num_free_++] = static_cast<uint32_t>(user_data);
        finish(piece, result);
        piece = {};
      }
    }
  }

  void send(IoQueue::Piece piece) {
    const uint32_t slot = free_[--num_free_];
    const uint8_t opcode = piece.op == IoOp::kRead    ? IORING_OP_READ
                           : piece.op == IoOp::kWrite ? IORING_OP_WRITE
                           : piece.op == IoOp::kSync  ? IORING_OP_FSYNC
                                                      : IORING_OP_FALLOCATE;
    io_uring_sqe& sqe = ring_.next(opcode, at(piece.file).fd, slot);
    if (piece.op == IoOp::kSync) {
      sqe.fsync_flags = IORING_FSYNC_DATASYNC;
    } else if (piece.op == IoOp::kAllocate) {
      sqe.off = piece.offset;
      sqe.addr = piece.length;
    } else {
      sqe.off = piece.offset;
      sqe.addr = reinterpret_cast<uint64_t>(piece.data);
      sqe.len = piece.bytes;
    }
    if (is_registered(piece.file)) {
      sqe.flags = IOSQE_FIXED_FILE;
      sqe.fd = static_cast<int32_t>(piece.file);
    }
    flying_[slot] = std::move(piece);
  }

  // Registers the file with its first piece. Refused, the descriptor does as well, only slower.
  bool is_registered(uint32_t file) {
    if (fixed_files_ && registered_[file] == Registered::kUntried)
      registered_[file] = ring_.register_file(file, at(file).fd) ? Registered::kYes : Registered::kRefused;
    return registered_[file] == Registered::kYes;
  }

  static void pause_a_little() {
    const timespec millisecond{0, 1'000'000};
    nanosleep(&millisecond, nullptr);
  }

  enum class Registered : uint8_t { kUntried, kYes, kRefused };

  const int event_;  // wakes the thread out of enter
  std::string refusal_;
  std::atomic<bool> ready_{false};
  // The thread's own.
  Ring ring_;
  bool fixed_files_ = false;
  std::array<Registered, kMostFiles> registered_{};
  std::array<IoQueue::Piece, kMostInFlight> flying_;
  std::array<uint32_t, kMostInFlight> free_;
  uint32_t num_free_ = 0;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<FileEngine> open_uring(const IoOptions& options, const FaultPlan& plan, std::string& refusal) {
  auto engine = std::make_unique<UringEngine>(options, plan);
  refusal = engine->refusal();
  if (!refusal.empty()) return nullptr;
  return engine;
}

}  // namespace nandu
