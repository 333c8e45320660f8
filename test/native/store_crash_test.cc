// The store and the end of the process: power loss at any moment with any subset of the unsynced pages on the disk, and
// a kill at each named change of state. Durable records are there afterwards, destroyed ones are not, no byte is wrong.
// What is not proved here: that a device keeps what it synced.
//
// NANDU_LONG=1 runs 10^4 power-loss states; figures are printed to stderr.
#include "store_harness.h"

using namespace nandu;
using namespace nandu::test;

namespace {

bool long_form() {
  return getenv("NANDU_LONG") != nullptr;
}

constexpr size_t kNever = ~size_t{0};

// What is known of a record, as lengths of the disk's log: before and after which moment.
struct Expected {
  uint64_t n = 0, bytes = 0;
  uint32_t region = 0;
  size_t durable_at = kNever;     // heard to be durable
  size_t dropped_at = kNever;     // a reclaim was asked to leave it out
  size_t destroying_at = kNever;  // a destroy was asked for
  size_t destroyed_at = kNever;   // and answered
  bool must_be_there(size_t cut) const { return durable_at <= cut && dropped_at > cut && destroying_at > cut; }
  bool must_be_gone(size_t cut) const { return destroyed_at <= cut; }
};

// Commands overlap: bursts of appends with reclaims, destroys and syncs among them, nothing waits but for the end.
struct Workload {
  TestStore& t;
  Random random;
  std::map<uint64_t, Expected> records;
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> asked;  // ticket -> n, bytes
  std::map<uint64_t, std::vector<uint64_t>> destroying;     // ticket -> ids
  std::set<uint32_t> sealed;
  uint64_t next_n = 1, reclaims = 0, moved = 0;

  Workload(TestStore& store, uint64_t seed) : t(store), random(seed) {}

  void hear() {
    for (const Timed& timed : t.take_events()) {
      const StoreEvent& e = timed.event;
      switch (e.kind) {
        case StoreEvent::kWritten:
          if (e.status == StoreStatus::kOk)
            records[e.record.id] = {asked[e.ticket].first, asked[e.ticket].second, e.record.region};
          break;
        case StoreEvent::kDurable:
          for (auto it = records.begin(); it != records.end() && it->first <= e.number; ++it)
            it->second.durable_at = std::min(it->second.durable_at, timed.at);
          break;
        case StoreEvent::kRecovered:
        case StoreEvent::kMoved:
          records[e.record.id].region = e.record.region;
          moved += e.kind == StoreEvent::kMoved;
          break;
        case StoreEvent::kSealed: sealed.insert(static_cast<uint32_t>(e.number)); break;
        case StoreEvent::kReclaimed:
          if (e.status == StoreStatus::kOk) reclaims++;
          break;
        case StoreEvent::kDestroyed:
          if (e.status == StoreStatus::kOk)
            for (const uint64_t id : destroying[e.ticket]) records[id].destroyed_at = timed.at;
          break;
        default: break;
      }
    }
  }
  bool usable(const Expected& e) const { return e.dropped_at == kNever && e.destroying_at == kNever; }
  void step() {
    hear();
    const uint32_t what = random.below(20);
    if (what < 13) {
      for (uint32_t i = 1 + random.below(4); i > 0; i--) {
        const uint64_t n = next_n++, bytes = random.below(5) ? random.below(30'000) : random.below(150'000);
        const uint64_t ticket =
            t.append_later(n, bytes, random.below(3) ? RecordKind::kSegment : RecordKind::kPoint, 2);
        asked[ticket] = {n, bytes};
      }
    } else if (what < 16 && !sealed.empty()) {
      const uint32_t region = *std::next(sealed.begin(), random.below(static_cast<uint32_t>(sealed.size())));
      sealed.erase(region);
      std::vector<uint64_t> keep;
      const size_t now = t.disk->now();
      for (auto& [id, e] : records) {
        if (e.region != region || !usable(e)) continue;
        if (random.below(3) == 0) {
          keep.push_back(id);
        } else {
          e.dropped_at = now;
        }
      }
      // Half of them run on beside what comes next, destroys of what they move included.
      const uint64_t ticket = t.reclaim_later(region, keep);
      if (random.below(2)) t.answer(ticket);
    } else if (what < 18 && !records.empty()) {
      std::vector<uint64_t> ids;
      const size_t now = t.disk->now();
      for (uint32_t i = 1 + random.below(3); i > 0; i--) {
        auto it = std::next(records.begin(), random.below(static_cast<uint32_t>(records.size())));
        if (!usable(it->second)) continue;
        it->second.destroying_at = now;
        ids.push_back(it->first);
      }
      const uint64_t ticket = t.destroy_later(ids);
      destroying[ticket] = ids;
      if (random.below(2)) t.answer(ticket);
    } else if (what == 18) {
      t.flush();
    } else {
      t.destroy({});
    }
  }
};

struct Findings {
  uint64_t states = 0, lost = 0, resurrected = 0, unknown = 0, wrong = 0, corrupt = 0, found = 0;
  bool clean() const { return lost + resurrected + unknown + wrong == 0; }
};

// Opens the disk and compares what is there with what may and what must be there.
void examine(TestStore& t, const std::map<uint64_t, Expected>& records, size_t cut, bool twice, Findings& f) {
  f.states++;
  EXPECT(t.open().ok());
  std::set<uint64_t> bad;
  for (const auto& [id, info] : t.recovered) {
    const auto it = records.find(id);
    // A record whose kWritten was not heard before the end is known by its key only.
    if (it == records.end() || it->second.bytes != info.payload_bytes) {
      f.unknown += info.key != key_of(info.created_ms);
      continue;
    }
    const Expected& e = it->second;
    if (e.must_be_gone(cut)) f.resurrected++;
    const StoreStatus status = t.read(id, e.n, e.bytes);
    if (status != StoreStatus::kOk) bad.insert(id);
    if (status == StoreStatus::kCorrupt) f.corrupt++;
    f.found += status == StoreStatus::kOk;
  }
  for (const auto& [id, e] : records)
    if (e.must_be_there(cut) && (!t.recovered.count(id) || bad.count(id))) f.lost++;
  if (twice) {
    const auto before = t.recovered;
    t.close();
    EXPECT(t.open().ok());
    for (const auto& [id, info] : t.recovered) f.resurrected += !before.count(id) || bad.count(id);
    for (const auto& [id, info] : before) f.lost += !bad.count(id) && !t.recovered.count(id);
  }
  t.kill();
  f.wrong += t.wrong_bytes;
  t.wrong_bytes = 0;
}

Findings power_loss(uint64_t seed, uint32_t states, uint32_t checks_off) {
  SimFiles start;
  std::vector<SimLogEntry> log;
  std::map<uint64_t, Expected> records;
  Findings findings;
  Random random(seed * 77);
  TestStore t;
  t.seed = seed * 1000;
  t.options.commit_bytes = 200'000;
  t.disk->keep_log = true;
  store_test_hooks.checks_off = checks_off;
  Workload work(t, seed);
  for (int session = 0; session < 3; session++) {
    EXPECT(t.open().ok());
    for (int i = 0; i < 60; i++) work.step();
    if (session == 1) {
      t.kill();
    } else {
      t.close();
    }
    work.hear();
    work.sealed.clear();
  }
  EXPECT(work.reclaims > 0 && work.moved > 0);
  log = std::move(t.disk->log);
  records = std::move(work.records);
  for (uint32_t i = 0; i < states && failures().empty(); i++) {
    const size_t cut = random.below(static_cast<uint32_t>(log.size() + 1));
    t.disk = std::make_shared<SimDisk>();
    t.disk->files = after_power_loss(start, log, cut, random);
    examine(t, records, cut, i % 4 == 0, findings);
  }
  return findings;
}

void report(const char* what, const Findings& f) {
  fprintf(stderr,
          "%s: %llu states, %llu records read right, %llu unsynced ones refused, %llu lost, %llu back from "
          "destruction, %llu unknown, %llu wrong bytes\n",
          what, static_cast<unsigned long long>(f.states), static_cast<unsigned long long>(f.found),
          static_cast<unsigned long long>(f.corrupt), static_cast<unsigned long long>(f.lost),
          static_cast<unsigned long long>(f.resurrected), static_cast<unsigned long long>(f.unknown),
          static_cast<unsigned long long>(f.wrong));
}

void add(Findings& sum, const Findings& f) {
  sum.states += f.states, sum.lost += f.lost, sum.resurrected += f.resurrected, sum.unknown += f.unknown;
  sum.wrong += f.wrong, sum.corrupt += f.corrupt, sum.found += f.found;
}

}  // namespace

TEST(store_after_power_loss_has_what_was_durable_and_nothing_that_was_destroyed) {
  const uint32_t seeds = long_form() ? 40 : 4;
  Findings all;
  for (uint32_t seed = 1; seed <= seeds; seed++) {
    const Findings f = power_loss(seed, long_form() ? 250 : 125, 0);
    EXPECT_MSG(f.clean(), "seed " + std::to_string(seed));
    add(all, f);
  }
  EXPECT(all.found > all.states);
  report("store power loss", all);
}

namespace {

// Where a run shall die: at the nth time a named point is passed. The hook is a plain function pointer.
struct KillPoint {
  std::string name;
  uint32_t times = 0, passed = 0;
  TestStore* store = nullptr;
  bool hit = false;
  std::map<std::string, uint32_t> seen;
} kill_point;
std::mutex kill_mutex;

void at_point(const char* name) {
  std::lock_guard lock(kill_mutex);
  kill_point.seen[name]++;
  if (kill_point.hit || kill_point.name != name || ++kill_point.passed < kill_point.times) return;
  kill_point.hit = true;
  kill_point.store->die();
}

Findings run_to(const std::string& name, uint32_t times, uint64_t seed) {
  TestStore t;
  t.seed = seed * 1000;
  t.options.commit_bytes = 100'000;
  {
    std::lock_guard lock(kill_mutex);
    const auto seen = kill_point.seen;
    kill_point = {name, times, 0, &t, false, seen};
  }
  store_test_hooks.crash_point = at_point;
  Workload work(t, seed);
  EXPECT(t.open().ok());
  for (int i = 0; i < 70 && !kill_point.hit; i++) work.step();
  t.kill();
  work.hear();
  store_test_hooks.crash_point = nullptr;
  Findings f;
  examine(t, work.records, kNever - 1, true, f);
  return f;
}

}  // namespace

TEST(store_killed_at_each_change_of_state_starts_again_with_what_was_durable) {
  kill_point = {};
  run_to("", 0, 1);
  const auto points = kill_point.seen;
  EXPECT_MSG(points.size() >= 20, std::to_string(points.size()));
  Findings all;
  uint32_t kills = 0;
  for (const auto& [name, passed] : points) {
    for (const uint32_t times : {1u, 2u, 1 + passed / 3}) {
      const Findings f = run_to(name, times, 1 + times);
      EXPECT_MSG(f.clean(), "killed at \"" + name + "\", time " + std::to_string(times));
      kills += kill_point.hit;
      add(all, f);
    }
  }
  EXPECT(kills >= points.size());
  fprintf(stderr, "store kill points: %zu names, %u kills\n", points.size(), kills);
  report("store kill points", all);
}

TEST(store_without_its_syncs_does_not_survive_the_same_power_losses) {
  for (const uint32_t check : {uint32_t{kCheckSyncBeforeDurable}, uint32_t{kCheckSyncBeforeMoved}}) {
    bool noticed = false;
    for (uint64_t seed = 1; seed <= 6 && !noticed; seed++) noticed = !power_loss(seed, 60, check).clean();
    EXPECT_MSG(noticed, check == kCheckSyncBeforeDurable ? "before kDurable" : "before kMoved, kReclaimed, kDestroyed");
  }
}
