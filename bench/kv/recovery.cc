// How long a start takes to know again what a large directory holds: a sparse image of 32 MiB regions, each with its
// header, its slot in the index, and the records of DeepSeek-V4-Flash (two segments of 4,096 tokens and a point;
// payloads are holes). Prints one JSON line: seconds a TB, records, bytes of memory. Cold: the page cache of both files
// is dropped before the start.
//   bench/kv/recovery.sh [--gib 100] [--io uring|pool]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include "../../native/store/directory.h"
#include "../../native/store/record.h"

using namespace nandu;

namespace {

constexpr uint64_t kRegionBytes = 32u << 20;
constexpr uint64_t kSegmentBytes = 3514ull * 4096, kPointBytes = 3'619'304;

Hash hash_of(uint64_t n) {
  Hash hash{};
  for (size_t i = 0; i < hash.size(); i += 8) {
    n = n * 0x9E3779B97F4A7C15ull + 0x7F4A7C15;
    memcpy(&hash[i], &n, 8);
  }
  return hash;
}

void write_at(int fd, const uint8_t* bytes, size_t size, uint64_t at) {
  NANDU_CHECK(pwrite(fd, bytes, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size));
}

// A record's essentials, as they stand in a slot; its header page is not read by a start that finds the slot.
std::vector<uint8_t> entry_of(uint64_t id, RecordKind kind, const Place& place, uint64_t payload) {
  RecordInfo info;
  info.id = id, info.kind = kind, info.key = hash_of(id), info.payload_bytes = payload;
  info.parent = kind == RecordKind::kPoint ? info.key : Hash{};
  info.from_token = kind == RecordKind::kPoint ? 4096 : 0, info.to_token = 4096;
  if (kind == RecordKind::kSegment) {
    for (uint32_t b = 0; b < 31; b++) info.blocks.push_back(hash_of(id * 100 + b));
    info.blocks.push_back(info.key);
  }
  Reference reference;
  reference.place = place, reference.sequence = id, reference.digest = id, reference.payload_bytes = payload;
  reference.header_bytes = header_bytes_for(payload, info.blocks.size()), reference.kind = kind,
  reference.key = info.key;
  return slot_entry(info, reference);
}

struct Opened {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t records = 0;
  bool done = false;
};

double start(const std::string& directory, uint64_t quota, IoBackend backend, Opened& opened) {
  IoOptions io;
  io.backend = backend;
  auto engine = open_io_engine(io);
  NANDU_CHECK(engine.ok());
  StoreOptions options;
  options.directory = directory, options.max_bytes = quota, options.largest_record = kSegmentBytes + kPageBytes;
  const auto begin = std::chrono::steady_clock::now();
  auto store = Store::open(options, std::move(engine.value()), [&](StoreEvent&& event) {
    std::lock_guard lock(opened.mutex);
    opened.records += event.kind == StoreEvent::kRecovered;
    opened.done |= event.kind == StoreEvent::kRecoveryDone;
    opened.changed.notify_all();
  });
  if (!store.ok()) fprintf(stderr, "%s\n", store.error().message.c_str());
  NANDU_CHECK(store.ok());
  std::unique_lock lock(opened.mutex);
  opened.changed.wait(lock, [&] { return opened.done; });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t gib = 100;
  IoBackend backend = IoBackend::kUring;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--gib")) gib = strtoull(argv[i + 1], nullptr, 10);
    if (!strcmp(argv[i], "--io") && !strcmp(argv[i + 1], "pool")) backend = IoBackend::kPool;
  }
  char name[] = "/var/tmp/nandu-recovery-XXXXXX";
  NANDU_CHECK(mkdtemp(name));
  const std::string directory = name;
  const uint64_t regions = (gib << 30) / kRegionBytes, quota = (gib << 30) + (gib << 30) / 50 + (1u << 30);
  Opened first;
  start(directory, quota, backend, first);  // makes the superblock
  const int superblock = open((directory + "/superblock").c_str(), O_RDONLY);
  std::vector<uint8_t> page(kPageBytes);
  NANDU_CHECK(pread(superblock, page.data(), kPageBytes, 0) == kPageBytes);
  const Superblock fields = *parse_superblock(page.data());
  close(superblock);

  const int data = open((directory + "/data").c_str(), O_RDWR), index = open((directory + "/index").c_str(), O_RDWR);
  NANDU_CHECK(ftruncate(data, static_cast<off_t>(regions * kRegionBytes)) == 0);
  uint64_t id = 1;
  std::vector<uint8_t> slot(kSlotBytes);
  for (uint32_t region = 0; region < regions; region++) {
    const uint64_t epoch = id++;
    RegionHeader header{};
    header.store = fields.store, header.epoch = epoch, header.region_bytes = kRegionBytes, header.region = region;
    header.klass = RegionClass::kSegments;
    write_region_header(header, page.data());
    write_at(data, page.data(), kPageBytes, region * kRegionBytes);
    std::vector<std::vector<uint8_t>> entries;
    uint32_t at = 1;
    for (const RecordKind kind : {RecordKind::kSegment, RecordKind::kPoint, RecordKind::kSegment}) {
      const uint64_t payload = kind == RecordKind::kPoint ? kPointBytes : kSegmentBytes;
      const uint64_t bytes = stored_bytes(header_bytes_for(payload, kind == RecordKind::kPoint ? 0 : 32), payload);
      if (at * kPageBytes + bytes > kRegionBytes) break;
      entries.push_back(entry_of(id++, kind, {epoch, region, at}, payload));
      at += static_cast<uint32_t>(bytes / kPageBytes);
    }
    NANDU_CHECK(write_slot(fields.store, region, epoch, entries, slot.data()));
    write_at(index, slot.data(), kSlotBytes, uint64_t{region} * kSlotBytes);
  }
  for (const int fd : {data, index}) {
    NANDU_CHECK(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    close(fd);
  }
  Opened second;
  const double seconds = start(directory, quota, backend, second);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const double terabytes = static_cast<double>(regions * kRegionBytes) / 1e12;
  printf(
      "{\"bench\":\"kv/recovery\",\"gib\":%llu,\"io\":\"%s\",\"records\":%llu,\"seconds\":%.3f,\"seconds_a_tb\":%.2f,"
      "\"target\":2,\"resident_mb\":%ld}\n",
      static_cast<unsigned long long>(gib), backend == IoBackend::kPool ? "pool" : "uring",
      static_cast<unsigned long long>(second.records), seconds, seconds / terabytes, usage.ru_maxrss / 1024);
  return system(("rm -rf '" + directory + "'").c_str());
}
