// Is each check in the store needed? Each is switched off in turn, and something must be seen to go wrong
// (kv-store.md 7.3, test 48). The syncs are switched off in store_crash_test.cc.
//
// A scenario returns true when everything it says is right. With its check on it must, with its check off it must not.

#include "../../native/store/checksum.h"
#include "store_harness.h"

using namespace nandu;
using namespace nandu::test;

namespace {

uint32_t scenario_checks_off = 0;

bool other_version_of_a_record_is_refused() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 3, 9000);
  // Another payload under the same id, key, place and epoch, with right checksums: what an older version would be.
  const uint64_t page = page_of(t, all[1]);
  FoundRecord found;
  std::vector<uint8_t> header(kPageBytes);
  overwrite(t, "data", page, [&](uint8_t* p) { memcpy(header.data(), p, kPageBytes); });
  const auto fields = *reinterpret_cast<const RecordHeader*>(header.data());
  const Place place{fields.epoch, fields.region, fields.page};
  parse_record_header(header.data(), kPageBytes, fields.store, place, 256u << 10, found);
  std::vector<uint8_t> payload(3 * kPageBytes, 0xab);
  write_record_header(found.info, fields.store, {crc32c(payload.data(), payload.size())}, found.reference,
                      header.data());
  overwrite(t, "data", page, [&](uint8_t* p) { memcpy(p, header.data(), kPageBytes); });
  for (uint64_t i = 0; i < 3; i++) overwrite(t, "data", page + 1 + i, [](uint8_t* p) { memset(p, 0xab, kPageBytes); });
  return t.read(all[1].id, all[1].n, 9000) == StoreStatus::kCorrupt && t.wrong_bytes == 0;
}

bool what_a_start_finds_is_what_was_written(const std::function<void(TestStore&, const Stored&)>& spoil) {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 12, 40'000);
  t.close();
  spoil(t, all[0]);
  NANDU_CHECK(t.open().ok());
  for (const auto& [id, info] : t.recovered)
    if (info.key != key_of(info.created_ms) || info.to_token != 256) return false;
  return true;
}

bool flipped_header_is_not_recovered() {
  return what_a_start_finds_is_what_was_written([](TestStore& t, const Stored& s) {
    flip(t, "data", page_of(t, s) * kPageBytes + offsetof(RecordHeader, to_token), 2);
    for (uint64_t p = 0; p < t.disk->files["index"].pages.size(); p++)
      overwrite(t, "index", p, [](uint8_t* bytes) { memset(bytes, 0, kPageBytes); });
  });
}

bool flipped_slot_is_not_recovered() {
  return what_a_start_finds_is_what_was_written([](TestStore& t, const Stored& s) {
    flip(t, "index", uint64_t{s.region} * kSlotBytes + sizeof(SlotHeader) + offsetof(SlotEntry, to_token), 2);
  });
}

bool flipped_payload_is_not_served() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 3, 9000);
  flip(t, "data", (page_of(t, all[1]) + 1) * kPageBytes + 77, 6);
  return read_all(t, all).ok == 2 && t.wrong_bytes == 0;
}

bool another_key_is_not_served() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 3, 9000);
  return t.read(all[1].id, all[2].n, 9000) == StoreStatus::kNotFound && t.wrong_bytes == 0;
}

// Records of the region's earlier use lie behind the new ones, and their slot is still in the index.
bool earlier_use_of_a_region_is_not_recovered() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 40, 40'000);
  std::set<uint32_t> freed;
  for (uint32_t region = 0; region < 12; region++)
    if (t.reclaim(region, {}) == StoreStatus::kOk) freed.insert(region);
  // One of them is used again, with a few short records in front of the old ones.
  uint32_t again = 0;
  for (uint64_t n = 100; again < 2 && n < 300; n++) again += freed.count(t.append(n, 100).record.region);
  t.flush();
  t.kill();
  NANDU_CHECK(t.open().ok());
  for (const Stored& s : all)
    if (freed.count(s.region) && t.recovered.count(s.id)) return false;
  return !freed.empty();
}

bool destroyed_is_not_in_the_index() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 12, 40'000);
  t.close();
  NANDU_CHECK(t.open().ok());
  if (t.destroy({all[0].id}) != StoreStatus::kOk) return false;
  t.kill();
  NANDU_CHECK(t.open().ok());
  return !t.recovered.count(all[0].id);
}

bool region_that_is_read_is_not_free() {
  TestStore t;
  store_test_hooks.checks_off = scenario_checks_off;
  NANDU_CHECK(t.open().ok());
  const auto all = store_some(t, 1, 12, 40'000);
  SimFault hang;
  hang.hang = true;
  fault_once(t, IoOp::kRead, "data", hang);
  t.read_later(all[0].id, key_of(all[0].n), {{0, 40'000}}, std::make_shared<ReadResult>());
  const uint64_t ticket = t.reclaim_later(all[0].region, {});
  for (int i = 0; i < 400 && !t.answered(ticket); i++) t.destroy({});
  return !t.answered(ticket);
}

}  // namespace

TEST(store_each_check_switched_off_is_noticed) {
  const struct {
    const char* name;
    uint32_t check;
    bool (*holds)();
  } mutants[] = {
      {"digest in the reference", kCheckDigest, other_version_of_a_record_is_refused},
      {"header checksum", kCheckHeaderCrc, flipped_header_is_not_recovered},
      {"payload checksum", kCheckPayloadCrc, flipped_payload_is_not_served},
      {"key", kCheckKey, another_key_is_not_served},
      {"epoch and place of a header", kCheckPlace, earlier_use_of_a_region_is_not_recovered},
      {"slots of freed regions", kCheckSlotErased, earlier_use_of_a_region_is_not_recovered},
      {"slot checksum", kCheckSlotCrc, flipped_slot_is_not_recovered},
      {"slots of destroyed records", kCheckSlotErased, destroyed_is_not_in_the_index},
      {"regions that are read", kCheckPins, region_that_is_read_is_not_free},
  };
  for (const auto& mutant : mutants) {
    scenario_checks_off = 0;
    EXPECT_MSG(mutant.holds(), std::string(mutant.name) + ": fails with the check on");
    scenario_checks_off = mutant.check;
    EXPECT_MSG(!mutant.holds(), std::string(mutant.name) + ": nobody noticed that it was off");
    scenario_checks_off = 0;
  }
}
