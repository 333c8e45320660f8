// Matrix products of the scalar target: the specification in plain loops. docs/arithmetic.md D1-D4 and D9 (embedding
// rows) are written out here once; every other target must give the same bits. Block layouts: docs/arithmetic.md.
#pragma once

#include <math.h>
#include <string.h>

#include "../../../quant/float16.h"
#include "../../../quant/iq_grids.h"
#include "../../kernels.h"

namespace nandu::scalar {

static inline float read_f16(const uint8_t* p) {
  return f16_to_f32(load_u16(p));
}

// --- activations (D1)
// --------------------------------------------------------------------------------------------------- Prepared
// activation of k values in units of n: float scales[k / n], then int8 codes[k]. Float kinds: float[k].
static inline uint32_t unit_of(ActKind kind) {
  return kind == ActKind::kAct8x32 ? 32 : 256;
}

// rint for |v| < 2^22 in the default rounding mode: beyond 2^23 a float's unit is 1. (rintf would be a libm call.)
static inline float round_to_even(float v) {
  return (v + 0x1.8p23f) - 0x1.8p23f;
}

static size_t act_bytes(ActKind kind, uint32_t k) {
  const size_t bytes = kind == ActKind::kF32 ? size_t{k} * 4 : size_t{k / unit_of(kind)} * 4 + k;
  return (bytes + 63) / 64 * 64;
}

static bool quantize(ActKind kind, const float* x, uint32_t k, void* dst) {
  for (uint32_t i = 0; i < k; i++)
    if (!isfinite(x[i])) return false;
  if (kind == ActKind::kF32) {
    memcpy(dst, x, size_t{k} * 4);
    return true;
  }
  const uint32_t n = unit_of(kind), units = k / n;
  float* scales = static_cast<float*>(dst);
  int8_t* codes = reinterpret_cast<int8_t*>(scales + units);
  for (uint32_t u = 0; u < units; u++, x += n, codes += n) {
    float amax = 0;
    for (uint32_t i = 0; i < n; i++) amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    const bool zero = amax < 0x1p-100f;
    scales[u] = zero ? 0.0f : amax / 127.0f;
    const float r = zero ? 0.0f : 127.0f / amax;
    for (uint32_t i = 0; i < n; i++) codes[i] = static_cast<int8_t>(round_to_even(x[i] * r));
  }
  return true;
}

// --- blocks of 32 (D2)
// -------------------------------------------------------------------------------------------------- One block,
// decoded: value = q * scale (+ min). `doubled`: q is twice the value's code, so s_a is halved (exactly).
struct Block32 {
  float scale, min;
  int8_t q[32];
};

static constexpr int8_t kMxfp4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void decode_block32(TensorType type, const uint8_t* p, Block32* b) {
  b->min = 0;
  switch (type) {
    case TensorType::kQ8_0:
      b->scale = read_f16(p);
      memcpy(b->q, p + 2, 32);
      return;
    case TensorType::kQ4_0:
    case TensorType::kIQ4_NL:
      b->scale = read_f16(p);
      for (int j = 0; j < 32; j++) {
        const int code = j < 16 ? p[2 + j] & 15 : p[2 + j - 16] >> 4;
        b->q[j] = type == TensorType::kQ4_0 ? static_cast<int8_t>(code - 8) : kIq4Values[code];
      }
      return;
    case TensorType::kQ4_1:
      b->scale = read_f16(p);
      b->min = read_f16(p + 2);
      for (int j = 0; j < 32; j++) b->q[j] = static_cast<int8_t>(j < 16 ? p[4 + j] & 15 : p[4 + j - 16] >> 4);
      return;
    case TensorType::kQ5_0: {
      b->scale = read_f16(p);
      const uint32_t high = load_u32(p + 2);
      for (int j = 0; j < 32; j++) {
        const int code = (j < 16 ? p[6 + j] & 15 : p[6 + j - 16] >> 4) | (high >> j & 1) << 4;
        b->q[j] = static_cast<int8_t>(code - 16);
      }
      return;
    }
    default:  // MXFP4; e8m0 0 is +0 here, 255 never passes the loader
      b->scale = float_from_bits(static_cast<uint32_t>(p[0]) << 23);
      for (int j = 0; j < 32; j++) b->q[j] = kMxfp4Doubled[j < 16 ? p[1 + j] & 15 : p[1 + j - 16] >> 4];
      return;
  }
}

// One float step of D2: the new chain value.
static inline float step_block32(TensorType type, const Block32& b, const int8_t* a, float s_a, float c) {
  int32_t isum = 0, asum = 0;
  for (int i = 0; i < 32; i++) {
    isum += b.q[i] * a[i];
    asum += a[i];
  }
  if (type == TensorType::kQ4_1)
    return fmaf(fmaf(static_cast<float>(isum), b.scale, static_cast<float>(asum) * b.min), s_a, c);
  return fmaf(static_cast<float>(isum) * b.scale, type == TensorType::kMXFP4 ? s_a * 0.5f : s_a, c);
}

// --- superblocks of 256 (D3)
// ---------------------------------------------------------------------------------------------- One superblock,
// decoded: value i = q[i] * multiplier[i / 16] * d - min[i / 16] * dmin. Sub-blocks of 32 repeat theirs.
struct Block256 {
  float d, dmin;
  bool has_min;
  int8_t q[256];
  int8_t multiplier[16], min[16];
};

// Six-bit scales and mins of Q4_K and Q5_K, i < 8.
static inline void read_k4_scale(const uint8_t* s, int i, int8_t* scale, int8_t* min) {
  *scale = static_cast<int8_t>(i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4);
  *min = static_cast<int8_t>(i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4);
}

static void decode_q2_k(const uint8_t* p, Block256* b) {
  const uint8_t *scales = p, *qs = p + 16;
  b->has_min = true;
  b->d = read_f16(p + 80);
  b->dmin = read_f16(p + 82);
  for (int i = 0; i < 16; i++) {
    b->multiplier[i] = scales[i] & 15;
    b->min[i] = static_cast<int8_t>(scales[i] >> 4);
  }
  for (int i = 0; i < 256; i++) b->q[i] = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

static void decode_q3_k(const uint8_t* p, Block256* b) {
  const uint8_t *hmask = p, *qs = p + 32, *s = p + 96;
  b->d = read_f16(p + 108);
  for (int i = 0; i < 16; i++) {
    const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> (i / 4 * 2) & 3;
    b->multiplier[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; i++) {
    const int low = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    b->q[i] = static_cast<int8_t>(low - (hmask[i % 32] >> (i / 32) & 1 ? 0 : 4));
  }
}

static void decode_q45_k(const uint8_t* p, bool five, Block256* b) {
  const uint8_t *high = p + 16, *qs = p + (five ? 48 : 16);
  b->has_min = true;
  b->d = read_f16(p);
  b->dmin = read_f16(p + 2);
  for (int i = 0; i < 16; i++) read_k4_scale(p + 4, i / 2, &b->multiplier[i], &b->min[i]);
  for (int i = 0; i < 256; i++) {
    const int sub = i / 32, byte = qs[sub / 2 * 32 + i % 32], code = sub % 2 ? byte >> 4 : byte & 15;
    b->q[i] = static_cast<int8_t>(five ? code | (high[i % 32] >> sub & 1) << 4 : code);
  }
}

static void decode_q6_k(const uint8_t* p, Block256* b) {
  const uint8_t *ql = p, *qh = p + 128;
  b->d = read_f16(p + 208);
  memcpy(b->multiplier, p + 192, 16);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, t = i / 32 % 4, l = i % 32, byte = ql[half * 64 + l + t % 2 * 32];
    const int low = t < 2 ? byte & 15 : byte >> 4, top = qh[half * 32 + l] >> (2 * t) & 3;
    b->q[i] = static_cast<int8_t>((low | top << 4) - 32);
  }
}

static void decode_iq4_xs(const uint8_t* p, Block256* b) {
  const uint32_t scales_high = load_u16(p + 2);
  const uint8_t *scales_low = p + 4, *qs = p + 8;
  b->d = read_f16(p);
  for (int i = 0; i < 16; i++) {
    const int sub = i / 2, low = scales_low[sub / 2] >> (sub % 2 * 4) & 15, high = scales_high >> (2 * sub) & 3;
    b->multiplier[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; i++) {
    const int byte = qs[i / 32 * 16 + i % 16];
    b->q[i] = kIq4Values[i % 32 < 16 ? byte & 15 : byte >> 4];
  }
}

// Per 32 values: four grid points, seven sign bits each (the eighth makes their number even), a 4-bit scale. d / 8 for
// d.
static void decode_iq2_xxs(const uint8_t* p, Block256* b) {
  b->d = read_f16(p) * 0.125f;
  for (int i = 0; i < 16; i++) b->multiplier[i] = static_cast<int8_t>(2 * (load_u32(p + 2 + i / 2 * 8 + 4) >> 28) + 1);
  for (int i = 0; i < 256; i++) {
    const uint8_t* group = p + 2 + i / 32 * 8;
    const int point = i % 32 / 8, j = i % 8;
    const int magnitude = static_cast<int>(kIq2xxsGrid[group[point]] >> (8 * j) & 255);
    const uint8_t signs = kIq2xxsSigns[load_u32(group + 4) >> (7 * point) & 127];
    b->q[i] = static_cast<int8_t>(signs >> j & 1 ? -magnitude : magnitude);
  }
}

static void decode_block256(TensorType type, const uint8_t* p, Block256* b) {
  b->has_min = false;
  b->dmin = 0;
  switch (type) {
    case TensorType::kQ2_K: return decode_q2_k(p, b);
    case TensorType::kQ3_K: return decode_q3_k(p, b);
    case TensorType::kQ4_K: return decode_q45_k(p, false, b);
    case TensorType::kQ5_K: return decode_q45_k(p, true, b);
    case TensorType::kQ6_K: return decode_q6_k(p, b);
    case TensorType::kIQ2_XXS: return decode_iq2_xxs(p, b);
    default: return decode_iq4_xs(p, b);
  }
}

// One float step of D3: integers over all sub-blocks first, one rounding each.
static inline float step_block256(const Block256& b, const int8_t* a, float s_a, float c) {
  int32_t isum = 0, msum = 0;
  for (int s = 0; s < 16; s++) {
    int32_t dot = 0, asum = 0;
    for (int i = s * 16; i < s * 16 + 16; i++) {
      dot += b.q[i] * a[i];
      asum += a[i];
    }
    isum += b.multiplier[s] * dot;
    if (b.has_min) msum += b.min[s] * asum;
  }
  const float v = b.has_min ? fmaf(static_cast<float>(isum), b.d, -(static_cast<float>(msum) * b.dmin))
                            : static_cast<float>(isum) * b.d;
  return fmaf(v, s_a, c);
}

// --- products
// -------------------------------------------------------------------------------------------------------------
struct BlockShape {
  uint32_t values, bytes;
};
// A switch, not kTypes: a table from a header would be emitted here as a weak symbol.
static inline BlockShape block_shape(TensorType type) {
  switch (type) {
    case TensorType::kF32: return {1, 4};
    case TensorType::kF16:
    case TensorType::kBF16: return {1, 2};
    case TensorType::kQ8_0: return {32, 34};
    case TensorType::kQ4_0:
    case TensorType::kIQ4_NL: return {32, 18};
    case TensorType::kQ4_1: return {32, 20};
    case TensorType::kQ5_0: return {32, 22};
    case TensorType::kMXFP4: return {32, 17};
    case TensorType::kQ2_K: return {256, 84};
    case TensorType::kQ3_K: return {256, 110};
    case TensorType::kQ4_K: return {256, 144};
    case TensorType::kQ5_K: return {256, 176};
    case TensorType::kQ6_K: return {256, 210};
    case TensorType::kIQ2_XXS: return {256, 66};
    case TensorType::kIQ4_XS: return {256, 136};
    case TensorType::kI32: break;  // data, never multiplied
  }
  return {1, 4};
}

static inline ActKind act_of(TensorType type) {
  const uint32_t values = block_shape(type).values;
  return values == 32 ? ActKind::kAct8x32 : values == 256 ? ActKind::kAct8x256 : ActKind::kF32;
}

// C8: chain j takes units j, j + 8, ...; the chains are added left to right, empty ones too.
static inline float fold_chains(const float* c) {
  float y = c[0];
  for (int j = 1; j < 8; j++) y += c[j];
  return y;
}

static constexpr uint32_t kTokensAPass = 8;  // a block is decoded once for so many activations

static void row_by_tokens(const MatmulArgs& args, const uint8_t* row, uint32_t r, uint32_t first, uint32_t count) {
  const BlockShape shape = block_shape(args.type);
  const uint32_t units = args.k / shape.values;
  float chains[kTokensAPass][8] = {};
  for (uint32_t u = 0; u < units; u++) {
    Block32 small;
    Block256 large;
    if (shape.values == 32) decode_block32(args.type, row + size_t{u} * shape.bytes, &small);
    else decode_block256(args.type, row + size_t{u} * shape.bytes, &large);
    for (uint32_t t = 0; t < count; t++) {
      const float* scales = static_cast<const float*>(args.x[first + t]);
      const int8_t* codes = reinterpret_cast<const int8_t*>(scales + units) + size_t{u} * shape.values;
      float* c = &chains[t][u % 8];
      *c = shape.values == 32 ? step_block32(args.type, small, codes, scales[u], *c)
                              : step_block256(large, codes, scales[u], *c);
    }
  }
  for (uint32_t t = 0; t < count; t++) args.y[first + t][r] = fold_chains(chains[t]);
}

static inline float read_float(TensorType type, const uint8_t* row, uint32_t i) {
  if (type == TensorType::kF16) return read_f16(row + size_t{i} * 2);
  if (type == TensorType::kBF16) return float_from_bits(load_u16(row + size_t{i} * 2) << 16);
  return float_from_bits(load_u32(row + size_t{i} * 4));
}

// D4: lane = k mod 16, k padded with +0 to a multiple of 16, then halves.
static float float_dot(TensorType type, const uint8_t* row, const float* x, uint32_t k) {
  float lanes[16] = {};
  for (uint32_t i = 0; i < (k + 15) / 16 * 16; i++)
    lanes[i % 16] = i < k ? fmaf(read_float(type, row, i), x[i], lanes[i % 16]) : fmaf(0.0f, 0.0f, lanes[i % 16]);
  for (int half = 8; half >= 1; half /= 2)
    for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
  return lanes[0];
}

static void matmul(const MatmulArgs& args) {
  const bool floats = act_of(args.type) == ActKind::kF32;
  args.scratch->counts[floats ? kPathFloat : args.m == 1 ? kPathD1 : kPathDn]++;
  for (uint32_t r = 0; r < args.rows; r++) {
    const uint8_t* row = args.weights + size_t{r} * args.row_bytes;
    if (floats) {
      for (uint32_t t = 0; t < args.m; t++)
        args.y[t][r] = float_dot(args.type, row, static_cast<const float*>(args.x[t]), args.k);
      continue;
    }
    for (uint32_t t = 0; t < args.m; t += kTokensAPass)
      row_by_tokens(args, row, r, t, args.m - t < kTokensAPass ? args.m - t : kTokensAPass);
  }
}

// D9, embedding rows: RN(d * q), or fma(q * multiplier, d, -RN(min * dmin)).
static void dequant_row(TensorType type, const uint8_t* row, uint32_t k, float* out) {
  const BlockShape shape = block_shape(type);
  if (shape.values == 1) {
    for (uint32_t i = 0; i < k; i++) out[i] = read_float(type, row, i);
    return;
  }
  for (uint32_t u = 0; u < k / shape.values; u++, row += shape.bytes, out += shape.values) {
    if (shape.values == 32) {
      Block32 b;
      decode_block32(type, row, &b);
      for (int i = 0; i < 32; i++) {
        const float q = static_cast<float>(b.q[i]);
        out[i] =
            type == TensorType::kQ4_1 ? fmaf(q, b.scale, b.min) : (type == TensorType::kMXFP4 ? q * 0.5f : q) * b.scale;
      }
      continue;
    }
    Block256 b;
    decode_block256(type, row, &b);
    for (int i = 0; i < 256; i++) {
      const float q = static_cast<float>(b.q[i] * b.multiplier[i / 16]);
      out[i] = b.has_min ? fmaf(q, b.d, -(static_cast<float>(b.min[i / 16]) * b.dmin)) : q * b.d;
    }
  }
}

}  // namespace nandu::scalar
