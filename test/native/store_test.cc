// The store on a disk in memory: stories, random operations against a reference, power loss from the write log, and
// kill points. What is not proved here: real devices and back ends (test/native/io_test.cc, test/e2e).
//
// NANDU_LONG=1 runs the long forms (10^4 power-loss states); figures are printed to stderr.
#include <fcntl.h>
#include <sys/stat.h>

#include "../../native/store/checksum.h"
#include "store_harness.h"

using namespace nandu;
using namespace nandu::test;

namespace {

bool long_form() {
  return getenv("NANDU_LONG") != nullptr;
}

}  // namespace

TEST(store_crc32c_is_that_of_rfc_3720_and_of_the_table) {
  std::vector<uint8_t> data(32, 0);
  EXPECT(crc32c(data.data(), 32) == 0x8A9136AAu);
  data.assign(32, 0xff);
  EXPECT(crc32c(data.data(), 32) == 0x62A8AB43u);
  for (uint8_t i = 0; i < 32; i++) data[i] = i;
  EXPECT(crc32c(data.data(), 32) == 0x46DD794Eu);
  for (uint8_t i = 0; i < 32; i++) data[i] = 31 - i;
  EXPECT(crc32c(data.data(), 32) == 0x113FDB5Cu);
  Random random(1);
  data.resize(70'000);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random.next());
  for (int i = 0; i < 400; i++) {
    const size_t from = random.below(64), bytes = i < 100 ? static_cast<size_t>(i) : random.below(69'000);
    const size_t cut = bytes ? random.below(static_cast<uint32_t>(bytes)) : 0;
    const uint32_t whole = crc32c(data.data() + from, bytes);
    EXPECT(whole == crc32c_table(data.data() + from, bytes));
    EXPECT(whole == crc32c(data.data() + from + cut, bytes - cut, crc32c(data.data() + from, cut)));
  }
}

TEST(store_gives_back_what_it_was_given_before_and_after_a_restart) {
  TestStore t;
  EXPECT(t.open().ok());
  // Borders of chunks, pieces and pages.
  const std::vector<uint64_t> sizes = {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 190'000};
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> written;
  for (size_t i = 0; i < sizes.size(); i++) {
    const StoreEvent e = t.append(i + 1, sizes[i], i % 2 ? RecordKind::kPoint : RecordKind::kSegment, 3);
    EXPECT(e.status == StoreStatus::kOk && e.kind == StoreEvent::kWritten);
    EXPECT(e.record.stored_bytes == kPageBytes + round_up(sizes[i], kPageBytes));
    written[e.record.id] = {i + 1, sizes[i]};
    EXPECT(t.read(e.record.id, i + 1, sizes[i]) == StoreStatus::kOk);
  }
  t.flush();
  for (const bool clean : {false, true, false}) {
    if (clean) {
      t.close();
    } else {
      t.kill();
    }
    EXPECT(t.open().ok());
    EXPECT(t.recovered.size() == written.size());
    for (const auto& [id, what] : written) {
      EXPECT(t.recovered.count(id) && t.recovered[id].key == key_of(what.first));
      EXPECT(t.recovered[id].blocks.size() == (what.first % 2 ? 3 : 0));
      EXPECT(t.read(id, what.first, what.second) == StoreStatus::kOk);
    }
  }
  EXPECT(t.wrong_bytes == 0);
}

TEST(store_keeps_every_region_when_it_is_written_to_while_it_recovers) {
  TestStore t;
  EXPECT(t.open().ok());
  for (uint64_t key = 1; key <= 6; key++) t.append(key, 150'000);
  t.flush();
  uint64_t during = 0;
  for (uint64_t round = 0; round < 20; round++) {
    t.kill();
    EXPECT(t.open(false).ok());
    during += t.store->stats().recovering;
    EXPECT(t.append(100 + round, 1000).status == StoreStatus::kOk);
    t.wait_for_recovery();
    for (int tries = 0; t.store->stats().recovering && tries < 1000; tries++) usleep(1000);
    const StoreStats s = t.store->stats();
    EXPECT_MSG(s.regions_free + s.regions_open + s.regions_sealed == s.regions_total, std::to_string(round));
  }
  EXPECT(during > 0);
}

TEST(store_reads_of_ranges_hand_on_those_bytes_in_order_and_no_others) {
  TestStore t;
  store_test_hooks.region_bytes = 8u << 20;
  t.options.largest_record = 6u << 20;
  t.options.max_bytes = 100u << 20;
  EXPECT(t.open().ok());
  constexpr uint64_t kBytes = 5'000'001;
  const StoreEvent e = t.append(7, kBytes, RecordKind::kSegment, 32);
  EXPECT(e.status == StoreStatus::kOk);
  Random random(3);
  for (int round = 0; round < 30; round++) {
    std::vector<ByteRange> ranges;
    uint64_t sum = 0;
    for (uint64_t at = random.below(200'000); at < kBytes; at += random.below(round % 2 ? 900'000 : 60'000)) {
      const uint64_t bytes = std::min<uint64_t>(1 + random.below(round % 3 ? 3000 : 400'000), kBytes - at);
      ranges.push_back({at, bytes});
      sum += bytes, at += bytes;
    }
    auto result = std::make_shared<ReadResult>();
    const StoreEvent r = t.answer(t.read_later(e.record.id, key_of(7), ranges, result));
    EXPECT(r.status == StoreStatus::kOk && r.number == sum);
    EXPECT(result->bytes == sum && result->wrong == 0 && result->ascending);
  }
  auto result = std::make_shared<ReadResult>();
  EXPECT(t.answer(t.read_later(e.record.id, key_of(7), {{kBytes - 1, 2}}, result)).status == StoreStatus::kNotFound);
  EXPECT(t.answer(t.read_later(e.record.id, key_of(7), {{10, 5}, {12, 5}}, result)).status == StoreStatus::kNotFound);
  EXPECT(t.answer(t.read_later(e.record.id, key_of(8), {{0, 5}}, result)).status == StoreStatus::kNotFound);
  EXPECT(result->bytes == 0);
}

TEST(store_reclaim_keeps_what_it_is_told_and_frees_the_rest) {
  TestStore t;
  EXPECT(t.open().ok());
  std::map<uint32_t, std::vector<std::pair<uint64_t, uint64_t>>> regions;
  for (uint64_t n = 1; n <= 20; n++) {
    const StoreEvent e = t.append(n, 40'000);
    EXPECT(e.status == StoreStatus::kOk);
    regions[e.record.region].emplace_back(e.record.id, n);
  }
  t.flush();
  const uint32_t victim = regions.begin()->first;
  const auto in = regions.begin()->second;
  EXPECT(t.reclaim(victim, {in[3].first, in[1].first, 999'999}) == StoreStatus::kOk);
  EXPECT(t.count(StoreEvent::kMoved) == 2);
  for (const bool again : {false, true}) {
    for (size_t i = 0; i < in.size(); i++)
      EXPECT(t.read(in[i].first, in[i].second, 40'000) ==
             (i == 1 || i == 3 ? StoreStatus::kOk : StoreStatus::kNotFound));
    if (!again) {
      EXPECT(t.reclaim(victim, {}) == StoreStatus::kNotFound);
      t.kill();
      EXPECT(t.open().ok());
      EXPECT(t.recovered.size() == 20 - in.size() + 2);
    }
  }
  EXPECT(t.wrong_bytes == 0);
}

TEST(store_destroyed_records_are_gone_at_once_and_for_ever) {
  TestStore t;
  EXPECT(t.open().ok());
  std::vector<uint64_t> ids;
  for (uint64_t n = 1; n <= 12; n++) ids.push_back(t.append(n, 50'000).record.id);
  t.flush();
  EXPECT(t.destroy({ids[0], ids[5], ids[11]}) == StoreStatus::kOk);
  EXPECT(t.destroy({ids[0]}) == StoreStatus::kOk);
  t.kill();
  EXPECT(t.open().ok());
  EXPECT(t.recovered.size() == 9);
  for (const size_t gone : {0, 5, 11}) {
    EXPECT(!t.recovered.count(ids[gone]));
    EXPECT(t.read(ids[gone], gone + 1, 50'000) == StoreStatus::kNotFound);
  }
  EXPECT(t.read(ids[1], 2, 50'000) == StoreStatus::kOk);
}

namespace {

// Random commands, and what must be true of each record whatever happens: durable ones are there, destroyed ones are
// not, and no read ever brings a wrong byte.
struct Model {
  struct Entry {
    uint64_t n = 0, bytes = 0;
    uint32_t region = 0;
    bool durable = false;
    bool dropped = false;  // reclaim was told not to keep it: it may be there or not
    bool destroying = false;
    size_t durable_at = ~size_t{0}, dropped_at = ~size_t{0}, destroy_asked_at = ~size_t{0}, destroyed_at = ~size_t{0};
  };
  TestStore& t;
  Random random;
  std::map<uint64_t, Entry> entries;
  std::set<uint32_t> sealed;
  uint64_t next_n = 1;
  uint64_t operations = 0, reads = 0, reclaims = 0, moved = 0, destroys = 0, written = 0;

  Model(TestStore& store, uint64_t seed) : t(store), random(seed) {}

  void hear() {
    for (const Timed& timed : t.take_events()) {
      const StoreEvent& e = timed.event;
      if (e.kind == StoreEvent::kSealed) sealed.insert(static_cast<uint32_t>(e.number));
      if (e.kind == StoreEvent::kReclaimed && e.status == StoreStatus::kOk)
        sealed.erase(static_cast<uint32_t>(e.number));
      if (e.kind == StoreEvent::kMoved) entries[e.record.id].region = e.record.region, moved++;
      if (e.kind == StoreEvent::kDurable)
        for (auto& [id, entry] : entries)
          if (id <= e.number && !entry.durable) entry.durable = true, entry.durable_at = timed.at;
      if (e.kind == StoreEvent::kLost) entries[e.number].dropped = true;
    }
  }
  void append() {
    const uint64_t n = next_n++;
    const uint64_t bytes = random.below(4) ? random.below(20'000) : random.below(150'000);
    const StoreEvent e =
        t.append(n, bytes, random.below(3) ? RecordKind::kSegment : RecordKind::kPoint, 1 + random.below(4));
    if (e.status == StoreStatus::kNoSpace) return reclaim();
    EXPECT(e.status == StoreStatus::kOk);
    if (e.status != StoreStatus::kOk) return;
    entries[e.record.id] = {n, bytes, e.record.region};
    written++;
  }
  void read() {
    if (entries.empty()) return;
    auto it = std::next(entries.begin(), random.below(static_cast<uint32_t>(entries.size())));
    const StoreStatus status = t.read(it->first, it->second.n, it->second.bytes);
    const bool gone = it->second.dropped || it->second.destroying;
    EXPECT(status == (gone ? StoreStatus::kNotFound : StoreStatus::kOk));
    reads++;
  }
  void reclaim() {
    if (sealed.empty()) return;
    const uint32_t region = *std::next(sealed.begin(), random.below(static_cast<uint32_t>(sealed.size())));
    std::vector<uint64_t> keep;
    const uint32_t share = random.below(4);  // of eight
    const size_t now = t.disk->now();
    for (auto& [id, e] : entries) {
      if (e.region != region || e.dropped || e.destroying) continue;
      if (random.below(8) < share) {
        keep.push_back(id);
      } else {
        e.dropped = true;
        e.dropped_at = std::min(e.dropped_at, now);
      }
    }
    const StoreStatus status = t.reclaim(region, keep);
    EXPECT(status == StoreStatus::kOk);
    reclaims++;
  }
  void destroy() {
    std::vector<uint64_t> ids;
    const size_t now = t.disk->now();
    for (uint32_t i = random.below(4); i > 0 && !entries.empty(); i--) {
      auto it = std::next(entries.begin(), random.below(static_cast<uint32_t>(entries.size())));
      if (it->second.dropped || it->second.destroying) continue;
      ids.push_back(it->first);
      it->second.destroying = true;
      it->second.destroy_asked_at = now;
    }
    EXPECT(t.destroy(ids) == StoreStatus::kOk);
    const size_t done = t.disk->now();
    for (const uint64_t id : ids) entries[id].destroyed_at = done;
    destroys += ids.size();
  }
  void reopen(bool clean) {
    if (clean) {
      t.close();
    } else {
      t.kill();
    }
    hear();
    sealed.clear();
    EXPECT(t.open().ok());
    for (auto& [id, e] : entries) {
      const bool found = t.recovered.count(id) > 0;
      if (found) EXPECT(t.recovered[id].key == key_of(e.n) && t.recovered[id].payload_bytes == e.bytes);
      if (e.destroying) EXPECT(!found);
      if (!e.destroying && !e.dropped) EXPECT(found);
      if (found) e.region = t.recovered[id].region, e.dropped = false;
      if (!found) e.dropped = true;
    }
    for (const auto& [id, record] : t.recovered) EXPECT(entries.count(id));
    hear();
  }
  void check() {
    // Figures are published at the end of a turn of the store's loop; this command's answer comes from a later one.
    EXPECT(t.destroy({}) == StoreStatus::kOk);
    const StoreStats s = t.store->stats();
    uint64_t bytes = 0, records = 0;
    for (const auto& [id, e] : entries) {
      if (e.dropped || e.destroying) continue;
      records++;
      bytes += kPageBytes + round_up(e.bytes, kPageBytes);
    }
    EXPECT_MSG(s.records == records, std::to_string(s.records) + " for " + std::to_string(records));
    EXPECT(s.live_bytes == bytes && s.queued_bytes == 0);
    EXPECT(s.used_bytes <= t.options.max_bytes);
    EXPECT(s.regions_free + s.regions_open + s.regions_sealed == s.regions_total && s.regions_total <= s.regions_limit);
  }
  void step() {
    operations++;
    const uint32_t what = random.below(100);
    if (what < 50) append();
    else if (what < 82) read();
    else if (what < 88) destroy();
    else if (what < 92) reclaim();
    else if (what < 96) t.flush();
    else return;
    hear();
  }
};

}  // namespace

TEST(store_random_operations_agree_with_a_reference_across_restarts) {
  const uint32_t seeds = long_form() ? 40 : 3;
  uint64_t operations = 0, reclaims = 0, moved = 0, reopens = 0;
  for (uint32_t seed = 1; seed <= seeds; seed++) {
    TestStore t;
    t.seed = seed * 1000;
    EXPECT(t.open().ok());
    Model model(t, seed);
    for (int i = 0; i < 1200; i++) {
      model.step();
      if (i % 20 == 19) model.check();
      if (model.random.below(120) == 0) {
        model.reopen(model.random.below(2) == 0);
        model.check();
        reopens++;
      }
      if (!failures().empty()) return fail(__FILE__, __LINE__, "seed " + std::to_string(seed));
    }
    EXPECT(t.wrong_bytes == 0 && t.store->stats().quarantined == 0);
    EXPECT(t.disk->most_bytes + kPageBytes <= t.options.max_bytes);
    operations += model.operations, reclaims += model.reclaims, moved += model.moved;
  }
  fprintf(stderr, "store model: %u seeds, %llu operations, %llu reclaims, %llu moved, %llu reopened\n", seeds,
          static_cast<unsigned long long>(operations), static_cast<unsigned long long>(reclaims),
          static_cast<unsigned long long>(moved), static_cast<unsigned long long>(reopens));
}
