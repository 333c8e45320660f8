// A store on a simulated disk and everything a test asks of it: commands that wait for their answer, payloads that are
// a pure function of their key, and what the events said, each with the length of the disk's log when it came.
#pragma once

#include <dirent.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <deque>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "../../native/store/record.h"
#include "../../native/store/store.h"
#include "sim_io.h"
#include "test.h"

namespace nandu::test {

inline Hash key_of(uint64_t n) {
  Random random(n * 0x9E3779B97F4A7C15ull + 1);
  Hash key;
  for (size_t i = 0; i < key.size(); i += 8) {
    const uint64_t word = random.next();
    memcpy(key.data() + i, &word, 8);
  }
  return key;
}
// Byte `at` of the payload that belongs to a key.
inline void payload_of(const Hash& key, uint64_t at, uint8_t* to, size_t bytes) {
  uint64_t seed;
  memcpy(&seed, key.data(), 8);
  for (size_t i = 0; i < bytes; i++) {
    const uint64_t word = ((at + i) / 8 + 1) * 0xBF58476D1CE4E5B9ull ^ seed;
    to[i] = static_cast<uint8_t>((word ^ word >> 29) * 0x94D049BB133111EBull >> (56 - (at + i) % 8 * 7));
  }
}

class KeySource final : public PayloadSource {
 public:
  explicit KeySource(const Hash& key) : key_(key) {}
  void copy(uint64_t offset, uint8_t* to, size_t bytes) override { payload_of(key_, offset, to, bytes); }

 private:
  Hash key_;
};

// What a read brought: counted and compared at once.
struct ReadResult {
  uint64_t bytes = 0, wrong = 0;
  uint64_t last = 0;
  bool ascending = true;
  std::atomic<bool> closed{false};
  std::atomic<uint64_t> late{0};  // calls after the read's event
};
class CheckingSink final : public PayloadSink {
 public:
  CheckingSink(const Hash& key, std::shared_ptr<ReadResult> result) : key_(key), result_(std::move(result)) {}
  void take(uint64_t offset, const uint8_t* from, size_t bytes) override {
    if (result_->closed) result_->late++;
    std::vector<uint8_t> expected(bytes);
    payload_of(key_, offset, expected.data(), bytes);
    for (size_t i = 0; i < bytes; i++) result_->wrong += expected[i] != from[i];
    if (offset < result_->last) result_->ascending = false;
    result_->last = offset + bytes;
    result_->bytes += bytes;
  }

 private:
  Hash key_;
  std::shared_ptr<ReadResult> result_;
};

struct TempDirectory {
  std::string path;
  TempDirectory() {
    char name[] = "/tmp/nandu-store-XXXXXX";
    NANDU_CHECK(mkdtemp(name) != nullptr);
    path = name;
  }
  ~TempDirectory() {
    if (DIR* d = opendir(path.c_str())) {
      while (const dirent* e = readdir(d)) unlink((path + "/" + e->d_name).c_str());
      closedir(d);
    }
    rmdir(path.c_str());
  }
};

struct Timed {
  StoreEvent event;
  size_t at;  // length of the disk's log when it came
};

class TestStore {
 public:
  TempDirectory directory;
  std::shared_ptr<SimDisk> disk = std::make_shared<SimDisk>();
  StoreOptions options;
  std::unique_ptr<Store> store;
  uint64_t seed = 1;

  TestStore() {
    // Regions of 256 KiB: many of them fill in a short test.
    store_test_hooks = {};
    store_test_hooks.region_bytes = 256u << 10;
    options.directory = directory.path;
    options.largest_record = 200u << 10;
    options.max_bytes = kQuota;
    options.commit_ms = 3'600'000;  // a test says when
    options.commit_bytes = ~0ull;
  }
  ~TestStore() {
    close();
    store_test_hooks = {};
  }
  static constexpr uint64_t kQuota = (256u << 10) * 12 + (64u << 10) + 12 * (16u << 10);

  Status open(bool wait_for_recovery = true) {
    {
      std::lock_guard lock(mutex_);
      events.clear();
      answers_.clear();
      recovered.clear();
      recovery_done_ = false;
    }
    auto opened = Store::open(options, std::make_unique<SimIo>(disk, seed++), [this](StoreEvent&& e) { heard(e); });
    if (!opened.ok()) return opened.error();
    store = std::move(opened.value());
    if (wait_for_recovery) wait([this] { return recovery_done_; });
    return ok();
  }
  void wait_for_recovery() {
    wait([this] { return recovery_done_; });
  }
  void close() { store.reset(); }
  // As kill -9: the process's memory is gone, the disk is as it is.
  void kill() {
    {
      std::lock_guard silence(mutex_);
      killed_ = true;
      std::lock_guard lock(disk->mutex);
      disk->frozen = true;
    }
    store.reset();
    std::lock_guard silence(mutex_);
    killed_ = false;
    std::lock_guard lock(disk->mutex);
    disk->frozen = false;
  }

  // From the store's thread, at a kill point: nothing lands and nothing is said from here on; kill() follows.
  void die() {
    std::lock_guard silence(mutex_);
    killed_ = true;
    std::lock_guard lock(disk->mutex);
    disk->frozen = true;
  }

  uint64_t append_later(uint64_t n, uint64_t bytes, RecordKind kind = RecordKind::kSegment, uint32_t blocks = 1) {
    RecordInfo info;
    info.kind = kind, info.key = key_of(n), info.plain = key_of(n ^ 1), info.payload_bytes = bytes;
    info.from_token = 0, info.to_token = 128 * blocks, info.created_ms = n;
    if (kind == RecordKind::kPoint) info.parent = info.key, info.from_token = info.to_token, blocks = 0;
    for (uint32_t i = 0; i < blocks; i++) info.blocks.push_back(i + 1 == blocks ? info.key : key_of(n * 1000 + i));
    const uint64_t ticket = ++ticket_;
    store->append(ticket, std::move(info), std::make_unique<KeySource>(key_of(n)));
    return ticket;
  }
  StoreEvent append(uint64_t n, uint64_t bytes, RecordKind kind = RecordKind::kSegment, uint32_t blocks = 1) {
    return answer(append_later(n, bytes, kind, blocks));
  }
  uint64_t read_later(uint64_t id, const Hash& key, std::vector<ByteRange> ranges, std::shared_ptr<ReadResult> result) {
    const uint64_t ticket = ++ticket_;
    {
      std::lock_guard lock(mutex_);
      results_[ticket] = result;
    }
    store->read(ticket, id, key, std::move(ranges), IoClass::kDemandKv, std::make_unique<CheckingSink>(key, result));
    return ticket;
  }
  // Reads all of it and compares every byte; kOk only when they are all right.
  StoreStatus read(uint64_t id, uint64_t n, uint64_t bytes) {
    auto result = std::make_shared<ReadResult>();
    std::vector<ByteRange> all;
    if (bytes > 0) all = {{0, bytes}};
    const StoreEvent e = answer(read_later(id, key_of(n), all, result));
    wrong_bytes += result->wrong;
    EXPECT(result->ascending && result->late == 0);
    if (e.status == StoreStatus::kOk) EXPECT(result->bytes == bytes);
    return e.status;
  }
  uint64_t reclaim_later(uint32_t region, std::vector<uint64_t> keep) {
    store->reclaim(++ticket_, region, std::move(keep));
    return ticket_;
  }
  StoreStatus reclaim(uint32_t region, std::vector<uint64_t> keep) {
    return answer(reclaim_later(region, std::move(keep))).status;
  }
  uint64_t destroy_later(std::vector<uint64_t> ids) {
    store->destroy(++ticket_, std::move(ids));
    return ticket_;
  }
  StoreStatus destroy(std::vector<uint64_t> ids) { return answer(destroy_later(std::move(ids))).status; }
  void cancel(uint64_t ticket) { store->cancel(ticket); }
  void flush() {
    const size_t before = count(StoreEvent::kDurable);
    store->flush();
    wait([this, before] { return killed_ || count_locked(StoreEvent::kDurable) > before; });
  }
  StoreEvent answer(uint64_t ticket) {
    wait([this, ticket] { return answers_.count(ticket) > 0; });
    std::lock_guard lock(mutex_);
    return answers_.at(ticket);
  }
  bool answered(uint64_t ticket) {
    std::lock_guard lock(mutex_);
    return answers_.count(ticket) > 0;
  }
  size_t count(StoreEvent::Kind kind) {
    std::lock_guard lock(mutex_);
    return count_locked(kind);
  }
  void wait_for(StoreEvent::Kind kind, size_t times = 1) {
    wait([this, kind, times] { return count_locked(kind) >= times; });
  }
  std::vector<Timed> take_events() {
    std::lock_guard lock(mutex_);
    return std::exchange(events, {});
  }
  std::vector<Timed> events_now() {
    std::lock_guard lock(mutex_);
    return events;
  }

  std::vector<Timed> events;                 // under the mutex while the store is open
  std::map<uint64_t, RecordInfo> recovered;  // found at the last opening, by id
  uint64_t wrong_bytes = 0;

 private:
  void heard(StoreEvent& e) {
    const size_t at = disk->now();
    std::lock_guard lock(mutex_);
    if (e.kind == StoreEvent::kRecovered || e.kind == StoreEvent::kMoved) {
      if (!recovery_done_) recovered[e.record.id] = e.record;
    }
    if (e.kind == StoreEvent::kRecoveryDone) recovery_done_ = true;
    if (e.kind == StoreEvent::kRead && results_.count(e.ticket)) {
      results_[e.ticket]->closed = true;
      results_.erase(e.ticket);
    }
    if (e.ticket != 0) {
      NANDU_CHECK(answers_.count(e.ticket) == 0);  // exactly one answer each
      answers_[e.ticket] = e;
    }
    // A killed process says nothing any more: what it would have said rests on syncs that never happened.
    if (!killed_) events.push_back({e, at});
    changed_.notify_all();
  }
  size_t count_locked(StoreEvent::Kind kind) const {
    size_t n = 0;
    for (const Timed& e : events) n += e.event.kind == kind;
    return n;
  }
  template <typename Condition>
  void wait(Condition condition) {
    std::unique_lock lock(mutex_);
    // A store that does not answer is a hang: stop with the stack of it.
    NANDU_CHECK(changed_.wait_for(lock, std::chrono::seconds(60), condition));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<uint64_t, StoreEvent> answers_;
  std::unordered_map<uint64_t, std::shared_ptr<ReadResult>> results_;
  bool recovery_done_ = false, killed_ = false;
  uint64_t ticket_ = 0;
};

// --- what several tests do to a store and its disk -----------------------------------------------------

struct Stored {
  uint64_t id, n, bytes;
  uint32_t region;
};

// `count` records, durable. Sizes differ, so that pages of one do not stand where another's stood.
inline std::vector<Stored> store_some(TestStore& t, uint64_t first_n, uint32_t count, uint64_t bytes = 0) {
  std::vector<Stored> all;
  for (uint64_t n = first_n; n < first_n + count; n++) {
    const uint64_t size = bytes ? bytes : 5000 + n * 1777 % 60'000;
    const StoreEvent e = t.append(n, size, n % 3 ? RecordKind::kSegment : RecordKind::kPoint, 2);
    EXPECT(e.status == StoreStatus::kOk);
    all.push_back({e.record.id, n, size, e.record.region});
  }
  t.flush();
  return all;
}

struct ReadCounts {
  uint32_t ok = 0, corrupt = 0, not_found = 0, other = 0;
};
inline ReadCounts read_all(TestStore& t, const std::vector<Stored>& all) {
  ReadCounts counts;
  for (const Stored& s : all) {
    switch (t.read(s.id, s.n, s.bytes)) {
      case StoreStatus::kOk: counts.ok++; break;
      case StoreStatus::kCorrupt: counts.corrupt++; break;
      case StoreStatus::kNotFound: counts.not_found++; break;
      default: counts.other++; break;
    }
  }
  return counts;
}

inline void set_fault(TestStore& t, std::function<SimFault(const IoRequest&, const std::string&)> fault) {
  std::lock_guard lock(t.disk->mutex);
  t.disk->fault = std::move(fault);
}

// The next request of this kind on a file fails so; all others are well.
inline void fault_once(TestStore& t, IoOp op, const std::string& file, SimFault fault) {
  set_fault(t, [op, file, fault, done = false](const IoRequest& r, const std::string& name) mutable {
    if (done || r.op != op || name != file) return SimFault{};
    done = true;
    return fault;
  });
}

// `missing` where no page of the disk is that record's header.
inline uint64_t page_of_or(TestStore& t, const Stored& s, uint64_t missing) {
  // The header page of a record carries its id at a fixed place.
  std::lock_guard lock(t.disk->mutex);
  const auto& pages = t.disk->files["data"].pages;
  for (uint64_t p = 0; p < pages.size(); p++)
    if (pages[p] && !memcmp(pages[p]->data(), "nanduKVE", 8) &&
        !memcmp(pages[p]->data() + offsetof(RecordHeader, id), &s.id, 8))
      return p;
  return missing;
}

inline uint64_t page_of(TestStore& t, const Stored& s) {
  const uint64_t page = page_of_or(t, s, UINT64_MAX);
  if (page != UINT64_MAX) return page;
  fail(__FILE__, __LINE__, "no header of record " + std::to_string(s.id));
  return 0;
}

inline void flip(TestStore& t, const std::string& file, uint64_t byte, uint32_t bit) {
  std::lock_guard lock(t.disk->mutex);
  t.disk->page_for_writing(file, byte / kPageBytes)[byte % kPageBytes] ^= static_cast<uint8_t>(1u << bit);
}

inline void overwrite(TestStore& t, const std::string& file, uint64_t page,
                      const std::function<void(uint8_t*)>& change) {
  std::lock_guard lock(t.disk->mutex);
  change(t.disk->page_for_writing(file, page));
}

}  // namespace nandu::test
