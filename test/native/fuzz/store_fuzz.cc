// Coverage-guided fuzzing of what a hostile or rotten cache directory reaches. An input patches a good disk image of a
// small store: {u8 file, u16 page, u16 offset, u8 length, bytes}*, after each of which the checksum of the structure at
// that page is made right again when bit 7 of `file` is set, so that what lies behind the checksums is reached too.
// tools/fuzz.sh builds and runs it.
//
// It stops on a crash, a sanitizer report, an allocation beyond the limit, a command that is not answered, and on bytes
// served that were never written under that key (unless the input forged a payload's checksum itself).
#include "../../../native/store/checksum.h"
#include "../store_harness.h"

using namespace nandu;
using namespace nandu::test;

namespace {

constexpr const char* kFiles[] = {"superblock", "data", "index"};

// Made once: eight records in two regions, one of them sealed with its slot, and one that was destroyed.
const SimFiles& good_image() {
  static const SimFiles image = [] {
    TestStore t;
    NANDU_CHECK(t.open().ok());
    std::vector<uint64_t> ids;
    for (uint64_t n = 1; n <= 8; n++)
      ids.push_back(t.append(n, n * 9000, n % 2 ? RecordKind::kSegment : RecordKind::kPoint, 2).record.id);
    t.flush();
    t.close();
    NANDU_CHECK(t.open().ok());
    for (uint64_t n = 9; n <= 11; n++) t.append(n, 5000);
    NANDU_CHECK(t.destroy({ids[2]}) == StoreStatus::kOk);
    t.flush();
    t.kill();
    return t.disk->snapshot();
  }();
  return image;
}

// The checksum of whatever structure the page says it begins with.
void forge(SimDisk& disk, const std::string& file, uint64_t page) {
  auto& pages = disk.files[file].pages;
  uint8_t* first = disk.page_for_writing(file, page);
  uint64_t bytes = kPageBytes;
  if (!memcmp(first, "nanduKVI", 8)) bytes = kSlotBytes;
  if (!memcmp(first, "nanduKVE", 8)) {
    uint32_t header_bytes;
    memcpy(&header_bytes, first + offsetof(RecordHeader, header_bytes), 4);
    if (header_bytes % kPageBytes == 0 && header_bytes > 0 && header_bytes <= kMaxHeaderBytes) bytes = header_bytes;
  }
  if (page + bytes / kPageBytes > pages.size()) return;
  std::vector<uint8_t> all(bytes, 0);
  for (uint64_t i = 0; i < bytes / kPageBytes; i++)
    if (pages[page + i]) memcpy(all.data() + i * kPageBytes, pages[page + i]->data(), kPageBytes);
  memset(all.data() + 12, 0, 4);
  const uint32_t crc = crc32c(all.data(), bytes);
  memcpy(disk.page_for_writing(file, page) + 12, &crc, 4);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static TestStore& t = *new TestStore;  // one directory for all inputs; its lock is free between them
  t.disk = std::make_shared<SimDisk>();
  t.disk->files = good_image();
  store_test_hooks.region_bytes = 256u << 10;
  t.options.read_only = false;
  bool forged = false;
  while (size >= 6) {
    const std::string file = kFiles[data[0] % 3];
    auto& pages = t.disk->files[file].pages;
    const uint64_t page = (data[1] | data[2] << 8) % pages.size();
    const uint32_t offset = (data[3] | data[4] << 8) % kPageBytes;
    const uint32_t length = std::min<uint32_t>({data[5], static_cast<uint32_t>(size - 6), kPageBytes - offset});
    if (length > 0) memcpy(t.disk->page_for_writing(file, page) + offset, data + 6, length);
    if (data[0] & 0x80) forge(*t.disk, file, page), forged = true;
    if (data[0] & 0x40) t.options.read_only = true;
    data += 6 + length, size -= 6 + length;
  }
  if (!t.open().ok()) return 0;
  for (const auto& [id, info] : std::map<uint64_t, RecordInfo>(t.recovered)) {
    auto result = std::make_shared<ReadResult>();
    std::vector<ByteRange> all;
    if (info.payload_bytes > 0) all = {{0, info.payload_bytes}};
    const StoreEvent e = t.answer(t.read_later(id, info.key, all, result));
    NANDU_CHECK(forged || result->wrong == 0);
    if (e.status == StoreStatus::kOk) NANDU_CHECK(result->bytes == info.payload_bytes);
  }
  for (uint32_t region = 0; region < 3; region++) {
    std::vector<uint64_t> keep;
    for (const auto& [id, info] : t.recovered)
      if (info.region == region) keep.push_back(id);
    t.reclaim(region, keep);
  }
  t.append(77, 3000);
  t.kill();
  return 0;
}
