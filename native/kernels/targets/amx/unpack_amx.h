// Rows of 16 blocks unpacked into int8 tiles, and where the avx512 target's prepared activations keep what tiles read:
// the part of panel_tiles.h that is written in AVX-512.
#pragma once

// Of these only decoders, layouts and transposes are used.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../avx512/panel_avx512.h"
#pragma GCC diagnostic pop
#include "../common/tile_records.h"
#include "../common/vec_avx512.h"

namespace nandu::avx512 {
namespace {

// --- activations ---

struct TileAct32 : ChainPlaces<Act32Layout> {
  static constexpr uint32_t kValues = 32;
  uint32_t units;
  explicit TileAct32(uint32_t k) : ChainPlaces(k), units(k / 32) {}
  size_t codes_at(uint32_t unit) const { return chains + size_t{32} * place(unit); }
  size_t scale_at(bool halved) const { return halved ? half : 0; }
  F32x16 sums(const uint8_t* x, uint32_t unit) const {  // of 16 units
    const __m512i minus_128 = load_512(x + bias + size_t{4} * unit);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), _mm512_srai_epi32(minus_128, 7)));
  }
};

struct TileAct256 : ChainPlaces<Act256Layout> {
  static constexpr uint32_t kValues = 256;
  explicit TileAct256(uint32_t k) : ChainPlaces(k) {}
  size_t codes_at(uint32_t unit) const { return chains + size_t{256} * place(unit); }
  size_t scale_at(uint32_t unit) const { return size_t{4} * unit; }
  size_t pairs_at(int sub, uint32_t unit) const {
    return sub == 32 ? sums32 + size_t{16} * unit : sums16 + size_t{32} * unit;
  }
};

static inline I32x16 dot_words(I32x16 sum, I32x16 a, I32x16 b) {
  return _mm512_dpwssd_epi32(sum, a, b);
}

// --- blocks of 32 ---

template <TensorType kType>
static inline void unpack_tiles32(const PanelRows& rows, size_t at, uint8_t* record) {
  __m512i low[4], high[4];
  if constexpr (kType == TensorType::kQ8_0) {
    load_tile(rows, at + 2, low);
    load_tile(rows, at + 18, high);
  } else {
    constexpr size_t codes_at = kType == TensorType::kMXFP4  ? 1
                                : kType == TensorType::kQ4_1 ? 4
                                : kType == TensorType::kQ5_0 ? 6
                                                             : 2;
    __m512i t[4];
    load_tile(rows, at + codes_at, t);
    Panel32<DotQ4_0>::nibbles(t, low, high);
  }
  if constexpr (kType == TensorType::kMXFP4 || kType == TensorType::kIQ4_NL) {
    const __m512i plus_128 = table_128(kType == TensorType::kMXFP4 ? kMxfp4Plus128 : kIq4Plus128);
    const __m512i table = _mm512_xor_si512(plus_128, _mm512_set1_epi8(-128));
    for (int g = 0; g < 4; g++)
      low[g] = _mm512_shuffle_epi8(table, low[g]), high[g] = _mm512_shuffle_epi8(table, high[g]);
  }
  if constexpr (kType == TensorType::kQ5_0) {
    __m512i bits[4];
    load_tile(rows, at, bits);  // d, then the 32 fifth bits
    const __m512i first = _mm512_srli_epi32(bits[0], 16), second = bits[1];
    for (int g = 0; g < 4; g++) low[g] = _mm512_or_si512(low[g], Panel32<DotQ5_0>::fifth_bits(first, 4 * g));
    for (int g = 0; g < 4; g++) high[g] = _mm512_or_si512(high[g], Panel32<DotQ5_0>::fifth_bits(second, 4 * g));
  }
  if constexpr (kType == TensorType::kQ4_0 || kType == TensorType::kQ5_0) {
    const __m512i middle = _mm512_set1_epi8(kType == TensorType::kQ4_0 ? 8 : 16);
    for (int g = 0; g < 4; g++) low[g] = _mm512_sub_epi8(low[g], middle), high[g] = _mm512_sub_epi8(high[g], middle);
  }
  for (int g = 0; g < 4; g++) {
    _mm512_store_si512(record + 64 * g, low[g]);
    _mm512_store_si512(record + 256 + 64 * g, high[g]);
  }
  float* const scale = reinterpret_cast<float*>(record + Record32::kScale);
  if constexpr (kType == TensorType::kMXFP4) {
    alignas(16) uint8_t e[16];
    for (int r = 0; r < 16; r++) e[r] = rows.row[r][at];
    _mm512_store_si512(scale, _mm512_slli_epi32(_mm512_cvtepu8_epi32(load_128(e)), 23));
  } else {
    _mm512_store_ps(scale, gather_f16(rows, at));
  }
  if constexpr (kType == TensorType::kQ4_1)
    _mm512_store_ps(reinterpret_cast<float*>(record + Record32::kMins), gather_f16(rows, at + 2));
}

// --- superblocks of 256: vectors are 16 rows x 4 values from here on ---

template <TensorType kType>
struct DecoderOf;
template <>
struct DecoderOf<TensorType::kQ2_K> : DotQ2K {};
template <>
struct DecoderOf<TensorType::kQ3_K> : DotQ3K {};
template <>
struct DecoderOf<TensorType::kQ4_K> : DotQ45K<false> {};
template <>
struct DecoderOf<TensorType::kQ5_K> : DotQ45K<true> {};
template <>
struct DecoderOf<TensorType::kQ6_K> : DotQ6K {};
template <>
struct DecoderOf<TensorType::kIQ2_XXS> : DotIq2Xxs {};
template <>
struct DecoderOf<TensorType::kIQ4_XS> : DotIq4Xs {};

// Byte i of each dword as both of its words; word i as both.
static inline __m512i byte_to_words(__m512i v, int i) {
  const auto places = [i](int dword) {
    return static_cast<int>(0x80008000u + 0x00010001u * static_cast<uint32_t>(4 * dword + i));
  };
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_setr_epi32(places(0), places(1), places(2), places(3))));
}
static inline __m512i word_twice(__m512i v, int i) {
  const auto places = [i](int dword) { return 0x01000100 + 0x02020202 * (2 * dword + i); };
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_setr_epi32(places(0), places(1), places(2), places(3))));
}

static inline __m512i low_bytes() {
  return _mm512_set1_epi16(0x00ff);
}
static inline __m512i select_bits(__m512i mask, __m512i a, __m512i b) {  // a where the mask is set, else b
  return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

// A row's multiplier of a sub-block in both words of its dword. Where they are split: the low three bits, the others.
struct Multiplier {
  __m512i low, high;
};
template <TensorType kType>
static inline Multiplier split_multiplier(__m512i words) {
  if constexpr (fold_of(kType).shift != 3) return {words, words};
  return {_mm512_and_si512(words, _mm512_set1_epi16(7)), _mm512_srli_epi16(words, 3)};
}

// 64 codes times their multipliers into the record's planes. One word product multiplies both of its bytes as long as
// the even one's stays below 256 (unsigned folds), or wherever only the low byte of each counts (Q3_K).
template <TensorType kType>
static inline void store_folded(__m512i codes, const Multiplier& m, uint8_t* to) {
  constexpr Fold f = fold_of(kType);
  if constexpr (f.is_unsigned) {
    _mm512_store_si512(to, _mm512_mullo_epi16(codes, m.low));
    if constexpr (f.planes == 2) _mm512_store_si512(to + 4096, _mm512_mullo_epi16(codes, m.high));
  } else if constexpr (f.planes == 1) {
    const __m512i minus = _mm512_sub_epi8(_mm512_set1_epi8(DecoderOf<kType>::kOffset), codes);
    const __m512i odd = _mm512_mullo_epi16(_mm512_andnot_si512(low_bytes(), minus), m.low);
    _mm512_store_si512(to, select_bits(low_bytes(), _mm512_mullo_epi16(minus, m.low), odd));
  } else {
    const __m512i v = _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(DecoderOf<kType>::kOffset)));
    const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), m.low);
    const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(v, 8), m.low);
    const __m512i low = select_bits(low_bytes(), even, _mm512_slli_epi16(odd, 8));
    const __m512i high = select_bits(low_bytes(), _mm512_srai_epi16(even, 6), _mm512_slli_epi16(odd, 2));
    _mm512_store_si512(to, _mm512_and_si512(low, _mm512_set1_epi8(63)));
    _mm512_store_si512(to + 4096, high);
  }
}

// Four mins of 16 rows, a byte each, as two vectors of word pairs.
static inline void store_mins(__m512i mins, uint8_t* to) {
  const __m512i byte = _mm512_set1_epi32(255), second = _mm512_set1_epi32(0x00ff0000);
  _mm512_store_si512(to, or_masked(_mm512_and_si512(mins, byte), _mm512_slli_epi32(mins, 8), second));
  _mm512_store_si512(
      to + 64, or_masked(_mm512_and_si512(_mm512_srli_epi32(mins, 16), byte), _mm512_srli_epi32(mins, 8), second));
}
template <TensorType kType>
static inline void store_scales(__m512 d, __m512 dmin, uint8_t* record) {
  constexpr Fold f = fold_of(kType);
  _mm512_store_ps(record + Record256::d(f), d);
  if constexpr (f.min) _mm512_store_ps(record + Record256::minus_dmin(f), _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0f)));
}

// 16 header bytes of each row are d, dmin and the 12 bytes of scales; 16 code bytes are 16 values of sub-block 2j, and
// in their high halves of 2j + 1.
static inline void unpack_q4k(const PanelRows& rows, size_t at, uint8_t* record) {
  constexpr TensorType type = TensorType::kQ4_K;
  const __m512i nibble = _mm512_set1_epi8(15), six = _mm512_set1_epi8(63), top = _mm512_set1_epi8(0x30);
  __m512i h[4];
  load_tile(rows, at, h);
  store_scales<type>(f16_of_dwords(h[0]), f16_of_dwords(_mm512_srli_epi32(h[0], 16)), record);
  const __m512i scales[2] = {_mm512_and_si512(h[1], six),
                             or_masked(_mm512_and_si512(h[3], nibble), _mm512_srli_epi32(h[1], 2), top)};
  store_mins(_mm512_and_si512(h[2], six), record + Record256::mins(fold_of(type)));
  store_mins(or_masked(_mm512_and_si512(_mm512_srli_epi32(h[3], 4), nibble), _mm512_srli_epi32(h[2], 2), top),
             record + Record256::mins(fold_of(type)) + 128);
  for (int pair = 0; pair < 4; pair++) {
    const __m512i own = pair < 2 ? scales[0] : scales[1];
    const Multiplier even = split_multiplier<type>(byte_to_words(own, pair % 2 * 2)),
                     odd = split_multiplier<type>(byte_to_words(own, pair % 2 * 2 + 1));
    for (int half = 0; half < 2; half++) {
      __m512i t[4];
      load_tile(rows, at + static_cast<size_t>(16 + 32 * pair + 16 * half), t);
      uint8_t* const to = record + 1024 * pair + 256 * half;
      for (int g = 0; g < 4; g++) {
        store_folded<type>(_mm512_and_si512(t[g], nibble), even, to + 64 * g);
        store_folded<type>(_mm512_and_si512(_mm512_srli_epi16(t[g], 4), nibble), odd, to + 512 + 64 * g);
      }
    }
  }
}

// 16 bytes of multipliers and mins, then 64 of codes: two bits of 16 values of each of four sub-blocks, every other
// one.
static inline void unpack_q2k(const PanelRows& rows, size_t at, uint8_t* record) {
  constexpr TensorType type = TensorType::kQ2_K;
  const __m512i nibble = _mm512_set1_epi8(15), two_bits = _mm512_set1_epi8(3);
  __m512i h[4];
  load_tile(rows, at, h);
  for (int g = 0; g < 4; g++) {
    store_mins(_mm512_and_si512(_mm512_srli_epi16(h[g], 4), nibble), record + Record256::mins(fold_of(type)) + 128 * g);
    h[g] = _mm512_and_si512(h[g], nibble);
  }
  store_scales<type>(gather_f16(rows, at + DotQ2K::kD), gather_f16(rows, at + DotQ2K::kDmin), record);
  for (int tile = 0; tile < 4; tile++) {
    __m512i t[4];
    load_tile(rows, at + static_cast<size_t>(16 + 16 * tile), t);
    for (int i = 0; i < 4; i++) {
      const int sub = tile / 2 * 8 + 2 * i + tile % 2;
      const __m512i words = byte_to_words(h[sub / 4], sub % 4);
      for (int g = 0; g < 4; g++)
        store_folded<type>(_mm512_and_si512(_mm512_srl_epi16(t[g], _mm_cvtsi32_si128(2 * i)), two_bits), {words, words},
                           record + 256 * sub + 64 * g);
    }
  }
}

// Any type through its decoder: rows of bytes first, then transposed.
template <TensorType kType>
static inline void unpack_any(const PanelRows& rows, size_t at, uint8_t* record) {
  using F = DecoderOf<kType>;
  constexpr Fold f = fold_of(kType);
  alignas(64) uint8_t codes[16][256];
  alignas(64) int16_t words[16][16], mins[16][16];
  PanelRows code_rows, word_rows, min_rows;
  for (int r = 0; r < 16; r++) {
    typename F::Weights w;
    F::decode(rows.row[r] + at, &w);
    for (int z = 0; z < 4; z++) {
      __m512i v = w.codes[z];
      if constexpr (F::kScale != 1) v = _mm512_mask_sub_epi8(v, w.negative[z], _mm512_setzero_si512(), v);
      _mm512_store_si512(codes[r] + 64 * z, v);
    }
    _mm256_store_si256(reinterpret_cast<__m256i*>(words[r]), w.words);
    if constexpr (f.min) _mm256_store_si256(reinterpret_cast<__m256i*>(mins[r]), w.mins);
    code_rows.row[r] = codes[r];
    word_rows.row[r] = reinterpret_cast<const uint8_t*>(words[r]);
    min_rows.row[r] = reinterpret_cast<const uint8_t*>(mins[r]);
  }
  constexpr int subs = 256 / f.sub;
  Multiplier multiplier[subs];
  __m512i t[4];
  for (int tile = 0; tile < subs / 8; tile++) {
    load_tile(word_rows, static_cast<size_t>(16 * tile), t);
    for (int g = 0; g < 4; g++)
      for (int i = 0; i < 2; i++) multiplier[8 * tile + 2 * g + i] = split_multiplier<kType>(word_twice(t[g], i));
    if constexpr (f.min) {
      load_tile(min_rows, static_cast<size_t>(16 * tile), t);
      for (int g = 0; g < 4; g++) _mm512_store_si512(record + Record256::mins(f) + 64 * (4 * tile + g), t[g]);
    }
  }
  for (int tile = 0; tile < 16; tile++) {
    load_tile(code_rows, static_cast<size_t>(16 * tile), t);
    for (int g = 0; g < 4; g++) store_folded<kType>(t[g], multiplier[16 * tile / f.sub], record + 64 * (4 * tile + g));
  }
  const __m512 d = gather_f16(rows, at + F::kD), dmin = f.min ? gather_f16(rows, at + F::kDmin) : d;
  store_scales<kType>(F::kScale != 1 ? _mm512_mul_ps(d, _mm512_set1_ps(F::kScale)) : d, dmin, record);
}

template <TensorType kType>
static inline void unpack_tiles256(const PanelRows& rows, size_t at, uint8_t* record) {
  if constexpr (kType == TensorType::kQ4_K) unpack_q4k(rows, at, record);
  else if constexpr (kType == TensorType::kQ2_K) unpack_q2k(rows, at, record);
  else unpack_any<kType>(rows, at, record);
}

}  // namespace
}  // namespace nandu::avx512
