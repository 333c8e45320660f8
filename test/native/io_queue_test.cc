// The queue in front of every back end, driven by hand: the test is its device and its clock, so order, shares and
// patience are exact and depend on no disk's speed.
#include <errno.h>

#include "../../native/io/queue.h"
#include "io_fixture.h"

using namespace nandu;
using namespace nandu::test;

namespace {

// The queue driven by hand: we are its device and its clock.
uint64_t clock_us;
struct Desk {
  bool woken = false;
  IoQueue queue;
  Answers answers;
  explicit Desk(uint32_t window, double short_transfers = 0)
      : queue({window, short_transfers, 7, UINT32_MAX, [this] { woken = true; }, [] { return clock_us; }}) {
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
  EXPECT(desk.answers.times[3] == 0);                                // of no group
  desk.finish(taken);
  desk.queue.close();
  desk.submit(IoClass::kDemandKv, 4);
  EXPECT(desk.take(taken) == -1);  // 1 is out
  EXPECT(desk.answers.times[0] == 1 && desk.answers.times[3] == 1 && desk.answers.times[4] == 1);
  desk.finish(taken);
  EXPECT(desk.take(taken) == -2);
  EXPECT(desk.answers.once_each() && desk.answers.count(0) == 1 && desk.answers.count(-ECANCELED) == 4);
}
