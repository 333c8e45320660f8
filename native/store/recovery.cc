// Finding again what lies there, in small steps between commands: for 64 regions at a time their slots of the index in
// one read. A valid slot is all that a sealed region needs (it is erased before the region is freed); of the others the
// header is read, and those that are in use are walked; one that is not full takes records again. The same record in
// two regions (moved, then crashed) counts once: the original, which was durable before the copy was begun.
#include <algorithm>
#include <cstring>

#include "store_impl.h"

namespace nandu {
namespace {

constexpr uint32_t kBatchRegions = 64;  // 1 MiB of slots
// What a walk reads at a time: the largest header and the next one with it, without reading much of a payload.
constexpr uint32_t kWalkBytes = 2 * kMaxHeaderBytes;
// A read that fails at start is tried again once; a bad sector stays bad.
constexpr uint32_t kReadTries = 2;
// A region that was open goes on taking records if so much of it is left: else each start would use up new ones.
constexpr double kReopenShare = 1.0 / 8;

}  // namespace

void StoreImpl::recover() {
  num_found_ = static_cast<uint32_t>(
      std::min<uint64_t>(io_->file_bytes(directory_.data_file) / directory_.region_bytes, directory_.regions_limit));
  regions_.resize(num_found_);
  if (options_.read_only) return recover_batch(0);
  // What a killed process had written lies in the page cache only: it must be durable before it is called so. Nor may a
  // slot come back that it had erased, when its region has taken records since.
  sync([this](bool synced) {
    found_is_durable_ = synced;
    transfer(IoOp::kSync, IoClass::kPrefetch, directory_.index_file, 0, nullptr, 0, 0, [this](int32_t result) {
      may_reopen_ = found_is_durable_ && result == 0;
      recover_batch(0);
    });
  });
}

void StoreImpl::recover_batch(uint32_t first) {
  if (aborted_) return;
  const uint32_t in_file = std::min<uint32_t>(num_found_, first + kBatchRegions);
  if (first >= in_file) return recover_walks();
  const uint32_t count = in_file - first;
  const Bounce slots = make_buffer(uint64_t{count} * kSlotBytes);
  const uint64_t index_slots = io_->file_bytes(directory_.index_file) / kSlotBytes;
  const auto num_slots =
      static_cast<uint32_t>(index_slots > first ? std::min<uint64_t>(index_slots - first, count) : 0);
  const auto read = [this, first, count, num_slots, slots](int32_t result) {
    if (aborted_) return;
    std::vector<uint32_t> rest;
    for (uint32_t i = 0; i < count; i++) {
      const uint8_t* slot = slots.get() + uint64_t{i} * kSlotBytes;
      if (result == 0 && i < num_slots && recover_slot(first + i, slot)) continue;
      rest.push_back(first + i);
      // What is damaged today may be read tomorrow, and would then hide what was written since.
      regions_[first + i].may_reopen =
          may_reopen_ && result == 0 &&
          (i >= num_slots || std::all_of(slot, slot + kPageBytes, [](uint8_t byte) { return byte == 0; }));
    }
    recover_headers(std::move(rest), first + count);
  };
  if (num_slots == 0) return read(0);
  transfer(IoOp::kRead, IoClass::kPrefetch, directory_.index_file, uint64_t{first} * kSlotBytes, slots.get(),
           num_slots * kSlotBytes, 0, read);
}

// False: there is no valid slot.
bool StoreImpl::recover_slot(uint32_t number, const uint8_t* slot) {
  std::vector<FoundRecord> found;
  uint64_t epoch = 0;
  if (!parse_slot(slot, directory_.store, number, directory_.region_bytes, epoch, found) || epoch >= found_below_)
    return false;
  Region& region = regions_[number];
  region.epoch = epoch;
  for (FoundRecord& f : found) adopt(std::move(f), false);
  region.state = RegionState::kSealed;
  num_sealed_++;
  settle(number);
  return true;
}

void StoreImpl::recover_headers(std::vector<uint32_t> regions, uint32_t next) {
  if (regions.empty()) return post([this, next] { recover_batch(next); });
  const auto pending = std::make_shared<size_t>(regions.size());
  for (const uint32_t number : regions) {
    const Bounce page = make_buffer(kPageBytes);
    read_again(region_offset(number), page.get(), kPageBytes, kReadTries,
               [this, number, page, pending, next](int32_t result) {
                 if (aborted_) return;
                 recover_region(number, result == 0 ? page.get() : nullptr);
                 if (--*pending == 0) recover_batch(next);
               });
  }
}

void StoreImpl::read_again(uint64_t offset, uint8_t* to, uint32_t bytes, uint32_t tries, Then then) {
  transfer(IoOp::kRead, IoClass::kPrefetch, directory_.data_file, offset, to, bytes, 0,
           [this, offset, to, bytes, tries, then = std::move(then)](int32_t result) {
             if (result == 0 || tries == 1) return then(result);
             read_again(offset, to, bytes, tries - 1, then);
           });
}

void StoreImpl::recover_region(uint32_t number, const uint8_t* page) {
  Region& region = regions_[number];
  const auto header = page ? parse_region_header(page) : std::nullopt;
  const bool ours = header && header->store == directory_.store && header->region == number &&
                    header->region_bytes == directory_.region_bytes && header->epoch < found_below_;
  const bool fresh = page && std::all_of(page, page + kPageBytes, [](uint8_t byte) { return byte == 0; });
  if (!ours && !fresh) return free_damaged(number);
  if (ours) region.epoch = header->epoch;
  if (ours && header->klass != RegionClass::kNone) {
    region.klass = header->klass;
    walks_.push_back(number);
    return;
  }
  region.state = RegionState::kFree;
  free_.push_back(number);
}

void StoreImpl::recover_walks() {
  if (aborted_) return;
  batches_ended_ = true;
  if (!walks_.empty()) return walk(walks_.back(), 1);
  if (damaged_pending_ > 0) return;  // the last of them comes here again
  recovering_ = false;
  banned_.clear();
  no_more_copies();
  answer(StoreEvent::kRecoveryDone, 0, StoreStatus::kOk, damaged_);
}

// From this page on: records as they lie one behind the other; behind a damaged header, page by page to the next one of
// this epoch.
void StoreImpl::walk(uint32_t number, uint32_t page) {
  if (aborted_) return;
  const uint64_t at = uint64_t{page} * kPageBytes;
  if (at >= directory_.region_bytes) {
    walks_.pop_back();
    walked(number);
    return recover_walks();
  }
  const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(kWalkBytes, directory_.region_bytes - at));
  const Bounce buffer = make_buffer(kWalkBytes);
  const auto arrived = [this, number, page, bytes, buffer](int32_t result) {
    Place place{regions_[number].epoch, number, page};
    const uint32_t end = page + bytes / kPageBytes;
    while (place.page < end) {
      const size_t available = uint64_t{end - place.page} * kPageBytes;
      // A header that reaches beyond what was read is read again from its start.
      if (available < kMaxHeaderBytes && place.page > page && uint64_t{end} * kPageBytes < directory_.region_bytes)
        break;
      FoundRecord found;
      const uint8_t* from = buffer.get() + uint64_t{place.page - page} * kPageBytes;
      const HeaderCheck check =
          result == 0 ? parse_record_header(from, available, directory_.store, place, directory_.region_bytes, found)
                      : HeaderCheck::kDamaged;
      if (check == HeaderCheck::kOk) {
        place.page += static_cast<uint32_t>(found.info.stored_bytes / kPageBytes);
        regions_[number].next_page = place.page;
        if (!found.dead) adopt(std::move(found), true);
        continue;
      }
      if (check == HeaderCheck::kDamaged) {
        if (result == 0 || place.page == page) damaged_++;
        Reference page_only;
        page_only.place = place, page_only.header_bytes = kPageBytes;
        bury(page_only);
        regions_[number].next_page = place.page + 1;  // what buries it must not meet a new record
      }
      place.page++;
    }
    walk(number, place.page);
  };
  read_again(region_offset(number) + at, buffer.get(), bytes, kReadTries, arrived);
}

// All of it was looked at, and nothing of this epoch lies behind next_page.
void StoreImpl::walked(uint32_t number) {
  Region& region = regions_[number];
  // A slot is believed: it must not outlive the records that it names.
  region.slot_due = found_is_durable_;
  int64_t& open = open_[static_cast<uint32_t>(region.klass)];
  const uint64_t left = directory_.region_bytes - uint64_t{region.next_page} * kPageBytes;
  if (region.may_reopen && open < 0 && !options_.read_only &&
      static_cast<double>(left) >= kReopenShare * static_cast<double>(directory_.region_bytes)) {
    region.state = RegionState::kOpen;
    open = number;
    return;
  }
  region.state = RegionState::kSealed;
  num_sealed_++;
  settle(number);
}

void StoreImpl::adopt(FoundRecord&& found, bool with_entry) {
  const Reference& ref = found.reference;
  RecordInfo& info = found.info;
  if (info.id == 0 || info.id >= found_below_ || ref.sequence >= found_below_) {
    damaged_++;
    return;
  }
  if (banned_.count(info.id)) return bury(ref);
  const auto [it, fresh] = table_.try_emplace(info.id, ref);
  if (!fresh && it->second.sequence <= ref.sequence) return bury(ref);
  Region& region = regions_[ref.place.region];
  region.ids.push_back(info.id);
  if (with_entry) region.entries.push_back({info.id, ref.place, slot_entry(info, ref)});
  stats_.live_bytes += info.stored_bytes;
  StoreEvent event{fresh ? StoreEvent::kRecovered : StoreEvent::kMoved};
  if (!fresh) {
    stats_.live_bytes -= stored_bytes(it->second.header_bytes, it->second.payload_bytes);
    bury(it->second);
    it->second = ref;
  }
  event.record = std::move(info);
  emit(std::move(event));
}

// A region whose header stays as it is takes no part in anything, but a later start may be able to read it: until then
// no destroy can be promised.
void StoreImpl::free_damaged_ended(bool freed) {
  cannot_promise_ = cannot_promise_ || !freed;
  if (--damaged_pending_ == 0 && walks_.empty() && batches_ended_) recover_walks();
}

// Nothing in it can be trusted to be of the last epoch. It is made free on disk before recovery ends, so that a header
// that can be read again tomorrow does not bring back what was purged in between.
void StoreImpl::free_damaged(uint32_t number) {
  damaged_++;
  stats_.quarantined++;
  if (options_.read_only) return;
  if (next_number_ + 1 > directory_.end_number) {
    cannot_promise_ = true;
    return;
  }
  RegionHeader header{};
  header.store = directory_.store, header.epoch = next_number_++, header.region_bytes = directory_.region_bytes;
  header.region = number, header.klass = RegionClass::kNone;
  const Bounce page = make_buffer(kPageBytes);
  write_region_header(header, page.get());
  damaged_pending_++;
  write_page(directory_.data_file, region_offset(number), page, kPageBytes,
             [this, number, epoch = header.epoch](int32_t result) {
               if (result != 0) return free_damaged_ended(false);
               regions_[number].epoch = epoch;
               sync([this, number](bool synced) {
                 if (synced) {
                   regions_[number].state = RegionState::kFree;
                   free_.push_back(number);
                 }
                 free_damaged_ended(synced);
               });
             });
}

}  // namespace nandu
