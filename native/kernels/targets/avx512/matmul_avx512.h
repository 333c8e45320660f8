// Matrix products of the AVX-512 target (VNNI, VBMI): the choice among D1, Dn, P and float rows, and embedding rows.
#pragma once

#include "dot256_avx512.h"
#include "float_rows_avx512.h"
#include "panel_avx512.h"

namespace nandu::avx512 {
namespace {

// Sums of 8 rows' chains, left to right: c[r][j] is chain j of row r.
static inline __m256 fold_rows(const float (*c)[8]) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; i++) r[i] = _mm256_load_ps(c[i]);
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int h = 0; h < 2; h++) {  // t: 0-3 rows 0-3, 4-7 rows 4-7; r[4h + c]: column c and c + 4 of rows 4h .. 4h + 3
    r[4 * h + 0] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0x44);
    r[4 * h + 1] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0xee);
    r[4 * h + 2] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0x44);
    r[4 * h + 3] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0xee);
  }
  __m256 sum = _mm256_permute2f128_ps(r[0], r[4], 0x20);
  for (int i = 1; i < 4; i++) sum = _mm256_add_ps(sum, _mm256_permute2f128_ps(r[i], r[4 + i], 0x20));
  for (int i = 0; i < 4; i++) sum = _mm256_add_ps(sum, _mm256_permute2f128_ps(r[i], r[4 + i], 0x31));
  return sum;
}

// All rows against kTokens activations from `first` on: one row after another, a single stream through the weights.
template <class Row, int kTokens>
static void dot_rows(const MatmulArgs& args, uint32_t first) {
  const typename Row::Layout layout(args.k);
  const uint8_t* x[kTokens];
  for (int t = 0; t < kTokens; t++) x[t] = static_cast<const uint8_t*>(args.x[first + static_cast<uint32_t>(t)]);
  alignas(64) float buffer[kTokens][8][8] = {};
  for (uint32_t r0 = 0; r0 < args.rows; r0 += 8) {
    const uint32_t rows = args.rows - r0 < 8 ? args.rows - r0 : 8;
    Row::template rows<kTokens>(args.weights + size_t{r0} * args.row_bytes, args.row_bytes, rows, layout, x, buffer);
    for (int t = 0; t < kTokens; t++)
      _mm256_mask_storeu_ps(args.y[first + static_cast<uint32_t>(t)] + r0, static_cast<__mmask8>((1u << rows) - 1),
                            fold_rows(buffer[t]));
  }
}

// Passes of 4, the last two evened out: 5 is 3 + 2.
template <class Row>
static void dot_passes(const MatmulArgs& args, uint32_t most) {
  for (uint32_t t = 0; t < args.m;) {
    const uint32_t left = args.m - t, passes = (left + most - 1) / most, n = (left + passes - 1) / passes;
    if (n == 1) dot_rows<Row, 1>(args, t);
    if (n == 2) dot_rows<Row, 2>(args, t);
    if (n == 3) dot_rows<Row, 3>(args, t);
    if (n == 4) dot_rows<Row, 4>(args, t);
    t += n;
  }
}

static constexpr uint32_t kMostDn = 4;  // activations; from 5 on the panel is faster (bench/kernels/matmul --only path)

template <class F, class Row, template <class> class Panel>
static void block_product(const MatmulArgs& args) {
  uint32_t path = args.m == 1 ? kPathD1 : args.m <= kMostDn ? kPathDn : kPathP;
  if (args.force_path >= 0 && static_cast<uint32_t>(args.force_path) <= kPathP)
    path = static_cast<uint32_t>(args.force_path);
  if (path == kPathP && !panel_fits<Panel<F>>(args)) path = args.m == 1 ? kPathD1 : kPathDn;
  args.scratch->counts[path]++;
  if (path == kPathP) panel_product<Panel<F>, F::kBytes>(args);
  else dot_passes<Row>(args, path == kPathD1 ? 1 : 4);
}

// --- embedding rows (D9)
// -----------------------------------------------------------------------------------------------------
static inline __m512 codes_minus(const uint8_t* codes, int offset) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(load_128(codes)), _mm512_set1_epi32(offset)));
}

template <class F>
static void dequant32(const uint8_t* row, uint32_t k, float* out) {
  constexpr int offset = F::kBiasShift == kUnsignedCodes ? 0 : 128 >> (F::kBiasShift < 0 ? 0 : F::kBiasShift);
  for (uint32_t first = 0, blocks = k / 32; first < blocks; first += 16, row += 16 * F::kBytes) {
    const uint32_t count = blocks - first < 16 ? blocks - first : 16;
    alignas(64) uint8_t copy[16 * F::kBytes + 64] = {}, codes[8][64];
    memcpy(copy, row, size_t{count} * F::kBytes);
    __m512i v[8];
    F::decode(copy, v);
    for (int i = 0; i < 8; i++) _mm512_store_si512(codes[i], v[i]);
    alignas(64) float scale[16], min[16] = {};
    _mm512_store_ps(scale, F::scales(copy));
    if constexpr (F::kMin) _mm512_store_ps(min, F::mins(copy));
    for (uint32_t b = 0; b < count; b++, out += 32)
      for (uint32_t h = 0; h < 2; h++) {
        const uint8_t* c = F::kLanes ? codes[2 * (b % 4) + h] + 16 * (b / 4) : codes[b % 8] + 32 * (b / 8) + 16 * h;
        __m512 q = codes_minus(c, offset);
        if constexpr (F::kHalfScale) q = _mm512_mul_ps(q, _mm512_set1_ps(0.5f));
        const __m512 s = _mm512_set1_ps(scale[b]);
        _mm512_storeu_ps(out + 16 * h, F::kMin ? _mm512_fmadd_ps(q, s, _mm512_set1_ps(min[b])) : _mm512_mul_ps(q, s));
      }
  }
}

template <class F>
static void dequant256(const uint8_t* row, uint32_t k, float* out) {
  for (uint32_t u = 0; u < k / 256; u++, row += F::kBytes) {
    typename F::Weights w;
    F::decode(row, &w);
    alignas(64) uint8_t codes[256];
    alignas(32) int16_t words[16], mins[16] = {};
    for (int z = 0; z < 4; z++) {
      __m512i v = w.codes[z];
      if constexpr (F::kScale != 1)
        v = _mm512_add_epi8(_mm512_mask_sub_epi8(v, w.negative[z], _mm512_setzero_si512(), v), _mm512_set1_epi8(-128));
      _mm512_store_si512(codes + 64 * z, v);
    }
    constexpr int offset = F::kScale != 1 ? 128 : F::kOffset;
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), w.words);
    if constexpr (F::kMin) _mm256_store_si256(reinterpret_cast<__m256i*>(mins), w.mins);
    const __m512 d = _mm512_set1_ps(_cvtsh_ss(load_u16(row + F::kD)) * F::kScale);
    const __m512 dmin = _mm512_set1_ps(_cvtsh_ss(load_u16(row + F::kDmin)));
    for (int i = 0; i < 16; i++, out += 16) {
      const int sub = i * 16 / F::kSub;
      const __m512 q =
          _mm512_mul_ps(codes_minus(codes + 16 * i, offset), _mm512_set1_ps(words[sub]));  // exact: small integers
      __m512 y;
      if constexpr (F::kMin) y = _mm512_fmsub_ps(q, d, _mm512_mul_ps(_mm512_set1_ps(mins[sub]), dmin));
      else
        y = _mm512_mul_ps(_mm512_add_ps(q, _mm512_setzero_ps()), d);  // an integer 0 is +0 whatever its factors' signs
      _mm512_storeu_ps(out, y);
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
  static void product(const MatmulArgs& args) { block_product<F, Row32<F>, Panel32>(args); }
  static void widen(const uint8_t* row, uint32_t k, float* out) { dequant32<F>(row, k, out); }
};
// How Dn reads the rows: as they are decoded for everything else, but for Q2_K.
template <class F>
struct RawOf {
  using Type = F;
};
template <>
struct RawOf<DotQ2K> {
  using Type = RawQ2K;
};
template <class F>
struct Type256 {
  static void product(const MatmulArgs& args) { block_product<F, Row256<typename RawOf<F>::Type>, Panel256>(args); }
  static void widen(const uint8_t* row, uint32_t k, float* out) { dequant256<F>(row, k, out); }
};

}  // namespace
}  // namespace nandu::avx512

#include "../common/types.h"
