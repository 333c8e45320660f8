// The store's inside: state that its one thread owns. store.cc turns the loop, syncs, and speaks of health; append.cc
// writes; read.cc reads; reclaim.cc empties regions and destroys records; recovery.cc finds again what lies there.
//
//   commands ──▶ inbox ──▶ loop ──▶ IoEngine ──done──▶ inbox ──▶ continuation ──▶ events
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "directory.h"
#include "record.h"

namespace nandu {

using Clock = std::chrono::steady_clock;

// Aligned memory for I/O; goes back to its pool with the last holder, which is the continuation of the I/O that uses
// it: a buffer is never handed out while the device may still write into it.
using Bounce = std::shared_ptr<uint8_t>;
Bounce make_buffer(size_t bytes);
class BouncePool {
 public:
  explicit BouncePool(uint32_t most) : left_(most) {}
  ~BouncePool();
  Bounce take();  // kPieceBytes; null: all are in use
 private:
  std::vector<uint8_t*> free_;
  uint32_t left_;  // not yet allocated
};

enum class RegionState : uint8_t { kUnknown, kFree, kOpen, kSealed };

struct Region {
  RegionState state = RegionState::kUnknown;
  bool reclaiming = false;
  bool announced = false;     // kSealed is out
  bool slot_due = false;      // its slot in `index` is to be written
  bool slot_writing = false;  // and is being written now
  RegionClass klass = RegionClass::kNone;
  bool may_reopen = false;  // found at start, and nothing can stand in its slot
  uint64_t epoch = 0;
  uint32_t next_page = 1;  // behind everything that was ever written in this epoch
  uint32_t writing = 0;    // records that are placed here and not yet written
  uint32_t undurable = 0;  // records that are written and not yet durable, or not yet published
  uint32_t pins = 0;       // requests in flight: it is not used anew before they ended
  std::vector<uint64_t> ids;
  // For the slot, until it is written.
  struct Entry {
    uint64_t id;
    Place place;
    std::vector<uint8_t> bytes;
  };
  std::vector<Entry> entries;
};

struct Append {
  uint64_t ticket = 0;
  RecordInfo info;
  std::shared_ptr<PayloadSource> source;
  RegionClass klass = RegionClass::kNone;
  // Set for what a reclaim keeps: its id stays, nobody else hears of it.
  std::function<void(StoreStatus, const Append&)> moved;
  bool placed = false;
  Reference reference;
  std::vector<uint32_t> chunks;
  Bounce first;  // header and first chunks: written last, when the checksums are known
  uint64_t gathered = 0;
  uint32_t in_flight = 0;
  StoreStatus status = StoreStatus::kOk;
  std::string text;
};

struct Read {
  uint64_t ticket = 0, id = 0, group = 0;
  uint64_t order = 0;
  Reference reference;
  std::vector<ByteRange> ranges;
  IoClass priority = IoClass::kDemandKv;
  std::shared_ptr<PayloadSink> sink;
  std::function<void(StoreStatus, const FoundRecord&)> then;  // set for a reclaim's reads: no event
  struct Piece {
    uint32_t first_chunk, num_chunks;  // of what is read; the header comes with the first piece
    Bounce buffer;                     // arrived, waits for its turn
    bool arrived = false;
  };
  std::vector<Piece> pieces;
  size_t next_issue = 0, next_deliver = 0;
  size_t next_range = 0;
  FoundRecord found;
  uint64_t delivered = 0;
  bool ended = false;
};

struct Reclaim {
  uint64_t ticket = 0;
  uint32_t region = 0;
  std::vector<uint64_t> keep;
  size_t next = 0;
  uint64_t sync_failures = 0;  // at the start: one more, and what was copied may be gone
  struct Copy {
    RecordInfo info;
    Reference from, to;
  };
  std::vector<Copy> copies;
  std::vector<Reference> published;  // originals of the copies that the table points to
  bool dropped = false;              // the region is empty and waits for the last reader
};

class StoreImpl final : public Store {
 public:
  StoreImpl(const StoreOptions& options, OpenDirectory directory, std::unique_ptr<IoEngine> io,
            std::function<void(StoreEvent&&)> on_event);
  ~StoreImpl() override;

  void append(uint64_t ticket, RecordInfo info, std::unique_ptr<PayloadSource> source) override;
  void read(uint64_t ticket, uint64_t id, const Hash& key, std::vector<ByteRange> ranges, IoClass priority,
            std::unique_ptr<PayloadSink> sink) override;
  void cancel(uint64_t ticket) override;
  void reclaim(uint64_t ticket, uint32_t region, std::vector<uint64_t> keep) override;
  void destroy(uint64_t ticket, std::vector<uint64_t> ids) override;
  void flush() override;
  StoreStats stats() const override;
  const IoEngine& io() const override { return *io_; }
  const Hash& secret() const override { return directory_.secret; }

 private:
  using Then = std::function<void(int32_t)>;

  // store.cc: the loop, I/O, syncs, health
  void post(std::function<void()> work);
  void loop();
  void turn();
  Clock::time_point next_timer() const;
  bool finished();
  void give_up();
  void transfer(IoOp op, IoClass priority, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes,
                uint64_t group, Then then);
  void submit(IoRequest request, Then then);
  void write_page(uint32_t file, uint64_t offset, const Bounce& page, uint32_t bytes, Then then);
  void sync(std::function<void(bool)> then);  // of `data`, and everything that was written to it before
  void start_sync();
  void sync_ended(int32_t result, const std::vector<std::function<void(bool)>>& waiters, bool flushed);
  void lose_everything_unsynced();
  void emit(StoreEvent&& event);
  void answer(StoreEvent::Kind kind, uint64_t ticket, StoreStatus status, uint64_t number = 0);
  void write_failed(int32_t result, const char* what);
  void report_health();
  void probe();
  bool paused() const { return write_health_ != StoreStatus::kOk; }
  void publish_stats();
  uint64_t region_offset(uint32_t region) const { return uint64_t{region} * directory_.region_bytes; }
  uint64_t record_offset(const Place& p) const { return region_offset(p.region) + uint64_t{p.page} * kPageBytes; }
  void unpin(uint32_t region);

  // append.cc
  void pump_appends();
  bool place(Append& append);
  bool gather(Append& append);
  void fill(Append& append, uint8_t* to, uint64_t bytes);
  void submit_piece(Append& append, uint64_t at, const Bounce& buffer, uint32_t bytes);
  void retire();
  void finish(Append& append);
  int64_t take_region(RegionClass klass, bool* wait);
  void grow();
  void grown(int32_t result);
  void open_region(uint32_t region, RegionClass klass, Append& first);
  void seal(uint32_t region);
  void settle(uint32_t region);
  void write_slot_of(uint32_t region);
  void fail_region(uint32_t region);
  void fail_appends(const std::function<bool(const Append&)>& which);

  // read.cc
  void start_read(const std::shared_ptr<Read>& read);
  void plan_pieces(Read& read) const;
  void pump_reads();
  bool issue_piece(const std::shared_ptr<Read>& read);
  void piece_arrived(const std::shared_ptr<Read>& read, size_t piece, Bounce buffer, int32_t result);
  bool deliver(Read& read, Read::Piece& piece);
  bool is_cut_off(const Reference& ref) const;
  void end_corrupt(Read& read);
  void end_read(Read& read, StoreStatus status);

  // reclaim.cc
  void pump_reclaim();
  void reclaim_next();
  void reclaim_copy(const FoundRecord& found, std::vector<uint8_t> payload);
  void reclaim_publish();
  void reclaim_erase_slot();
  void reclaim_free();
  void reclaim_end(StoreStatus status);
  void forget(uint64_t id);       // out of the table, and its header is overwritten
  void bury(const Reference& r);  // only the latter
  void pump_dead();
  void dead_ended(size_t count, int32_t result);
  bool may_find_copies() const;
  void no_more_copies();

  // recovery.cc
  void recover();
  void recover_batch(uint32_t first);
  bool recover_slot(uint32_t region, const uint8_t* slot);
  void recover_headers(std::vector<uint32_t> regions, uint32_t next);
  void recover_region(uint32_t region, const uint8_t* header);
  void walked(uint32_t region);
  void recover_walks();
  void walk(uint32_t region, uint32_t page);
  void read_again(uint64_t offset, uint8_t* to, uint32_t bytes, uint32_t tries, Then then);
  void adopt(FoundRecord&& found, bool with_entry);
  void free_damaged(uint32_t region);
  void free_damaged_ended(bool freed);

  // Pools first: buffers in the inbox or in the engine go back to them at the end.
  BouncePool read_buffers_, write_buffers_;
  const StoreOptions options_;
  OpenDirectory directory_;
  const std::function<void(StoreEvent&&)> on_event_;

  std::mutex inbox_mutex_;
  std::condition_variable inbox_changed_;
  std::vector<std::function<void()>> inbox_;
  bool stop_ = false;

  mutable std::mutex stats_mutex_;
  StoreStats published_{};

  // Everything below belongs to the store's thread.
  StoreStats stats_{};
  std::unordered_map<uint64_t, Reference> table_;
  std::vector<Region> regions_;
  std::deque<uint32_t> free_;
  bool growing_ = false;
  uint32_t num_sealed_ = 0, slots_writing_ = 0;
  int64_t open_[4] = {-1, -1, -1, -1};  // by RegionClass
  uint64_t next_number_ = 0;
  uint64_t found_below_ = 0;  // ids of an earlier process lie below

  std::deque<std::shared_ptr<Append>> appends_;  // in the order in which they are answered
  size_t num_gathered_ = 0;                      // of them, from the front
  uint64_t retired_ = 0;                         // ever
  uint64_t flush_at_ = 0;                        // a flush waits for this many
  bool flush_wanted_ = false;

  struct Undurable {
    uint64_t id;
    uint32_t region;
    uint64_t covered_by;  // number of the sync that was begun after it was written; 0: none yet
  };
  std::vector<Undurable> undurable_;  // written, in order of ids
  uint64_t durable_id_ = 0;
  uint64_t unsynced_bytes_ = 0;
  Clock::time_point first_unsynced_{};
  bool sync_running_ = false;
  uint64_t syncs_begun_ = 0;
  std::vector<std::function<void(bool)>> sync_waiters_;

  std::vector<std::shared_ptr<Read>> reads_;
  uint64_t next_group_ = 1, next_order_ = 1;

  std::deque<std::shared_ptr<Reclaim>> reclaims_;  // the front one runs
  bool reclaim_running_ = false;

  std::deque<Reference> dead_;  // headers to overwrite
  uint64_t dead_ended_ = 0;     // ever
  bool dead_running_ = false;
  // Headers overwritten with one sync, at most 1 MiB of them.
  static constexpr size_t kDeadBatch = 256;
  size_t dead_batch_ = kDeadBatch;
  uint32_t dead_failures_ = 0;  // of one page, in a row
  struct Destroy {
    uint64_t ticket, until;  // when so many are overwritten; kLater: not known yet
  };
  static constexpr uint64_t kLater = UINT64_MAX;
  std::deque<Destroy> destroys_;

  bool recovering_ = true;
  bool aborted_ = false;  // closing: recovery and reclaims stop where they are
  uint64_t damaged_ = 0;
  bool found_is_durable_ = true;  // what lies there was synced
  bool cannot_promise_ = false;   // a page that should have gone could not be written
  bool may_reopen_ = false;       // what the index says of erased slots is durable
  uint32_t num_found_ = 0;        // regions in the file at start
  uint32_t damaged_pending_ = 0;  // regions whose header is being made anew
  bool batches_ended_ = false;
  std::vector<uint32_t> walks_;
  std::unordered_set<uint64_t> banned_;  // destroyed while recovery may still find another copy

  // What writing and growing last met; probed again every kRetry.
  StoreStatus write_health_ = StoreStatus::kOk, space_health_ = StoreStatus::kOk;
  StoreStatus reported_health_ = StoreStatus::kOk;
  std::string health_text_;
  Clock::time_point retry_at_{};
  bool probing_ = false;
  bool closing_ = false;
  Clock::time_point close_by_{};

  std::unique_ptr<IoEngine> io_;
  std::thread thread_;
};

}  // namespace nandu
