// Decoding of all weight types into doubles (docs/arithmetic.md).
#include "dequant.h"

#include <cmath>

#include "../base/status.h"
#include "float16.h"
#include "formats.h"
#include "iq_grids.h"

namespace nandu {
namespace {

double f16_at(const uint8_t* p) {
  return static_cast<double>(f16_to_f32(load_u16(p)));
}

// The 4-bit types of 32 values hold values 0..15 in the low nibbles and 16..31 in the high ones.
template <typename Value>
void nibbles(const uint8_t q[16], double* out, Value value) {
  for (int j = 0; j < 16; j++) {
    out[j] = value(q[j] & 15, j);
    out[j + 16] = value(q[j] >> 4, j + 16);
  }
}

void decode(const BlockQ8_0& b, double* out) {
  for (int j = 0; j < 32; j++) out[j] = f16_at(b.d) * b.q[j];
}

void decode(const BlockQ4_0& b, double* out) {
  const double d = f16_at(b.d);
  nibbles(b.q, out, [&](int code, int) { return d * (code - 8); });
}

void decode(const BlockQ4_1& b, double* out) {
  const double d = f16_at(b.d), min = f16_at(b.min);
  nibbles(b.q, out, [&](int code, int) { return d * code + min; });
}

void decode(const BlockQ5_0& b, double* out) {
  const double d = f16_at(b.d);
  const uint32_t high = load_u32(b.high);
  nibbles(b.q, out, [&](int code, int j) { return d * (code + static_cast<int>(high >> j & 1) * 16 - 16); });
}

void decode(const BlockIQ4_NL& b, double* out) {
  const double d = f16_at(b.d);
  nibbles(b.q, out, [&](int code, int) { return d * kIq4Values[code]; });
}

void decode(const BlockMXFP4& b, double* out) {
  static constexpr double kE2m1[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  const double scale = std::ldexp(1.0, b.e - 127);
  nibbles(b.q, out, [&](int code, int) { return kE2m1[code] * scale; });
}

void decode(const BlockQ2_K& b, double* out) {
  const double d = f16_at(b.d), dmin = f16_at(b.dmin);
  for (int i = 0; i < 256; i++) {
    const int code = b.q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3, scale = b.scales[i / 16];
    out[i] = d * (scale & 15) * code - dmin * (scale >> 4);
  }
}

void decode(const BlockQ3_K& b, double* out) {
  const double d = f16_at(b.d);
  for (int i = 0; i < 256; i++) {
    // Six-bit scale of sub-block s: four low bits in the nibbles of bytes 0..7, two high bits in bytes 8..11.
    const int s = i / 16;
    const int low = b.scales[s % 8] >> (s / 8 * 4) & 15, high = b.scales[8 + s % 4] >> (s / 4 * 2) & 3;
    const int code = b.q[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    const bool has_four = b.high[i % 32] >> (i / 32) & 1;
    out[i] = d * ((low | high << 4) - 32) * (code - (has_four ? 0 : 4));
  }
}

// Six-bit scale and min of sub-block i (of eight) of Q4_K and Q5_K.
void scale_min_k4(const uint8_t s[12], int i, int* scale, int* min) {
  *scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
  *min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4;
}

void decode(const BlockQ4_K& b, double* out) {
  const double d = f16_at(b.d), dmin = f16_at(b.dmin);
  for (int i = 0; i < 256; i++) {
    int scale, min;
    scale_min_k4(b.scales, i / 32, &scale, &min);
    const int code = b.q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    out[i] = d * scale * code - dmin * min;
  }
}

void decode(const BlockQ5_K& b, double* out) {
  const double d = f16_at(b.d), dmin = f16_at(b.dmin);
  for (int i = 0; i < 256; i++) {
    int scale, min;
    scale_min_k4(b.scales, i / 32, &scale, &min);
    const int code = (b.q[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15) | (b.high[i % 32] >> (i / 32) & 1) << 4;
    out[i] = d * scale * code - dmin * min;
  }
}

void decode(const BlockQ6_K& b, double* out) {
  const double d = f16_at(b.d);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, quarter = i / 32 % 4, l = i % 32;
    const int low = b.low[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
    const int high = b.high[half * 32 + l] >> (quarter * 2) & 3;
    out[i] = d * b.scales[i / 16] * ((low | high << 4) - 32);
  }
}

void decode(const BlockIQ2_XXS& b, double* out) {
  const double d = f16_at(b.d);
  for (int i = 0; i < 256; i++) {
    const auto& group = b.groups[i / 32];
    const uint32_t word = load_u32(group.signs_scale);
    const int point = i / 8 % 4, j = i % 8;
    const int value = static_cast<int>(kIq2xxsGrid[group.grid[point]] >> (8 * j) & 255);
    const bool negative = kIq2xxsSigns[word >> (7 * point) & 127] >> j & 1;
    const double scale = d * (0.5 + (word >> 28)) * 0.25;
    out[i] = scale * (negative ? -value : value);
  }
}

void decode(const BlockIQ4_XS& b, double* out) {
  const double d = f16_at(b.d);
  const uint32_t high = load_u16(b.scales_high);
  for (int s = 0; s < 8; s++) {
    const int scale = (b.scales_low[s / 2] >> (s % 2 * 4) & 15) | static_cast<int>(high >> (2 * s) & 3) << 4;
    nibbles(b.q + 16 * s, out + 32 * s, [&](int code, int) { return d * (scale - 32) * kIq4Values[code]; });
  }
}

template <typename Block>
void decode_row(TensorType type, const uint8_t* row, uint64_t k, double* out) {
  const uint64_t block_values = type_info(type)->block_values;
  const Block* blocks = reinterpret_cast<const Block*>(row);
  for (uint64_t i = 0; i < k / block_values; i++) decode(blocks[i], out + i * block_values);
}

}  // namespace

void dequant_row_f64(TensorType type, const uint8_t* row, uint64_t k, double* out) {
  switch (type) {
    case TensorType::kF32:
      for (uint64_t i = 0; i < k; i++) out[i] = float_from_bits(load_u32(row + 4 * i));
      return;
    case TensorType::kF16:
      for (uint64_t i = 0; i < k; i++) out[i] = f16_at(row + 2 * i);
      return;
    case TensorType::kBF16:
      for (uint64_t i = 0; i < k; i++) out[i] = bf16_to_f32(load_u16(row + 2 * i));
      return;
    case TensorType::kQ8_0: return decode_row<BlockQ8_0>(type, row, k, out);
    case TensorType::kQ4_0: return decode_row<BlockQ4_0>(type, row, k, out);
    case TensorType::kQ4_1: return decode_row<BlockQ4_1>(type, row, k, out);
    case TensorType::kQ5_0: return decode_row<BlockQ5_0>(type, row, k, out);
    case TensorType::kIQ4_NL: return decode_row<BlockIQ4_NL>(type, row, k, out);
    case TensorType::kMXFP4: return decode_row<BlockMXFP4>(type, row, k, out);
    case TensorType::kQ2_K: return decode_row<BlockQ2_K>(type, row, k, out);
    case TensorType::kQ3_K: return decode_row<BlockQ3_K>(type, row, k, out);
    case TensorType::kQ4_K: return decode_row<BlockQ4_K>(type, row, k, out);
    case TensorType::kQ5_K: return decode_row<BlockQ5_K>(type, row, k, out);
    case TensorType::kQ6_K: return decode_row<BlockQ6_K>(type, row, k, out);
    case TensorType::kIQ2_XXS: return decode_row<BlockIQ2_XXS>(type, row, k, out);
    case TensorType::kIQ4_XS: return decode_row<BlockIQ4_XS>(type, row, k, out);
    case TensorType::kI32: break;
  }
  NANDU_CHECK(!"a weight type");
}

}  // namespace nandu
