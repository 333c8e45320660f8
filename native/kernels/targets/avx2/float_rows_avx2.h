// Float weights of the AVX2 target (arithmetic.md D4): 16 lanes in two registers, lane = k mod 16, one FMA chain each.
// 2 rows x 3 activations share every load; k goes in stretches that keep the activations in L1, the lanes waiting in
// memory between.
#pragma once

#include "act8_avx2.h"

namespace nandu::avx2 {
namespace {

// load(p): 8 weights.
struct Float32 {
  static constexpr uint32_t kBytes = 4;
  static inline __m256 load(const uint8_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
};
struct Float16 {
  static constexpr uint32_t kBytes = 2;
  static inline __m256 load(const uint8_t* p) { return _mm256_cvtph_ps(load_128(p)); }
};
struct Bfloat16 {
  static constexpr uint32_t kBytes = 2;
  static inline __m256 load(const uint8_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
  }
};

// l + (l+8), then 4, 2, 1.
inline float fold_lanes(const float* lanes) {
  const __m256 a = _mm256_add_ps(_mm256_load_ps(lanes), _mm256_load_ps(lanes + 8));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

// One stretch of 16 k: sum[r][t][half] of kRows rows and kTokens activations.
template <class W, int kRows, int kTokens>
inline void float_step(const uint8_t* const* rows, const float* const* x, __m256 (*sum)[kTokens][2]) {
#pragma GCC unroll 2
  for (int h = 0; h < 2; h++) {
    __m256 w[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) w[r] = W::load(rows[r] + 8 * h * W::kBytes);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; t++) {
      const __m256 v = _mm256_loadu_ps(x[t] + 8 * h);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; r++) sum[r][t][h] = _mm256_fmadd_ps(w[r], v, sum[r][t][h]);
    }
  }
}

// Products over k in [from, to); lanes [kRows][kTokens][16] are carried along.
template <class W, int kRows, int kTokens>
inline void float_tile(const uint8_t* const* row, const float* const* act, uint32_t from, uint32_t to, float* lanes) {
  const uint8_t* rows[kRows];
  const float* x[kTokens];
  __m256 sum[kRows][kTokens][2];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r++) {
    rows[r] = row[r] + size_t{from} * W::kBytes;
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; t++)
#pragma GCC unroll 2
      for (int h = 0; h < 2; h++)
        sum[r][t][h] = from == 0 ? _mm256_setzero_ps() : _mm256_load_ps(lanes + (r * kTokens + t) * 16 + 8 * h);
  }
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; t++) x[t] = act[t] + from;
  uint32_t i = from;
  for (; i + 16 <= to; i += 16) {
    if (kTokens == 1)
      for (int r = 0; r < kRows; r++) _mm_prefetch(rows[r] + 2560, _MM_HINT_T0);
    float_step<W, kRows, kTokens>(rows, x, sum);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) rows[r] += 16 * W::kBytes;
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; t++) x[t] += 16;
  }
  if (i < to) {  // copies padded with +0
    alignas(32) uint8_t w_tail[kRows][16 * W::kBytes] = {};
    alignas(32) float x_tail[kTokens][16] = {};
    for (int r = 0; r < kRows; r++) {
      memcpy(w_tail[r], rows[r], size_t{to - i} * W::kBytes);
      rows[r] = w_tail[r];
    }
    for (int t = 0; t < kTokens; t++) {
      memcpy(x_tail[t], x[t], size_t{to - i} * 4);
      x[t] = x_tail[t];
    }
    float_step<W, kRows, kTokens>(rows, x, sum);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; t++)
#pragma GCC unroll 2
      for (int h = 0; h < 2; h++) _mm256_store_ps(lanes + (r * kTokens + t) * 16 + 8 * h, sum[r][t][h]);
}

constexpr uint32_t kFloatStretch = 1024;  // values; 3 activations of it are 12 KB
constexpr uint32_t kFloatRows = 16;       // rows that use a stretch before the next

// `count` rows from `row` on against `tokens` of kTokens activations, 2 rows at a time; what is missing repeats the
// last.
template <class W, int kTokens>
void float_rows(const MatmulArgs& args, uint32_t row, uint32_t count, uint32_t first, uint32_t tokens) {
  const float* x[kTokens];
  for (uint32_t t = 0; t < kTokens; t++)
    x[t] = static_cast<const float*>(args.x[first + (t < tokens ? t : tokens - 1)]);
  alignas(32) float lanes[kFloatRows][kTokens][16];
  const uint32_t stretch = kTokens == 1 ? args.k : kFloatStretch;
  for (uint32_t from = 0; from < args.k; from += stretch)
    for (uint32_t r = 0; r < count; r += 2) {
      const uint8_t* rows[2] = {args.weights + size_t{row + r} * args.row_bytes,
                                args.weights + size_t{row + (r + 1 < count ? r + 1 : r)} * args.row_bytes};
      float_tile<W, 2, kTokens>(rows, x, from, args.k - from < stretch ? args.k : from + stretch, lanes[r][0]);
    }
  for (uint32_t r = 0; r < count; r++)
    for (uint32_t t = 0; t < tokens; t++) args.y[first + t][row + r] = fold_lanes(lanes[r][t]);
}

template <class W>
void float_product(const MatmulArgs& args) {
  for (uint32_t r = 0; r < args.rows; r += kFloatRows) {
    const uint32_t count = args.rows - r < kFloatRows ? args.rows - r : kFloatRows;
    for (uint32_t t = 0; t < args.m; t += 3) {
      const uint32_t tokens = args.m - t < 3 ? args.m - t : 3;
      if (tokens == 1) float_rows<W, 1>(args, r, count, t, tokens);
      if (tokens == 2) float_rows<W, 2>(args, r, count, t, tokens);
      if (tokens == 3) float_rows<W, 3>(args, r, count, t, tokens);
    }
  }
}

template <class W>
void widen_row(const uint8_t* row, uint32_t k, float* out) {
  uint32_t i = 0;
  for (; i + 8 <= k; i += 8) _mm256_storeu_ps(out + i, W::load(row + i * W::kBytes));
  if (i == k) return;
  alignas(32) uint8_t tail[8 * W::kBytes] = {};
  alignas(32) float values[8];
  memcpy(tail, row + i * W::kBytes, size_t{k - i} * W::kBytes);
  _mm256_store_ps(values, W::load(tail));
  memcpy(out + i, values, size_t{k - i} * 4);
}

}  // namespace
}  // namespace nandu::avx2
