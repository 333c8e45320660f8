#include "store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store_impl.h"

namespace nandu {
namespace {

// A disk that failed is tried again this often: well inside the 5 s after which it is to be in use again.
constexpr std::chrono::seconds kRetry{2};
// What is queued when the store is closed is given this long.
constexpr std::chrono::seconds kClosePatience{10};
// 64 MiB of bounce buffers in all: three reads with eight pieces each ahead, and as many writes as two windows hold.
constexpr uint32_t kReadBuffers = 48, kWriteBuffers = 16;

StoreStatus status_of(int32_t result) {
  switch (-result) {
    case ENOSPC:
    case EDQUOT: return StoreStatus::kNoSpace;
    case EROFS: return StoreStatus::kReadOnly;
    default: return StoreStatus::kIoError;
  }
}

}  // namespace

Bounce make_buffer(size_t bytes) {
  auto* data = static_cast<uint8_t*>(aligned_alloc(kIoAlign, bytes));
  NANDU_CHECK(data);
  return Bounce(data, free);
}

BouncePool::~BouncePool() {
  for (uint8_t* data : free_) free(data);
}

Bounce BouncePool::take() {
  uint8_t* data = nullptr;
  if (!free_.empty()) {
    data = free_.back();
    free_.pop_back();
  } else if (left_ > 0) {
    data = static_cast<uint8_t*>(aligned_alloc(kIoAlign, kPieceBytes));
    if (!data) return nullptr;
    left_--;
  } else {
    return nullptr;
  }
  return Bounce(data, [this](uint8_t* p) { free_.push_back(p); });
}

Result<std::unique_ptr<Store>> Store::open(const StoreOptions& options, std::unique_ptr<IoEngine> io,
                                           std::function<void(StoreEvent&&)> on_event) {
  bool hangs = false;
  auto directory = open_directory(options, *io, hangs);
  // Its threads wait for a device that does not answer, maybe for ever: they are left to it, and the server starts
  // without.
  static auto* const abandoned = new std::vector<std::unique_ptr<IoEngine>>;
  if (hangs) abandoned->push_back(std::move(io));
  if (!directory.ok()) return directory.error();
  return std::unique_ptr<Store>(
      new StoreImpl(options, std::move(directory.value()), std::move(io), std::move(on_event)));
}

StoreImpl::StoreImpl(const StoreOptions& options, OpenDirectory directory, std::unique_ptr<IoEngine> io,
                     std::function<void(StoreEvent&&)> on_event)
    : read_buffers_(kReadBuffers),
      write_buffers_(kWriteBuffers),
      options_(options),
      directory_(std::move(directory)),
      on_event_(std::move(on_event)),
      next_number_(directory_.next_number),
      found_below_(directory_.next_number),
      io_(std::move(io)) {
  publish_stats();
  thread_ = std::thread([this] { loop(); });
}

StoreImpl::~StoreImpl() {
  {
    std::lock_guard lock(inbox_mutex_);
    stop_ = true;
  }
  inbox_changed_.notify_one();
  thread_.join();
  // Waits for what the device still has; what that posts stays in the inbox.
  io_.reset();
}

// --- the loop ------------------------------------------------------------------------------------------

void StoreImpl::post(std::function<void()> work) {
  {
    std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(work));
  }
  inbox_changed_.notify_one();
}

void StoreImpl::loop() {
  std::vector<std::function<void()>> work;
  recover();
  for (;;) {
    {
      std::unique_lock lock(inbox_mutex_);
      inbox_changed_.wait_until(lock, next_timer(), [&] { return !inbox_.empty() || (stop_ && !closing_); });
      work.swap(inbox_);
      if (stop_ && !closing_) {
        closing_ = aborted_ = true;
        close_by_ = Clock::now() + kClosePatience;
      }
    }
    for (auto& w : work) w();
    work.clear();  // buffers go back before the next I/O is planned
    turn();
    if (closing_ && (finished() || Clock::now() >= close_by_)) break;
  }
  give_up();
  publish_stats();
}

void StoreImpl::turn() {
  if (closing_) {
    for (const auto& read : reads_) end_read(*read, StoreStatus::kCancelled);
  }
  // In this order: what a reclaim starts is carried on by the two behind it.
  pump_reclaim();
  pump_appends();
  pump_reads();
  const Clock::time_point now = Clock::now();
  if (flush_wanted_ && retired_ >= flush_at_) start_sync();
  if (!undurable_.empty() && (closing_ || unsynced_bytes_ >= options_.commit_bytes ||
                              now >= first_unsynced_ + std::chrono::milliseconds(options_.commit_ms)))
    start_sync();
  if ((write_health_ != StoreStatus::kOk || space_health_ != StoreStatus::kOk) && now >= retry_at_) probe();
  pump_dead();
  publish_stats();
}

Clock::time_point StoreImpl::next_timer() const {
  Clock::time_point at = Clock::now() + std::chrono::hours(1);
  if (!undurable_.empty() && !sync_running_)
    at = std::min(at, first_unsynced_ + std::chrono::milliseconds(options_.commit_ms));
  if ((write_health_ != StoreStatus::kOk || space_health_ != StoreStatus::kOk) && !probing_)
    at = std::min(at, retry_at_);
  if (closing_) at = std::min(at, close_by_);
  return at;
}

// Closing: everything that was queued is written and synced. Open regions stay open: the next start walks them, and
// goes on writing there.
bool StoreImpl::finished() {
  const bool dead = dead_.empty() || paused() || recovering_ || options_.read_only;
  // A reclaim that only waits for a reader is done on the disk; the reader may be one that hangs.
  const bool reclaims = reclaims_.empty() || (reclaim_running_ && reclaims_.front()->dropped);
  if (!appends_.empty() || !undurable_.empty() || sync_running_ || !reclaims || dead_running_ || !dead) return false;
  return slots_writing_ == 0;
}

void StoreImpl::give_up() {
  for (const auto& a : appends_)
    if (!a->moved) answer(StoreEvent::kWritten, a->ticket, StoreStatus::kCancelled);
  for (const auto& read : reads_) end_read(*read, StoreStatus::kCancelled);
  for (const auto& r : reclaims_) answer(StoreEvent::kReclaimed, r->ticket, StoreStatus::kCancelled, r->region);
  for (const Destroy& d : destroys_) answer(StoreEvent::kDestroyed, d.ticket, StoreStatus::kCancelled);
  // Commands that came in after the last turn cannot exist: the owner is inside the destructor.
}

void StoreImpl::transfer(IoOp op, IoClass priority, uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes,
                         uint64_t group, Then then) {
  IoRequest request;
  request.op = op, request.priority = priority, request.file = file, request.offset = offset;
  request.data = data, request.bytes = bytes, request.group = group;
  submit(std::move(request), std::move(then));
}

void StoreImpl::submit(IoRequest request, Then then) {
  // The continuation moves through, so that the buffer it holds comes back on our thread.
  request.done = [this, then = std::move(then)](int32_t result) mutable {
    post([then = std::move(then), result] { then(result); });
  };
  io_->submit(std::move(request));
}

void StoreImpl::write_page(uint32_t file, uint64_t offset, const Bounce& page, uint32_t bytes, Then then) {
  stats_.bytes_metadata += bytes;
  transfer(IoOp::kWrite, IoClass::kWriteBack, file, offset, page.get(), bytes, 0,
           [page, then = std::move(then)](int32_t result) { then(result); });
}

void StoreImpl::unpin(uint32_t region) {
  NANDU_CHECK(regions_[region].pins > 0);
  regions_[region].pins--;
}

void StoreImpl::emit(StoreEvent&& event) {
  on_event_(std::move(event));
}

void StoreImpl::answer(StoreEvent::Kind kind, uint64_t ticket, StoreStatus status, uint64_t number) {
  StoreEvent event{kind, ticket, status};
  event.number = number;
  emit(std::move(event));
}

// --- commands ------------------------------------------------------------------------------------------

void StoreImpl::append(uint64_t ticket, RecordInfo info, std::unique_ptr<PayloadSource> source) {
  auto a = std::make_shared<Append>();
  a->ticket = ticket, a->info = std::move(info), a->source = std::move(source);
  a->klass = a->info.kind == RecordKind::kSegment ? RegionClass::kSegments : RegionClass::kPoints;
  post([this, a] {
    a->reference.header_bytes = header_bytes_for(a->info.payload_bytes, a->info.blocks.size());
    stats_.queued_bytes += a->info.payload_bytes;
    appends_.push_back(a);
  });
}

void StoreImpl::read(uint64_t ticket, uint64_t id, const Hash& key, std::vector<ByteRange> ranges, IoClass priority,
                     std::unique_ptr<PayloadSink> sink) {
  auto r = std::make_shared<Read>();
  r->ticket = ticket, r->id = id, r->ranges = std::move(ranges), r->priority = priority, r->sink = std::move(sink);
  r->reference.key = key;
  post([this, r] { start_read(r); });
}

void StoreImpl::cancel(uint64_t ticket) {
  post([this, ticket] {
    for (const auto& read : reads_)
      if (read->ticket == ticket && !read->then) end_read(*read, StoreStatus::kCancelled);
    const auto waits = [ticket](const std::shared_ptr<Append>& a) {
      return a->ticket == ticket && !a->moved && !a->placed && a->status == StoreStatus::kOk;
    };
    const auto found = std::find_if(appends_.begin(), appends_.end(), waits);
    if (found == appends_.end()) return;
    // Not behind those before it, which a device that hangs may never end.
    const std::shared_ptr<Append> a = *found;
    if (retired_ + static_cast<uint64_t>(found - appends_.begin()) < flush_at_) flush_at_--;
    appends_.erase(found);
    stats_.queued_bytes -= a->info.payload_bytes;
    a->status = StoreStatus::kCancelled;
    finish(*a);
  });
}

void StoreImpl::reclaim(uint64_t ticket, uint32_t region, std::vector<uint64_t> keep) {
  auto r = std::make_shared<Reclaim>();
  r->ticket = ticket, r->region = region, r->keep = std::move(keep);
  post([this, r] { reclaims_.push_back(r); });
}

void StoreImpl::destroy(uint64_t ticket, std::vector<uint64_t> ids) {
  post([this, ticket, ids = std::move(ids)] {
    for (const uint64_t id : ids) {
      if (recovering_) banned_.insert(id);
      forget(id);
    }
    for (const auto& read : reads_)
      if (!table_.count(read->id)) end_read(*read, StoreStatus::kNotFound);
    if (options_.read_only || paused() || cannot_promise_) {
      const StoreStatus why = paused() ? write_health_ : StoreStatus::kIoError;
      return answer(StoreEvent::kDestroyed, ticket, options_.read_only ? StoreStatus::kReadOnly : why);
    }
    destroys_.push_back({ticket, may_find_copies() ? kLater : dead_ended_ + dead_.size()});
  });
}

void StoreImpl::flush() {
  post([this] {
    flush_wanted_ = true;
    flush_at_ = retired_ + appends_.size();
  });
}

StoreStats StoreImpl::stats() const {
  std::lock_guard lock(stats_mutex_);
  return published_;
}

void StoreImpl::publish_stats() {
  StoreStats s = stats_;
  s.regions_total = static_cast<uint32_t>(regions_.size()), s.regions_limit = directory_.regions_limit;
  s.max_bytes = directory_.max_bytes;
  s.regions_free = static_cast<uint32_t>(free_.size());
  s.regions_open = 0;
  for (const int64_t region : open_) s.regions_open += region >= 0;
  s.regions_sealed = num_sealed_;
  s.region_bytes = directory_.region_bytes;
  s.used_bytes = kFixedBytes + io_->file_bytes(directory_.data_file) + io_->file_bytes(directory_.index_file);
  s.records = table_.size();
  s.recovering = recovering_;
  std::lock_guard lock(stats_mutex_);
  published_ = s;
}

// --- syncs -----------------------------------------------------------------------------------------------

void StoreImpl::sync(std::function<void(bool)> then) {
  sync_waiters_.push_back(std::move(then));
  start_sync();
}

void StoreImpl::start_sync() {
  if (sync_running_) return;  // what asked for it asks again when this one has ended
  sync_running_ = true;
  const uint64_t number = ++syncs_begun_;
  for (auto u = undurable_.rbegin(); u != undurable_.rend() && u->covered_by == 0; ++u) u->covered_by = number;
  const bool flushed = flush_wanted_ && retired_ >= flush_at_;
  if (flushed) flush_wanted_ = false;
  auto waiters = std::exchange(sync_waiters_, {});
  unsynced_bytes_ = 0;
  first_unsynced_ = Clock::now();
  stats_.syncs++;
  crash_point("sync submitted");
  const bool skipped = waiters.empty() ? !checked(kCheckSyncBeforeDurable) : !checked(kCheckSyncBeforeMoved);
  auto then = [this, flushed, waiters = std::move(waiters)](int32_t result) { sync_ended(result, waiters, flushed); };
  if (skipped) {
    post([then] { then(0); });
  } else {
    transfer(IoOp::kSync, IoClass::kWriteBack, directory_.data_file, 0, nullptr, 0, 0, std::move(then));
  }
}

void StoreImpl::sync_ended(int32_t result, const std::vector<std::function<void(bool)>>& waiters, bool flushed) {
  sync_running_ = false;
  if (result != 0) {
    stats_.sync_failures++;
    lose_everything_unsynced();
    write_failed(result, "cannot be synced");
  } else {
    std::vector<uint32_t> touched;
    size_t durable = 0;
    for (; durable < undurable_.size() && undurable_[durable].covered_by != 0; durable++) {
      durable_id_ = std::max(durable_id_, undurable_[durable].id);
      regions_[undurable_[durable].region].undurable--;
      touched.push_back(undurable_[durable].region);
    }
    undurable_.erase(undurable_.begin(), undurable_.begin() + static_cast<ptrdiff_t>(durable));
    crash_point("synced");
    if (durable > 0 || flushed) answer(StoreEvent::kDurable, 0, StoreStatus::kOk, durable_id_);
    for (const uint32_t region : touched) settle(region);
  }
  if (result != 0 && flushed) answer(StoreEvent::kDurable, 0, StoreStatus::kIoError, durable_id_);
  for (const auto& waiter : waiters) waiter(result == 0);
  if (!sync_waiters_.empty()) start_sync();
}

// After a failed sync nobody knows which of the pages written since the last good one are on the disk, and asking again
// would only hear that there is nothing left to write. All of it is given up.
void StoreImpl::lose_everything_unsynced() {
  const auto lost = std::exchange(undurable_, {});
  for (const int64_t region : open_)
    if (region >= 0) seal(static_cast<uint32_t>(region));
  fail_appends([](const Append&) { return true; });
  for (const Undurable& u : lost) {
    regions_[u.region].undurable--;
    if (table_.count(u.id)) {
      answer(StoreEvent::kLost, 0, StoreStatus::kIoError, u.id);
      forget(u.id);
    }
    settle(u.region);
  }
}

// --- health ----------------------------------------------------------------------------------------------

void StoreImpl::write_failed(int32_t result, const char* what) {
  write_health_ = status_of(result);
  health_text_ = directory_.path + "/data " + what + ": " + strerror(-result);
  retry_at_ = Clock::now() + kRetry;
  report_health();
  // Hidden already; made durable when the disk is back.
  for (const Destroy& d : destroys_) answer(StoreEvent::kDestroyed, d.ticket, write_health_);
  destroys_.clear();
}

void StoreImpl::report_health() {
  const StoreStatus now = write_health_ != StoreStatus::kOk ? write_health_ : space_health_;
  if (now == reported_health_) return;
  reported_health_ = now;
  StoreEvent event{StoreEvent::kHealth, 0, now};
  event.text = now == StoreStatus::kOk ? directory_.path + " can be written again" : health_text_;
  emit(std::move(event));
}

// Writes one copy of the superblock anew: the least that shows whether the disk takes writes again.
void StoreImpl::probe() {
  if (probing_ || options_.read_only) return;
  retry_at_ = Clock::now() + kRetry;
  if (space_health_ != StoreStatus::kOk && regions_.size() < directory_.regions_limit && !recovering_) grow();
  if (write_health_ == StoreStatus::kOk) return;
  probing_ = true;
  const Bounce page = make_buffer(kPageBytes);
  write_superblock(directory_.superblock, page.get());
  const auto ended = [this](int32_t result) {
    probing_ = false;
    retry_at_ = Clock::now() + kRetry;
    if (result != 0) return write_failed(result, "cannot be written");
    write_health_ = StoreStatus::kOk;
    report_health();
  };
  write_page(directory_.superblock_file, (kSuperblockCopies - 1) * kPageBytes, page, kPageBytes,
             [this, ended](int32_t result) {
               if (result != 0) return ended(result);
               transfer(IoOp::kSync, IoClass::kWriteBack, directory_.superblock_file, 0, nullptr, 0, 0, ended);
             });
}

}  // namespace nandu
