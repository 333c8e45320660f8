// What a sequence owns after N tokens (deepseek-v4.md 3): blocks of 128 tokens that sequences share, and a private part
// (raw rings, compressor carry) that is copied when a sequence forks. Exported and imported as bytes; a *point* is the
// private part at one position, from which any sequence with the same tokens before it can go on.
//
//   blocks   [0,128) [128,256) ... | open block         compressed and indexer rows, immutable once the block is
//   complete ring     the last window + 128 raw rows of each layer, by position modulo its size carry    CSA: K and S
//   of the last 8 tokens (last complete window and the open one), by position modulo 8
//            HCA: K and S of the open window, by position modulo 128
//   boundary CSA: copy of what the carry held of the last complete window when the last multiple of 128 was passed. The
//   ring
//            reaches 128 rows further back than the window, so the point there can be taken until the next one is
//            passed.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "../base/aligned.h"
#include "../base/status.h"
#include "geometry.h"

namespace nandu {

inline constexpr uint32_t kCarryRows = 2 * kCsaRatio;

// Byte offsets of everything a sequence keeps, by layer. One for a model and numeric mode.
struct KvLayout {
  KvLayout(const Geometry& g, bool packed_rows);

  struct Carry {
    size_t k, s;                    // rows of `width` floats
    size_t boundary_k, boundary_s;  // CSA: kCsaRatio rows of width / 2 floats
    uint32_t width;
  };
  struct Layer {
    LayerKind kind;
    size_t main, index;  // in a block: first main row, first indexer row
    size_t raw;          // in the private part: ring of raw rows
    Carry carry, index_carry;
  };
  bool packed;
  uint32_t main_bytes, index_bytes;  // of one row
  uint32_t window, ring_rows;
  std::vector<Layer> layers;
  size_t block_bytes, private_bytes;
  // Bytes of a block without alignment, and of a point at a multiple of 128 that has a whole window before it: what the
  // disk keeps.
  size_t block_payload_bytes, point_bytes;
  uint64_t digest;  // of everything above: an exported state fits only an equal layout
};

// Memory for blocks of one layout, by slot number. Slots are allocated when first used and stay.
class KvPool {
 public:
  KvPool(const KvLayout& layout, uint64_t max_slots);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  // Rows of a slot; nullptr: the memory is used up. Any thread; who may write is the business of those who hand out
  // numbers.
  uint8_t* slot(uint32_t number);

  // For callers without a policy of their own (score, tests): slots counted here, from the engine's thread only.
  // kNoSlot: the budget or the memory is used up.
  static constexpr uint32_t kNoSlot = 0xffffffff;
  uint32_t acquire();  // one reference
  void add_reference(uint32_t number) { references_[number]++; }
  void release(uint32_t number);
  uint64_t used() const { return used_; }  // acquired

  uint64_t limit() const { return max_slots_; }
  uint64_t allocated() const { return allocated_.load(std::memory_order_relaxed); }  // slots that have memory
  const KvLayout& layout() const { return layout_; }

 private:
  const KvLayout& layout_;
  const uint64_t max_slots_;
  uint64_t used_ = 0;
  std::unique_ptr<std::atomic<uint8_t*>[]> rows_;  // [max_slots]
  std::atomic<uint64_t> allocated_{0};
  std::mutex allocation_;
  uint32_t next_ = 0;  // never acquired yet
  std::vector<uint32_t> references_, free_;
};

// The private part of a sequence at one position: exactly the bytes that a continuation reads, raw rows oldest first.
// At a position between multiples of 128 it also holds the rows of the open block.
struct Point {
  uint32_t position;
  std::vector<uint8_t> bytes;
};

// Points in RAM by handle. Any thread.
class PointTable {
 public:
  uint64_t add(std::shared_ptr<const Point> point);  // never 0
  std::shared_ptr<const Point> find(uint64_t handle) const;
  void release(uint64_t handle);
  uint64_t bytes() const;

 private:
  mutable std::mutex mutex_;
  uint64_t next_ = 1, bytes_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<const Point>> points_;
};

// All KV in RAM of one model: what the engine computes in, and what the disk tier reads from and writes to.
struct KvMemory {
  KvMemory(const Geometry& g, bool packed_rows, uint64_t bytes)
      : layout(g, packed_rows), pool(layout, std::min(kMostSlots, bytes / std::max<uint64_t>(1, layout.block_bytes))) {}
  // 134 million tokens: bounds the table of slots where blocks are small.
  static constexpr uint64_t kMostSlots = 1 << 20;
  const KvLayout layout;
  KvPool pool;
  PointTable points;
};

class SequenceState {
 public:
  // Takes its blocks from the pool as it grows and gives them back.
  explicit SequenceState(KvPool& pool);
  // Lives in these slots, which somebody else hands out and takes back: one for each 128 tokens that it can come to
  // hold.
  SequenceState(KvPool& pool, std::vector<uint32_t> slots);
  ~SequenceState();
  SequenceState(const SequenceState&) = delete;
  SequenceState& operator=(const SequenceState&) = delete;

  uint32_t length() const { return length_; }  // tokens in place
  const KvLayout& layout() const { return layout_; }
  // Room for `tokens` more; false: slots, budget or memory are used up (nothing changed that matters). The private part
  // exists from the first call on.
  bool reserve(uint32_t tokens);
  void advance(uint32_t tokens);

  // The last multiple of 128 that this sequence has passed itself; 0: none yet.
  uint32_t boundary() const { return boundary_; }
  // The point at boundary(), which must not be 0; and the one at length().
  std::shared_ptr<const Point> point_at_boundary() const;
  std::shared_ptr<const Point> point_at_end() const;
  // Continues at a point; blocks before it are in place. False: not a point of this layout, or no memory.
  bool resume(const Point& point);
  // Continues at `position` without a point: blocks before `frozen` are in place and stay as they are, and raw rows are
  // made again from `position` on. From `frozen` on everything is exact if it lies (window - 1) * layers tokens behind
  // `position`.
  bool replay(uint32_t position, uint32_t frozen);
  uint32_t raw_from() const { return raw_from_; }  // no raw rows before this position
  uint32_t frozen() const { return frozen_; }      // compressed rows of tokens before this position are not made

  uint8_t* raw_row(uint32_t layer, uint32_t position) {
    return private_.data() + layout_.layers[layer].raw + size_t{position % layout_.ring_rows} * layout_.main_bytes;
  }
  // Compressed row `row` of a layer, and the indexer row beside it.
  uint8_t* main_row(uint32_t layer, uint32_t row) {
    const KvLayout::Layer& l = layout_.layers[layer];
    const uint32_t per_block = kBlockTokens / Geometry::ratio(l.kind);
    return rows_[row / per_block] + l.main + size_t{row % per_block} * layout_.main_bytes;
  }
  // Indexer rows of a block lie back to back: index_row(layer, 32 * b) starts block b's 32 rows.
  uint8_t* index_row(uint32_t layer, uint32_t row) {
    const KvLayout::Layer& l = layout_.layers[layer];
    const uint32_t per_block = kBlockTokens / kCsaRatio;
    return rows_[row / per_block] + l.index + size_t{row % per_block} * layout_.index_bytes;
  }
  // Carry rows: rows of `width` floats by position modulo kCarryRows (CSA) or kHcaRatio (HCA).
  float* carry(size_t offset) { return reinterpret_cast<float*>(private_.data() + offset); }

  // A second sequence that continues from here: complete blocks shared, the rest copied. nullptr: no memory left.
  // `own`: slots for everything behind the complete blocks; empty where this one takes its blocks from the pool.
  std::unique_ptr<SequenceState> fork(const std::vector<uint32_t>& own = {}) const;

  // Exactly the bytes that later tokens depend on. Import wants an empty state; `poison` fills all else with NaN first,
  // which proves that nothing else is read (test/native/state_test.cc).
  std::vector<uint8_t> export_bytes() const;
  Status import_bytes(const uint8_t* data, size_t size, bool poison);

 private:
  template <typename Visitor>
  void visit(uint32_t position, uint32_t first_token, Visitor&& bytes);
  std::shared_ptr<const Point> point(uint32_t position) const;

  KvPool& pool_;
  const KvLayout& layout_;
  const bool owns_slots_;
  uint32_t length_ = 0, boundary_ = 0, raw_from_ = 0, frozen_ = 0;
  std::vector<uint32_t> slots_;
  std::vector<uint8_t*> rows_;  // of the slots in use so far
  AlignedBuffer<uint8_t> private_;
};

}  // namespace nandu
