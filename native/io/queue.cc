#include "queue.h"

#include <errno.h>

#include <algorithm>
#include <chrono>

#include "random.h"

namespace nandu {
namespace {

// Shares of the window in percent (kernels-and-io.md 9.4). `contended`: while a demand class is queued or in flight.
// Idle shares of guesses and write-back stay below the whole, so that a demand that comes finds room at the device;
// half is what appends need to keep up with fio at the whole depth, 30 % gave 0.75-0.8 of it (bench/io). A class with a
// share may always have one piece in flight, however small the window.
struct Share {
  uint32_t idle, contended;
  uint64_t patience_us;  // waited for longer, a request counts as one of the next class up
};
constexpr uint64_t kPatienceUs = 50'000;
constexpr Share kShares[kIoClasses] = {
    {100, 100, UINT64_MAX},   // demand expert
    {100, 100, kPatienceUs},  // demand KV
    {100, 25, kPatienceUs},   // prefetch
    {50, 0, kPatienceUs},     // guess
    {50, 5, 2'000'000},       // write-back
};

// Attempts in a row that may move nothing (EINTR, EAGAIN, less than a page) before the request fails: no device that
// answers like that so often is going to recover.
constexpr uint32_t kMostAttempts = 64;

constexpr uint32_t kDemandClasses = 2;

// The class that a request of `priority` counts as after waiting. Write-back skips the class of guesses, which demand
// may silence altogether.
uint32_t level_after(uint32_t priority, uint64_t waited_us) {
  while (priority > 0 && waited_us >= kShares[priority].patience_us) {
    waited_us -= kShares[priority].patience_us;
    priority = priority == static_cast<uint32_t>(IoClass::kWriteBack) ? static_cast<uint32_t>(IoClass::kPrefetch)
                                                                      : priority - 1;
  }
  return priority;
}

uint32_t class_of(const IoRequest& request) {
  return static_cast<uint32_t>(request.priority);
}

}  // namespace

uint64_t monotonic_us() {
  using namespace std::chrono;
  return static_cast<uint64_t>(duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count());
}

void IoQueue::submit(IoRequest request) {
  NANDU_CHECK(request.done && class_of(request) < kIoClasses);
  NANDU_CHECK(request.offset % kIoAlign == 0 && request.offset < uint64_t{1} << 62);
  NANDU_CHECK(!moves_data(request.op) || (request.bytes > 0 && request.bytes % kIoAlign == 0 &&
                                          reinterpret_cast<uintptr_t>(request.data) % kIoAlign == 0));
  if (!moves_data(request.op)) request.bytes = 0;
  auto pending = std::make_shared<Pending>();
  pending->request = std::move(request);
  pending->submitted_us = setup_.now_us();
  const uint32_t priority = class_of(pending->request);
  const std::lock_guard lock(mutex_);
  stats_.requests[priority]++;
  if (closed_) {
    pending->result = -ECANCELED;
    end(std::move(pending));
  } else {
    stats_.queued_bytes[priority] += pending->request.bytes;
    waiting_[priority].push_back(std::move(pending));
  }
  wake();
}

void IoQueue::cancel(uint64_t group) {
  const std::lock_guard lock(mutex_);
  if (group != 0) cancel_if([&](const IoRequest& request) { return request.group == group; });
}

void IoQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  cancel_if([](const IoRequest&) { return true; });
  work_.notify_all();
}

template <typename Unwanted>
void IoQueue::cancel_if(Unwanted unwanted) {
  for (Waiting& waiting : waiting_) {
    std::erase_if(waiting, [&](const std::shared_ptr<Pending>& pending) {
      if (!unwanted(pending->request)) return false;
      pending->result = -ECANCELED;
      stop_cutting(*pending);
      if (pending->out == 0) end(pending);  // else the last of its pieces in flight ends it
      return true;
    });
  }
  wake();
}

IoQueue::Take IoQueue::take(Piece& piece) {
  std::unique_lock lock(mutex_);
  asleep_ = false;
  for (;;) {
    if (!ended_.empty()) deliver(lock);
    else if (pick(piece)) return Take::kPiece;
    else if (closed_ && std::all_of(out_pieces_, out_pieces_ + kIoClasses, [](uint32_t out) { return out == 0; }))
      return Take::kClosed;
    else if (setup_.wake) {
      asleep_ = true;
      return Take::kNothing;
    } else work_.wait(lock);
  }
}

void IoQueue::finish(Piece& piece, int32_t result) {
  const std::lock_guard lock(mutex_);
  settle(piece, result);
  // The caller comes back by itself, but may be kept by a `done` first. The last piece of a closed queue frees all.
  if (closed_) work_.notify_all();
  else if (!setup_.wake) work_.notify_one();
}

bool IoQueue::pick(Piece& piece) {
  for (;;) {
    if (!again_.empty()) {
      piece = std::move(again_.front());
      again_.pop_front();
    } else {
      const std::shared_ptr<Pending> next = choose();
      if (!next) return false;
      piece = cut(next);
    }
    if (inject_short(piece)) continue;
    // There may be more than this thread can carry.
    if (!setup_.wake) work_.notify_one();
    return true;
  }
}

// Strict order by level, the older first where two classes have come to the same level. A class that has used up its
// share is passed over; the window stops everybody, so that small pieces do not overtake a large one for ever.
std::shared_ptr<IoQueue::Pending> IoQueue::choose() const {
  const uint64_t now = setup_.now_us();
  std::shared_ptr<Pending> best;
  uint32_t best_level = kIoClasses;
  for (uint32_t priority = 0; priority < kIoClasses; priority++) {
    if (waiting_[priority].empty()) continue;
    const std::shared_ptr<Pending>& first = waiting_[priority].front();
    const uint32_t level = level_after(priority, now - std::min(now, first->submitted_us));
    if (level > best_level || (level == best_level && first->submitted_us >= best->submitted_us)) continue;
    if (!has_share(priority, level, next_bytes(*first))) continue;
    best = first;
    best_level = level;
  }
  const bool fits =
      stats_.inflight_bytes == 0 || (best && stats_.inflight_bytes + next_bytes(*best) <= setup_.window_bytes);
  return fits ? best : nullptr;
}

uint32_t IoQueue::next_bytes(const Pending& pending) {
  return std::min(kIoPieceBytes, pending.request.bytes - pending.cut);
}

// The next piece of a request that is the first of its class.
IoQueue::Piece IoQueue::cut(const std::shared_ptr<Pending>& pending) {
  const IoRequest& request = pending->request;
  const uint32_t priority = class_of(request), bytes = next_bytes(*pending);
  const Piece piece{pending, request.op,    request.file, request.offset + pending->cut, request.data + pending->cut,
                    bytes,   request.length};
  pending->cut += bytes;
  pending->out++;
  stats_.queued_bytes[priority] -= bytes;
  stats_.inflight_bytes += bytes;
  out_bytes_[priority] += bytes;
  out_pieces_[priority]++;
  if (pending->cut == request.bytes) {
    pending->whole = true;
    waiting_[priority].pop_front();
  }
  return piece;
}

bool IoQueue::has_share(uint32_t priority, uint32_t level, uint64_t bytes) const {
  if (priority == static_cast<uint32_t>(IoClass::kWriteBack) && out_pieces_[priority] >= setup_.most_write_backs)
    return false;
  bool contended = false;
  for (uint32_t demand = 0; demand < kDemandClasses; demand++)
    contended |= !waiting_[demand].empty() || out_pieces_[demand] > 0;
  const uint64_t share =
      uint64_t{setup_.window_bytes} * (contended ? kShares[priority].contended : kShares[priority].idle) / 100;
  if (out_pieces_[priority] == 0) return share > 0 || level < priority;
  return out_bytes_[priority] + bytes <= share;
}

// Below the retries, so that they are what makes it invisible. True: the piece was interrupted before it was sent.
bool IoQueue::inject_short(Piece& piece) {
  if (setup_.short_transfers <= 0 || next_unit(random_) >= setup_.short_transfers) return false;
  const uint32_t pages = piece.bytes / kIoAlign;
  const uint32_t kind = static_cast<uint32_t>(next_random(random_) % 3);
  if (pages < 2 || kind != 0) {
    stats_.faults++;
    settle(piece, kind == 1 ? -EINTR : -EAGAIN);
    return true;
  }
  stats_.faults++;
  const uint32_t kept = static_cast<uint32_t>(1 + next_random(random_) % (pages - 1)) * kIoAlign;
  piece.held_back = piece.bytes - kept;
  piece.bytes = kept;
  return false;
}

void IoQueue::settle(Piece& piece, int32_t result) {
  piece.bytes += piece.held_back;
  piece.held_back = 0;
  Pending& pending = *piece.of;
  const IoRequest& request = pending.request;
  const uint32_t priority = class_of(request);

  if (result >= 0 && static_cast<uint32_t>(result) < piece.bytes) {
    // Whole pages only: O_DIRECT takes no other offset to go on from. Nothing at all is the end of the file.
    const uint32_t moved = static_cast<uint32_t>(result) / kIoAlign * kIoAlign;
    piece.attempts = moved > 0 ? 0 : piece.attempts;
    piece.offset += moved;
    piece.data += moved;
    piece.bytes -= moved;
    out_bytes_[priority] -= moved;
    stats_.inflight_bytes -= moved;
    (request.op == IoOp::kRead ? stats_.read_bytes : stats_.write_bytes)[priority] += moved;
    result = result == 0 ? -EIO : -EAGAIN;
    if (moved == 0 && piece.attempts + 1 >= kMostAttempts) result = -EIO;
  } else if (result >= 0 && moves_data(request.op)) {
    (request.op == IoOp::kRead ? stats_.read_bytes : stats_.write_bytes)[priority] += piece.bytes;
  }
  if ((result == -EINTR || result == -EAGAIN) && ++piece.attempts < kMostAttempts) {
    again_.push_back(std::move(piece));
    wake();
    return;
  }
  out_bytes_[priority] -= piece.bytes;
  out_pieces_[priority]--;
  stats_.inflight_bytes -= piece.bytes;
  pending.out--;
  if (result < 0 && pending.result == 0) {
    pending.result = result;
    if (!pending.whole) {
      stop_cutting(pending);
      waiting_[priority].pop_front();  // of a class only the first is ever cut in part
    }
  }
  if (pending.out == 0 && pending.whole) end(std::move(piece.of));
  else piece.of.reset();
}

void IoQueue::stop_cutting(Pending& pending) {
  stats_.queued_bytes[class_of(pending.request)] -= pending.request.bytes - pending.cut;
  pending.whole = true;
}

void IoQueue::end(std::shared_ptr<Pending> pending) {
  if (pending->result != 0 && pending->result != -ECANCELED) stats_.errors++;
  if (pending->result == 0 && pending->request.op == IoOp::kRead) {
    const uint32_t us = static_cast<uint32_t>(std::min<uint64_t>(setup_.now_us() - pending->submitted_us, UINT32_MAX));
    if (read_us_.size() < kSamples) read_us_.push_back(us);
    else read_us_[next_sample_++ % kSamples] = us;
  }
  ended_.push_back(std::move(pending));
}

void IoQueue::deliver(std::unique_lock<std::mutex>& lock) {
  const std::shared_ptr<Pending> pending = std::move(ended_.front());
  ended_.pop_front();
  lock.unlock();
  pending->request.done(pending->result);
  pending->request.done = nullptr;  // what it holds goes with it, not under our lock
  lock.lock();
}

void IoQueue::wake() {
  if (!setup_.wake) return work_.notify_one();
  if (!asleep_) return;
  asleep_ = false;
  setup_.wake();
}

IoStats IoQueue::stats() const {
  std::vector<uint32_t> us;
  IoStats stats;
  {
    const std::lock_guard lock(mutex_);
    stats = stats_;
    us = read_us_;
  }
  std::sort(us.begin(), us.end());
  if (!us.empty()) {
    stats.read_p50_us = us[us.size() / 2];
    stats.read_p99_us = us[us.size() * 99 / 100];
  }
  return stats;
}

}  // namespace nandu
