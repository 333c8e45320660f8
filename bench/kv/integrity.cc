// What the checksums of a restore cost: the same records are read through the store with the check of their payload and
// without it, in turns, past the page cache. A record is a segment of 4,096 tokens of the medium model; a restore reads
// the segments of 8,192 tokens at once, as the server does. Prints one JSON line: bytes a second and CPU seconds a
// gigabyte of both, the medians of the rounds' ratios, and the checksum alone, in memory.
//   bench/kv/integrity.sh [--rounds 15] [--io uring|pool|mmap] [--dir /var/tmp]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "../../native/store/checksum.h"
#include "../../native/store/record.h"
#include "../../native/store/store.h"

using namespace nandu;

namespace {

constexpr uint64_t kSegmentBytes = 32 * 107'240;  // 32 blocks of 128 tokens at 837.8125 bytes each
constexpr uint32_t kRecords = 64, kAtOnce = 2;    // 131,072 tokens, read 8,192 at a time

double seconds_of(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void fill(uint64_t seed, uint64_t offset, uint8_t* to, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    const uint64_t word = ((offset + i) / 8 + seed) * 0x9E3779B97F4A7C15ull;
    to[i] = static_cast<uint8_t>(word >> (offset + i) % 8 * 8);
  }
}

struct Source final : PayloadSource {
  uint64_t seed;
  explicit Source(uint64_t number) : seed(number) {}
  void copy(uint64_t offset, uint8_t* to, size_t bytes) override { fill(seed, offset, to, bytes); }
};
struct Sink final : PayloadSink {
  uint8_t* rows;
  explicit Sink(uint8_t* to) : rows(to) {}
  void take(uint64_t offset, const uint8_t* from, size_t bytes) override { memcpy(rows + offset, from, bytes); }
};

// Counts events; the store calls it from its own thread.
struct Events {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t recovered = 0, written = 0, read = 0, durable = 0;
  std::vector<RecordInfo> records;

  void operator()(StoreEvent&& event) {
    std::lock_guard lock(mutex);
    if (event.kind == StoreEvent::kRecoveryDone) recovered = 1;
    if (event.kind == StoreEvent::kDurable) durable = event.number;
    if (event.kind == StoreEvent::kWritten || event.kind == StoreEvent::kRead) {
      NANDU_CHECK(event.status == StoreStatus::kOk);
      if (event.kind == StoreEvent::kWritten) records.push_back(event.record);
      (event.kind == StoreEvent::kRead ? read : written)++;
    }
    changed.notify_all();
  }
  template <typename Done>
  void wait(Done done) {
    std::unique_lock lock(mutex);
    changed.wait(lock, done);
  }
};

RecordInfo segment(uint64_t number) {
  RecordInfo info;
  info.payload_bytes = kSegmentBytes;
  info.to_token = 4096;
  info.blocks.resize(32);
  for (size_t b = 0; b < info.blocks.size(); b++) {
    const uint64_t word = number * 32 + b + 1;
    memcpy(info.blocks[b].data(), &word, sizeof word);
  }
  info.key = info.blocks.back();
  return info;
}

struct Pass {
  double seconds, cpu;
};

Pass read_all(Store& store, Events& events, std::vector<uint8_t>& rows, bool is_checked) {
  // No read is under way here, so the store's thread sees the new value with the next command.
  store_test_hooks.checks_off = is_checked ? 0 : kCheckPayloadCrc;
  const double begin = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  const uint64_t before = events.read;
  for (uint64_t done = 0; done < kRecords; done += kAtOnce) {
    for (uint64_t i = done; i < done + kAtOnce; i++) {
      const RecordInfo& record = events.records[i];
      store.read(i, record.id, record.key, {{0, kSegmentBytes}}, IoClass::kDemandKv,
                 std::make_unique<Sink>(rows.data() + (i - done) * kSegmentBytes));
    }
    events.wait([&] { return events.read == before + done + kAtOnce; });
  }
  return {seconds_of(CLOCK_MONOTONIC) - begin, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu};
}

double checksum_bytes_a_second(const std::vector<uint8_t>& bytes) {
  std::vector<double> rates;
  uint32_t all = 0;
  for (int round = 0; round < 25; round++) {
    const double begin = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    for (size_t at = 0; at + kChunkBytes <= bytes.size(); at += kChunkBytes)
      all ^= crc32c(bytes.data() + at, kChunkBytes, static_cast<uint32_t>(round));
    rates.push_back(static_cast<double>(bytes.size() / kChunkBytes * kChunkBytes) /
                    (seconds_of(CLOCK_THREAD_CPUTIME_ID) - begin));
  }
  NANDU_CHECK(all != 1);  // it is used
  return median(rates);
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 15;
  std::string parent = "/var/tmp", backend = "uring";
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--rounds")) rounds = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--io")) backend = argv[i + 1];
    if (!strcmp(argv[i], "--dir")) parent = argv[i + 1];
  }
  std::string directory = parent + "/nandu-integrity-XXXXXX";
  NANDU_CHECK(mkdtemp(directory.data()));
  IoOptions io;
  io.backend = IoBackend::kUring;
  if (backend == "pool") io.backend = IoBackend::kPool;
  if (backend == "mmap") io.backend = IoBackend::kMmap;
  auto engine = open_io_engine(io);
  NANDU_CHECK(engine.ok());
  StoreOptions options;
  options.directory = directory, options.max_bytes = 2ull << 30,
  options.largest_record = kSegmentBytes + 8 * kPageBytes;
  Events events;
  auto opened = Store::open(options, std::move(engine.value()), std::ref(events));
  NANDU_CHECK(opened.ok());
  Store& store = *opened.value();
  events.wait([&] { return events.recovered == 1; });
  for (uint64_t i = 0; i < kRecords; i++) {
    store.append(i, segment(i), std::make_unique<Source>(i));
    events.wait([&] { return events.written == i + 1; });
  }
  store.flush();
  events.wait([&] { return events.durable >= events.records.back().id; });

  std::vector<uint8_t> rows(kAtOnce * kSegmentBytes);
  for (const bool is_checked : {true, false}) read_all(store, events, rows, is_checked);
  std::vector<uint8_t> expected(kSegmentBytes);
  fill(kRecords - 1, 0, expected.data(), expected.size());
  NANDU_CHECK(!memcmp(expected.data(), rows.data() + (kAtOnce - 1) * kSegmentBytes, kSegmentBytes));
  std::vector<double> speed_ratios, checked_cpu, unchecked_cpu, checked_speed, unchecked_speed;
  const double bytes = static_cast<double>(kRecords * kSegmentBytes);
  for (int round = 0; round < rounds; round++) {
    Pass with, without;
    if (round % 2) {
      with = read_all(store, events, rows, true), without = read_all(store, events, rows, false);
    } else {
      without = read_all(store, events, rows, false), with = read_all(store, events, rows, true);
    }
    speed_ratios.push_back(without.seconds / with.seconds);
    checked_speed.push_back(bytes / with.seconds), unchecked_speed.push_back(bytes / without.seconds);
    checked_cpu.push_back(with.cpu / bytes * 1e9), unchecked_cpu.push_back(without.cpu / bytes * 1e9);
  }
  const double alone = checksum_bytes_a_second(rows), loss = 1 - median(speed_ratios);
  printf(
      "{\"bench\":\"kv/integrity\",\"io\":\"%s\",\"rounds\":%d,\"record_bytes\":%llu,\"at_once\":%u,"
      "\"checked\":{\"mb_a_second\":%.0f,\"cpu_seconds_a_gb\":%.3f},"
      "\"unchecked\":{\"mb_a_second\":%.0f,\"cpu_seconds_a_gb\":%.3f},"
      "\"bandwidth_loss\":{\"value\":%.4f,\"target\":0.05,\"met\":%s},"
      "\"checksum_alone\":{\"mb_a_cpu_second\":%.0f,\"ms_of_8192_tokens\":%.3f}}\n",
      backend.c_str(), rounds, static_cast<unsigned long long>(kSegmentBytes), kAtOnce, median(checked_speed) / 1e6,
      median(checked_cpu), median(unchecked_speed) / 1e6, median(unchecked_cpu), loss, loss <= 0.05 ? "true" : "false",
      alone / 1e6, 2 * static_cast<double>(kSegmentBytes) / alone * 1e3);
  opened.value().reset();
  return system(("rm -rf '" + directory + "'").c_str());
}
