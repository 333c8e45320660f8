// A disk in memory behind the IoEngine interface: pages are shared between copies of a disk, every write and sync is
// kept in a log from which the states after a power loss are built, requests end on one thread in an order drawn from a
// seed, and each of them can be made to fail in any way.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../../native/io/io_engine.h"
#include "test.h"

namespace nandu::test {

using Page = std::array<uint8_t, kIoAlign>;
using PagePtr = std::shared_ptr<const Page>;  // null: zeroes

struct SimFile {
  std::vector<PagePtr> pages;
};
using SimFiles = std::map<std::string, SimFile>;  // by last part of the path

struct SimLogEntry {
  enum What : uint8_t { kWrite, kSync, kSize } what;
  std::string name;
  uint64_t page = 0;  // kWrite; kSize: number of pages
  PagePtr data;
  size_t covers = 0;  // kSync: entries of the file before this one are on the disk
};

// What shall go wrong with one request.
struct SimFault {
  int32_t error = 0;
  bool lost = false;                // a write that is answered and never done
  bool hang = false;                // ends when the engine is closed
  int64_t misdirect = 0;            // pages by which it misses its place
  const SimFiles* stale = nullptr;  // a read that returns what another disk has there
  std::vector<bool> landed;         // a write of which only these pages are done; answered as whole
  std::vector<uint64_t> flips;      // bits of the data that turn over
};

// What survives a process. Shared by the engines that are opened on it one after the other.
struct SimDisk {
  std::mutex mutex;
  SimFiles files;
  std::vector<SimLogEntry> log;
  bool keep_log = false;
  bool frozen = false;       // nothing lands any more: the process is dead, its memory is just not gone yet
  uint64_t most_bytes = 0;   // most pages ever, as bytes
  uint64_t full_at = ~0ull;  // kAllocate fails beyond
  bool hangs_when_growing = false;
  std::function<SimFault(const IoRequest&, const std::string& name)> fault;  // called under the mutex

  uint64_t bytes() const {
    uint64_t pages = 0;
    for (const auto& [name, file] : files) pages += file.pages.size();
    return pages * kIoAlign;
  }
  // Length of the log: what is known when it is this long happened before what is logged later.
  size_t now() {
    std::lock_guard lock(mutex);
    return log.size();
  }
  SimFiles snapshot() {
    std::lock_guard lock(mutex);
    return files;
  }
  uint8_t* page_for_writing(const std::string& name, uint64_t page) {
    auto& slot = files.at(name).pages.at(page);
    auto fresh = std::make_shared<Page>();
    if (slot) {
      *fresh = *slot;
    } else {
      fresh->fill(0);
    }
    slot = fresh;
    return fresh->data();
  }
};

// One state in which the disk may be after power is lost when the log was `cut` long: of every page that was written
// since the last sync that covers it, any of its versions, the old one included.
inline SimFiles after_power_loss(const SimFiles& start, const std::vector<SimLogEntry>& log, size_t cut,
                                 Random& random) {
  SimFiles disk = start;
  struct Pending {
    std::map<uint64_t, std::vector<std::pair<size_t, PagePtr>>> pages;
    std::vector<std::pair<size_t, uint64_t>> sizes;
  };
  std::map<std::string, Pending> pending;
  const auto put = [](SimFile& file, uint64_t page, const PagePtr& data) {
    if (file.pages.size() <= page) file.pages.resize(page + 1);
    file.pages[page] = data;
  };
  for (size_t i = 0; i < cut; i++) {
    const SimLogEntry& e = log[i];
    Pending& p = pending[e.name];
    if (e.what == SimLogEntry::kWrite) {
      p.pages[e.page].emplace_back(i, e.data);
    } else if (e.what == SimLogEntry::kSize) {
      p.sizes.emplace_back(i, e.page);
    } else {
      SimFile& file = disk[e.name];
      while (!p.sizes.empty() && p.sizes.front().first < e.covers) {
        file.pages.resize(p.sizes.front().second);
        p.sizes.erase(p.sizes.begin());
      }
      for (auto it = p.pages.begin(); it != p.pages.end();) {
        auto& versions = it->second;
        size_t done = 0;
        while (done < versions.size() && versions[done].first < e.covers) done++;
        if (done > 0) put(file, it->first, versions[done - 1].second);
        versions.erase(versions.begin(), versions.begin() + static_cast<long>(done));
        it = versions.empty() ? p.pages.erase(it) : std::next(it);
      }
    }
  }
  // A style for each state: nearly all landed, nearly nothing, or a fair coin.
  const double share = std::array<double, 4>{0.5, 0.05, 0.95, 1.0}[random.below(4)];
  for (auto& [name, p] : pending) {
    SimFile& file = disk[name];
    for (const auto& size : p.sizes)
      if (random.unit() < share) file.pages.resize(size.second);
    for (const auto& [page, versions] : p.pages)
      if (random.unit() < share) put(file, page, versions[random.below(static_cast<uint32_t>(versions.size()))].second);
  }
  return disk;
}

class SimIo final : public IoEngine {
 public:
  SimIo(std::shared_ptr<SimDisk> disk, uint64_t seed) : disk_(std::move(disk)), random_(seed) {
    thread_ = std::thread([this] { loop(); });
  }
  ~SimIo() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  Result<uint32_t> add_file(const std::string& path, bool, bool) override {
    const std::string name = path.substr(path.rfind('/') + 1);
    std::lock_guard lock(disk_->mutex);
    disk_->files[name];
    names_.push_back(name);
    return static_cast<uint32_t>(names_.size() - 1);
  }
  void submit(IoRequest request) override {
    NANDU_CHECK(request.offset % kIoAlign == 0 && request.bytes % kIoAlign == 0 && request.bytes <= kIoPieceBytes);
    NANDU_CHECK(reinterpret_cast<uintptr_t>(request.data) % kIoAlign == 0);
    Queued q{std::move(request), 0, {}, false};
    {
      std::lock_guard lock(disk_->mutex);
      q.covers = disk_->log.size();
      if (q.request.op == IoOp::kAllocate) q.fault.hang = disk_->hangs_when_growing;
      else if (disk_->fault) q.fault = disk_->fault(q.request, names_[q.request.file]);
    }
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(q));
    }
    changed_.notify_one();
  }
  void cancel(uint64_t group) override {
    std::lock_guard lock(mutex_);
    for (Queued& q : queue_)
      if (group != 0 && q.request.group == group && !q.fault.hang) q.cancelled = true;
  }
  int32_t truncate(uint32_t file, uint64_t bytes) override {
    std::lock_guard lock(disk_->mutex);
    if (!disk_->frozen) resize(file, bytes / kIoAlign);
    return 0;
  }
  uint64_t file_bytes(uint32_t file) const override {
    std::lock_guard lock(disk_->mutex);
    return disk_->files[names_[file]].pages.size() * kIoAlign;
  }
  IoStats stats() const override { return {}; }
  const char* backend() const override { return "sim"; }
  bool direct(uint32_t) const override { return true; }
  std::string remark() const override { return ""; }

 private:
  struct Queued {
    IoRequest request;
    size_t covers;
    SimFault fault;
    bool cancelled;
  };

  void resize(uint32_t file, uint64_t pages) {
    SimFile& f = disk_->files[names_[file]];
    f.pages.resize(pages);
    if (disk_->keep_log) disk_->log.push_back({SimLogEntry::kSize, names_[file], pages, nullptr, 0});
    disk_->most_bytes = std::max(disk_->most_bytes, disk_->bytes());
  }

  int32_t run(Queued& q) {
    IoRequest& r = q.request;
    std::lock_guard lock(disk_->mutex);
    if (q.fault.error) return q.fault.error;
    const std::string& name = names_[r.file];
    SimFile& file = disk_->files[name];
    if (r.op == IoOp::kAllocate) {
      if (disk_->frozen) return -EIO;
      const uint64_t end = (r.offset + r.length) / kIoAlign;
      if (end <= file.pages.size()) return 0;
      if (disk_->bytes() + (end - file.pages.size()) * kIoAlign > disk_->full_at) return -ENOSPC;
      resize(r.file, end);
      return 0;
    }
    const uint64_t pages = r.bytes / kIoAlign;
    const uint64_t at = r.offset / kIoAlign;
    if (r.op == IoOp::kSync) {
      if (disk_->frozen) return 0;
      if (disk_->keep_log) disk_->log.push_back({SimLogEntry::kSync, name, 0, nullptr, q.covers});
      return 0;
    }
    const int64_t moved = static_cast<int64_t>(at) + q.fault.misdirect;
    const uint64_t from = moved < 0 ? at : static_cast<uint64_t>(moved);
    if (r.op == IoOp::kRead) {
      const SimFile* source = &file;
      if (q.fault.stale && q.fault.stale->count(name)) source = &q.fault.stale->at(name);
      for (uint64_t i = 0; i < pages; i++) {
        uint8_t* to = r.data + i * kIoAlign;
        if (at + i >= file.pages.size()) return -EIO;  // beyond the end: a short read
        const PagePtr* page = from + i < source->pages.size() ? &source->pages[from + i] : nullptr;
        if (page && *page) {
          memcpy(to, (*page)->data(), kIoAlign);
        } else {
          memset(to, 0, kIoAlign);
        }
      }
      for (const uint64_t bit : q.fault.flips) r.data[bit / 8 % r.bytes] ^= static_cast<uint8_t>(1u << bit % 8);
      return 0;
    }
    if (q.fault.lost || disk_->frozen) return 0;
    for (uint64_t i = 0; i < pages; i++) {
      if (!q.fault.landed.empty() && !q.fault.landed[i % q.fault.landed.size()]) continue;
      auto page = std::make_shared<Page>();
      memcpy(page->data(), r.data + i * kIoAlign, kIoAlign);
      for (const uint64_t bit : q.fault.flips)
        if (bit / 8 % r.bytes / kIoAlign == i) (*page)[bit / 8 % kIoAlign] ^= static_cast<uint8_t>(1u << bit % 8);
      if (file.pages.size() <= from + i) file.pages.resize(from + i + 1);
      file.pages[from + i] = page;
      if (disk_->keep_log) disk_->log.push_back({SimLogEntry::kWrite, name, from + i, page, 0});
    }
    disk_->most_bytes = std::max(disk_->most_bytes, disk_->bytes());
    return 0;
  }

  void loop() {
    for (;;) {
      Queued q;
      {
        std::unique_lock lock(mutex_);
        size_t next = 0;
        const auto runnable = [&] {
          std::vector<size_t> ready;
          for (size_t i = 0; i < queue_.size(); i++)
            if (!queue_[i].fault.hang || stop_) ready.push_back(i);
          if (ready.empty()) return false;
          next = ready[random_.below(static_cast<uint32_t>(ready.size()))];
          return true;
        };
        bool found = false;
        changed_.wait(lock, [&] { return (found = runnable()) || stop_; });
        if (!found) return;
        q = std::move(queue_[next]);
        queue_.erase(queue_.begin() + static_cast<long>(next));
        if (stop_) q.cancelled = true;
      }
      q.request.done(q.cancelled ? -ECANCELED : run(q));
    }
  }

  std::shared_ptr<SimDisk> disk_;
  std::vector<std::string> names_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Queued> queue_;
  bool stop_ = false;
  Random random_;
  std::thread thread_;
};

}  // namespace nandu::test
