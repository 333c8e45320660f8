// Emptying regions and destroying records.
//
// Reclaim: kept records are copied and synced, then the table points at the copies, then the region's slot is
// erased and synced, then its header gets a new epoch and is synced, and only then the region is free: at every moment
// a crash finds each kept record in one place at least. Destroy: headers are overwritten, the slots that repeat them
// erased, both synced. While a record may lie in two places, in a reclaim or before recovery has seen all, a destroy is
// answered only when both are overwritten.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store_impl.h"

namespace nandu {
namespace {

// A page that still cannot be written when the disk was found well so often is given up: the rest of the disk goes on.
constexpr uint32_t kDeadTries = 3;

class MemorySink final : public PayloadSink {
 public:
  explicit MemorySink(std::shared_ptr<std::vector<uint8_t>> to) : to_(std::move(to)) {}
  void take(uint64_t offset, const uint8_t* from, size_t bytes) override { memcpy(to_->data() + offset, from, bytes); }

 private:
  std::shared_ptr<std::vector<uint8_t>> to_;
};

class MemorySource final : public PayloadSource {
 public:
  explicit MemorySource(std::vector<uint8_t> from) : from_(std::move(from)) {}
  void copy(uint64_t offset, uint8_t* to, size_t bytes) override { memcpy(to, from_.data() + offset, bytes); }

 private:
  std::vector<uint8_t> from_;
};

}  // namespace

// --- reclaim -------------------------------------------------------------------------------------------

void StoreImpl::pump_reclaim() {
  if (reclaims_.empty() || (recovering_ && !aborted_)) return;
  Reclaim& r = *reclaims_.front();
  if (!reclaim_running_) {
    if (options_.read_only) return reclaim_end(StoreStatus::kReadOnly);
    if (aborted_) return reclaim_end(StoreStatus::kCancelled);
    if (paused()) return reclaim_end(write_health_);
    if (r.region >= regions_.size() || regions_[r.region].state != RegionState::kSealed)
      return reclaim_end(StoreStatus::kNotFound);
    if (next_number_ + 1 > directory_.end_number) return reclaim_end(StoreStatus::kNoSpace);
    Region& region = regions_[r.region];
    if (region.writing > 0 || region.slot_writing) return;  // the end of either turns the loop again
    region.reclaiming = reclaim_running_ = true;
    r.sync_failures = stats_.sync_failures;
    reclaim_next();
  } else if (r.dropped && (regions_[r.region].pins == 0 || !checked(kCheckPins))) {
    Region& region = regions_[r.region];
    region.state = RegionState::kFree;
    region.reclaiming = false;
    num_sealed_--;
    free_.push_back(r.region);
    reclaim_end(StoreStatus::kOk);
  }
}

void StoreImpl::reclaim_next() {
  const std::shared_ptr<Reclaim> r = reclaims_.front();
  if (aborted_) return reclaim_end(StoreStatus::kCancelled);
  for (; r->next < r->keep.size(); r->next++) {
    const uint64_t id = r->keep[r->next];
    const auto it = table_.find(id);
    const bool copied = std::any_of(r->copies.begin(), r->copies.end(), [&](const auto& c) { return c.info.id == id; });
    if (it == table_.end() || it->second.place.region != r->region || copied) continue;
    auto payload = std::make_shared<std::vector<uint8_t>>(it->second.payload_bytes);
    auto read = std::make_shared<Read>();
    read->id = id, read->priority = IoClass::kWriteBack;
    if (!payload->empty()) read->ranges = {{0, payload->size()}};
    read->sink = std::make_shared<MemorySink>(payload);
    read->then = [this, payload, id](StoreStatus status, const FoundRecord& found) {
      if (status == StoreStatus::kOk) return reclaim_copy(found, std::move(*payload));
      if (status == StoreStatus::kCancelled) return reclaim_end(status);
      if (status == StoreStatus::kIoError) {
        // A bad sector must not hold its whole region for ever.
        stats_.quarantined++;
        forget(id);
      }
      reclaims_.front()->next++;
      reclaim_next();
    };
    start_read(read);
    return;
  }
  sync([this, r](bool synced) {
    if (!synced || stats_.sync_failures != r->sync_failures) return reclaim_end(StoreStatus::kIoError);
    crash_point("copies synced");
    reclaim_publish();
  });
}

void StoreImpl::reclaim_copy(const FoundRecord& found, std::vector<uint8_t> payload) {
  auto a = std::make_shared<Append>();
  a->info = found.info;
  a->source = std::make_shared<MemorySource>(std::move(payload));
  a->klass = RegionClass::kReinserted;
  a->reference.header_bytes = found.reference.header_bytes;
  a->moved = [this, from = found.reference](StoreStatus status, const Append& written) {
    if (status != StoreStatus::kOk) return reclaim_end(status);
    crash_point("copied");
    reclaims_.front()->copies.push_back({written.info, from, written.reference});
    reclaims_.front()->next++;
    reclaim_next();
  };
  appends_.push_back(std::move(a));
}

void StoreImpl::reclaim_publish() {
  const std::shared_ptr<Reclaim> r = reclaims_.front();
  for (Reclaim::Copy& copy : std::exchange(r->copies, {})) {
    const uint32_t to = copy.to.place.region;
    regions_[to].undurable--;
    const auto it = table_.find(copy.info.id);
    if (it != table_.end() && it->second.place == copy.from.place) {
      it->second = copy.to;
      regions_[to].ids.push_back(copy.info.id);
      StoreEvent event{StoreEvent::kMoved};
      event.record = std::move(copy.info);
      emit(std::move(event));
      r->published.push_back(copy.from);
    } else {
      bury(copy.to);  // destroyed meanwhile
    }
    settle(to);
  }
  reclaim_erase_slot();
}

// A start believes a valid slot without looking at the region: it is gone for good before the region is.
void StoreImpl::reclaim_erase_slot() {
  const std::shared_ptr<Reclaim> r = reclaims_.front();
  if (!checked(kCheckSlotErased)) return reclaim_free();
  const Bounce page = make_buffer(kPageBytes);
  memset(page.get(), 0, kPageBytes);
  const auto failed = [this](int32_t result) {
    write_failed(result, "cannot be written");
    reclaim_end(StoreStatus::kIoError);
  };
  write_page(directory_.index_file, uint64_t{r->region} * kSlotBytes, page, kPageBytes,
             [this, failed](int32_t written) {
               crash_point("slot erased");
               if (written != 0) return failed(written);
               transfer(IoOp::kSync, IoClass::kWriteBack, directory_.index_file, 0, nullptr, 0, 0,
                        [this, failed](int32_t synced) {
                          crash_point("slot erased for good");
                          if (synced != 0) return failed(synced);
                          reclaim_free();
                        });
             });
}

void StoreImpl::reclaim_free() {
  const std::shared_ptr<Reclaim> r = reclaims_.front();
  RegionHeader header{};
  header.store = directory_.store, header.epoch = next_number_++, header.region_bytes = directory_.region_bytes;
  header.region = r->region, header.klass = RegionClass::kNone;
  const Bounce page = make_buffer(kPageBytes);
  write_region_header(header, page.get());
  regions_[r->region].pins++;
  const auto synced = [this, r, epoch = header.epoch](bool ok) {
    if (!ok || stats_.sync_failures != r->sync_failures) return reclaim_end(StoreStatus::kIoError);
    crash_point("region freed");
    Region& region = regions_[r->region];
    for (const uint64_t id : region.ids) {
      const auto it = table_.find(id);
      if (it == table_.end() || it->second.place.region != r->region || it->second.place.epoch != region.epoch)
        continue;
      stats_.live_bytes -= stored_bytes(it->second.header_bytes, it->second.payload_bytes);
      table_.erase(it);
    }
    region.epoch = epoch;
    region.ids = {}, region.entries = {};
    region.slot_due = false;
    r->dropped = true;
    no_more_copies();
  };
  write_page(directory_.data_file, region_offset(r->region), page, kPageBytes, [this, r, synced](int32_t result) {
    unpin(r->region);
    crash_point("region header freed");
    if (result == 0) return sync(synced);
    write_failed(result, "cannot be written");
    reclaim_end(StoreStatus::kIoError);
  });
}

void StoreImpl::reclaim_end(StoreStatus status) {
  const std::shared_ptr<Reclaim> r = reclaims_.front();
  reclaims_.pop_front();
  if (reclaim_running_ && status != StoreStatus::kOk) {
    for (const Reclaim::Copy& copy : r->copies) {
      regions_[copy.to.place.region].undurable--;
      bury(copy.to);
      settle(copy.to.place.region);
    }
    // Moved for good, and the region stays: what is left in it must not come back when the record is destroyed.
    for (const Reference& from : r->published) bury(from);
    regions_[r->region].reclaiming = false;
    settle(r->region);
  }
  reclaim_running_ = false;
  no_more_copies();
  if (!reclaims_.empty()) post([] {});  // the next one begins with the next turn
  answer(StoreEvent::kReclaimed, r->ticket, status, r->region);
}

// --- destroy -------------------------------------------------------------------------------------------

void StoreImpl::forget(uint64_t id) {
  const auto it = table_.find(id);
  if (it == table_.end()) return;
  stats_.live_bytes -= stored_bytes(it->second.header_bytes, it->second.payload_bytes);
  bury(it->second);
  table_.erase(it);
}

// Whatever leaves the table but not with its region is overwritten, in this order: a record that was lost or found
// corrupt could otherwise be found again by the next start, after a purge that did not know of it.
void StoreImpl::bury(const Reference& r) {
  if (!options_.read_only) dead_.push_back(r);
}

bool StoreImpl::may_find_copies() const {
  return recovering_ || (reclaim_running_ && !reclaims_.front()->dropped);
}

// All copies of what was destroyed meanwhile are in the queue.
void StoreImpl::no_more_copies() {
  for (Destroy& d : destroys_)
    if (d.until == kLater) d.until = dead_ended_ + dead_.size();
}

void StoreImpl::pump_dead() {
  while (!destroys_.empty() && destroys_.front().until <= dead_ended_) {
    answer(StoreEvent::kDestroyed, destroys_.front().ticket, StoreStatus::kOk);
    destroys_.pop_front();
  }
  if (dead_running_ || dead_.empty() || recovering_ || paused()) return;
  const size_t count = std::min(dead_.size(), dead_batch_);
  std::vector<Reference> here;
  std::vector<uint32_t> slots;
  for (size_t i = 0; i < count; i++) {
    const Reference& ref = dead_[i];
    const Region& region = regions_[ref.place.region];
    // A region that was freed since took the record with it.
    if (region.epoch != ref.place.epoch || region.state == RegionState::kFree) continue;
    if (region.slot_writing) return;  // the end of that turns the loop again
    here.push_back(ref);
    if (region.state == RegionState::kSealed && !region.slot_due && checked(kCheckSlotErased) &&
        std::find(slots.begin(), slots.end(), ref.place.region) == slots.end())
      slots.push_back(ref.place.region);
  }
  if (here.empty()) return dead_ended(count, 0);
  dead_running_ = true;
  struct Batch {
    size_t pending;
    int32_t result;
    uint64_t sync_failures;
  };
  const auto batch = std::make_shared<Batch>(Batch{here.size() + slots.size() + 1, 0, stats_.sync_failures});
  const auto ended = [this, batch, count, slots](int32_t result) {
    if (result != 0) batch->result = result;
    if (--batch->pending > 0) return;
    if (batch->result != 0) return dead_ended(count, batch->result);
    sync([this, batch, count, slots](bool synced) {
      crash_point("dead headers synced");
      if (!synced || stats_.sync_failures != batch->sync_failures) return dead_ended(count, -EIO);
      if (slots.empty()) return dead_ended(count, 0);
      transfer(IoOp::kSync, IoClass::kWriteBack, directory_.index_file, 0, nullptr, 0, 0, [this, count](int32_t r) {
        crash_point("dead slots synced");
        dead_ended(count, r);
      });
    });
  };
  const auto write = [&](uint32_t file, uint64_t offset, const Bounce& page, uint32_t bytes, uint32_t region) {
    regions_[region].pins++;
    write_page(file, offset, page, bytes, [this, region, ended](int32_t result) {
      crash_point("dead page written");
      unpin(region);
      ended(result);
    });
  };
  for (const Reference& ref : here) {
    const Bounce page = make_buffer(ref.header_bytes);
    write_dead_header(ref, directory_.store, page.get());
    write(directory_.data_file, record_offset(ref.place), page, ref.header_bytes, ref.place.region);
  }
  for (const uint32_t slot : slots) {
    const Bounce page = make_buffer(kPageBytes);
    memset(page.get(), 0, kPageBytes);
    write(directory_.index_file, uint64_t{slot} * kSlotBytes, page, kPageBytes, slot);
  }
  ended(0);
}

void StoreImpl::dead_ended(size_t count, int32_t result) {
  dead_running_ = false;
  if (result != 0) {
    write_failed(result, "cannot be overwritten");
    // Next time with half of them, down to the one that it is.
    if (count > 1) dead_batch_ = count / 2;
    else dead_failures_++;
    if (count > 1 || dead_failures_ < kDeadTries) return;
    cannot_promise_ = true;
  }
  dead_failures_ = 0;
  dead_batch_ = std::min(kDeadBatch, dead_batch_ * 2);
  dead_.erase(dead_.begin(), dead_.begin() + static_cast<ptrdiff_t>(count));
  dead_ended_ += count;
  pump_dead();
}

}  // namespace nandu
