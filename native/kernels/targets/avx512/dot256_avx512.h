// D1 and Dn of the AVX-512 target for superblocks of 256 (arithmetic.md D3). All integer work of up to 16 superblocks
// is done first; their sums are then converted together, one rounding each, and go into the 8 chains.
#pragma once

#include "../../../quant/iq_grids.h"
#include "dot32_avx512.h"

namespace nandu::avx512 {
namespace {

// --- formats
// ---------------------------------------------------------------------------------------------------------- A format
// decodes a superblock once into its Weights; dot() multiplies it with one activation: isum's 16 partial sums and, with
// kMin, msum's 4. Codes are the weights + kOffset as u8, in plain order, 64 a vector; `multiplier` holds their
// multipliers as 16-bit words over the pairs of maddubs, `words` all of them (8 or 16) once.

struct ActUnit {  // what one activation has for a superblock
  const uint8_t* codes;
  const uint8_t* sums16;
  const uint8_t* sums32;
  const uint8_t* halves;
};

// Two halves of a vector shifted by their own counts. One constant, not two joined: gcc would join them in every block.
static inline __m512i half_counts(int low, int high) {
  const long long l = low * 0x0001000100010001ll, h = high * 0x0001000100010001ll;
  return _mm512_set_epi64(h, h, h, h, l, l, l, l);
}

// Each multiplier to the words of its values in vector z: 4 of 16 multipliers, or 2 of 8. Words are moved as pairs of
// bytes: on Intel's cores vpermw is two operations and vpermb one.
static constexpr int word_bytes(int word) {
  return 2 * word | (2 * word + 1) << 8;
}
static inline __m512i spread_16(__m256i words, int z) {
  const long long n = 0x0001000100010001ll, a = n * word_bytes(4 * z), b = n * word_bytes(4 * z + 1),
                  c = n * word_bytes(4 * z + 2), d = n * word_bytes(4 * z + 3);
  return _mm512_permutexvar_epi8(_mm512_set_epi64(d, d, c, c, b, b, a, a), _mm512_castsi256_si512(words));
}
static inline __m512i spread_8(__m256i words, int z, int first) {  // from word `first` on
  return _mm512_permutexvar_epi8(half_counts(word_bytes(first + 2 * z), word_bytes(first + 2 * z + 1)),
                                 _mm512_castsi256_si512(words));
}

static inline __m512i shift_halves(__m512i v, int low, int high) {
  return _mm512_srlv_epi16(v, half_counts(low, high));
}
static inline __m512i shift_halves_left(__m512i v, int low, int high) {
  return _mm512_sllv_epi16(v, half_counts(low, high));
}
static inline __m512i twice_32(const uint8_t* p) {
  return _mm512_broadcast_i64x4(load_256(p));
}
static inline __m512i or_masked(__m512i base, __m512i bits, __m512i mask) {  // base | (bits & mask)
  return _mm512_ternarylogic_epi32(base, bits, mask, 0xf8);
}

struct Decoded {
  __m512i codes[4], multiplier[4];
  __m256i words, mins;
};

static inline __m512i dot_words(const Decoded& w, const uint8_t* codes) {
  __m512i sum = _mm512_setzero_si512();
  for (int z = 0; z < 4; z++)
    sum = _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(w.codes[z], load_512(codes + 64 * z)), w.multiplier[z]);
  return sum;
}
// isum less kOffset (a power of two) times the multipliers' sum over the activation: signed codes stored with an
// offset.
template <int kShift>
static inline __m512i less_offset(__m512i isum, __m256i multipliers, const uint8_t* sums16) {
  const __m256i offset = _mm256_slli_epi32(_mm256_madd_epi16(multipliers, load_256(sums16)), kShift);
  return _mm512_sub_epi32(isum, _mm512_zextsi256_si512(offset));
}

// The 12 bytes of six-bit scales and mins at w + 4 (w: d, dmin before them) as words: 8 mins, then 8 scales.
static inline __m256i k4_scales(const uint8_t* w) {
  const __m256i header = _mm256_broadcastsi128_si256(load_128(w));
  const __m256i low_place = _mm256_setr_epi8(8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1,  //
                                             4, -1, 5, -1, 6, -1, 7, -1, 12, -1, 13, -1, 14, -1, 15, -1);
  const __m256i top_place = _mm256_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 8, -1, 9, -1, 10, -1, 11, -1,  //
                                             -1, -1, -1, -1, -1, -1, -1, -1, 4, -1, 5, -1, 6, -1, 7, -1);
  const __m256i shifts = _mm256_setr_epi16(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m256i masks = _mm256_setr_epi16(63, 63, 63, 63, 15, 15, 15, 15, 63, 63, 63, 63, 15, 15, 15, 15);
  const __m256i low = _mm256_and_si256(_mm256_srlv_epi16(_mm256_shuffle_epi8(header, low_place), shifts), masks);
  const __m256i top = _mm256_srli_epi16(_mm256_shuffle_epi8(header, top_place), 2);
  return _mm256_ternarylogic_epi32(low, top, _mm256_set1_epi16(0x30), 0xf8);
}

template <bool kFive>
struct DotQ45K {
  static constexpr int kBytes = kFive ? 176 : 144, kD = 0, kDmin = 2, kOffset = 0, kSub = 32;
  static constexpr bool kMin = true;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline void decode(const uint8_t* w, Decoded* out) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const uint8_t* qs = w + (kFive ? 48 : 16);
    out->mins = k4_scales(w);
    for (int z = 0; z < 4; z++) {
      out->codes[z] = _mm512_and_si512(shift_halves(twice_32(qs + 32 * z), 0, 4), nibble);
      out->multiplier[z] = spread_8(out->mins, z, 8);
    }
    if constexpr (kFive) {  // bit i of a byte of qh belongs to sub-block i; it goes to bit 4
      const __m512i high = twice_32(w + 16), bit = _mm512_set1_epi8(16);
      out->codes[0] = or_masked(out->codes[0], shift_halves_left(high, 4, 3), bit);
      out->codes[1] = or_masked(out->codes[1], shift_halves_left(high, 2, 1), bit);
      out->codes[2] = or_masked(out->codes[2], shift_halves(high, 0, 1), bit);
      out->codes[3] = or_masked(out->codes[3], shift_halves(high, 2, 3), bit);
    }
    out->words = _mm256_permute4x64_epi64(out->mins, 0x4e);
  }
  static inline __m512i dot(const Decoded& w, const ActUnit& a) { return dot_words(w, a.codes); }
  static inline __m128i dot_mins(const Decoded& w, const ActUnit& a) {
    return _mm_madd_epi16(_mm256_castsi256_si128(w.mins), load_128(a.sums32));
  }
};

struct DotQ2K {
  static constexpr int kBytes = 84, kD = 80, kDmin = 82, kOffset = 0, kSub = 16;
  static constexpr bool kMin = true;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline void decode(const uint8_t* w, Decoded* out) {
    const __m512i two_bits = _mm512_set1_epi8(3);
    const __m256i packed = _mm256_cvtepu8_epi16(load_128(w));
    const __m256i scales = _mm256_and_si256(packed, _mm256_set1_epi16(15));
    out->mins = _mm256_srli_epi16(packed, 4);
    for (int half = 0; half < 2; half++) {
      const __m512i qs = twice_32(w + 16 + 32 * half);
      out->codes[2 * half] = _mm512_and_si512(shift_halves(qs, 0, 2), two_bits);
      out->codes[2 * half + 1] = _mm512_and_si512(shift_halves(qs, 4, 6), two_bits);
    }
    out->words = scales;
    for (int z = 0; z < 4; z++) out->multiplier[z] = spread_16(scales, z);
  }
};

// Q2_K against raw rows, with fewer shifts: the 64 packed bytes are masked where they lie, so codes come out times 1,
// 4, 16 and 4; the multipliers make up for it (times 16, 4, 1, 4), and the whole sum is 16 times isum.
struct RawQ2K {
  static constexpr int kBytes = DotQ2K::kBytes, kD = DotQ2K::kD, kDmin = DotQ2K::kDmin, kShift = 4;
  static constexpr bool kMin = true;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline __m512i places(int j) {  // multiplier 8n + 2j + h for lane 2n + h
    const long long first = 2 * j, both = 0x0000000100000001;
    return _mm512_set_epi64(both * (first + 9), both * (first + 9), both * (first + 8), both * (first + 8),
                            both * (first + 1), both * (first + 1), both * first, both * first);
  }
  static inline void decode(const uint8_t* w, Decoded* out) {
    __m512i packed = load_512(w + 16);
    __asm__("" : "+v"(packed));  // gcc would load it four times, and nearly every load here spans two lines
    out->codes[0] = _mm512_and_si512(packed, _mm512_set1_epi8(0x03));
    out->codes[1] = _mm512_and_si512(packed, _mm512_set1_epi8(0x0c));
    out->codes[2] = _mm512_and_si512(packed, _mm512_set1_epi8(0x30));
    out->codes[3] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), _mm512_set1_epi8(0x0c));
    out->mins = _mm256_srli_epi16(_mm256_cvtepu8_epi16(load_128(w)), 4);
    // Low nibbles moved up 4, 4, 2, 2, 0, 0, 2, 2 bits, the bytes of each eight in turn.
    const __m128i bits = _mm_set1_epi64x(0x362e2820160e043c);
    const __m128i scales = _mm_multishift_epi64_epi8(bits, _mm_and_si128(load_128(w), _mm_set1_epi8(15)));
    for (int j = 0; j < 4; j++)
      out->multiplier[j] = _mm512_maskz_permutexvar_epi8(0x1111111111111111, places(j), _mm512_castsi128_si512(scales));
  }
  static inline __m512i dot(const Decoded& w, const ActUnit& a) {
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < 4; j++) {  // 4 x 48 x 127 at most: a word
      const __m512i quads = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.codes[j], load_512(a.halves + 64 * j));
      sum = _mm512_dpwssd_epi32(sum, quads, w.multiplier[j]);
    }
    return sum;
  }
  static inline __m256i dot_mins(const Decoded& w, const ActUnit& a) {
    return _mm256_madd_epi16(w.mins, load_256(a.sums16));
  }
};

struct DotQ3K {
  static constexpr int kBytes = 110, kD = 108, kDmin = 108, kOffset = 4, kSub = 16;
  static constexpr bool kMin = false;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline __m256i scales(const uint8_t* s) {  // 16 words, s - 32
    const uint64_t low = load_u32(s) | static_cast<uint64_t>(load_u32(s + 4)) << 32;
    const uint64_t top = load_u32(s + 8), nibble = 0x0f0f0f0f0f0f0f0f, two_bits = 0x03030303;
    const uint64_t first = (low & nibble) | (top & two_bits) << 4 | (top >> 2 & two_bits) << 36;
    const uint64_t second = (low >> 4 & nibble) | (top >> 4 & two_bits) << 4 | (top >> 6 & two_bits) << 36;
    const __m128i bytes = _mm_set_epi64x(static_cast<long long>(second), static_cast<long long>(first));
    return _mm256_sub_epi16(_mm256_cvtepu8_epi16(bytes), _mm256_set1_epi16(32));
  }
  static inline void decode(const uint8_t* w, Decoded* out) {
    const __m512i two_bits = _mm512_set1_epi8(3), bit = _mm512_set1_epi8(4), high = twice_32(w);
    const __m512i top[4] = {shift_halves_left(high, 2, 1), shift_halves(high, 0, 1), shift_halves(high, 2, 3),
                            shift_halves(high, 4, 5)};
    for (int z = 0; z < 4; z++) {
      const __m512i qs = twice_32(w + 32 + z / 2 * 32);
      const __m512i low = _mm512_and_si512(shift_halves(qs, z % 2 * 4, z % 2 * 4 + 2), two_bits);
      out->codes[z] = or_masked(low, top[z], bit);  // 0..7: the weight + 4
    }
    out->words = scales(w + 96);
    for (int z = 0; z < 4; z++) out->multiplier[z] = spread_16(out->words, z);
  }
  static inline __m512i dot(const Decoded& w, const ActUnit& a) {
    return less_offset<2>(dot_words(w, a.codes), w.words, a.sums16);
  }
};

struct DotQ6K {
  static constexpr int kBytes = 210, kD = 208, kDmin = 208, kOffset = 32, kSub = 16;
  static constexpr bool kMin = false;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline void decode(const uint8_t* w, Decoded* out) {
    const __m512i nibble = _mm512_set1_epi8(15), top_bits = _mm512_set1_epi8(0x30);
    for (int half = 0; half < 2; half++) {
      const __m512i ql = load_512(w + 64 * half), qh = twice_32(w + 128 + 32 * half);
      out->codes[2 * half] = or_masked(_mm512_and_si512(ql, nibble), shift_halves_left(qh, 4, 2), top_bits);
      out->codes[2 * half + 1] =
          or_masked(_mm512_and_si512(_mm512_srli_epi16(ql, 4), nibble), shift_halves(qh, 0, 2), top_bits);
    }
    out->words = _mm256_cvtepi8_epi16(load_128(w + 192));
    for (int z = 0; z < 4; z++) out->multiplier[z] = spread_16(out->words, z);
  }
  static inline __m512i dot(const Decoded& w, const ActUnit& a) {
    return less_offset<5>(dot_words(w, a.codes), w.words, a.sums16);
  }
};

// Codes up to 241 would overflow maddubs: dpbusd, and the multipliers as dwords.
struct DotIq4Xs {
  static constexpr int kBytes = 136, kD = 0, kDmin = 0, kOffset = 128, kSub = 32;
  static constexpr bool kMin = false;
  static constexpr float kScale = 1;
  using Weights = Decoded;
  static inline __m128i scales(const uint8_t* w) {  // 8 words, ls - 32
    const __m128i shifts_low = _mm_setr_epi16(0, 4, 8, 12, 0, 4, 8, 12),
                  shifts_high = _mm_setr_epi16(0, 2, 4, 6, 8, 10, 12, 14);
    const __m128i low_words = _mm_shuffle_epi8(_mm_cvtsi32_si128(static_cast<int>(load_u32(w + 4))),
                                               _mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3));
    const __m128i low = _mm_and_si128(_mm_srlv_epi16(low_words, shifts_low), _mm_set1_epi16(15));
    const __m128i high = _mm_and_si128(_mm_srlv_epi16(_mm_set1_epi16(static_cast<short>(load_u16(w + 2))), shifts_high),
                                       _mm_set1_epi16(3));
    return _mm_sub_epi16(_mm_or_si128(low, _mm_slli_epi16(high, 4)), _mm_set1_epi16(32));
  }
  static inline void decode(const uint8_t* w, Decoded* out) {
    const __m512i nibble = _mm512_set1_epi8(15), table = table_128(kIq4Plus128);
    const __m512i lanes = _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3);
    const __m512i shifts =
        _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004);
    const __m128i words = scales(w);
    const __m512i dwords = _mm512_castsi256_si512(_mm256_cvtepi16_epi32(words));
    for (int z = 0; z < 4; z++) {
      const __m512i packed = _mm512_permutexvar_epi64(lanes, _mm512_castsi256_si512(load_256(w + 8 + 32 * z)));
      out->codes[z] = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srlv_epi16(packed, shifts), nibble));
      const long long low = 0x0000000100000001ll * (2 * z), high = 0x0000000100000001ll * (2 * z + 1);
      const __m512i index = _mm512_set_epi64(high, high, high, high, low, low, low, low);
      out->multiplier[z] = _mm512_permutexvar_epi32(index, dwords);
    }
    out->words = _mm256_castsi128_si256(words);
  }
  static inline __m512i dot(const Decoded& w, const ActUnit& a) {
    __m512i sum = _mm512_setzero_si512();
    for (int z = 0; z < 4; z++) {
      const __m512i quads = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.codes[z], load_512(a.codes + 64 * z));
      sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(quads, w.multiplier[z]));
    }
    const __m128i offset = _mm_slli_epi32(_mm_madd_epi16(_mm256_castsi256_si128(w.words), load_128(a.sums32)), 7);
    return _mm512_sub_epi32(sum, _mm512_zextsi128_si512(offset));
  }
};

// The 256 grid points as eight 2-bit levels each: 512 bytes, which stay in 8 registers.
struct Iq2Levels {
  alignas(64) uint16_t level[256];
};
static constexpr Iq2Levels iq2_levels() {
  Iq2Levels t = {};
  for (int i = 0; i < 256; i++)
    for (int j = 0; j < 8; j++) {
      const uint64_t value = kIq2xxsGrid[i] >> (8 * j) & 255;
      t.level[i] = static_cast<uint16_t>(t.level[i] | (value == 8 ? 0 : value == 25 ? 1 : 2) << (2 * j));
    }
  return t;
}
static constexpr Iq2Levels kIq2Levels = iq2_levels();

// Codes are magnitudes; the signs are kept apart and go to the activation.
struct DotIq2Xxs {
  static constexpr int kBytes = 66, kD = 0, kDmin = 0, kOffset = 0, kSub = 32;
  static constexpr bool kMin = false;
  static constexpr float kScale = 0.125f;
  struct Weights {
    __m512i codes[4], multiplier[4];
    uint64_t negative[4];
    __m256i words, mins;
  };
  static inline void decode(const uint8_t* w, Weights* out) {
    const __m512i groups = load_512(w + 2);  // 8 x {4 point indices, 4 x 7 sign bits, 4 scale bits}
    const __m512i index_bytes =
        _mm512_castsi256_si512(_mm256_setr_epi8(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27, 32, 33, 34,
                                                35, 40, 41, 42, 43, 48, 49, 50, 51, 56, 57, 58, 59));
    const __m512i index = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(_mm512_permutexvar_epi8(index_bytes, groups)));
    __m512i quarter[4];
    for (int i = 0; i < 4; i++)
      quarter[i] = _mm512_permutex2var_epi16(load_512(kIq2Levels.level + 64 * i), index,
                                             load_512(kIq2Levels.level + 64 * i + 32));
    const __mmask32 bit6 = _mm512_test_epi16_mask(index, _mm512_set1_epi16(64));
    const __mmask32 bit7 = _mm512_test_epi16_mask(index, _mm512_set1_epi16(128));
    const __m512i levels = _mm512_mask_blend_epi16(bit7, _mm512_mask_blend_epi16(bit6, quarter[0], quarter[1]),
                                                   _mm512_mask_blend_epi16(bit6, quarter[2], quarter[3]));
    // Sign bytes: 7 bits at 32, 39, 46, 53 of each group, the eighth from the table.
    const __m512i sevens = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x00000000352e2720), groups);
    const __m512i packed = _mm512_permutexvar_epi8(index_bytes, sevens);
    const __m512i signs = _mm512_permutex2var_epi8(load_512(kIq2xxsSigns), packed, load_512(kIq2xxsSigns + 64));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->negative), _mm512_castsi512_si256(signs));
    const __m128i scales = _mm512_cvtepi64_epi16(_mm512_srli_epi64(groups, 60));
    out->words = _mm256_castsi128_si256(_mm_add_epi16(_mm_add_epi16(scales, scales), _mm_set1_epi16(1)));
    const __m512i value = _mm512_set1_epi32(0x002b1908), shifts = _mm512_set1_epi64(0x0e0c0a0806040200);
    const __m512i spread = _mm512_set_epi16(7, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1,
                                            1, 1, 1, 0, 0, 0, 0);
    for (int z = 0; z < 4; z++) {
      const __m512i points =
          _mm512_permutexvar_epi16(_mm512_add_epi16(spread, _mm512_set1_epi16(static_cast<short>(8 * z))), levels);
      // vpermb looks at 6 index bits and the table repeats every 4: the bits above a level do not matter.
      out->codes[z] = _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shifts, points), value);
      out->multiplier[z] = spread_8(out->words, z, 0);
    }
  }
  static inline __m512i dot(const Weights& w, const ActUnit& a) {
    __m512i sum = _mm512_setzero_si512();
    for (int z = 0; z < 4; z++) {
      const __m512i act = load_512(a.codes + 64 * z);
      const __m512i with_sign = _mm512_mask_sub_epi8(act, w.negative[z], _mm512_setzero_si512(), act);
      sum = _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(w.codes[z], with_sign), w.multiplier[z]);
    }
    return sum;
  }
};

// --- rows
// -----------------------------------------------------------------------------------------------------------------
// Sums of four vectors of 16 partial sums each.
static inline __m128i reduce_four(const __m512i* v) {
  const __m512i lanes = add_unpacked_64(add_unpacked_32(v[0], v[1]), add_unpacked_32(v[2], v[3]));
  const __m256i two = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}
static inline __m128i reduce_four(const __m256i* v) {
  const __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
  const __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
  const __m256i lanes = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  return _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
}
static inline __m128i reduce_four(const __m128i* v) {
  return _mm_hadd_epi32(_mm_hadd_epi32(v[0], v[1]), _mm_hadd_epi32(v[2], v[3]));
}

// The integers of up to 16 superblocks of a row and kTokens activations, waiting for their float step.
template <int kTokens>
struct Sums {
  alignas(64) int32_t isum[kTokens][16], msum[kTokens][16];
  alignas(32) uint16_t d[16], dmin[16];
  uint32_t base, count, row;
};

template <class F>
struct MinsOf {
  using type = __m128i;
};
template <>
struct MinsOf<RawQ2K> {
  using type = __m256i;
};

// kCount (4 or 1) superblocks from number `at` of the chunk on.
template <class F, int kTokens, int kCount>
static inline void sum_group(const uint8_t* w, const Act256Layout& layout, const uint8_t* const* x, uint32_t at,
                             Sums<kTokens>* out) {
  __m512i sums[kTokens][4];
  typename MinsOf<F>::type mins[kTokens][4];
  // Four from a multiple of four on lie in chains side by side.
  const uint32_t first = out->base + at;
  const size_t chain_step = size_t{layout.chain_units} * 256,
               codes_at = layout.chains + first % 8 * chain_step + size_t{first / 8} * 256,
               sums16_at = layout.sums16 + size_t{first} * 32, sums32_at = layout.sums32 + size_t{first} * 16,
               halves_at = layout.halves + size_t{first} * 256;
  prefetch_ahead<kCount * F::kBytes>(w);
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 4; i++) {
    if (i >= kCount) {
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; t++) sums[t][i] = _mm512_setzero_si512(), mins[t][i] = typename MinsOf<F>::type{};
      continue;
    }
    typename F::Weights decoded;
    F::decode(w, &decoded);
    out->d[at + i] = load_u16(w + F::kD);
    if constexpr (F::kMin) out->dmin[at + i] = load_u16(w + F::kDmin);
    w += F::kBytes;
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; t++) {
      const ActUnit a = {x[t] + codes_at + i * chain_step, x[t] + sums16_at + 32 * i, x[t] + sums32_at + 16 * i,
                         x[t] + halves_at + 256 * i};
      sums[t][i] = F::dot(decoded, a);
      if constexpr (F::kMin) mins[t][i] = F::dot_mins(decoded, a);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; t++) {
    __m128i isum = reduce_four(sums[t]);
    if constexpr (F::kBytes == RawQ2K::kBytes) isum = _mm_srai_epi32(isum, RawQ2K::kShift);
    if constexpr (kCount == 4) _mm_store_si128(reinterpret_cast<__m128i*>(out->isum[t] + at), isum);
    else out->isum[t][at] = _mm_cvtsi128_si32(isum);
    if constexpr (!F::kMin) continue;
    const __m128i msum = reduce_four(mins[t]);
    if constexpr (kCount == 4) _mm_store_si128(reinterpret_cast<__m128i*>(out->msum[t] + at), msum);
    else out->msum[t][at] = _mm_cvtsi128_si32(msum);
  }
}

// The float step of 8 superblocks; those beyond `count` leave their chain alone.
template <class F>
static inline __m256 fold_superblocks(const int32_t* isum, const int32_t* msum, const uint16_t* d, const uint16_t* dmin,
                                      const float* s_a, uint32_t count, __m256 chains) {
  const __mmask8 mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1u << count) - 1);
  __m256 scale = _mm256_cvtph_ps(load_128(d));
  if constexpr (F::kScale != 1) scale = _mm256_mul_ps(scale, _mm256_set1_ps(F::kScale));  // exact: a power of two
  const __m256 i = _mm256_cvtepi32_ps(load_256(isum));
  __m256 v;
  if constexpr (F::kMin)
    v = _mm256_fmsub_ps(i, scale, _mm256_mul_ps(_mm256_cvtepi32_ps(load_256(msum)), _mm256_cvtph_ps(load_128(dmin))));
  else v = _mm256_mul_ps(i, scale);
  return _mm256_mask3_fmadd_ps(v, _mm256_loadu_ps(s_a), chains, mask);
}

template <class F, int kTokens>
static inline void fold_sums(const Sums<kTokens>& s, const uint8_t* const* x, float (*chains)[8][8]) {
  for (int t = 0; t < kTokens; t++) {
    __m256 c = s.base == 0 ? _mm256_setzero_ps() : _mm256_load_ps(chains[t][s.row]);
    for (uint32_t part = 0; part < s.count; part += 8)
      c = fold_superblocks<F>(s.isum[t] + part, s.msum[t] + part, s.d + part, s.dmin + part,
                              reinterpret_cast<const float*>(x[t]) + s.base + part, s.count - part, c);
    _mm256_store_ps(chains[t][s.row], c);
  }
}

template <class F>
struct Row256 {
  using Layout = Act256Layout;
  // Chains of up to 8 rows. The float step lags one chunk behind: by then the small stores of its integers have left
  // the store buffer, and wide loads of them do not stall.
  template <int kTokens>
  static inline void rows(const uint8_t* w, size_t row_bytes, uint32_t rows, const Layout& layout,
                          const uint8_t* const* x, float (*chains)[8][8]) {
    Sums<kTokens> sums[2] = {};
    uint32_t turn = 0;
    bool pending = false;
    for (uint32_t r = 0; r < rows; r++) {
      const uint8_t* p = w + r * row_bytes;
      for (uint32_t base = 0; base < layout.units; base += 16, turn ^= 1) {
        Sums<kTokens>* now = &sums[turn];
        now->base = base;
        now->count = layout.units - base < 16 ? layout.units - base : 16;
        now->row = r;
        uint32_t at = 0;
        for (; at + 4 <= now->count; at += 4, p += 4 * F::kBytes) sum_group<F, kTokens, 4>(p, layout, x, at, now);
        for (; at < now->count; at++, p += F::kBytes) sum_group<F, kTokens, 1>(p, layout, x, at, now);
        if (pending) fold_sums<F, kTokens>(sums[turn ^ 1], x, chains);
        pending = true;
      }
    }
    if (pending) fold_sums<F, kTokens>(sums[turn ^ 1], x, chains);
  }
};

}  // namespace
}  // namespace nandu::avx512
