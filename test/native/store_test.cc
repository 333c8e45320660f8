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
