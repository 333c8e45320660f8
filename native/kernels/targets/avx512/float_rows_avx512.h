// Float weights of the AVX-512 target (arithmetic.md D4): 16 lanes, lane = k mod 16, one FMA chain each. 4 rows x 6
// activations share every load; k goes in stretches that keep the activations in L1, the lanes waiting in memory
// between.
#pragma once

#include "dot32_avx512.h"

namespace nandu::avx512 {
namespace {

// load(p, i): 16 weights from index i on; load_some: those of `mask`, +0 for the others, nothing else is read.
struct Float32 {
  static constexpr uint32_t kBytes = 4;
  static inline __m512 load(const uint8_t* p, uint32_t i) { return _mm512_loadu_ps(p + size_t{i} * 4); }
  static inline __m512 load_some(const uint8_t* p, uint32_t i, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, p + size_t{i} * 4);
  }
};
struct Float16 {
  static constexpr uint32_t kBytes = 2;
  static inline __m512 load(const uint8_t* p, uint32_t i) { return _mm512_cvtph_ps(load_256(p + size_t{i} * 2)); }
  static inline __m512 load_some(const uint8_t* p, uint32_t i, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p + size_t{i} * 2));
  }
};
struct Bfloat16 {
  static constexpr uint32_t kBytes = 2;
  static inline __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  static inline __m512 load(const uint8_t* p, uint32_t i) { return widen(load_256(p + size_t{i} * 2)); }
  static inline __m512 load_some(const uint8_t* p, uint32_t i, __mmask16 mask) {
    return widen(_mm256_maskz_loadu_epi16(mask, p + size_t{i} * 2));
  }
};

static inline __mmask16 lanes_left(uint32_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1);
}

// l + (l+8), then 4, 2, 1.
static inline float fold_lanes(__m512 v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

// Products of kRows rows and kTokens activations over k in [from, to); lanes: [kRows][kTokens][16], carried along.
template <class W, int kRows, int kTokens>
static inline void float_tile(const uint8_t* const* rows, const float* const* x, uint32_t from, uint32_t to,
                              size_t row_bytes, float* lanes) {
  __m512 sum[kRows][kTokens];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++)
      sum[r][t] = from == 0 ? _mm512_setzero_ps() : _mm512_load_ps(lanes + 16 * (r * kTokens + t));
  uint32_t i = from;
  for (; i + 16 <= to; i += 16) {
    __m512 w[kRows];
    if (kTokens == 1)
      for (int r = 0; r < kRows; r++) {
        _mm_prefetch(rows[r] + size_t{i} * W::kBytes + kPrefetchBytes, _MM_HINT_T0);
        _mm_prefetch(rows[r] + size_t{i} * W::kBytes + kRows * row_bytes, _MM_HINT_T1);
      }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) w[r] = W::load(rows[r], i);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const __m512 v = _mm512_loadu_ps(x[t] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) sum[r][t] = _mm512_fmadd_ps(w[r], v, sum[r][t]);
    }
  }
  if (i < to) {
    const __mmask16 mask = lanes_left(to - i);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const __m512 v = _mm512_maskz_loadu_ps(mask, x[t] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) sum[r][t] = _mm512_fmadd_ps(W::load_some(rows[r], i, mask), v, sum[r][t]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) _mm512_store_ps(lanes + 16 * (r * kTokens + t), sum[r][t]);
}

static constexpr uint32_t kFloatStretch = 1024;  // values; 6 activations of it are 24 KB
static constexpr uint32_t kFloatRows = 32;       // rows that use a stretch before the next

// `count` rows from `row` on against `tokens` of kTokens activations, kRows at a time; what is missing repeats the
// last.
template <class W, int kRows, int kTokens>
static void float_rows(const MatmulArgs& args, uint32_t row, uint32_t count, uint32_t first, uint32_t tokens) {
  const float* x[kTokens];
  for (uint32_t t = 0; t < kTokens; t++)
    x[t] = static_cast<const float*>(args.x[first + (t < tokens ? t : tokens - 1)]);
  alignas(64) float lanes[kFloatRows][kTokens][16];
  const uint32_t stretch = kTokens == 1 ? args.k : kFloatStretch;
  for (uint32_t from = 0; from < args.k; from += stretch)
    for (uint32_t r = 0; r < count; r += kRows) {
      const uint8_t* rows[kRows];
      for (uint32_t i = 0; i < kRows; i++)
        rows[i] = args.weights + size_t{row + (r + i < count ? r + i : count - 1)} * args.row_bytes;
      const uint32_t to = args.k - from < stretch ? args.k : from + stretch;
      float_tile<W, kRows, kTokens>(rows, x, from, to, args.row_bytes, lanes[r][0]);
    }
  for (uint32_t r = 0; r < count; r++)
    for (uint32_t t = 0; t < tokens; t++) args.y[first + t][row + r] = fold_lanes(_mm512_load_ps(lanes[r][t]));
}

template <class W>
static void float_product(const MatmulArgs& args) {
  for (uint32_t r = 0; r < args.rows; r += kFloatRows) {
    const uint32_t count = args.rows - r < kFloatRows ? args.rows - r : kFloatRows;
    for (uint32_t t = 0; t < args.m; t += 6) {
      const uint32_t tokens = args.m - t < 6 ? args.m - t : 6;
      if (tokens > 4) float_rows<W, 4, 6>(args, r, count, t, tokens);
      else if (tokens > 2) float_rows<W, 4, 4>(args, r, count, t, tokens);
      else if (tokens == 2) float_rows<W, 4, 2>(args, r, count, t, tokens);
      else float_rows<W, 2, 1>(args, r, count, t, tokens);
    }
  }
}

template <class W>
static void widen_row(const uint8_t* row, uint32_t k, float* out) {
  for (uint32_t i = 0; i < k; i += 16)
    _mm512_mask_storeu_ps(out + i, lanes_left(k - i), W::load_some(row, i, lanes_left(k - i)));
}

}  // namespace
}  // namespace nandu::avx512
