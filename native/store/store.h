// The KV store on SSD: append-only records in preallocated regions of one data file. Mechanism only: TypeScript
// (src/kv/) decides what is stored, which region is reclaimed and what survives it. Knows nothing of models: payloads
// are bytes that a source hands out and a sink takes in. Design: ../shared/design/kv-store.md 3, docs/formats.md.
//
// All methods may be called from any thread and return at once; work runs on the store's own thread over an IoEngine,
// and every command is answered by exactly one event with its ticket (kWritten is followed by kDurable or kLost).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../base/status.h"
#include "../io/io_engine.h"

namespace nandu {

using Hash = std::array<uint8_t, 32>;
using Tag = std::array<uint8_t, 16>;

enum class RecordKind : uint16_t { kSegment = 1, kPoint = 2 };

// What is known of a record without its payload; all of it lies in the record's header, under its checksum.
struct RecordInfo {
  uint64_t id = 0;  // given by the store when it is appended; never used twice in a directory's life; below 2^53
  RecordKind kind = RecordKind::kSegment;
  Hash key{};               // chain hash of every token up to to_token
  Hash parent{};            // chain hash up to from_token (segments), of the same boundary (points: equal to key)
  Tag identity{}, scope{};  // tags of model identity and of tenant scope
  Hash plain{};             // chain hash up to to_token without identity and scope, keyed by the directory's secret
  uint32_t from_token = 0, to_token = 0;  // multiples of 128; a point has from == to
  uint64_t created_ms = 0;                // wall clock; shown only, never decides
  uint64_t payload_bytes = 0;
  std::vector<Hash> blocks;   // segments: chain hash at the end of each of its 128-token blocks, the last equals key
  uint32_t region = 0;        // where it lies now; filled by the store
  uint64_t stored_bytes = 0;  // header, payload and padding: what it takes on disk; filled by the store
};

// Bytes of a record. Called on the store's thread, any ranges in ascending order.
class PayloadSource {
 public:
  virtual ~PayloadSource() = default;
  virtual void copy(uint64_t offset, uint8_t* to, size_t bytes) = 0;
};
class PayloadSink {
 public:
  virtual ~PayloadSink() = default;
  // Checked bytes. Never called again once the read's event is out.
  virtual void take(uint64_t offset, const uint8_t* from, size_t bytes) = 0;
};
struct ByteRange {
  uint64_t offset, bytes;
};

enum class StoreStatus : uint32_t {
  kOk = 0,
  kNotFound = 1,   // no record of that id (dropped, reclaimed, destroyed)          -> compute it
  kCorrupt = 2,    // checksum, digest, key, epoch or place does not match; dropped -> compute it, count it
  kIoError = 3,    // the device said no                                            -> compute it; the record stays
  kNoSpace = 4,    // no free region, disk full                                     -> reclaim, or stop storing
  kCancelled = 5,  // by us
  kReadOnly = 6,   // the directory cannot be written
};

// Lifetime of the disk tier's regions:
//   absent ──allocate──▶ free ──first record──▶ open ──full──▶ sealed ──reclaim──▶ free
struct StoreEvent {
  enum Kind : uint32_t {
    kRecovered = 1,     // record: found at start; comes for every living record, in any order
    kRecoveryDone = 2,  // number: headers that were damaged and skipped
    kWritten = 3,  // ticket, status; record (id, region, stored_bytes) when ok: readable from now on, not yet durable
    kDurable = 4,  // number: every record with kWritten before and id <= number that was not lost is durable
    kLost = 5,     // number: id of a written record whose sync failed; it is dropped
    kRead = 6,     // ticket, status; number: bytes read
    kReclaimed =
        7,       // ticket, status; number: region, free again (durable); kept records have moved (kMoved each, before)
    kMoved = 8,  // record: id, its new region
    kDestroyed = 9,  // ticket, status: ok once durable
    kHealth = 10,    // status: what the disk tier last met when it wrote (kOk: well again); text: for people
    kSealed = 11,    // number: region that takes no more records
    kGathered = 12,  // number: ticket of an append whose source is not read any more; kWritten follows
  } kind;
  uint64_t ticket = 0;
  StoreStatus status = StoreStatus::kOk;
  RecordInfo record;
  uint64_t number = 0;
  std::string text;
};

struct StoreOptions {
  std::string directory;              // made when absent (0700)
  uint64_t max_bytes = 0;             // everything in the directory together
  bool keeps_regions = false;         // more than max_bytes, where the regions that are there already take more
  uint64_t largest_record = 0;        // stored bytes of the largest record that will come; a region holds at least one
  uint64_t free_floor = 0;            // bytes of the file system that stay free: no new region below it
  uint32_t commit_ms = 1000;          // group commit: at most this long after a write ...
  uint64_t commit_bytes = 16u << 20;  // ... or this many bytes
  bool read_only = false;             // nothing is changed (nandu cache ls, verify)
};

struct StoreStats {
  uint32_t regions_total, regions_free, regions_open, regions_sealed,
      regions_limit;  // limit: as many as the quota allows
  uint64_t region_bytes;
  uint64_t max_bytes;   // the quota that holds
  uint64_t used_bytes;  // of the directory, everything counted
  uint64_t live_bytes;  // stored_bytes of living records
  uint64_t records;
  uint64_t queued_bytes;                                      // of appends not yet written
  uint64_t bytes_appended, bytes_reinserted, bytes_metadata;  // written since open, by cause
  uint64_t bytes_read;
  uint64_t quarantined;  // records dropped because a check failed, since open
  uint64_t syncs, sync_failures;
  bool recovering;
};

// Smallest region and quota for records of that size, so that a refusal can name the minimum.
uint64_t region_bytes_for(uint64_t max_bytes, uint64_t largest_record);
uint64_t minimum_quota(uint64_t largest_record);

class Store {
 public:
  // Locks the directory (flock on itself, and on a file inside, which holds the owner's pid; shared among those that
  // only read), checks or writes the superblock, and starts recovery; answers commands meanwhile. Errors: kBusy naming
  // path and pid, or saying that it is being read; kInvalidArgument for a quota of fewer than 8 regions, naming the
  // minimum; kIo for a directory that cannot be used or is somebody else's (foreign files are untouched). Damaged
  // content of our own is no error: it is quarantined and counted.
  static Result<std::unique_ptr<Store>> open(const StoreOptions& options, std::unique_ptr<IoEngine> io,
                                             std::function<void(StoreEvent&&)> on_event);
  virtual ~Store() =
      default;  // writes what is queued (10 s at most), syncs, unlocks; commands left end with kCancelled

  // info.id, region and stored_bytes are filled in by the store. kNoSpace when no region is to be had, once recovery
  // and growing have said so.
  virtual void append(uint64_t ticket, RecordInfo info, std::unique_ptr<PayloadSource> source) = 0;
  // Checks the header against what the index knows (digest, key, place, epoch) and each 64 KiB chunk that it reads;
  // calls the sink for the wanted ranges (ascending, disjoint), front first. kCorrupt drops the record.
  virtual void read(uint64_t ticket, uint64_t id, const Hash& key, std::vector<ByteRange> ranges, IoClass priority,
                    std::unique_ptr<PayloadSink> sink) = 0;
  // No sink is called once the event (kRead, kCancelled) is out, whatever the device does with the buffers. An append
  // of which nothing has gone to the device is answered too (kWritten, kCancelled) and its source not read; else it
  // goes on.
  virtual void cancel(uint64_t ticket) = 0;
  // Moves `keep` (in this order) to the open region of reinserted records, makes them durable, then frees the region;
  // every other record in it is gone. kNoSpace when the kept ones do not fit what is free.
  virtual void reclaim(uint64_t ticket, uint32_t region, std::vector<uint64_t> keep) = 0;
  // Makes the records unreadable for ever: every copy's header is overwritten and synced before the event, a copy
  // included that a reclaim is making or that recovery finds later. kIoError: hidden, but a page refuses to be
  // overwritten.
  virtual void destroy(uint64_t ticket, std::vector<uint64_t> ids) = 0;
  // Syncs now what was written before; answered by kDurable.
  virtual void flush() = 0;
  virtual StoreStats stats() const = 0;
  virtual const IoEngine& io() const = 0;
  // 32 random bytes of this directory (file `secret`, mode 0600), for keyed hashes.
  virtual const Hash& secret() const = 0;
};

}  // namespace nandu
