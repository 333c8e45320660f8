#include "kv_payload.h"

#include <algorithm>
#include <cstring>

namespace nandu {
namespace {

// A stretch of a payload and where it lies in RAM.
struct Piece {
  uint64_t offset;
  uint8_t* bytes;
  uint64_t size;
};

// Calls visit(block, offset in block, bytes) for each stretch of a segment's payload, in its order.
template <typename Visit>
void for_each_stretch(const KvLayout& layout, uint32_t blocks, Visit&& visit) {
  for (const KvLayout::Layer& layer : layout.layers) {
    if (layer.kind == LayerKind::kPlain) continue;
    const uint32_t rows = kBlockTokens / Geometry::ratio(layer.kind);
    for (uint32_t b = 0; b < blocks; b++) visit(b, layer.main, uint64_t{rows} * layout.main_bytes);
    if (layer.kind != LayerKind::kCsa) continue;
    for (uint32_t b = 0; b < blocks; b++) visit(b, layer.index, uint64_t{rows} * layout.index_bytes);
  }
}

// Copies between [offset, offset + size) of a payload and its pieces, which are ascending; bytes between pieces are
// nobody's.
template <typename Copy>
void over_pieces(const std::vector<Piece>& pieces, uint64_t offset, uint64_t size, Copy&& copy) {
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), offset,
                                [](uint64_t at, const Piece& p) { return at < p.offset + p.size; });
  for (; piece != pieces.end() && piece->offset < offset + size; piece++) {
    const uint64_t from = std::max(offset, piece->offset);
    const uint64_t to = std::min(offset + size, piece->offset + piece->size);
    copy(piece->bytes + (from - piece->offset), from - offset, to - from);
  }
}

struct SegmentSource : PayloadSource {
  std::shared_ptr<KvMemory> memory;
  std::vector<Piece> pieces;
  void copy(uint64_t offset, uint8_t* to, size_t bytes) override {
    over_pieces(pieces, offset, bytes,
                [&](const uint8_t* from, uint64_t at, uint64_t size) { memcpy(to + at, from, size); });
  }
};

struct SegmentSink : PayloadSink {
  std::shared_ptr<KvMemory> memory;
  std::vector<Piece> pieces;
  void take(uint64_t offset, const uint8_t* from, size_t bytes) override {
    over_pieces(pieces, offset, bytes, [&](uint8_t* to, uint64_t at, uint64_t size) { memcpy(to, from + at, size); });
  }
};

struct PointSource : PayloadSource {
  std::shared_ptr<const Point> point;
  void copy(uint64_t offset, uint8_t* to, size_t bytes) override { memcpy(to, point->bytes.data() + offset, bytes); }
};

struct PointSink : PayloadSink {
  std::shared_ptr<Point> point;
  void take(uint64_t offset, const uint8_t* from, size_t bytes) override {
    memcpy(point->bytes.data() + offset, from, bytes);
  }
};

}  // namespace

uint64_t segment_bytes(const KvLayout& layout, uint32_t blocks) {
  return uint64_t{blocks} * layout.block_payload_bytes;
}

uint64_t point_bytes(const KvLayout& layout, uint32_t position) {
  const uint64_t missing = layout.window - 1 > position ? layout.window - 1 - position : 0;
  return layout.point_bytes - missing * layout.main_bytes * layout.layers.size();
}

std::unique_ptr<PayloadSource> segment_source(std::shared_ptr<KvMemory> memory, std::vector<uint32_t> slots) {
  auto source = std::make_unique<SegmentSource>();
  uint64_t at = 0;
  for_each_stretch(memory->layout, static_cast<uint32_t>(slots.size()), [&](uint32_t block, size_t in, uint64_t size) {
    uint8_t* const slot = memory->pool.slot(slots[block]);
    NANDU_CHECK(slot != nullptr);  // rows that were computed are there
    source->pieces.push_back({at, slot + in, size});
    at += size;
  });
  source->memory = std::move(memory);
  return source;
}

std::unique_ptr<PayloadSource> point_source(std::shared_ptr<const Point> point) {
  auto source = std::make_unique<PointSource>();
  source->point = std::move(point);
  return source;
}

Result<SegmentRead> segment_read(std::shared_ptr<KvMemory> memory, uint32_t blocks, uint32_t skip,
                                 std::vector<uint32_t> slots) {
  NANDU_CHECK(skip + slots.size() <= blocks);
  std::vector<uint8_t*> rows;
  for (uint32_t slot : slots) {
    rows.push_back(memory->pool.slot(slot));
    if (!rows.back()) return error(Code::kNoMemory, "there is no memory for KV rows that were to be restored");
  }
  SegmentRead read;
  auto sink = std::make_unique<SegmentSink>();
  uint64_t at = 0;
  for_each_stretch(memory->layout, blocks, [&](uint32_t block, size_t in, uint64_t size) {
    if (block >= skip && block - skip < rows.size()) {
      sink->pieces.push_back({at, rows[block - skip] + in, size});
      if (!read.ranges.empty() && read.ranges.back().offset + read.ranges.back().bytes == at)
        read.ranges.back().bytes += size;
      else read.ranges.push_back({at, size});
    }
    at += size;
  });
  sink->memory = std::move(memory);
  read.sink = std::move(sink);
  return read;
}

std::unique_ptr<PayloadSink> point_sink(std::shared_ptr<Point> point, uint64_t bytes) {
  point->bytes.resize(bytes);
  auto sink = std::make_unique<PointSink>();
  sink->point = std::move(point);
  return sink;
}

}  // namespace nandu
