// D1 and Dn of the AVX-512 target for blocks of 32 (arithmetic.md D2): raw rows against 1 to 4 prepared activations.
// 16 blocks a step: 16 dots are reduced to one vector of integers in block order, then one convert, one multiply and
// two FMAs carry them into the 8 chains. A block is decoded once for all activations of the pass.
#pragma once

#include "../../../quant/float16.h"
#include "act8_avx512.h"

namespace nandu::avx512 {
namespace {

// How far ahead in the same stream weights are asked for. Into the first cache: 4 KB and more costs 5-20 % there, NTA
// half the speed. Into the second, before that: it has more requests under way than the first one can wait for, and
// reads on over the ends of pages, which no hardware prefetcher does: Q4_0 from DRAM is a quarter faster on an Intel
// Xeon.
static constexpr int kPrefetchBytes = 2560, kFarPrefetchBytes = 16384;

template <int kBytes>
static inline void prefetch_ahead(const uint8_t* w) {
  for (int line = 0; line < kBytes; line += 64) {
    _mm_prefetch(w + kPrefetchBytes + line, _MM_HINT_T0);
    _mm_prefetch(w + kFarPrefetchBytes + line, _MM_HINT_T1);
  }
}

static inline __m512i load_512(const void* p) {
  return _mm512_loadu_si512(p);
}
static inline __m256i load_256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
static inline __m128i load_128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

// 16 bytes from each of four places `step` bytes apart, one per 128-bit lane.
static inline __m512i load_lanes(const uint8_t* p, size_t step) {
  __m512i v = _mm512_castsi128_si512(load_128(p));
  v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load_128(p + step));
  v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load_128(p + 2 * step));
  return _mm512_mask_broadcast_i32x4(v, 0xf000, load_128(p + 3 * step));
}

// f16 at `offset` of 16 blocks of kBytes (at most 20): four 64-byte windows hold four of them each.
template <int kBytes, int kOffset>
static inline __m512 scales_f16_windows(const uint8_t* w) {
  static_assert(3 * kBytes + kOffset + 2 <= 64 && 12 * kBytes + 64 <= 16 * kBytes, "a window stays inside the step");
  constexpr int o = kOffset / 2, s = kBytes / 2;
  const __m512i index =
      _mm512_broadcast_i32x4(_mm_setr_epi16(o, o + s, o + 2 * s, o + 3 * s, o, o + s, o + 2 * s, o + 3 * s));
  __m512i v = _mm512_maskz_permutexvar_epi16(0x000f, index, load_512(w));
  v = _mm512_mask_permutexvar_epi16(v, 0x00f0, index, load_512(w + 4 * kBytes));
  v = _mm512_mask_permutexvar_epi16(v, 0x0f00, index, load_512(w + 8 * kBytes));
  v = _mm512_mask_permutexvar_epi16(v, 0xf000, index, load_512(w + 12 * kBytes));
  return _mm512_cvtph_ps(_mm512_castsi512_si256(v));
}

// The same for longer blocks, through general registers, which the vector work leaves idle.
template <int kBytes>
static inline __m512 scales_f16_registers(const uint8_t* w) {
  uint64_t q[4];
  for (int i = 0; i < 4; i++, w += 4 * kBytes)
    q[i] = load_u16(w) | static_cast<uint64_t>(load_u16(w + kBytes)) << 16 |
           static_cast<uint64_t>(load_u16(w + 2 * kBytes)) << 32 |
           static_cast<uint64_t>(load_u16(w + 3 * kBytes)) << 48;
  const __m128i low =
      _mm_insert_epi64(_mm_cvtsi64_si128(static_cast<long long>(q[0])), static_cast<long long>(q[1]), 1);
  const __m128i high =
      _mm_insert_epi64(_mm_cvtsi64_si128(static_cast<long long>(q[2])), static_cast<long long>(q[3]), 1);
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

// --- formats
// ---------------------------------------------------------------------------------------------------------- A format
// decodes 16 blocks into 8 vectors of unsigned codes: kLanes in the order of Act32Layout::lanes (vectors 2i and 2i+1:
// first and second halves), otherwise vector p = [block p | block 8+p]. kBiasShift: the codes are w + (128 >> shift);
// kUnsigned: the codes are the weights.

enum : int { kUnsignedCodes = -1 };

static inline __m512i table_128(const uint8_t* table) {
  return _mm512_broadcast_i32x4(load_128(table));
}
alignas(16) static constexpr uint8_t kMxfp4Plus128[16] = {128, 129, 130, 131, 132, 134, 136, 140,
                                                          128, 127, 126, 125, 124, 122, 120, 116};
alignas(16) static constexpr uint8_t kIq4Plus128[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                        129, 141, 153, 166, 181, 197, 217, 241};

template <int kBytes, int kOffset>
static inline void decode_nibbles(const uint8_t* w, __m512i* v) {
  const __m512i low_bits = _mm512_set1_epi8(15);
  for (int i = 0; i < 4; i++) {
    const __m512i packed = load_lanes(w + i * kBytes + kOffset, 4 * kBytes);
    v[2 * i] = _mm512_and_si512(packed, low_bits);
    v[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low_bits);
  }
}
static inline void look_up(const uint8_t* table, __m512i* v) {
  const __m512i t = table_128(table);
  for (int i = 0; i < 8; i++) v[i] = _mm512_shuffle_epi8(t, v[i]);
}

struct DotQ8_0 {
  static constexpr int kBytes = 34, kBiasShift = 0;
  static constexpr bool kLanes = false, kHalfScale = false, kMin = false;
  static inline void decode(const uint8_t* w, __m512i* v) {
    const __m512i flip = _mm512_set1_epi8(-128);
    for (int p = 0; p < 8; p++) {
      const __m512i low = _mm512_castsi256_si512(load_256(w + p * kBytes + 2));
      v[p] = _mm512_xor_si512(_mm512_inserti64x4(low, load_256(w + (8 + p) * kBytes + 2), 1), flip);
    }
  }
  static inline __m512 scales(const uint8_t* w) { return scales_f16_registers<kBytes>(w); }
};

struct DotQ4_0 {
  static constexpr int kBytes = 18, kBiasShift = 4;
  static constexpr bool kLanes = true, kHalfScale = false, kMin = false;
  static inline void decode(const uint8_t* w, __m512i* v) { decode_nibbles<kBytes, 2>(w, v); }
  static inline __m512 scales(const uint8_t* w) { return scales_f16_windows<kBytes, 0>(w); }
};

struct DotIq4Nl {
  static constexpr int kBytes = 18, kBiasShift = 0;
  static constexpr bool kLanes = true, kHalfScale = false, kMin = false;
  static inline void decode(const uint8_t* w, __m512i* v) {
    decode_nibbles<kBytes, 2>(w, v);
    look_up(kIq4Plus128, v);
  }
  static inline __m512 scales(const uint8_t* w) { return scales_f16_windows<kBytes, 0>(w); }
};

struct DotQ4_1 {
  static constexpr int kBytes = 20, kBiasShift = kUnsignedCodes;
  static constexpr bool kLanes = true, kHalfScale = false, kMin = true;
  static inline void decode(const uint8_t* w, __m512i* v) { decode_nibbles<kBytes, 4>(w, v); }
  static inline __m512 scales(const uint8_t* w) { return scales_f16_windows<kBytes, 0>(w); }
  static inline __m512 mins(const uint8_t* w) { return scales_f16_windows<kBytes, 2>(w); }
};

struct DotQ5_0 {
  static constexpr int kBytes = 22, kBiasShift = 3;
  static constexpr bool kLanes = true, kHalfScale = false, kMin = false;
  static inline void decode(const uint8_t* w, __m512i* v) {
    decode_nibbles<kBytes, 6>(w, v);
    for (int i = 0; i < 8; i++) {  // bits of the first halves are the low 16 of qh, of the second halves the high 16
      const uint8_t* high = w + i / 2 * kBytes + 2 + i % 2 * 2;
      const uint64_t mask = load_u16(high) | static_cast<uint64_t>(load_u16(high + 4 * kBytes)) << 16 |
                            static_cast<uint64_t>(load_u16(high + 8 * kBytes)) << 32 |
                            static_cast<uint64_t>(load_u16(high + 12 * kBytes)) << 48;
      v[i] = _mm512_mask_add_epi8(v[i], mask, v[i], _mm512_set1_epi8(16));
    }
  }
  static inline __m512 scales(const uint8_t* w) { return scales_f16_registers<kBytes>(w); }
};

struct DotMxfp4 {
  static constexpr int kBytes = 17, kBiasShift = 0;
  static constexpr bool kLanes = true, kHalfScale = true, kMin = false;
  static inline void decode(const uint8_t* w, __m512i* v) {
    decode_nibbles<kBytes, 1>(w, v);
    look_up(kMxfp4Plus128, v);
  }
  // Exponent bytes to the top byte of each dword (0 elsewhere), then one place down: e << 23.
  static inline __m512 scales(const uint8_t* w) {
    const __m512i index = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 17 << 24, 34 << 24, 51 << 24));
    __m512i v = _mm512_maskz_permutexvar_epi8(0x0000000000008888, index, load_512(w));
    v = _mm512_mask_permutexvar_epi8(v, 0x0000000088880000, index, load_512(w + 4 * kBytes));
    v = _mm512_mask_permutexvar_epi8(v, 0x0000888800000000, index, load_512(w + 8 * kBytes));
    v = _mm512_mask_permutexvar_epi8(v, 0x8888000000000000, index, load_512(w + 12 * kBytes));
    return _mm512_castsi512_ps(_mm512_srli_epi32(v, 1));
  }
};

// --- one step of 16 blocks
// --------------------------------------------------------------------------------------------------
static inline __m512i add_unpacked_32(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
static inline __m512i add_unpacked_64(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// Integer dots of 16 decoded blocks with one activation, in block order, bias not yet removed. s: the step.
template <class F>
static inline __m512i step_dots(const __m512i* v, const Act32Layout& layout, const uint8_t* act, uint32_t s) {
  const __m512i zero = _mm512_setzero_si512();
  if constexpr (F::kLanes) {
    const uint8_t* a = act + layout.lanes + size_t{s} * 512;
    __m512i d[4];
    for (int i = 0; i < 4; i++)
      d[i] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, v[2 * i], load_512(a + 128 * i)), v[2 * i + 1],
                                 load_512(a + 128 * i + 64));
    return add_unpacked_64(add_unpacked_32(d[0], d[1]), add_unpacked_32(d[2], d[3]));
  } else {
    const size_t chain_bytes = size_t{layout.chain_units} * 32;
    const uint8_t* a = act + layout.chains + size_t{s} * 64;
    __m512i d[8];
    for (int p = 0; p < 8; p++) d[p] = _mm512_dpbusd_epi32(zero, v[p], load_512(a + p * chain_bytes));
    const __m512i low = add_unpacked_64(add_unpacked_32(d[0], d[1]), add_unpacked_32(d[2], d[3]));
    const __m512i high = add_unpacked_64(add_unpacked_32(d[4], d[5]), add_unpacked_32(d[6], d[7]));
    // Lanes: low = blocks 0-3, 0-3, 8-11, 8-11; high = 4-7, 4-7, 12-15, 12-15, each twice in part.
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13),
                  second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    return _mm512_add_epi32(_mm512_permutex2var_epi64(low, first, high), _mm512_permutex2var_epi64(low, second, high));
  }
}

// kTail: only the first `blocks` of the 16 exist; the chains of the others keep their value (adding +0 could turn a
// -0).
template <class F, int kTokens, bool kTail>
static inline void dot32_step(const uint8_t* w, uint32_t s, uint32_t blocks, const Act32Layout& layout,
                              const uint8_t* const* x, __m256* chains) {
  __m512i v[8];
  F::decode(w, v);
  const __m512 scale = F::scales(w);
  __m512 min = scale;
  if constexpr (F::kMin) min = F::mins(w);
  for (int t = 0; t < kTokens; t++) {
    __m512i isum = step_dots<F>(v, layout, x[t], s);
    const __m512i bias = load_512(x[t] + layout.bias + size_t{s} * 64);
    if constexpr (F::kBiasShift == 0) isum = _mm512_add_epi32(isum, bias);
    if constexpr (F::kBiasShift > 0) isum = _mm512_add_epi32(isum, _mm512_srai_epi32(bias, F::kBiasShift));
    __m512 value;
    if constexpr (F::kMin) {
      const __m512i asum = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_srai_epi32(bias, 7));
      value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), scale, _mm512_mul_ps(_mm512_cvtepi32_ps(asum), min));
    } else {
      value = _mm512_mul_ps(_mm512_cvtepi32_ps(isum), scale);
    }
    const float* s_a = reinterpret_cast<const float*>(x[t] + (F::kHalfScale ? layout.half : 0)) + size_t{s} * 16;
    const __m256 low = _mm512_castps512_ps256(value), high = _mm512_extractf32x8_ps(value, 1);
    if constexpr (kTail) {
      const uint32_t mask = (1u << blocks) - 1;
      chains[t] = _mm256_mask3_fmadd_ps(low, _mm256_loadu_ps(s_a), chains[t], static_cast<__mmask8>(mask));
      chains[t] = _mm256_mask3_fmadd_ps(high, _mm256_loadu_ps(s_a + 8), chains[t], static_cast<__mmask8>(mask >> 8));
    } else {
      chains[t] = _mm256_fmadd_ps(low, _mm256_loadu_ps(s_a), chains[t]);
      chains[t] = _mm256_fmadd_ps(high, _mm256_loadu_ps(s_a + 8), chains[t]);
    }
  }
}

template <class F, int kTokens>
static inline void dot32_row(const uint8_t* w, const Act32Layout& layout, const uint8_t* const* x, __m256* chains) {
  for (int t = 0; t < kTokens; t++) chains[t] = _mm256_setzero_ps();
  const uint32_t steps = layout.blocks / 16, rest = layout.blocks % 16;
  for (uint32_t s = 0; s < steps; s++, w += 16 * F::kBytes) {
    prefetch_ahead<16 * F::kBytes>(w);
    dot32_step<F, kTokens, false>(w, s, 16, layout, x, chains);
  }
  if (rest != 0) {  // a copy, so that nothing behind the last block is read
    alignas(64) uint8_t tail[16 * F::kBytes + 64] = {};
    memcpy(tail, w, rest * F::kBytes);
    dot32_step<F, kTokens, true>(tail, steps, rest, layout, x, chains);
  }
}

template <class F>
struct Row32 {
  using Layout = Act32Layout;
  // Chains of up to 8 rows, [token][row][chain].
  template <int kTokens>
  static inline void rows(const uint8_t* w, size_t row_bytes, uint32_t rows, const Layout& layout,
                          const uint8_t* const* x, float (*chains)[8][8]) {
    for (uint32_t r = 0; r < rows; r++) {
      __m256 c[kTokens];
      dot32_row<F, kTokens>(w + r * row_bytes, layout, x, c);
      for (int t = 0; t < kTokens; t++) _mm256_store_ps(chains[t][r], c[t]);
    }
  }
};

}  // namespace
}  // namespace nandu::avx512
