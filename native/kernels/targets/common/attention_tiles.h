// D5 in reference mode on matrix tiles of 16 rows x 64 bytes, in the verbs of tiles.h.
//
// Forms, D = head_dim padded to 32, H = heads to 16, all bf16:
//
//   query    [D / 2][H][2]            pairs of dims side by side
//   block    [64 rows][D], then the same values as [32 pairs of rows][D][2], then 16 times the largest magnitude
//   scratch  scores, then probabilities, float[64][H]; alpha[H]; beta[H]; bf16 probabilities [H][64]; float[16][64];
//            pairs of a block without its masked rows
//
// The state is that of attention.h. Masked rows take part in the values with probability +0, which adds nothing: a sum
// that began at +0 is never -0. Only where a row is not finite are masked ones really taken out.
#pragma once

#include "attention.h"
#include "tiles.h"

namespace nandu::NANDU_TARGET {

static constexpr uint32_t kPairs = kRows / 2;

static constexpr size_t tile_scratch_bytes(size_t heads, size_t head_dim) {
  return sizeof(float) * (kRows + 2) * heads + 2 * kRows * heads + sizeof(float) * kTile * 64 + 2 * kRows * head_dim;
}
static_assert(tile_scratch_bytes(kHeadsMax, kHeadDimMax) <= kKernelScratchBytes);

static inline size_t tile_query_bytes(uint32_t heads, uint32_t head_dim) {
  return size_t{2} * pad_to(head_dim, 32) * pad_to(heads, kTile);
}
static inline size_t tile_block_bytes(uint32_t head_dim) {
  return size_t{4} * kRows * pad_to(head_dim, 32) + 64;
}

// Two vectors of bf16 values, side by side: `even` in the low halves.
static inline I32x16 pair_up(F32x16 even, F32x16 odd) {
  return bit_or(shift_right<16>(bits_of(even)), bits_of(odd));
}

static inline void tile_pack_query(const float* q, uint32_t heads, uint32_t head_dim, void* dst) {
  const uint32_t padded = pad_to(head_dim, 32), wide = pad_to(heads, kTile);
  uint32_t* const out = static_cast<uint32_t*>(dst);
  for (uint32_t h = 0; h < wide; h += kTile) {
    for (uint32_t d = 0; d < padded; d += 16) {
      F32x16 square[16];
      for (uint32_t i = 0; i < 16; i++) {
        const bool known = h + i < heads && d < head_dim;
        const uint32_t n = head_dim - d < 16 ? head_dim - d : 16;
        square[i] = known ? attention_operand(get(q + size_t{h + i} * head_dim + d, n)) : zero();
      }
      transpose(square);
      for (uint32_t i = 0; i < 16; i += 2)
        store_int(out + size_t{(d + i) / 2} * wide + h, pair_up(square[i], square[i + 1]));
    }
  }
}

static inline void tile_pack_block(bool packed_rows, const uint8_t* const* rows, uint32_t head_dim, uint32_t rope_dim,
                                   void* dst) {
  const uint32_t padded = pad_to(head_dim, 32), plain = head_dim - rope_dim;
  const bool whole = plain % 16 == 0 && rope_dim % 16 == 0;
  uint8_t* const by_row = static_cast<uint8_t*>(dst);
  uint32_t* const by_pair = reinterpret_cast<uint32_t*>(by_row + size_t{2} * kRows * padded);
  const auto operand = [&](const uint8_t* row, uint32_t d) {
    if (!row || d >= head_dim) return zero();
    if (packed_rows && whole && d < plain) {
      // Codes with an ordinary scale are bf16 values already, and not below 2^-56: nothing to round.
      const uint32_t exponent = row[plain + 2 * rope_dim + d / 64];
      if (exponent >= 80 && exponent <= 245) return mul(load_e4m3(row + d), splat(scalar::from_bits(exponent << 23)));
    }
    const uint32_t n = head_dim - d < 16 ? head_dim - d : 16;
    return attention_operand(row_values(packed_rows, whole, row, plain, rope_dim, d, n));
  };
  I32x16 most = splat_int(0);
  for (uint32_t r = 0; r < kRows; r += 2) {
    for (uint32_t d = 0; d < padded; d += 16) {
      const F32x16 even = operand(rows[r], d), odd = operand(rows[r + 1], d);
      most = max_int(most, max_int(magnitude(bits_of(even)), magnitude(bits_of(odd))));
      store_halves(by_row + (size_t{r} * padded + d) * 2, shift_right<16>(bits_of(even)));
      store_halves(by_row + (size_t{r + 1} * padded + d) * 2, shift_right<16>(bits_of(odd)));
      store_int(by_pair + size_t{r / 2} * padded + d, pair_up(even, odd));
    }
  }
  store_int(by_pair + kPairs * padded, splat_int(largest(most)));
}

// The pairs of a block with +0 in place of the rows outside [first, last).
static inline const uint8_t* without_masked(const uint8_t* pairs, uint32_t first, uint32_t last, uint32_t padded,
                                            uint8_t* copy) {
  memcpy(copy, pairs, size_t{2} * kRows * padded);
  for (uint32_t r = 0; r < kRows; r++)
    for (uint32_t d = 0; (r < first || r >= last) && d < padded; d++)
      memset(copy + (size_t{r / 2} * padded + d) * 4 + r % 2 * 2, 0, 2);
  return copy;
}

// scores[64][wide] of the half blocks that hold rows [first, last).
static inline void tile_scores(const uint8_t* query, const uint8_t* rows, uint32_t first, uint32_t last, uint32_t wide,
                               uint32_t padded, float* scores) {
  const size_t q_stride = size_t{4} * wide, row_stride = size_t{2} * padded;
  for (uint32_t r = first / 32 * 32; r < last; r += 32) {
    const uint8_t* const upper = rows + r * row_stride;
    const uint8_t* const lower = upper + kTile * row_stride;
    float* const out = scores + size_t{r} * wide;
    uint32_t h = 0;
    for (; h + 2 * kTile <= wide; h += 2 * kTile) {
      TILE_ZERO(0);
      TILE_ZERO(1);
      TILE_ZERO(2);
      TILE_ZERO(3);
      for (uint32_t d = 0; d < padded; d += 32) {
        const uint8_t* const q = query + d / 2 * q_stride + size_t{4} * h;
        TILE_LOAD(4, upper + 2 * d, row_stride);
        TILE_LOAD(6, q, q_stride);
        TILE_DOT(0, 4, 6);
        TILE_LOAD(7, q + 4 * kTile, q_stride);
        TILE_DOT(1, 4, 7);
        TILE_LOAD(5, lower + 2 * d, row_stride);
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
      }
      TILE_STORE(0, out + h, q_stride);
      TILE_STORE(1, out + h + kTile, q_stride);
      TILE_STORE(2, out + h + size_t{kTile} * wide, q_stride);
      TILE_STORE(3, out + h + kTile + size_t{kTile} * wide, q_stride);
    }
    if (h == wide) continue;
    TILE_ZERO(0);
    TILE_ZERO(2);
    for (uint32_t d = 0; d < padded; d += 32) {
      TILE_LOAD(6, query + d / 2 * q_stride + size_t{4} * h, q_stride);
      TILE_LOAD(4, upper + 2 * d, row_stride);
      TILE_DOT(0, 4, 6);
      TILE_LOAD(5, lower + 2 * d, row_stride);
      TILE_DOT(2, 5, 6);
    }
    TILE_STORE(0, out + h, q_stride);
    TILE_STORE(2, out + h + size_t{kTile} * wide, q_stride);
  }
}

// Probabilities [64][wide] as bf16 [wide][64], +0 where masked.
static inline void turn_probabilities(const float* scores, uint32_t first, uint32_t last, uint32_t wide,
                                      uint8_t* turned) {
  for (uint32_t h = 0; h < wide; h += kTile) {
    for (uint32_t r = 0; r < kRows; r += 16) {
      F32x16 square[16];
      for (uint32_t i = 0; i < 16; i++)
        square[i] = r + i >= first && r + i < last ? load(scores + size_t{r + i} * wide + h) : zero();
      transpose(square);
      for (uint32_t i = 0; i < 16; i++)
        store_halves(turned + (size_t{h + i} * kRows + r) * 2, shift_right<16>(bits_of(square[i])));
    }
  }
}

// O = fma(O, alpha, O_b * beta) for 16 heads and `dims` (32 or 64) dims from d on; `sums` is float[16][64].
static inline void merge_values(const float* sums, uint32_t dims, const float* alphas, const float* betas,
                                uint32_t heads, uint32_t h, uint32_t d, float* o) {
  const uint32_t end = heads - h < kTile ? heads - h : kTile;
  for (uint32_t i = 0; i < end; i++) {
    const F32x16 alpha = splat(alphas[h + i]), beta = splat(betas[h + i]);
    for (uint32_t v = 0; v < dims; v += 16) {
      float* const x = o + (size_t{(d + v) / 32} * heads + h + i) * 32 + (d + v) % 32;
      store(x, fma(load(x), alpha, mul(load(sums + i * 64 + v), beta)));
    }
  }
}

// Tile b = 16 rows, and c moves on by a . b.
#define TILE_LOAD_DOT(c, a, b, from, stride) \
  TILE_LOAD(b, from, stride);                \
  TILE_DOT(c, a, b)

static inline void tile_values(const uint8_t* turned, const uint8_t* pairs, uint32_t first, uint32_t last,
                               uint32_t padded, const float* alphas, const float* betas, uint32_t heads, float* sums,
                               float* o) {
  const size_t stride = size_t{4} * padded;
  // Half blocks without a row in [first, last) would add +0.
  const bool front = first<32, back = last> 32;
  for (uint32_t h = 0; h < heads; h += kTile) {
    TILE_LOAD(4, turned + size_t{h} * kRows * 2, kRows * 2);
    TILE_LOAD(5, turned + size_t{h} * kRows * 2 + 64, kRows * 2);
    const uint8_t* const lower = pairs + kTile * stride;
    uint32_t d = 0;
    for (; d + 64 <= padded; d += 64) {
      TILE_ZERO(0);
      TILE_ZERO(1);
      TILE_ZERO(2);
      TILE_ZERO(3);
      if (front) {
        TILE_LOAD_DOT(0, 4, 6, pairs + 4 * d, stride);
        TILE_LOAD_DOT(1, 4, 7, pairs + 4 * d + 64, stride);
        TILE_LOAD_DOT(2, 4, 6, pairs + 4 * d + 128, stride);
        TILE_LOAD_DOT(3, 4, 7, pairs + 4 * d + 192, stride);
      }
      if (back) {
        TILE_LOAD_DOT(0, 5, 6, lower + 4 * d, stride);
        TILE_LOAD_DOT(1, 5, 7, lower + 4 * d + 64, stride);
        TILE_LOAD_DOT(2, 5, 6, lower + 4 * d + 128, stride);
        TILE_LOAD_DOT(3, 5, 7, lower + 4 * d + 192, stride);
      }
      TILE_STORE(0, sums, 256);
      TILE_STORE(1, sums + 16, 256);
      TILE_STORE(2, sums + 32, 256);
      TILE_STORE(3, sums + 48, 256);
      merge_values(sums, 64, alphas, betas, heads, h, d, o);
    }
    if (d == padded) continue;
    TILE_ZERO(0);
    TILE_ZERO(1);
    if (front) {
      TILE_LOAD_DOT(0, 4, 6, pairs + 4 * d, stride);
      TILE_LOAD_DOT(1, 4, 7, pairs + 4 * d + 64, stride);
    }
    if (back) {
      TILE_LOAD_DOT(0, 5, 6, lower + 4 * d, stride);
      TILE_LOAD_DOT(1, 5, 7, lower + 4 * d + 64, stride);
    }
    TILE_STORE(0, sums, 256);
    TILE_STORE(1, sums + 16, 256);
    merge_values(sums, 32, alphas, betas, heads, h, d, o);
  }
}

#undef TILE_LOAD_DOT

static inline void tile_block(const void* query, const void* block, uint32_t first, uint32_t last, uint32_t heads,
                              uint32_t head_dim, void* state, KernelScratch* scratch) {
  const uint32_t wide = pad_to(heads, kTile), padded = pad_to(head_dim, 32);
  float* const scores = reinterpret_cast<float*>(scratch->data);
  float* const alphas = scores + kRows * wide;
  float* const betas = alphas + wide;
  uint8_t* const turned = reinterpret_cast<uint8_t*>(betas + wide);
  float* const sums_of_tiles = reinterpret_cast<float*>(turned + size_t{2} * wide * kRows);
  uint8_t* const copy = reinterpret_cast<uint8_t*>(sums_of_tiles + kTile * 64);
  float* const maxima = static_cast<float*>(state);
  float* const sums = maxima + wide;
  const uint8_t* const rows = static_cast<const uint8_t*>(block);
  const uint8_t* pairs = rows + size_t{2} * kRows * padded;
  uint32_t most;
  memcpy(&most, pairs + size_t{2} * kRows * padded, 4);
  if (most >= 0x7f800000) pairs = without_masked(pairs, first, last, padded, copy);
  TILES_BEGIN(tile_config(kTile, 64));
  tile_scores(static_cast<const uint8_t*>(query), rows, first, last, wide, padded, scores);
  block_softmax(false, scalar::inverse_sqrt_of_count(head_dim), first, last, wide, scores, maxima, sums, alphas, betas);
  turn_probabilities(scores, first, last, wide, turned);
  tile_values(turned, pairs, first, last, padded, alphas, betas, heads, sums_of_tiles, sums + wide);
  TILES_END();
  scratch->counts[kPathAttention]++;
  scratch->counts[kPathAmxBf16]++;
}

// --- the table's entries: f32 mode is TILE_BASE's ---

static size_t query_bytes(bool f32, uint32_t heads, uint32_t head_dim) {
  return f32 ? TILE_BASE.attn_query_bytes(f32, heads, head_dim) : tile_query_bytes(heads, head_dim);
}
static size_t block_bytes(bool f32, uint32_t head_dim) {
  return f32 ? TILE_BASE.attn_block_bytes(f32, head_dim) : tile_block_bytes(head_dim);
}
static void pack_query(bool f32, const float* q, uint32_t heads, uint32_t head_dim, void* dst) {
  if (f32) TILE_BASE.attn_pack_query(f32, q, heads, head_dim, dst);
  else tile_pack_query(q, heads, head_dim, dst);
}
static void pack_block(bool f32, bool packed_rows, const uint8_t* const* rows, uint32_t head_dim, uint32_t rope_dim,
                       void* dst) {
  if (f32) TILE_BASE.attn_pack_block(f32, packed_rows, rows, head_dim, rope_dim, dst);
  else tile_pack_block(packed_rows, rows, head_dim, rope_dim, dst);
}
static void block(bool f32, const void* query, const void* rows, uint32_t first, uint32_t last, uint32_t heads,
                  uint32_t head_dim, void* state, KernelScratch* scratch) {
  if (f32) TILE_BASE.attn_block(f32, query, rows, first, last, heads, head_dim, state, scratch);
  else tile_block(query, rows, first, last, heads, head_dim, state, scratch);
}

}  // namespace nandu::NANDU_TARGET
