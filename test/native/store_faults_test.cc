// The store on a disk that lies: torn, lost, misdirected and stale I/O, flipped bits, errors, full and hung disks
// (kv-store.md 7.3).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_harness.h"

using namespace nandu;
using namespace nandu::test;

TEST(store_a_torn_record_is_never_served_and_harms_no_other) {
  uint32_t states = 0, detected = 0;
  Random random(5);
  constexpr uint64_t kBytes = 5 * kPageBytes - 100;
  for (uint32_t round = 0; round < 6 + 24; round++) {
    TestStore t;
    EXPECT(t.open().ok());
    const auto before = store_some(t, 1, 2);
    std::vector<bool> landed(6);
    for (size_t i = 0; i < 6; i++) landed[i] = round < 6 ? i < round : random.below(2) == 0;
    if (std::find(landed.begin(), landed.end(), false) == landed.end()) landed[2] = false;
    SimFault torn;
    torn.landed = landed;
    fault_once(t, IoOp::kWrite, "data", torn);
    const StoreEvent e = t.append(50, kBytes);
    set_fault(t, nullptr);
    const auto after = store_some(t, 60, 2);
    const bool restart = round % 2;
    if (restart) {
      t.kill();
      EXPECT(t.open().ok());
    }
    const StoreStatus status = t.read(e.record.id, 50, kBytes);
    EXPECT(status == StoreStatus::kCorrupt || (restart && status == StoreStatus::kNotFound));
    EXPECT(read_all(t, before).ok == 2 && read_all(t, after).ok == 2 && t.wrong_bytes == 0);
    states++, detected += status != StoreStatus::kOk;
  }
  EXPECT(states == detected);
}

TEST(store_starts_with_any_copies_of_the_superblock_gone) {
  for (uint32_t gone = 0; gone < 16; gone++) {
    for (const uint8_t garbage : {0x00, 0xff, 0x5a}) {
      TestStore t;
      EXPECT(t.open().ok());
      const auto all = store_some(t, 1, 6);
      t.close();
      for (uint32_t copy = 0; copy < 4; copy++)
        if (gone >> copy & 1) overwrite(t, "superblock", copy, [&](uint8_t* p) { memset(p + 8, garbage, 2000); });
      EXPECT(t.open().ok());
      EXPECT(read_all(t, all).ok == all.size());
      // No id comes twice, even when nobody remembers which were given out.
      EXPECT(t.append(90, 100).record.id > all.back().id);
    }
  }
}

TEST(store_damage_to_index_and_region_headers_costs_at_most_that_region) {
  for (uint32_t round = 0; round < 12; round++) {
    TestStore t;
    EXPECT(t.open().ok());
    const auto all = store_some(t, 1, 30);
    t.close();
    const bool header = round >= 8;
    const uint32_t region = all[0].region;
    const auto spoil = [&](uint8_t* p) {
      for (uint32_t i = 0; i < kPageBytes; i++) p[i] = round % 4 == 0 ? 0xff : static_cast<uint8_t>(p[i] + round + i);
    };
    if (header) {
      if (round % 2)
        for (uint64_t p = 0; p < t.disk->files["index"].pages.size(); p++) overwrite(t, "index", p, spoil);
      overwrite(t, "data", uint64_t{region} * (256u << 10) / kPageBytes, spoil);
    } else if (round < 4) {
      overwrite(t, "index", uint64_t{region} * kSlotBytes / kPageBytes + round, spoil);
    } else {
      for (uint64_t p = 0; p < t.disk->files["index"].pages.size(); p++) overwrite(t, "index", p, spoil);
    }
    EXPECT(t.open().ok());
    const ReadCounts counts = read_all(t, all);
    uint32_t in_region = 0;
    for (const Stored& s : all) in_region += s.region == region;
    EXPECT(counts.corrupt == 0 && counts.other == 0);
    // A slot speaks for its region; without it, the header's loss is the region's.
    const bool gone = header && round % 2;
    EXPECT(counts.not_found == (gone ? in_region : 0));
    EXPECT(t.store->stats().quarantined == (gone ? 1 : 0));
    EXPECT(t.append(99, 1000).status == StoreStatus::kOk && t.wrong_bytes == 0);
  }
}

TEST(store_headers_know_every_flipped_bit) {
  Tag store{};
  store[3] = 9;
  std::vector<uint8_t> bytes(kSlotBytes);
  uint64_t flips = 0, missed = 0;
  const auto each_bit = [&](size_t size, size_t step, const std::function<bool()>& accepted) {
    EXPECT(accepted());
    for (size_t bit = 0; bit < size * 8; bit += step) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      missed += accepted();
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      flips++;
    }
  };
  RecordInfo info;
  info.id = 77, info.key = key_of(1), info.payload_bytes = 100'000, info.blocks = {key_of(2), key_of(1)};
  Reference ref;
  ref.place = {5, 3, 7}, ref.header_bytes = kPageBytes, ref.payload_bytes = 100'000, ref.sequence = 9;
  write_record_header(info, store, {1, 2}, ref, bytes.data());
  FoundRecord found;
  each_bit(kPageBytes, 1, [&] {
    return parse_record_header(bytes.data(), kPageBytes, store, ref.place, 1 << 20, found) == HeaderCheck::kOk;
  });
  RegionHeader region{};
  region.store = store, region.epoch = 5, region.region = 3, region.klass = RegionClass::kPoints;
  write_region_header(region, bytes.data());
  each_bit(kPageBytes, 1, [&] { return parse_region_header(bytes.data()).has_value(); });
  region.klass = static_cast<RegionClass>(200);  // with a checksum that is right
  write_region_header(region, bytes.data());
  EXPECT(!parse_region_header(bytes.data()));
  Superblock super{};
  super.store = store, super.region_bytes = 1 << 20;
  write_superblock(super, bytes.data());
  each_bit(kPageBytes, 1, [&] { return parse_superblock(bytes.data()).has_value(); });
  EXPECT(write_slot(store, 3, 5, {slot_entry(info, ref), slot_entry(info, ref)}, bytes.data()));
  std::vector<FoundRecord> records;
  uint64_t epoch = 0;
  each_bit(kSlotBytes, 5, [&] { return parse_slot(bytes.data(), store, 3, 1 << 20, epoch, records); });
  EXPECT_MSG(missed == 0, std::to_string(missed) + " of " + std::to_string(flips));
  fprintf(stderr, "store flipped bits of headers: %llu, undetected %llu\n", static_cast<unsigned long long>(flips),
          static_cast<unsigned long long>(missed));
}

TEST(store_flipped_bits_and_spoilt_pages_on_the_disk_are_found_where_they_are) {
  Random random(11);
  uint32_t spoilt_all = 0;
  for (uint32_t round = 0; round < 24; round++) {
    TestStore t;
    EXPECT(t.open().ok());
    const auto all = store_some(t, 1, 24);
    std::set<size_t> spoilt;
    if (round % 2) t.close();
    for (uint32_t i = 0; i < 6; i++) {
      const size_t victim = random.below(24), other = random.below(24);
      if (!spoilt.insert(victim).second) continue;
      const uint64_t page = page_of(t, all[victim]);
      const uint64_t pages = 1 + (all[victim].bytes + kPageBytes - 1) / kPageBytes;
      const uint64_t target = page + random.below(static_cast<uint32_t>(pages));
      switch (round / 2 % 6) {
        case 0: flip(t, "data", target * kPageBytes + random.below(kPageBytes), random.below(8)); break;
        case 1: overwrite(t, "data", target, [](uint8_t* p) { memset(p, 0, kPageBytes); }); break;
        case 2: overwrite(t, "data", target, [](uint8_t* p) { memset(p, 0xff, kPageBytes); }); break;
        case 3:  // bytes in the wrong order
          overwrite(t, "data", target, [](uint8_t* p) {
            for (uint32_t b = 0; b + 1 < kPageBytes; b += 2) std::swap(p[b], p[b + 1]);
            p[0] ^= 1;
          });
          break;
        case 4: {  // the page before once more
          uint8_t copy[kPageBytes];
          overwrite(t, "data", target - 1, [&](uint8_t* p) { memcpy(copy, p, kPageBytes); });
          overwrite(t, "data", target, [&](uint8_t* p) { memcpy(p, copy, kPageBytes); });
          break;
        }
        default: {  // another record's valid header
          if (other == victim) {
            spoilt.erase(victim);
            continue;
          }
          const uint64_t source = page_of(t, all[other]);
          uint8_t copy[kPageBytes];
          overwrite(t, "data", source, [&](uint8_t* p) { memcpy(copy, p, kPageBytes); });
          overwrite(t, "data", page, [&](uint8_t* p) { memcpy(p, copy, kPageBytes); });
        }
      }
      if (round / 2 % 6 == 5) break;  // one a round: afterwards two headers carry the same id
    }
    if (round % 2) EXPECT(t.open().ok());
    for (size_t i = 0; i < all.size(); i++) {
      const StoreStatus status = t.read(all[i].id, all[i].n, all[i].bytes);
      EXPECT_MSG(status == (spoilt.count(i) ? StoreStatus::kCorrupt : StoreStatus::kOk),
                 "round " + std::to_string(round) + ", record " + std::to_string(i));
    }
    EXPECT(t.wrong_bytes == 0);
    t.destroy({});
    EXPECT(t.store->stats().quarantined == spoilt.size());
    spoilt_all += static_cast<uint32_t>(spoilt.size());
  }
  fprintf(stderr, "store spoilt records: %u, all found\n", spoilt_all);
}

TEST(store_misdirected_and_lost_writes_are_never_served) {
  for (const int64_t by : {-7, -3, -1, 1, 2, 5, 0}) {
    for (const bool restart : {false, true}) {
      TestStore t;
      EXPECT(t.open().ok());
      auto all = store_some(t, 1, 8, 9000);
      SimFault fault;
      fault.misdirect = by, fault.lost = by == 0;
      fault_once(t, IoOp::kWrite, "data", fault);
      const StoreEvent e = t.append(50, 9000);
      set_fault(t, nullptr);
      const auto later = store_some(t, 60, 3, 9000);
      if (restart) {
        t.kill();
        EXPECT(t.open().ok());
      }
      EXPECT(t.read(e.record.id, 50, 9000) != StoreStatus::kOk);
      // What it fell upon is refused too; the rest is well.
      EXPECT(read_all(t, all).ok >= 6 && read_all(t, later).ok >= 2 && t.wrong_bytes == 0);
    }
  }
}

TEST(store_misdirected_and_stale_reads_are_never_served) {
  TestStore t;
  EXPECT(t.open().ok());
  uint32_t refused = 0;
  for (const int64_t by : {-4, 4, 8, -8, 1, -1}) {
    const auto all = store_some(t, 100 + static_cast<uint64_t>(by), 8, 3 * kPageBytes);
    SimFault fault;
    fault.misdirect = by;
    fault_once(t, IoOp::kRead, "data", fault);
    const StoreStatus status = t.read(all[3].id, all[3].n, all[3].bytes);
    EXPECT(status == StoreStatus::kCorrupt);
    refused += status == StoreStatus::kCorrupt;
    set_fault(t, nullptr);
    EXPECT(read_all(t, all).ok == 7);
  }
  // An earlier use of the same region, where another record of the same size began on the same page.
  const SimFiles old = t.disk->snapshot();
  for (uint32_t region = 0; region < 12; region++) t.reclaim(region, {});
  std::vector<Stored> fresh;
  for (uint64_t n = 500; n < 560; n++) {
    const StoreEvent e = t.append(n, 3 * kPageBytes);
    if (e.status == StoreStatus::kOk) fresh.push_back({e.record.id, n, 3 * kPageBytes, e.record.region});
  }
  SimFault stale;
  stale.stale = &old;
  set_fault(t, [stale](const IoRequest& r, const std::string&) { return r.op == IoOp::kRead ? stale : SimFault{}; });
  const ReadCounts counts = read_all(t, fresh);
  EXPECT(counts.corrupt == fresh.size() && fresh.size() >= 40 && t.wrong_bytes == 0);
  set_fault(t, nullptr);
  fprintf(stderr, "store misdirected reads refused: %u, stale reads refused: %u\n", refused, counts.corrupt);
}

TEST(store_a_device_that_cannot_read_costs_a_read_and_not_the_record) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto all = store_some(t, 1, 5);
  SimFault eio;
  eio.error = -EIO;
  fault_once(t, IoOp::kRead, "data", eio);
  EXPECT(t.read(all[2].id, all[2].n, all[2].bytes) == StoreStatus::kIoError);
  EXPECT(read_all(t, all).ok == 5);
}

TEST(store_records_that_were_cut_off_are_forgotten_and_not_taken_for_a_device_that_fails) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto all = store_some(t, 1, 5);
  const uint64_t end = page_of(t, all[2]) + 1;  // its header stays
  {
    std::lock_guard lock(t.disk->mutex);
    t.disk->files["data"].pages.resize(end);
  }
  for (const Stored& s : all) {
    const bool is_cut = page_of_or(t, s, end) >= end - 1;
    EXPECT(t.read(s.id, s.n, s.bytes) == (is_cut ? StoreStatus::kCorrupt : StoreStatus::kOk));
    EXPECT(t.read(s.id, s.n, s.bytes) == (is_cut ? StoreStatus::kNotFound : StoreStatus::kOk));
  }
  const auto fresh = store_some(t, 11, 3);
  EXPECT(read_all(t, fresh).ok == 3);
}

TEST(store_after_a_failed_write_or_sync_says_what_is_lost_and_goes_on) {
  for (const bool sync_fails : {false, true}) {
    TestStore t;
    EXPECT(t.open().ok());
    const auto durable = store_some(t, 1, 4, 20'000);
    const uint64_t doubtful = t.append(10, 20'000).record.id;
    SimFault eio;
    eio.error = -EIO;
    fault_once(t, sync_fails ? IoOp::kSync : IoOp::kWrite, "data", eio);
    if (sync_fails) {
      t.flush();
      EXPECT(t.count(StoreEvent::kLost) == 1);
    } else {
      EXPECT(t.append(11, 20'000).status == StoreStatus::kIoError);
      EXPECT(t.count(StoreEvent::kLost) == 1);
    }
    EXPECT(t.read(doubtful, 10, 20'000) == StoreStatus::kNotFound);
    EXPECT(read_all(t, durable).ok == durable.size());
    for (const Timed& e : t.events_now()) {
      if (e.event.kind == StoreEvent::kDurable) EXPECT(e.event.number < doubtful);
      if (e.event.kind == StoreEvent::kLost) EXPECT(e.event.number == doubtful);
      if (e.event.kind == StoreEvent::kHealth) EXPECT(e.event.status == StoreStatus::kIoError && !e.event.text.empty());
    }
    // While it pauses it says so at once; it finds out by itself that the disk is well again.
    EXPECT(t.append(12, 100).status == StoreStatus::kIoError);
    t.wait_for(StoreEvent::kHealth, 2);
    EXPECT(t.append(13, 20'000).status == StoreStatus::kOk);
    t.flush();
    EXPECT(t.destroy({}) == StoreStatus::kOk);
    t.kill();
    EXPECT(t.open().ok());
    EXPECT(t.recovered.size() == durable.size() + 1 && !t.recovered.count(doubtful));
  }
}

TEST(store_destroy_on_a_disk_that_cannot_be_written_hides_at_once_and_is_done_later) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto all = store_some(t, 1, 4);
  set_fault(t, [](const IoRequest& r, const std::string&) {
    SimFault f;
    if (r.op != IoOp::kRead) f.error = -EROFS;
    return f;
  });
  const StoreStatus status = t.destroy({all[1].id});
  EXPECT(status == StoreStatus::kIoError || status == StoreStatus::kReadOnly);
  EXPECT(t.read(all[1].id, all[1].n, all[1].bytes) == StoreStatus::kNotFound);
  EXPECT(t.read(all[2].id, all[2].n, all[2].bytes) == StoreStatus::kOk);
  set_fault(t, nullptr);
  t.wait_for(StoreEvent::kHealth, 2);
  EXPECT(t.destroy({}) == StoreStatus::kOk);
  t.kill();
  EXPECT(t.open().ok());
  EXPECT(t.recovered.size() == 3 && !t.recovered.count(all[1].id));
}

TEST(store_a_full_disk_stops_growth_and_nothing_else) {
  TestStore t;
  EXPECT(t.open().ok());
  {
    std::lock_guard lock(t.disk->mutex);
    t.disk->full_at = 5 * (256u << 10) + 64 * 1024 + 5 * kSlotBytes;
  }
  std::vector<Stored> all;
  StoreStatus last = StoreStatus::kOk;
  for (uint64_t n = 1; n < 100 && last == StoreStatus::kOk; n++) {
    const StoreEvent e = t.append(n, 50'000);
    last = e.status;
    if (last == StoreStatus::kOk) all.push_back({e.record.id, n, 50'000, e.record.region});
  }
  EXPECT(last == StoreStatus::kNoSpace && t.count(StoreEvent::kHealth) == 1);
  EXPECT(read_all(t, all).ok == all.size());
  // Nothing is free for what a reclaim keeps; without keeping, regions come free, and the second is for appends.
  EXPECT(t.reclaim(0, {all[0].id}) == StoreStatus::kNoSpace);
  EXPECT(t.read(all[0].id, 1, 50'000) == StoreStatus::kOk);
  EXPECT(t.reclaim(0, {}) == StoreStatus::kOk && t.reclaim(1, {}) == StoreStatus::kOk);
  EXPECT(t.append(200, 50'000).status == StoreStatus::kOk);
  {
    std::lock_guard lock(t.disk->mutex);
    t.disk->full_at = ~0ull;
  }
  t.wait_for(StoreEvent::kHealth, 2);
  for (uint64_t n = 300; n < 312; n++) EXPECT(t.append(n, 50'000).status == StoreStatus::kOk);
}

TEST(store_a_file_system_that_keeps_whoever_asks_for_room_keeps_nobody_else) {
  TestStore t;
  EXPECT(t.open().ok());
  const StoreEvent first = t.append(1, 50'000), second = t.append(2, 50'000);
  EXPECT(first.status == StoreStatus::kOk && second.status == StoreStatus::kOk);
  {
    std::lock_guard lock(t.disk->mutex);
    t.disk->hangs_when_growing = true;
  }
  // A point wants a region of its own class.
  t.append_later(3, 20'000, RecordKind::kPoint);
  EXPECT(t.read(first.record.id, 1, 50'000) == StoreStatus::kOk);
  EXPECT(t.destroy({second.record.id}) == StoreStatus::kOk);
  EXPECT(t.read(first.record.id, 1, 50'000) == StoreStatus::kOk);
  t.close();
  {
    std::lock_guard lock(t.disk->mutex);
    t.disk->hangs_when_growing = false;
  }
  EXPECT(t.open().ok());
  EXPECT(t.read(first.record.id, 1, 50'000) == StoreStatus::kOk);
  EXPECT(t.append(4, 20'000, RecordKind::kPoint).status == StoreStatus::kOk);
}

TEST(store_never_passes_its_quota_whatever_is_pushed_into_it) {
  TestStore t;
  EXPECT(t.open().ok());
  uint64_t written = 0;
  uint32_t victim = 0, refused = 0;
  std::deque<uint64_t> recent;
  for (uint64_t n = 1; written < 3 * TestStore::kQuota; n++) {
    const StoreEvent e = t.append(n, 10'000 + n * 7919 % 90'000);
    if (e.status == StoreStatus::kOk) {
      written += e.record.stored_bytes;
      recent.push_back(e.record.id);
      if (recent.size() > 10) recent.pop_front();
      continue;
    }
    EXPECT(e.status == StoreStatus::kNoSpace);
    refused++;
    t.reclaim(victim++ % 12, {recent.begin(), recent.end()});
  }
  EXPECT(refused > 12);
  EXPECT(t.disk->most_bytes + (64u << 10) <= t.options.max_bytes + 4 * kPageBytes);
  EXPECT(t.store->stats().used_bytes <= t.options.max_bytes);
  fprintf(stderr, "store quota %llu, most on disk %llu, written %llu\n",
          static_cast<unsigned long long>(t.options.max_bytes), static_cast<unsigned long long>(t.disk->most_bytes),
          static_cast<unsigned long long>(written));
}

TEST(store_a_cancelled_read_is_over_though_the_device_still_writes_into_its_buffer) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto all = store_some(t, 1, 12, 40'000);
  SimFault hang;
  hang.hang = true;
  fault_once(t, IoOp::kRead, "data", hang);
  auto result = std::make_shared<ReadResult>();
  const uint64_t ticket = t.read_later(all[0].id, key_of(all[0].n), {{0, 40'000}}, result);
  // A later read is not held up, and the region is not free while the device may still read from it.
  EXPECT(t.read(all[1].id, all[1].n, 40'000) == StoreStatus::kOk);
  t.cancel(ticket);
  EXPECT(t.answer(ticket).status == StoreStatus::kCancelled && result->bytes == 0);
  const uint64_t reclaim = t.reclaim_later(all[0].region, {});
  for (int i = 0; i < 400; i++) t.destroy({});
  EXPECT(!t.answered(reclaim));
  EXPECT(t.read(all[11].id, all[11].n, 40'000) == StoreStatus::kOk || all[11].region == all[0].region);
  t.close();
  EXPECT(t.answer(reclaim).status == StoreStatus::kCancelled && result->bytes == 0 && result->late == 0);
}

TEST(store_a_cancelled_append_is_over_though_those_before_it_hang_and_its_source_is_left_alone) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto before = store_some(t, 1, 2);
  set_fault(t, [](const IoRequest& r, const std::string& name) {
    SimFault fault;
    fault.hang = r.op == IoOp::kWrite && name == "data";
    return fault;
  });
  // More than the buffers hold: the first are on their way, the last have not begun.
  std::vector<uint64_t> tickets;
  for (uint64_t n = 100; n < 400; n++) tickets.push_back(t.append_later(n, 190'000));
  while (t.count(StoreEvent::kGathered) < 4) t.destroy({});
  size_t cancelled = 0;
  for (const uint64_t ticket : tickets) t.cancel(ticket);
  t.read(before[0].id, before[0].n, before[0].bytes);  // behind the cancels
  for (const uint64_t ticket : tickets) cancelled += t.answered(ticket);
  const size_t gathered = t.count(StoreEvent::kGathered) - before.size();
  // One may wait half-way for a buffer; all others are either copied or given up.
  EXPECT(cancelled + gathered + 1 >= tickets.size() && cancelled > 200 && gathered < 100);
  for (const uint64_t ticket : tickets)
    if (t.answered(ticket)) EXPECT(t.answer(ticket).status == StoreStatus::kCancelled);
  EXPECT(!t.answered(tickets[0]));
  const uint64_t queued = t.store->stats().queued_bytes;
  EXPECT(queued <= (tickets.size() - cancelled) * 190'000);
  t.kill();
  set_fault(t, nullptr);
  EXPECT(t.open().ok());
  EXPECT(read_all(t, before).ok == before.size());
}

TEST(store_directory_belongs_to_one_process_and_others_are_refused_by_name) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto second =
      Store::open(t.options, std::make_unique<SimIo>(std::make_shared<SimDisk>(), 1), [](StoreEvent&&) {});
  EXPECT(!second.ok() && second.error().code == Code::kBusy);
  if (!second.ok()) {
    EXPECT(second.error().message.find(std::to_string(getpid())) != std::string::npos);
    EXPECT(second.error().message.find(t.options.directory) != std::string::npos);
  }
  // A lock file that looks left over is what operators remove first.
  EXPECT(unlink((t.options.directory + "/lock").c_str()) == 0);
  const auto third =
      Store::open(t.options, std::make_unique<SimIo>(std::make_shared<SimDisk>(), 1), [](StoreEvent&&) {});
  EXPECT(!third.ok() && third.error().code == Code::kBusy);
  EXPECT(third.ok() || third.error().message.find(t.options.directory) != std::string::npos);
  struct stat st;
  EXPECT(stat((t.options.directory + "/secret").c_str(), &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_size == 32);
  const Hash secret = t.store->secret();
  t.close();
  EXPECT(t.open().ok() && t.store->secret() == secret);

  TestStore foreign;
  const std::string file = foreign.options.directory + "/thesis.txt";
  const int fd = creat(file.c_str(), 0600);
  EXPECT(fd >= 0 && write(fd, "x", 1) == 1);
  ::close(fd);
  const Status refused = foreign.open();
  EXPECT(!refused.ok() && refused.error().code == Code::kIo &&
         refused.error().message.find("thesis.txt") != std::string::npos);
  EXPECT(access((foreign.options.directory + "/lock").c_str(), F_OK) != 0);
}

TEST(store_readers_share_the_directory_keep_writers_out_and_leave_no_name) {
  TestStore t;
  EXPECT(t.open().ok());
  const std::string lock = t.options.directory + "/lock";
  const auto owner = [&lock] {
    char text[32] = {};
    const int fd = open(lock.c_str(), O_RDONLY);
    EXPECT(fd >= 0 && pread(fd, text, sizeof text - 1, 0) > 0);
    close(fd);
    return std::string(text);
  };
  StoreOptions read = t.options;
  read.read_only = true;
  const auto open_reader = [&](const StoreOptions& options) {
    return Store::open(options, std::make_unique<SimIo>(t.disk, 9), [](StoreEvent&&) {});
  };
  const auto refused = open_reader(read);
  EXPECT(!refused.ok() && refused.error().code == Code::kBusy &&
         refused.error().message.find(std::to_string(getpid())) != std::string::npos);
  t.close();
  EXPECT(truncate(lock.c_str(), 0) == 0);
  const int fd = open(lock.c_str(), O_WRONLY);
  EXPECT(fd >= 0 && write(fd, "7\n", 2) == 2);
  close(fd);
  {
    const auto one = open_reader(read), two = open_reader(read);
    EXPECT(one.ok() && two.ok());
    EXPECT(owner() == "7\n");
    const Status writer = t.open();
    EXPECT(!writer.ok() && writer.error().code == Code::kBusy &&
           writer.error().message.find("reads it") != std::string::npos);
  }
  EXPECT(unlink(lock.c_str()) == 0);
  {
    const auto reader = open_reader(read);
    EXPECT(reader.ok() && access(lock.c_str(), F_OK) != 0);
  }
  EXPECT(t.open().ok());
  EXPECT(owner() == std::to_string(getpid()) + "\n");
}

TEST(store_quota_too_small_names_the_minimum_and_the_minimum_opens) {
  TestStore t;
  t.options.max_bytes = 1 << 20;
  const Status refused = t.open();
  const uint64_t minimum = minimum_quota(t.options.largest_record);
  EXPECT(!refused.ok() && refused.error().code == Code::kInvalidArgument &&
         refused.error().message.find(std::to_string(minimum)) != std::string::npos);
  t.options.max_bytes = minimum - 1;
  EXPECT(!t.open().ok());
  t.options.max_bytes = minimum;
  EXPECT(t.open().ok() && t.store->stats().regions_limit == 8);
}

TEST(store_smaller_quota_or_larger_records_drop_what_does_not_fit_and_start) {
  TestStore t;
  EXPECT(t.open().ok());
  std::vector<Stored> all;
  for (uint64_t n = 1; n <= 44; n++) {
    const StoreEvent e = t.append(n, 50'000);
    if (e.status == StoreStatus::kOk) all.push_back({e.record.id, n, 50'000, e.record.region});
  }
  t.close();
  t.options.max_bytes = minimum_quota(t.options.largest_record);
  EXPECT(t.open().ok());
  uint32_t kept = 0;
  for (const Stored& s : all) kept += s.region < 8;
  EXPECT(read_all(t, all).ok == kept && kept > 0 && t.store->stats().used_bytes <= t.options.max_bytes);
  t.close();
  // Another model, whose records do not fit these regions.
  t.options.largest_record = 600u << 10;
  t.options.max_bytes = minimum_quota(t.options.largest_record);
  EXPECT(t.open().ok());
  EXPECT(t.recovered.empty() && t.append(1, 500'000).status == StoreStatus::kOk);
  EXPECT(t.append(2, 5'000'000).status == StoreStatus::kNoSpace);
}

TEST(store_opened_to_read_changes_nothing) {
  TestStore t;
  EXPECT(t.open().ok());
  const auto all = store_some(t, 1, 10);
  t.kill();
  flip(t, "data", (page_of(t, all[4]) + 1) * kPageBytes, 3);
  const SimFiles before = t.disk->snapshot();
  t.options.read_only = true;
  EXPECT(t.open().ok());
  const ReadCounts counts = read_all(t, all);
  EXPECT(counts.ok == 9 && counts.corrupt == 1);
  EXPECT(t.append(77, 10).status == StoreStatus::kReadOnly);
  EXPECT(t.reclaim(0, {}) == StoreStatus::kReadOnly && t.destroy({all[0].id}) == StoreStatus::kReadOnly);
  t.close();
  bool same = true;
  for (const auto& [name, file] : before) same = same && t.disk->files[name].pages == file.pages;
  EXPECT(same);
}

TEST(store_reads_of_two_records_whose_short_keys_are_equal_are_never_confused) {
  TestStore t;
  EXPECT(t.open().ok());
  // An index that looks at 8 bits of the key, as with a broken hash: the last record with those bits wins.
  std::map<uint8_t, Stored> index;
  std::vector<Stored> all;
  for (uint64_t n = 1; n <= 300; n++) {
    const StoreEvent e = t.append(n, 200);
    if (e.status != StoreStatus::kOk) break;
    all.push_back({e.record.id, n, 200, e.record.region});
    index[key_of(n)[0]] = all.back();
  }
  uint32_t confused = 0;
  for (const Stored& s : all) {
    const Stored& hit = index[key_of(s.n)[0]];
    const StoreStatus status = t.read(hit.id, s.n, 200);
    confused += hit.id != s.id;
    EXPECT(status == (hit.id == s.id ? StoreStatus::kOk : StoreStatus::kNotFound));
  }
  EXPECT(confused > 20 && t.wrong_bytes == 0);
}
