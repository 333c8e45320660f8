// Write-back: records go to the open region of their class, in pieces, several at a time; they are answered in the
// order in which they came. A region that failed a write is sealed and what was not durable in it is lost.
#include <sys/statvfs.h>

#include <algorithm>
#include <cstring>

#include "checksum.h"
#include "store_impl.h"

namespace nandu {
namespace {

// Appends leave the last region that can be had to what a reclaim keeps, or nothing could ever be reclaimed again.
constexpr size_t kRegionsReserved = 1;

}  // namespace

void StoreImpl::pump_appends() {
  while (num_gathered_ < appends_.size()) {
    Append& a = *appends_[num_gathered_];
    if (!a.placed && a.status == StoreStatus::kOk && !place(a)) break;
    if (a.status == StoreStatus::kOk && !gather(a)) break;
    a.first.reset();
    num_gathered_++;
  }
  retire();
}

// Where it will lie. False: wait for the end of recovery, which may find a free region, or of growing.
bool StoreImpl::place(Append& a) {
  const uint64_t bytes = stored_bytes(a.reference.header_bytes, a.info.payload_bytes);
  const auto refuse = [&a](StoreStatus status, const char* text) {
    a.status = status, a.text = text;
    return true;
  };
  if (options_.read_only) return refuse(StoreStatus::kReadOnly, "opened to read");
  if (a.reference.header_bytes == 0 || a.info.payload_bytes > directory_.region_bytes ||
      bytes + kPageBytes > directory_.region_bytes)
    return refuse(StoreStatus::kNoSpace, "larger than a region");
  if (paused()) return refuse(write_health_, "the disk failed a moment ago");
  // A record takes two numbers, a fresh region one.
  if (next_number_ + 3 > directory_.end_number) return refuse(StoreStatus::kNoSpace, "no numbers left until a restart");
  int64_t& open = open_[static_cast<uint32_t>(a.klass)];
  if (open >= 0 && regions_[open].next_page * uint64_t{kPageBytes} + bytes > directory_.region_bytes)
    seal(static_cast<uint32_t>(open));
  if (open < 0) {
    bool wait = false;
    const int64_t taken = take_region(a.klass, &wait);
    if (wait && recovering_ && aborted_) return refuse(StoreStatus::kCancelled, "closed");
    if (wait) return false;
    if (taken < 0) return refuse(StoreStatus::kNoSpace, "no free region");
    open_region(static_cast<uint32_t>(taken), a.klass, a);
  }
  Region& region = regions_[open];
  a.placed = true;
  a.reference.place = {region.epoch, static_cast<uint32_t>(open), region.next_page};
  a.reference.sequence = next_number_++;
  a.reference.payload_bytes = a.info.payload_bytes;
  a.reference.kind = a.info.kind, a.reference.key = a.info.key;
  if (!a.moved) a.info.id = next_number_++;
  a.info.region = a.reference.place.region, a.info.stored_bytes = bytes;
  region.next_page += static_cast<uint32_t>(bytes / kPageBytes);
  region.writing++;
  return true;
}

int64_t StoreImpl::take_region(RegionClass klass, bool* wait) {
  const size_t growable = space_health_ == StoreStatus::kOk ? directory_.regions_limit - regions_.size() : 0;
  const size_t reserved = klass == RegionClass::kReinserted ? 0 : kRegionsReserved;
  *wait = recovering_;
  if (free_.size() + growable <= reserved) return -1;
  if (free_.empty()) {
    grow();
    // Either it is under way, or it has failed at once and the next try is refused.
    *wait = true;
    if (!growing_) return take_region(klass, wait);
    return -1;
  }
  *wait = false;  // whatever recovery still finds
  const uint32_t region = free_.front();
  free_.pop_front();
  return region;
}

// One region more, in both files. Blocks are really allocated, so that a full disk is met here and not in a write. On
// the engine's threads: a file system that is frozen keeps whoever asks for room.
void StoreImpl::grow() {
  if (growing_) return;
  const auto region = static_cast<uint32_t>(regions_.size());
  struct statvfs fs;
  const uint64_t needed = options_.free_floor + directory_.region_bytes + kSlotBytes;
  if (options_.free_floor > 0 && statvfs(directory_.path.c_str(), &fs) == 0 &&
      uint64_t{fs.f_bavail} * fs.f_frsize < needed)
    return grown(-ENOSPC);
  growing_ = true;
  const auto allocate = [this](uint32_t file, uint64_t offset, uint64_t length, Then then) {
    IoRequest request;
    request.op = IoOp::kAllocate, request.priority = IoClass::kWriteBack, request.file = file;
    request.offset = offset, request.length = length;
    submit(std::move(request), std::move(then));
  };
  allocate(directory_.index_file, uint64_t{region} * kSlotBytes, kSlotBytes, [this, allocate, region](int32_t result) {
    if (result != 0) return grown(result);
    allocate(directory_.data_file, region_offset(region), directory_.region_bytes,
             [this](int32_t data_result) { grown(data_result); });
  });
}

void StoreImpl::grown(int32_t result) {
  growing_ = false;
  crash_point("region allocated");
  const StoreStatus before = space_health_;
  space_health_ = result == 0 ? StoreStatus::kOk : result == -EROFS ? StoreStatus::kReadOnly : StoreStatus::kNoSpace;
  if (result != 0) {
    health_text_ = directory_.path + " cannot grow: " + strerror(-result);
    if (before == StoreStatus::kOk) retry_at_ = Clock::now() + std::chrono::seconds(2);
  }
  report_health();
  if (result != 0) return;
  free_.push_back(static_cast<uint32_t>(regions_.size()));
  regions_.emplace_back().state = RegionState::kFree;
}

void StoreImpl::open_region(uint32_t number, RegionClass klass, Append& first) {
  Region& region = regions_[number];
  NANDU_CHECK(region.state == RegionState::kFree && (region.pins == 0 || !checked(kCheckPins)));
  region.state = RegionState::kOpen;
  region.klass = klass;
  region.reclaiming = region.announced = false;
  region.slot_due = true;
  region.epoch = next_number_++;
  region.next_page = 1;
  region.ids.clear();
  region.entries.clear();
  open_[static_cast<uint32_t>(klass)] = number;
  RegionHeader header{};
  header.store = directory_.store, header.epoch = region.epoch, header.region_bytes = directory_.region_bytes;
  header.region = number, header.klass = klass;
  const Bounce page = make_buffer(kPageBytes);
  write_region_header(header, page.get());
  stats_.bytes_metadata += kPageBytes;
  crash_point("region opened");
  // Counted to its first record: before that is answered, the region is known on disk.
  first.reference.place.region = number;
  submit_piece(first, region_offset(number), page, kPageBytes);
}

// Copies the payload out of its source and writes it piece by piece. False: no buffer is free now.
bool StoreImpl::gather(Append& a) {
  const uint64_t padded = round_up(a.info.payload_bytes, kPageBytes);
  const uint64_t first_bytes = std::min<uint64_t>(padded, uint64_t{kFirstPieceChunks} * kChunkBytes);
  if (!a.first) {
    a.first = write_buffers_.take();
    if (!a.first) return false;
    fill(a, a.first.get() + a.reference.header_bytes, first_bytes);
  }
  while (a.gathered < padded) {
    if (a.status != StoreStatus::kOk) return true;
    const Bounce buffer = write_buffers_.take();
    if (!buffer) return false;
    const uint64_t at = record_offset(a.reference.place) + a.reference.header_bytes + a.gathered;
    const uint64_t bytes = std::min<uint64_t>(padded - a.gathered, kPieceBytes);
    fill(a, buffer.get(), bytes);
    submit_piece(a, at, buffer, static_cast<uint32_t>(bytes));
  }
  a.source.reset();
  if (!a.moved) answer(StoreEvent::kGathered, 0, StoreStatus::kOk, a.ticket);
  write_record_header(a.info, directory_.store, a.chunks, a.reference, a.first.get());
  crash_point("record header");
  submit_piece(a, record_offset(a.reference.place), a.first,
               static_cast<uint32_t>(a.reference.header_bytes + first_bytes));
  return true;
}

// The next `bytes` of the padded payload, with their checksums.
void StoreImpl::fill(Append& a, uint8_t* to, uint64_t bytes) {
  const uint64_t real = std::min(bytes, a.info.payload_bytes - std::min(a.gathered, a.info.payload_bytes));
  if (real > 0) a.source->copy(a.gathered, to, real);
  memset(to + real, 0, bytes - real);
  for (uint64_t at = 0; at < bytes; at += kChunkBytes)
    a.chunks.push_back(crc32c(to + at, std::min<uint64_t>(kChunkBytes, bytes - at)));
  a.gathered += bytes;
}

void StoreImpl::submit_piece(Append& a, uint64_t at, const Bounce& buffer, uint32_t bytes) {
  const uint32_t region = a.reference.place.region;
  regions_[region].pins++;
  a.in_flight++;
  // The queue holds every append until it is answered, and it is not answered while this is in flight.
  transfer(IoOp::kWrite, IoClass::kWriteBack, directory_.data_file, at, buffer.get(), bytes, 0,
           [this, buffer, region, append = &a](int32_t result) {
             crash_point("piece written");
             append->in_flight--;
             unpin(region);
             if (result == 0) return;
             append->status = StoreStatus::kIoError;
             fail_region(region);
             write_failed(result, "cannot be written");
           });
}

void StoreImpl::retire() {
  while (num_gathered_ > 0 && appends_.front()->in_flight == 0) {
    const std::shared_ptr<Append> a = appends_.front();
    appends_.pop_front();
    num_gathered_--;
    retired_++;
    if (!a->moved) stats_.queued_bytes -= a->info.payload_bytes;
    finish(*a);
  }
}

void StoreImpl::finish(Append& a) {
  const bool written = a.status == StoreStatus::kOk;
  const uint32_t number = a.reference.place.region;
  if (a.placed) {
    Region& region = regions_[number];
    region.writing--;
    if (written) {
      region.undurable++;
      region.entries.push_back({a.info.id, a.reference.place, slot_entry(a.info, a.reference)});
    } else if (a.reference.digest != 0) {
      bury(a.reference);  // it may stand on the disk in full all the same
    }
  }
  if (a.moved) {
    if (written) stats_.bytes_reinserted += a.info.stored_bytes;
    a.moved(a.status, a);
  } else {
    StoreEvent event{StoreEvent::kWritten, a.ticket, a.status};
    event.text = a.text;
    if (written) {
      table_[a.info.id] = a.reference;
      regions_[number].ids.push_back(a.info.id);
      if (undurable_.empty() || unsynced_bytes_ == 0) first_unsynced_ = Clock::now();
      undurable_.push_back({a.info.id, number, 0});
      unsynced_bytes_ += a.info.stored_bytes;
      stats_.bytes_appended += a.info.stored_bytes;
      stats_.live_bytes += a.info.stored_bytes;
      event.record = std::move(a.info);
    }
    emit(std::move(event));
  }
  if (a.placed) settle(number);
}

// Takes no more records; once the last of them is answered that is said aloud, and once they are durable the slot in
// the index is written.
void StoreImpl::seal(uint32_t number) {
  for (int64_t& open : open_)
    if (open == number) open = -1;
  regions_[number].state = RegionState::kSealed;
  num_sealed_++;
  crash_point("sealed");
  settle(number);
}

void StoreImpl::settle(uint32_t number) {
  Region& region = regions_[number];
  if (region.state != RegionState::kSealed || region.writing > 0) return;
  if (!region.announced) {
    region.announced = true;
    answer(StoreEvent::kSealed, 0, StoreStatus::kOk, number);
  }
  if (region.slot_due && region.undurable == 0 && !region.reclaiming) write_slot_of(number);
}

void StoreImpl::write_slot_of(uint32_t number) {
  Region& region = regions_[number];
  region.slot_due = false;
  if (options_.read_only) return;
  std::vector<std::vector<uint8_t>> entries;
  for (Region::Entry& e : region.entries) {
    const auto it = table_.find(e.id);
    if (it != table_.end() && it->second.place == e.place) entries.push_back(std::move(e.bytes));
  }
  region.entries = {};
  const Bounce slot = make_buffer(kSlotBytes);
  if (!write_slot(directory_.store, number, region.epoch, entries, slot.get())) return;  // a start walks the region
  region.slot_writing = true;
  slots_writing_++;
  region.pins++;
  crash_point("slot submitted");
  write_page(directory_.index_file, uint64_t{number} * kSlotBytes, slot, kSlotBytes, [this, number](int32_t) {
    // Without its slot a region is walked at the next start: nothing is lost.
    crash_point("slot written");
    regions_[number].slot_writing = false;
    slots_writing_--;
    unpin(number);
  });
}

void StoreImpl::fail_region(uint32_t number) {
  if (regions_[number].state == RegionState::kOpen) seal(number);
  fail_appends([number](const Append& a) { return a.reference.place.region == number; });
  std::vector<Undurable> lost;
  for (auto u = undurable_.begin(); u != undurable_.end();) {
    if (u->region != number) {
      ++u;
    } else {
      lost.push_back(*u);
      u = undurable_.erase(u);
    }
  }
  for (const Undurable& u : lost) {
    regions_[number].undurable--;
    if (!table_.count(u.id)) continue;
    answer(StoreEvent::kLost, 0, StoreStatus::kIoError, u.id);
    forget(u.id);
  }
  settle(number);
}

void StoreImpl::fail_appends(const std::function<bool(const Append&)>& which) {
  for (const auto& a : appends_) {
    if (!a->placed || a->status != StoreStatus::kOk || !which(*a)) continue;
    a->status = StoreStatus::kIoError;
    a->text = "the region failed";
  }
}

}  // namespace nandu
