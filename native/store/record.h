// What lies on the disk, as structs that check themselves (docs/formats.md has the pictures). Little-endian. Pure
// functions on bytes: no file, no thread; foreign bytes may be given to every parse_*, which refuse and never trust a
// length before they compared it with what is there.
#pragma once

#include <optional>
#include <type_traits>
#include <vector>

#include "store.h"

namespace nandu {

inline constexpr uint32_t kPageBytes = kIoAlign;
// A payload has a checksum for each of these: small enough that a layer's rows are served without reading far beyond
// them, large enough that 14 MB of payload need less than one page of checksums.
inline constexpr uint32_t kChunkBytes = 64u << 10;
// Chunk table and block hashes of the largest record that is taken: 1 GiB of payload, or 2,000 blocks.
inline constexpr uint32_t kMaxHeaderBytes = 64u << 10;
// Entries of 12 segments of 4,096 tokens, or of 80 points: more than 32 MiB of a large model's records.
inline constexpr uint32_t kSlotBytes = 16u << 10;
// A record is written and read in pieces: its header with the first chunks, then 16 chunks each.
inline constexpr uint32_t kPieceBytes = kIoPieceBytes;
inline constexpr uint32_t kPieceChunks = kPieceBytes / kChunkBytes;
inline constexpr uint32_t kFirstPieceChunks = (kPieceBytes - kMaxHeaderBytes) / kChunkBytes;
inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint32_t kSuperblockCopies = 4;

// Records of one region die at about the same time when they are of one class.
enum class RegionClass : uint32_t { kNone = 0, kSegments = 1, kPoints = 2, kReinserted = 3 };

struct Superblock {
  char magic[8];
  uint32_t version;
  uint32_t crc;  // of the page, with this field zero
  Tag store;     // random, tells this directory's pages from every other's
  uint64_t region_bytes;
  uint64_t numbers_below;  // ids, epochs and sequences below this may have been given out
  uint64_t sequence;       // of superblocks: the highest valid one counts
};
static_assert(sizeof(Superblock) == 56 && std::has_unique_object_representations_v<Superblock>);

// Page 0 of a region.
struct RegionHeader {
  char magic[8];
  uint32_t version;
  uint32_t crc;  // of the page, with this field zero
  Tag store;
  uint64_t epoch;         // never used twice in a directory: what an earlier use left behind cannot match
  uint64_t region_bytes;  // as in the superblock, which can be made again from this
  uint32_t region;
  RegionClass klass;  // kNone: free
};
static_assert(sizeof(RegionHeader) == 56 && std::has_unique_object_representations_v<RegionHeader>);

// First bytes of a record, at a page boundary; chunk checksums (u32 each), block hashes (32 bytes each) and zeroes to
// header_bytes follow, then the payload and zeroes to the next page.
struct RecordHeader {
  char magic[8];
  uint32_t version;
  uint32_t crc;  // of header_bytes, with this field zero
  Tag store;
  uint64_t epoch;  // of its region
  uint64_t id;
  uint64_t sequence;  // of the write: a moved copy has a higher one than its original
  uint32_t region, page;
  uint32_t header_bytes;
  RecordKind kind;
  uint16_t dead;  // 1: destroyed; only the lengths are left
  Hash key, parent, plain;
  Tag identity, scope;
  uint32_t from_token, to_token;
  uint64_t created_ms;
  uint64_t payload_bytes;
  uint32_t num_chunks, num_blocks;
};
static_assert(sizeof(RecordHeader) == 232 && std::has_unique_object_representations_v<RecordHeader>);

// Slot of a sealed region in `index`: the headers' essentials, so that a start reads 16 KiB instead of the region.
struct SlotHeader {
  char magic[8];
  uint32_t version;
  uint32_t crc;  // of kSlotBytes, with this field zero
  Tag store;
  uint64_t epoch;
  uint32_t region;
  uint32_t num_records;
};
static_assert(sizeof(SlotHeader) == 48 && std::has_unique_object_representations_v<SlotHeader>);

struct SlotEntry {  // followed by num_blocks hashes
  uint64_t id, sequence, digest;
  Hash key, parent, plain;
  Tag identity, scope;
  uint64_t created_ms, payload_bytes;
  uint32_t from_token, to_token;
  uint32_t page, header_bytes;
  uint32_t kind, num_blocks;
};
static_assert(sizeof(SlotEntry) == 192 && std::has_unique_object_representations_v<SlotEntry>);

// Where a record lies, and what its header must look like: the reference that is kept in memory.
struct Place {
  uint64_t epoch = 0;
  uint32_t region = 0, page = 0;
  bool operator==(const Place&) const = default;
};
struct Reference {
  Place place;
  uint64_t sequence = 0, digest = 0;
  uint64_t payload_bytes = 0;
  uint32_t header_bytes = 0;
  RecordKind kind = RecordKind::kSegment;
  Hash key{};
};
struct FoundRecord {
  RecordInfo info;
  Reference reference;
  std::vector<uint32_t> chunks;  // empty when it comes from a slot
  bool dead = false;
};

constexpr uint64_t round_up(uint64_t bytes, uint64_t to) {
  return (bytes + to - 1) / to * to;
}
inline uint64_t num_chunks(uint64_t payload_bytes) {
  return (payload_bytes + kChunkBytes - 1) / kChunkBytes;
}
// 0: no header of allowed size holds it.
uint32_t header_bytes_for(uint64_t payload_bytes, size_t num_blocks);
inline uint64_t stored_bytes(uint32_t header_bytes, uint64_t payload_bytes) {
  return header_bytes + round_up(payload_bytes, kPageBytes);
}

// Each writes whole pages: one, one, header_bytes, kSlotBytes.
void write_superblock(const Superblock& fields, uint8_t* page);
void write_region_header(const RegionHeader& fields, uint8_t* page);
// Fills in reference.digest.
void write_record_header(const RecordInfo& info, const Tag& store, const std::vector<uint32_t>& chunks,
                         Reference& reference, uint8_t* to);
void write_dead_header(const Reference& reference, const Tag& store, uint8_t* to);
// Entries as append_slot_entry makes them. False: they do not fit, and the region has to be walked.
bool write_slot(const Tag& store, uint32_t region, uint64_t epoch, const std::vector<std::vector<uint8_t>>& entries,
                uint8_t* to);
std::vector<uint8_t> slot_entry(const RecordInfo& info, const Reference& reference);

std::optional<Superblock> parse_superblock(const uint8_t* page);
// Any region, any store: the caller compares.
std::optional<RegionHeader> parse_region_header(const uint8_t* page);

enum class HeaderCheck {
  kOk,
  kForeign,  // not a header of this place and epoch: free space, payload, or what an earlier use left
  kDamaged,  // says that it is one, but its checksum or a length is wrong
};
// A header at `place` of a region of `region_bytes`; `available` bytes are there to be read (at least one page).
// kDamaged also when header_bytes are more than `available`.
HeaderCheck parse_record_header(const uint8_t* from, size_t available, const Tag& store, const Place& place,
                                uint64_t region_bytes, FoundRecord& found);
// False: absent, damaged, or erased. `epoch`: of the region's use that the slot speaks of.
bool parse_slot(const uint8_t* from, const Tag& store, uint32_t region, uint64_t region_bytes, uint64_t& epoch,
                std::vector<FoundRecord>& found);

// Checks that a test switches off to see that it would be noticed. Only the test binary can: elsewhere they are
// constants.
enum StoreCheck : uint32_t {
  kCheckDigest = 1,
  kCheckHeaderCrc = 2,
  kCheckPayloadCrc = 4,
  kCheckKey = 8,
  kCheckPlace = 16,  // region, page, epoch, id and store of a header
  kCheckSlotCrc = 32,
  kCheckSyncBeforeDurable = 64,
  kCheckSyncBeforeMoved = 128,
  kCheckSlotErased = 256,  // destroyed records and freed regions leave the index too
  kCheckPins = 512,        // a region is not free while it is being read
};
#ifdef NANDU_TEST_HOOKS
struct StoreTestHooks {
  uint32_t checks_off = 0;
  uint64_t region_bytes = 0;                   // smallest region, instead of 4 MiB
  void (*crash_point)(const char*) = nullptr;  // called at each change of state on disk
};
extern StoreTestHooks store_test_hooks;
inline bool checked(StoreCheck check) {
  return !(store_test_hooks.checks_off & check);
}
inline void crash_point(const char* name) {
  if (store_test_hooks.crash_point) store_test_hooks.crash_point(name);
}
inline uint64_t smallest_region_of_test() {
  return store_test_hooks.region_bytes;
}
#else
constexpr bool checked(StoreCheck) {
  return true;
}
inline void crash_point(const char*) {}
constexpr uint64_t smallest_region_of_test() {
  return 0;
}
#endif

}  // namespace nandu
