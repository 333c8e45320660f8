// A cruel disk: an engine in front of an engine that spoils what a seed picks. For tests, and for operators who
// rehearse (--kv-fault). Each request has a number, and what happens to it is a function of seed, number and kind of
// fault only, so a run is repeated by its seed as far as the order of submissions is.
//
// Short transfers are not made here but in IoQueue, below the retries that must hide them.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <thread>

#include "backend.h"
#include "random.h"

namespace nandu {
namespace {

using Clock = std::chrono::steady_clock;
using Done = std::function<void(int32_t)>;

// A reordered request is overtaken by what comes within this time.
constexpr uint64_t kReorderMs = 5;
// Old contents that stale reads are made of: 16 MiB.
constexpr size_t kMostOldPages = 4096;

struct Free {
  void operator()(uint8_t* p) const { std::free(p); }
};
std::shared_ptr<uint8_t> aligned_copy(const uint8_t* from, uint32_t bytes) {
  uint8_t* to = static_cast<uint8_t*>(std::aligned_alloc(kIoAlign, bytes));
  NANDU_CHECK(to);
  if (from) memcpy(to, from, bytes);
  return {to, Free()};
}

class FaultyEngine : public IoEngine {
 public:
  FaultyEngine(std::unique_ptr<IoEngine> engine, const FaultPlan& plan)
      : plan_(plan), owner_(std::move(engine)), inner_(*owner_), thread_([this] { loop(); }) {}
  ~FaultyEngine() override {
    {
      std::unique_lock lock(mutex_);
      closing_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !busy_; });  // what our thread has begun may still need the inner engine
    }
    owner_.reset();  // its last callbacks may still submit to us
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Result<uint32_t> add_file(const std::string& path, bool create, bool read_only) override {
    Result<uint32_t> file = inner_.add_file(path, create, read_only);
    if (file.ok()) {
      const std::lock_guard lock(mutex_);
      ends_[file.value()] = inner_.file_bytes(file.value());
    }
    return file;
  }

  void submit(IoRequest request) override {
    const uint64_t number = ++requests_;
    if (number == plan_.crash_after) kill(getpid(), SIGKILL);
    if (hits(plan_.hang, kHang, number)) return hold({std::move(request), number, 0, true}, Clock::time_point::max());
    uint64_t wait_us = 0;
    if (hits(plan_.delay, kDelay, number)) wait_us += plan_.delay_ms * 1000;
    if (hits(plan_.reorder, kReorder, number)) wait_us += 1 + draw(kReorder, number) % (kReorderMs * 1000);
    if (wait_us > 0 || is_closing())
      return hold({std::move(request), number, kPerform, false}, Clock::now() + std::chrono::microseconds(wait_us));
    perform(std::move(request), number);
  }

  // What hangs or is late because of us counts as in flight only where it hangs.
  void cancel(uint64_t group) override {
    if (group == 0) return;
    {
      const std::lock_guard lock(mutex_);
      std::vector<Held> unwanted;
      std::erase_if(held_, [&](auto& entry) {
        if (entry.second.request.group != group || entry.second.hangs) return false;
        unwanted.push_back(std::move(entry.second));
        return true;
      });
      for (Held& held : unwanted) {
        held.answer = -ECANCELED;
        held_.emplace(Clock::time_point::min(), std::move(held));
      }
    }
    changed_.notify_all();
    inner_.cancel(group);
  }

  int32_t truncate(uint32_t file, uint64_t bytes) override {
    const int32_t result = inner_.truncate(file, bytes);
    const std::lock_guard lock(mutex_);
    if (result == 0 && bytes < ends_[file]) {
      grown_ -= std::min(grown_, ends_[file] - bytes);
      ends_[file] = bytes;
    }
    return result;
  }
  uint64_t file_bytes(uint32_t file) const override { return inner_.file_bytes(file); }
  IoStats stats() const override {
    IoStats stats = inner_.stats();
    stats.faults += faults_;
    stats.errors += errors_;
    return stats;
  }
  const char* backend() const override { return inner_.backend(); }
  bool direct(uint32_t file) const override { return inner_.direct(file); }
  std::string remark() const override { return inner_.remark(); }

 private:
  // Part of what is drawn, so a kind switched on does not change where the others strike.
  enum Kind : uint64_t { kHang = 1, kDelay, kReorder, kError, kFlip, kLost, kMisdirect, kTorn, kStale };

  uint64_t draw(Kind kind, uint64_t number) const {
    uint64_t state = plan_.seed ^ kind << 56 ^ number * 0xD6E8FEB86659FD93ull;
    next_random(state);
    return next_random(state);
  }
  bool hits(double probability, Kind kind, uint64_t number) {
    uint64_t state = draw(kind, ~number);
    if (probability <= 0 || next_unit(state) >= probability) return false;
    faults_++;
    return true;
  }

  void perform(IoRequest request, uint64_t number) {
    if (request.op == IoOp::kSync) {
      if (hits(plan_.sync_error, kError, number)) return fail(std::move(request), plan_.sync_errno);
      inner_.submit(std::move(request));
    } else if (request.op == IoOp::kAllocate) {
      if (!has_room(request.file, request.offset + request.length)) return fail(std::move(request), ENOSPC);
      inner_.submit(std::move(request));
    } else if (request.op == IoOp::kRead) {
      read(std::move(request), number);
    } else if (plan_.stale > 0) {
      keep_old_pages(std::move(request), number);
    } else {
      write(std::move(request), number);
    }
  }

  void read(IoRequest request, uint64_t number) {
    if (hits(plan_.read_error, kError, number)) return fail(std::move(request), plan_.read_errno);
    const bool flips = hits(plan_.flip, kFlip, number);
    const bool is_stale = plan_.stale > 0 && hits_old_page(request) && hits(plan_.stale, kStale, number);
    if (!flips && !is_stale) return inner_.submit(std::move(request));
    Done done = std::move(request.done);
    request.done = [=, this, file = request.file, offset = request.offset, data = request.data, bytes = request.bytes,
                    done = std::move(done)](int32_t result) {
      if (result == 0 && is_stale) put_old_pages(file, offset, data, bytes);
      if (result == 0 && flips) flip(data, bytes, number);
      done(result);
    };
    inner_.submit(std::move(request));
  }

  void write(IoRequest request, uint64_t number) {
    if (hits(plan_.write_error, kError, number)) return fail(std::move(request), plan_.write_errno);
    if (!has_room(request.file, request.offset + request.bytes)) return fail(std::move(request), ENOSPC);
    if (hits(plan_.lost, kLost, number)) return answer(std::move(request), 0);
    if (hits(plan_.torn, kTorn, number)) return tear(std::move(request), number);
    if (hits(plan_.misdirect, kMisdirect, number)) request.offset = elsewhere(request, number);
    if (hits(plan_.flip, kFlip, number)) {
      const std::shared_ptr<uint8_t> copy = aligned_copy(request.data, request.bytes);
      flip(copy.get(), request.bytes, number);
      request.data = copy.get();
      request.done = [copy, done = std::move(request.done)](int32_t result) { done(result); };
    }
    inner_.submit(std::move(request));
  }

  void flip(uint8_t* data, uint32_t bytes, uint64_t number) const {
    const uint64_t bit = draw(kFlip, number) % (uint64_t{bytes} * 8);
    data[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
  }

  // Another page of the same file where the write fits; a file that has no other gets it behind its end.
  uint64_t elsewhere(const IoRequest& request, uint64_t number) const {
    const uint64_t size = inner_.file_bytes(request.file) / kIoAlign * kIoAlign;
    const uint64_t places = size > request.bytes ? (size - request.bytes) / kIoAlign + 1 : 1;
    const uint64_t offset = draw(kMisdirect, number) % places * kIoAlign;
    return offset == request.offset ? offset + kIoAlign : offset;
  }

  // Half the time a prefix of its pages lands, else any subset. Acknowledged when all that lands has landed.
  void tear(IoRequest request, uint64_t number) {
    const uint32_t pages = request.bytes / kIoAlign;
    uint64_t random = draw(kTorn, number);
    const bool is_prefix = next_random(random) % 2 == 0;
    const uint32_t prefix = static_cast<uint32_t>(next_random(random) % pages);
    std::vector<ByteRun> runs;
    for (uint32_t page = 0; page < pages; page++) {
      if (is_prefix ? page >= prefix : next_random(random) % 2 == 0) continue;
      if (!runs.empty() && runs.back().first + runs.back().bytes == page * kIoAlign) runs.back().bytes += kIoAlign;
      else runs.push_back({page * kIoAlign, kIoAlign});
    }
    if (runs.empty()) return answer(std::move(request), 0);
    struct Torn {
      std::atomic<size_t> left;
      std::atomic<int32_t> result{0};
      Done done;
    };
    auto torn = std::make_shared<Torn>();
    torn->left = runs.size();
    torn->done = std::move(request.done);
    request.done = [torn](int32_t result) {
      if (result != 0) torn->result = result;
      if (--torn->left == 0) torn->done(torn->result);
    };
    for (const ByteRun& run : runs) {
      IoRequest part = request;
      part.offset += run.first;
      part.data += run.first;
      part.bytes = run.bytes;
      inner_.submit(std::move(part));
    }
  }

  // Reads what the write is about to replace, then writes.
  void keep_old_pages(IoRequest request, uint64_t number) {
    const std::shared_ptr<uint8_t> old = aligned_copy(nullptr, request.bytes);
    IoRequest before = request;
    before.op = IoOp::kRead;
    before.data = old.get();
    before.done = [this, old, number, request = std::move(request)](int32_t result) mutable {
      if (result == -ECANCELED) return request.done(result);
      if (result == 0) {
        const std::lock_guard lock(mutex_);
        for (uint32_t at = 0; at < request.bytes; at += kIoAlign) {
          const Place place{request.file, request.offset + at};
          if (!old_pages_.contains(place)) old_order_.push_back(place);
          old_pages_[place].assign(old.get() + at, old.get() + at + kIoAlign);
        }
        while (old_order_.size() > kMostOldPages) {
          old_pages_.erase(old_order_.front());
          old_order_.pop_front();
        }
      }
      write(std::move(request), number);
    };
    inner_.submit(std::move(before));
  }
  bool hits_old_page(const IoRequest& request) {
    const std::lock_guard lock(mutex_);
    const auto first = old_pages_.lower_bound({request.file, request.offset});
    return first != old_pages_.end() && first->first < Place{request.file, request.offset + request.bytes};
  }
  void put_old_pages(uint32_t file, uint64_t offset, uint8_t* data, uint32_t bytes) {
    const std::lock_guard lock(mutex_);
    for (auto page = old_pages_.lower_bound({file, offset});
         page != old_pages_.end() && page->first < Place{file, offset + bytes}; page++)
      memcpy(data + (page->first.second - offset), page->second.data(), kIoAlign);
  }

  // Counts the file's growth against full-after.
  bool has_room(uint32_t file, uint64_t end) {
    const std::lock_guard lock(mutex_);
    if (end <= ends_[file]) return true;
    if (end - ends_[file] > plan_.full_after - grown_) {
      faults_++;
      return false;
    }
    grown_ += end - ends_[file];
    ends_[file] = end;
    return true;
  }

  void fail(IoRequest request, int32_t error_number) {
    errors_++;
    answer(std::move(request), -error_number);
  }
  // Never on the thread that submits.
  void answer(IoRequest request, int32_t result) {
    hold({std::move(request), 0, result, false}, Clock::time_point::min());
  }

  // A request that our thread ends, or performs late.
  static constexpr int32_t kPerform = 1;
  struct Held {
    IoRequest request;
    uint64_t number;
    int32_t answer;  // or kPerform
    bool hangs;
  };
  void hold(Held held, Clock::time_point due) {
    {
      const std::lock_guard lock(mutex_);
      held_.emplace(due, std::move(held));
    }
    changed_.notify_all();
  }

  void loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (held_.empty()) {
        if (stopped_) return;
        changed_.wait(lock);
        continue;
      }
      const auto first = held_.begin();
      if (!closing_ && first->first > Clock::now()) {
        if (first->first == Clock::time_point::max()) changed_.wait(lock);
        else changed_.wait_until(lock, Clock::time_point(first->first));
        continue;
      }
      Held held = std::move(first->second);
      held_.erase(first);
      const bool late = held.answer == kPerform || held.hangs;
      if (late && closing_) held.answer = -ECANCELED;
      busy_ = true;
      lock.unlock();
      if (held.answer == kPerform) perform(std::move(held.request), held.number);
      else held.request.done(held.answer);
      held = {};
      lock.lock();
      busy_ = false;
      if (closing_) changed_.notify_all();
    }
  }

  bool is_closing() {
    const std::lock_guard lock(mutex_);
    return closing_;
  }

  using Place = std::pair<uint32_t, uint64_t>;  // file and offset of a page
  struct ByteRun {
    uint32_t first, bytes;
  };

  const FaultPlan plan_;
  std::unique_ptr<IoEngine> owner_;
  IoEngine& inner_;  // owner_'s, also while it is being destroyed
  std::atomic<uint64_t> requests_{0}, faults_{0}, errors_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closing_ = false, stopped_ = false;
  bool busy_ = false;  // our thread is outside the lock
  std::multimap<Clock::time_point, Held> held_;
  std::map<Place, std::vector<uint8_t>> old_pages_;
  std::deque<Place> old_order_;
  uint64_t ends_[kMostFiles] = {};  // of the files, allocated or written
  uint64_t grown_ = 0;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<IoEngine> inject_faults(std::unique_ptr<IoEngine> engine, const FaultPlan& plan) {
  return std::make_unique<FaultyEngine>(std::move(engine), plan);
}

namespace {

bool parse_number(const std::string& text, uint64_t& value) {
  if (text.empty() || text.size() > 19 || text.find_first_not_of("0123456789") != std::string::npos) return false;
  value = strtoull(text.c_str(), nullptr, 10);
  return true;
}
// Digits and one point; no sign, exponent, inf or nan.
bool parse_probability(const std::string& text, double& value) {
  if (text.empty() || text == "." || text.size() > 32 || text.find_first_not_of("0123456789.") != std::string::npos ||
      text.find('.') != text.rfind('.'))
    return false;
  value = strtod(text.c_str(), nullptr);
  return value <= 1;
}

}  // namespace

Result<FaultPlan> parse_faults(const std::string& spec) {
  FaultPlan plan;
  plan.read_errno = plan.write_errno = plan.sync_errno = EIO;
  // NAME=P, and NAME=P:ERRNO for errors.
  const struct {
    const char* name;
    double* probability;
    int32_t* error_number;
  } probabilities[] = {
      {"read-error", &plan.read_error, &plan.read_errno},
      {"write-error", &plan.write_error, &plan.write_errno},
      {"sync-error", &plan.sync_error, &plan.sync_errno},
      {"short", &plan.short_transfers, nullptr},
      {"flip", &plan.flip, nullptr},
      {"lost", &plan.lost, nullptr},
      {"misdirect", &plan.misdirect, nullptr},
      {"torn", &plan.torn, nullptr},
      {"stale", &plan.stale, nullptr},
      {"reorder", &plan.reorder, nullptr},
      {"hang", &plan.hang, nullptr},
  };
  const struct {
    const char* name;
    uint64_t* number;
  } numbers[] = {{"seed", &plan.seed}, {"full-after", &plan.full_after}, {"crash-after", &plan.crash_after}};
  constexpr uint64_t kMostErrno = 4095, kMostDelayMs = 3'600'000;

  for (size_t begin = 0; begin < spec.size();) {
    const size_t end = std::min(spec.find(',', begin), spec.size());
    const std::string part = spec.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
    const size_t colon = value.find(':');
    const std::string left = value.substr(0, colon);
    const std::string right = colon == std::string::npos ? "" : value.substr(colon + 1);
    const char* wanted =
        "no such fault; there are seed, read-error, write-error, sync-error, short, flip, lost, misdirect, "
        "torn, stale, reorder, hang, delay-ms, full-after, crash-after";
    bool good = false;
    for (const auto& entry : probabilities) {
      if (name != entry.name) continue;
      uint64_t number = EIO;
      wanted = entry.error_number ? "a probability from 0 to 1 is wanted, or P:ERRNO"
                                  : "a probability from 0 to 1 is wanted";
      good = parse_probability(left, *entry.probability);
      if (colon != std::string::npos)
        good = good && entry.error_number && parse_number(right, number) && number > 0 && number <= kMostErrno;
      if (entry.error_number) *entry.error_number = static_cast<int32_t>(number);
    }
    for (const auto& entry : numbers) {
      if (name != entry.name) continue;
      wanted = "a whole number is wanted";
      good = parse_number(value, *entry.number);
    }
    if (name == "delay-ms") {
      wanted = "MILLISECONDS:PROBABILITY is wanted, an hour at most";
      good = parse_number(left, plan.delay_ms) && plan.delay_ms <= kMostDelayMs && parse_probability(right, plan.delay);
    }
    if (!good) return error(Code::kInvalidArgument, "fault '%.200s': %s", part.c_str(), wanted);
  }
  return plan;
}

}  // namespace nandu
