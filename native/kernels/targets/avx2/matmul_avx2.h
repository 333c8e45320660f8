// Matrix products of the AVX2 target (AVX2, FMA, F16C): the choice among D1, Dn, P and float rows, and embedding rows.
#pragma once

#include "dot256_avx2.h"
#include "float_rows_avx2.h"
#include "panel_avx2.h"

namespace nandu::avx2 {
namespace {

// Sums of 8 rows' chains, left to right: c[r][j] is chain j of row r.
inline __m256 fold_rows(const float (*c)[8]) {
  __m256i v[8];
  for (int i = 0; i < 8; i++) v[i] = load_256(c[i]);
  transpose(v);
  __m256 sum = _mm256_castsi256_ps(v[0]);
  for (int j = 1; j < 8; j++) sum = _mm256_add_ps(sum, _mm256_castsi256_ps(v[j]));
  return sum;
}

// All rows against kTokens activations from `first` on: one row after another, a single stream through the weights.
template <class Row, int kTokens>
void dot_rows(const MatmulArgs& args, uint32_t first) {
  const ActLayout layout(Row::kValues, args.k);
  const uint8_t* x[kTokens];
  for (uint32_t t = 0; t < kTokens; t++) x[t] = static_cast<const uint8_t*>(args.x[first + t]);
  alignas(64) float buffer[kTokens][8][8] = {};
  for (uint32_t r0 = 0; r0 < args.rows; r0 += 8) {
    const uint32_t rows = args.rows - r0 < 8 ? args.rows - r0 : 8;
    Row::template rows<kTokens>(args.weights + size_t{r0} * args.row_bytes, args.row_bytes, rows, layout, x, buffer);
    for (uint32_t t = 0; t < kTokens; t++)
      _mm256_maskstore_ps(args.y[first + t] + r0, first_lanes(rows), fold_rows(buffer[t]));
  }
}

// Passes of 4, the last two evened out: 5 is 3 + 2.
template <class Row>
void dot_passes(const MatmulArgs& args, uint32_t most) {
  for (uint32_t t = 0; t < args.m;) {
    const uint32_t left = args.m - t, passes = (left + most - 1) / most, n = (left + passes - 1) / passes;
    if (n == 1) dot_rows<Row, 1>(args, t);
    if (n == 2) dot_rows<Row, 2>(args, t);
    if (n == 3) dot_rows<Row, 3>(args, t);
    if (n == 4) dot_rows<Row, 4>(args, t);
    t += n;
  }
}

constexpr uint32_t kMostDn = 8;  // activations; from 9 on the panel is faster (bench/kernels/matmul --only path)

template <class F, class Row, class Panel>
void block_product(const MatmulArgs& args) {
  uint32_t path = args.m == 1 ? kPathD1 : args.m <= kMostDn ? kPathDn : kPathP;
  if (args.force_path >= 0 && static_cast<uint32_t>(args.force_path) <= kPathP)
    path = static_cast<uint32_t>(args.force_path);
  if (path == kPathP && !panel_fits<Panel>(args)) path = args.m == 1 ? kPathD1 : kPathDn;
  args.scratch->counts[path]++;
  if (path == kPathP) panel_product<Panel, F::kBytes>(args);
  else dot_passes<Row>(args, path == kPathD1 ? 1 : 4);
}

// --- embedding rows (D9)
// ----------------------------------------------------------------------------------------------------- 32 codes as
// signed weights, 8 at a time.
template <class F>
inline void spread_codes(__m256i codes, float* q) {
  alignas(32) uint8_t bytes[32];
  store_256(bytes, codes);
  for (int i = 0; i < 32; i += 8) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + i));
    const __m256i wide = F::kSigned ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight);
    _mm256_store_ps(q + i, _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, _mm256_set1_epi32(F::kOffset))));
  }
}

template <class F>
void dequant32(const uint8_t* row, uint32_t k, float* out) {
  for (uint32_t b = 0; b < k / 32; b++, row += F::kBytes, out += 32) {
    alignas(32) float q[32];
    spread_codes<F>(F::block(row), q);
    const __m256 scale =
        _mm256_set1_ps(F::kHalfScale ? float_from_bits(static_cast<uint32_t>(row[0]) << 23) : _cvtsh_ss(load_u16(row)));
    for (int i = 0; i < 32; i += 8) {
      __m256 v = _mm256_load_ps(q + i);
      if constexpr (F::kHalfScale) v = _mm256_mul_ps(v, _mm256_set1_ps(0.5f));
      _mm256_storeu_ps(out + i, F::kMin ? _mm256_fmadd_ps(v, scale, _mm256_set1_ps(_cvtsh_ss(load_u16(row + 2))))
                                        : _mm256_mul_ps(v, scale));
    }
  }
}

template <class F>
void dequant256(const uint8_t* row, uint32_t k, float* out) {
  for (uint32_t u = 0; u < k / 256; u++, row += F::kBytes) {
    const Head head = F::head(row);
    alignas(32) int16_t words[16], mins[16];
    store_256(words, head.words);
    store_256(mins, head.mins);
    const __m256 d = _mm256_set1_ps(_cvtsh_ss(load_u16(row + F::kD)) * F::kScale),
                 dmin = _mm256_set1_ps(_cvtsh_ss(load_u16(row + F::kDmin)));
#pragma GCC unroll 8
    for (int block = 0; block < 8; block++, out += 32) {
      alignas(32) float q[32];
      spread_codes<F>(F::codes(row, block), q);
      for (int i = 0; i < 32; i += 8) {
        const int sub = (32 * block + i) / F::kSub;
        const __m256 v = _mm256_mul_ps(_mm256_load_ps(q + i), _mm256_set1_ps(words[sub]));  // exact: small integers
        if constexpr (F::kMin)
          _mm256_storeu_ps(out + i, _mm256_fmsub_ps(v, d, _mm256_mul_ps(_mm256_set1_ps(mins[sub]), dmin)));
        else  // an integer 0 is +0 whatever its factors' signs
          _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_add_ps(v, _mm256_setzero_ps()), d));
      }
    }
  }
}

// --- the types
// -----------------------------------------------------------------------------------------------------
template <class W>
struct FloatType {
  static void product(const MatmulArgs& args) {
    args.scratch->counts[kPathFloat]++;
    float_product<W>(args);
  }
  static void widen(const uint8_t* row, uint32_t k, float* out) { widen_row<W>(row, k, out); }
};
template <class F>
struct Type32 {
  static void product(const MatmulArgs& args) { block_product<F, Row32<F>, Panel32<F>>(args); }
  static void widen(const uint8_t* row, uint32_t k, float* out) { dequant32<F>(row, k, out); }
};
template <class F>
struct Type256 {
  static void product(const MatmulArgs& args) { block_product<F, Row256<F>, Panel256<F>>(args); }
  static void widen(const uint8_t* row, uint32_t k, float* out) { dequant256<F>(row, k, out); }
};

}  // namespace
}  // namespace nandu::avx2

#include "../common/types.h"
