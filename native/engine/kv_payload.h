// What of RAM a record on disk holds: the compressed rows of whole blocks (a segment), or a point. The one place that
// knows both the layout in RAM and the order on disk (docs/formats.md, Payloads).
//
//   segment   layer by layer (those that have compressed rows): the main rows of all its blocks, then, for CSA,
//             their index rows; no padding
//   point     the bytes of Point
#pragma once

#include <memory>
#include <vector>

#include "../model/state.h"
#include "../store/store.h"

namespace nandu {

// Slots hold the segment's blocks in order; they stay as they are until the append is over.
std::unique_ptr<PayloadSource> segment_source(std::shared_ptr<KvMemory> memory, std::vector<uint32_t> slots);
std::unique_ptr<PayloadSource> point_source(std::shared_ptr<const Point> point);

// A part of a segment of `blocks` blocks: those behind the first `skip`, one a slot.
struct SegmentRead {
  std::vector<ByteRange> ranges;
  std::unique_ptr<PayloadSink> sink;
};
// kNoMemory: a slot could not be allocated.
Result<SegmentRead> segment_read(std::shared_ptr<KvMemory> memory, uint32_t blocks, uint32_t skip,
                                 std::vector<uint32_t> slots);

// Takes a point of `bytes` bytes; *point is whole once the read has ended well.
std::unique_ptr<PayloadSink> point_sink(std::shared_ptr<Point> point, uint64_t bytes);

uint64_t segment_bytes(const KvLayout& layout, uint32_t blocks);
// Bytes of the point at a multiple of 128 (fewer than layout.point_bytes when the window reaches further back than it).
uint64_t point_bytes(const KvLayout& layout, uint32_t position);

}  // namespace nandu
