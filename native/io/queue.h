// The software queues in front of a device: one a class, cut into pieces, let through under a window and the shares of
// the classes; retries, cancellation, statistics. Shared by the back ends, whose I/O threads do nothing but
//
//   while (take(piece) == kPiece) finish(piece, transfer(piece));
//
// Life of a request:  queued ──first piece taken──▶ in flight ──last piece finished──▶ ended ──take()──▶ done called
//                        └────────────────cancel, close────────────────────────────────▲
// How many requests wait here is bounded by those who submit: they own the buffers.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "io_engine.h"

namespace nandu {

// Never goes back; its zero means nothing.
uint64_t monotonic_us();

class IoQueue {
  struct Pending;

 public:
  struct Piece {
    std::shared_ptr<Pending> of;
    IoOp op;
    uint32_t file;
    uint64_t offset;
    uint8_t* data;
    uint32_t bytes;          // 0: nothing is moved
    uint64_t length;         // of kAllocate
    uint32_t attempts = 0;   // in a row that moved nothing
    uint32_t held_back = 0;  // bytes behind `bytes` that a short transfer leaves for the next attempt (the shim's)
  };
  enum class Take { kPiece, kNothing, kClosed };

  struct Setup {
    uint32_t window_bytes;
    double short_transfers = 0;  // of the fault shim: share of pieces that are cut short, interrupted or refused once
    uint64_t seed = 0;
    // Pieces of write-back in flight, where each keeps a thread: one is left to reads, however slow the disk writes.
    uint32_t most_write_backs = UINT32_MAX;
    // Called, under the queue's lock, when there is work and a thread was told kNothing. Unset: threads wait in take.
    std::function<void()> wake;
    uint64_t (*now_us)() = monotonic_us;
  };
  explicit IoQueue(Setup setup) : setup_(std::move(setup)), random_(setup_.seed) {}

  void submit(IoRequest request);
  void cancel(uint64_t group);
  // Ends what is queued; from now on everything submitted ends at once with -ECANCELED. Threads are told kClosed when
  // nothing is in flight any more.
  void close();

  // For I/O threads: calls `done` of what has ended, then hands out the next piece. Without `wake` it waits for one.
  Take take(Piece& piece);
  // `result`: bytes moved, or -errno.
  void finish(Piece& piece, int32_t result);

  IoStats stats() const;

 private:
  struct Pending {
    IoRequest request;
    uint64_t submitted_us = 0;
    uint32_t cut = 0;    // bytes of it that were handed out
    uint32_t out = 0;    // pieces handed out and not finished
    bool whole = false;  // no further piece will be handed out
    int32_t result = 0;  // the first error
  };
  using Waiting = std::deque<std::shared_ptr<Pending>>;

  template <typename Unwanted>
  void cancel_if(Unwanted unwanted);
  bool pick(Piece& piece);
  std::shared_ptr<Pending> choose() const;
  Piece cut(const std::shared_ptr<Pending>& pending);
  static uint32_t next_bytes(const Pending& pending);
  bool has_share(uint32_t priority, uint32_t level, uint64_t bytes) const;
  bool inject_short(Piece& piece);
  void stop_cutting(Pending& pending);
  void settle(Piece& piece, int32_t result);
  void end(std::shared_ptr<Pending> pending);
  void deliver(std::unique_lock<std::mutex>& lock);
  void wake();

  const Setup setup_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  bool asleep_ = false;  // somebody was told kNothing and not woken since
  bool closed_ = false;
  Waiting waiting_[kIoClasses];
  std::deque<Piece> again_;  // remainders and interrupted pieces: they go before everything else
  Waiting ended_;            // `done` is still to be called
  uint64_t out_bytes_[kIoClasses] = {};
  uint32_t out_pieces_[kIoClasses] = {};
  uint64_t random_;
  IoStats stats_{};
  // Durations of the last reads, in a ring.
  static constexpr uint32_t kSamples = 4096;
  std::vector<uint32_t> read_us_;
  uint32_t next_sample_ = 0;
};

}  // namespace nandu
