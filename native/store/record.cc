#include "record.h"

#include <algorithm>

#include <cstddef>
#include <cstring>

#include "checksum.h"

namespace nandu {

#ifdef NANDU_TEST_HOOKS
StoreTestHooks store_test_hooks;
#endif

namespace {

constexpr char kSuperblockMagic[8] = {'n', 'a', 'n', 'd', 'u', 'K', 'V', 'S'};
constexpr char kRegionMagic[8] = {'n', 'a', 'n', 'd', 'u', 'K', 'V', 'R'};
constexpr char kRecordMagic[8] = {'n', 'a', 'n', 'd', 'u', 'K', 'V', 'E'};
constexpr char kSlotMagic[8] = {'n', 'a', 'n', 'd', 'u', 'K', 'V', 'I'};

// All four structures begin alike: magic, version, checksum of everything with the checksum's own four bytes zero.
constexpr size_t kCrcAt = 12;
static_assert(offsetof(Superblock, crc) == kCrcAt && offsetof(RegionHeader, crc) == kCrcAt &&
              offsetof(RecordHeader, crc) == kCrcAt && offsetof(SlotHeader, crc) == kCrcAt);

uint32_t crc_of(const uint8_t* data, size_t bytes) {
  static constexpr uint8_t kZero[4] = {};
  return crc32c(data + kCrcAt + 4, bytes - kCrcAt - 4, crc32c(kZero, 4, crc32c(data, kCrcAt)));
}

void seal_bytes(const char magic[8], uint8_t* data, size_t bytes) {
  memcpy(data, magic, 8);
  memcpy(data + 8, &kFormatVersion, 4);
  const uint32_t crc = crc_of(data, bytes);
  memcpy(data + kCrcAt, &crc, 4);
}

bool looks_like(const char magic[8], const uint8_t* data) {
  return !memcmp(data, magic, 8) && !memcmp(data + 8, &kFormatVersion, 4);
}

bool crc_matches(const uint8_t* data, size_t bytes) {
  uint32_t stored;
  memcpy(&stored, data + kCrcAt, 4);
  return crc_of(data, bytes) == stored;
}

template <typename T>
T load(const uint8_t* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

// A record of these lengths lies inside the region, behind its header page.
bool fits_region(uint32_t page, uint32_t header_bytes, uint64_t payload_bytes, uint64_t region_bytes) {
  if (page == 0 || header_bytes == 0 || header_bytes % kPageBytes || header_bytes > kMaxHeaderBytes) return false;
  if (payload_bytes > region_bytes) return false;
  const uint64_t start = uint64_t{page} * kPageBytes;
  return start + stored_bytes(header_bytes, payload_bytes) <= region_bytes;
}

bool known_kind(uint32_t kind) {
  return kind == static_cast<uint32_t>(RecordKind::kSegment) || kind == static_cast<uint32_t>(RecordKind::kPoint);
}

constexpr uint64_t kIdsBelow = uint64_t{1} << 53;  // what a number of JavaScript holds exactly

}  // namespace

uint32_t header_bytes_for(uint64_t payload_bytes, size_t blocks) {
  if (payload_bytes > uint64_t{kMaxHeaderBytes} / 4 * kChunkBytes || blocks > kMaxHeaderBytes / sizeof(Hash)) return 0;
  const uint64_t bytes =
      round_up(sizeof(RecordHeader) + 4 * num_chunks(payload_bytes) + sizeof(Hash) * blocks, kPageBytes);
  return bytes <= kMaxHeaderBytes ? static_cast<uint32_t>(bytes) : 0;
}

void write_superblock(const Superblock& fields, uint8_t* page) {
  memset(page, 0, kPageBytes);
  memcpy(page, &fields, sizeof fields);
  seal_bytes(kSuperblockMagic, page, kPageBytes);
}

void write_region_header(const RegionHeader& fields, uint8_t* page) {
  memset(page, 0, kPageBytes);
  memcpy(page, &fields, sizeof fields);
  seal_bytes(kRegionMagic, page, kPageBytes);
}

void write_record_header(const RecordInfo& info, const Tag& store, const std::vector<uint32_t>& chunks,
                         Reference& reference, uint8_t* to) {
  RecordHeader h{};
  h.store = store;
  h.epoch = reference.place.epoch, h.id = info.id, h.sequence = reference.sequence;
  h.region = reference.place.region, h.page = reference.place.page, h.header_bytes = reference.header_bytes;
  h.kind = info.kind;
  h.key = info.key, h.parent = info.parent, h.plain = info.plain;
  h.identity = info.identity, h.scope = info.scope;
  h.from_token = info.from_token, h.to_token = info.to_token;
  h.created_ms = info.created_ms, h.payload_bytes = info.payload_bytes;
  h.num_chunks = static_cast<uint32_t>(chunks.size()), h.num_blocks = static_cast<uint32_t>(info.blocks.size());
  memset(to, 0, reference.header_bytes);
  memcpy(to, &h, sizeof h);
  size_t at = sizeof h;
  for (const uint32_t crc : chunks) memcpy(to + at, &crc, 4), at += 4;
  for (const Hash& block : info.blocks) memcpy(to + at, block.data(), block.size()), at += block.size();
  seal_bytes(kRecordMagic, to, reference.header_bytes);
  reference.digest = digest64(to, reference.header_bytes);
}

void write_dead_header(const Reference& reference, const Tag& store, uint8_t* to) {
  RecordHeader h{};
  h.store = store;
  h.epoch = reference.place.epoch, h.region = reference.place.region, h.page = reference.place.page;
  h.header_bytes = reference.header_bytes, h.payload_bytes = reference.payload_bytes;
  h.dead = 1;
  memset(to, 0, reference.header_bytes);
  memcpy(to, &h, sizeof h);
  seal_bytes(kRecordMagic, to, reference.header_bytes);
}

std::vector<uint8_t> slot_entry(const RecordInfo& info, const Reference& reference) {
  SlotEntry e{};
  e.id = info.id, e.sequence = reference.sequence, e.digest = reference.digest;
  e.key = info.key, e.parent = info.parent, e.plain = info.plain, e.identity = info.identity, e.scope = info.scope;
  e.created_ms = info.created_ms, e.payload_bytes = info.payload_bytes;
  e.from_token = info.from_token, e.to_token = info.to_token;
  e.page = reference.place.page, e.header_bytes = reference.header_bytes;
  e.kind = static_cast<uint32_t>(info.kind), e.num_blocks = static_cast<uint32_t>(info.blocks.size());
  std::vector<uint8_t> bytes(sizeof e + sizeof(Hash) * info.blocks.size());
  memcpy(bytes.data(), &e, sizeof e);
  for (size_t i = 0; i < info.blocks.size(); i++)
    memcpy(bytes.data() + sizeof e + sizeof(Hash) * i, info.blocks[i].data(), sizeof(Hash));
  return bytes;
}

bool write_slot(const Tag& store, uint32_t region, uint64_t epoch, const std::vector<std::vector<uint8_t>>& entries,
                uint8_t* to) {
  SlotHeader h{};
  h.store = store, h.epoch = epoch, h.region = region, h.num_records = static_cast<uint32_t>(entries.size());
  memset(to, 0, kSlotBytes);
  memcpy(to, &h, sizeof h);
  size_t at = sizeof h;
  for (const std::vector<uint8_t>& entry : entries) {
    if (at + entry.size() > kSlotBytes) {
      memset(to, 0, kSlotBytes);
      return false;
    }
    memcpy(to + at, entry.data(), entry.size());
    at += entry.size();
  }
  seal_bytes(kSlotMagic, to, kSlotBytes);
  return true;
}

std::optional<Superblock> parse_superblock(const uint8_t* page) {
  if (!looks_like(kSuperblockMagic, page) || !crc_matches(page, kPageBytes)) return std::nullopt;
  return load<Superblock>(page);
}

std::optional<RegionHeader> parse_region_header(const uint8_t* page) {
  if (!looks_like(kRegionMagic, page) || !crc_matches(page, kPageBytes)) return std::nullopt;
  const auto header = load<RegionHeader>(page);
  // A class is an index; whoever can write a checksum can write any number there.
  if (static_cast<uint32_t>(header.klass) > static_cast<uint32_t>(RegionClass::kReinserted)) return std::nullopt;
  return header;
}

HeaderCheck parse_record_header(const uint8_t* from, size_t available, const Tag& store, const Place& place,
                                uint64_t region_bytes, FoundRecord& found) {
  if (!looks_like(kRecordMagic, from)) return HeaderCheck::kForeign;
  const auto h = load<RecordHeader>(from);
  if (checked(kCheckPlace) &&
      (h.store != store || h.epoch != place.epoch || h.region != place.region || h.page != place.page))
    return HeaderCheck::kForeign;
  if (!fits_region(place.page, h.header_bytes, h.payload_bytes, region_bytes) || h.header_bytes > available)
    return HeaderCheck::kDamaged;
  if (checked(kCheckHeaderCrc) && !crc_matches(from, h.header_bytes)) return HeaderCheck::kDamaged;
  found = {};
  found.dead = h.dead != 0;
  found.reference = {place, h.sequence, digest64(from, h.header_bytes), h.payload_bytes, h.header_bytes, h.kind, h.key};
  RecordInfo& info = found.info;
  info.region = place.region, info.stored_bytes = stored_bytes(h.header_bytes, h.payload_bytes);
  info.payload_bytes = h.payload_bytes;
  if (found.dead) return HeaderCheck::kOk;
  if (!known_kind(static_cast<uint32_t>(h.kind)) || h.id >= kIdsBelow || h.num_chunks != num_chunks(h.payload_bytes) ||
      h.num_blocks > kMaxHeaderBytes / sizeof(Hash) ||
      header_bytes_for(h.payload_bytes, h.num_blocks) != h.header_bytes)
    return HeaderCheck::kDamaged;
  info.id = h.id, info.kind = h.kind, info.key = h.key, info.parent = h.parent, info.plain = h.plain;
  info.identity = h.identity, info.scope = h.scope, info.from_token = h.from_token, info.to_token = h.to_token;
  info.created_ms = h.created_ms;
  const uint8_t* at = from + sizeof h;
  found.chunks.resize(h.num_chunks);
  if (h.num_chunks) memcpy(found.chunks.data(), at, size_t{4} * h.num_chunks);
  at += size_t{4} * h.num_chunks;
  info.blocks.resize(h.num_blocks);
  for (Hash& block : info.blocks) memcpy(block.data(), at, sizeof(Hash)), at += sizeof(Hash);
  return HeaderCheck::kOk;
}

bool parse_slot(const uint8_t* from, const Tag& store, uint32_t region, uint64_t region_bytes, uint64_t& epoch,
                std::vector<FoundRecord>& found) {
  found.clear();
  if (!looks_like(kSlotMagic, from)) return false;
  const auto h = load<SlotHeader>(from);
  if (h.store != store || h.region != region) return false;
  if (checked(kCheckSlotCrc) && !crc_matches(from, kSlotBytes)) return false;
  epoch = h.epoch;
  size_t at = sizeof h;
  for (uint32_t i = 0; i < h.num_records; i++) {
    if (kSlotBytes - at < sizeof(SlotEntry)) return found.clear(), false;
    const auto e = load<SlotEntry>(from + at);
    at += sizeof e;
    if (!known_kind(e.kind) || e.id >= kIdsBelow ||
        !fits_region(e.page, e.header_bytes, e.payload_bytes, region_bytes) ||
        e.num_blocks > (kSlotBytes - at) / sizeof(Hash))
      return found.clear(), false;
    FoundRecord& f = found.emplace_back();
    f.reference = {{epoch, region, e.page},         e.sequence, e.digest, e.payload_bytes, e.header_bytes,
                   static_cast<RecordKind>(e.kind), e.key};
    RecordInfo& info = f.info;
    info.id = e.id, info.kind = f.reference.kind, info.key = e.key, info.parent = e.parent, info.plain = e.plain;
    info.identity = e.identity, info.scope = e.scope, info.from_token = e.from_token, info.to_token = e.to_token;
    info.created_ms = e.created_ms, info.payload_bytes = e.payload_bytes;
    info.region = region, info.stored_bytes = stored_bytes(e.header_bytes, e.payload_bytes);
    info.blocks.resize(e.num_blocks);
    for (Hash& block : info.blocks) memcpy(block.data(), from + at, sizeof(Hash)), at += sizeof(Hash);
  }
  return true;
}

}  // namespace nandu
