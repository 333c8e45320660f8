// The tile target's text on any machine with AVX2: tiles are arrays (tiles.h), the vectors beside them AVX2's, and
// weights are unpacked by the specification's own decoders in plain loops.
#define TILE_BASE kernels_avx2
#define NANDU_TARGET avx2  // whose vectors it uses
#include "../../../native/kernels/targets/common/vec_avx2.h"
// The verbs, then what uses them.
#include "tiles.h"

#include "../../../native/kernels/cpu.h"
#include "../../../native/kernels/targets/common/attention_tiles.h"
#include "../../../native/kernels/targets/common/tile_records.h"
// Of these only layouts and decoders are used.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../../native/kernels/targets/avx2/act8_avx2.h"
#include "../../../native/kernels/targets/scalar/matmul_scalar.h"
#pragma GCC diagnostic pop

namespace nandu::avx2 {
namespace {

// --- the prepared activations of the avx2 target ---

struct TileAct32 : ChainPlaces<ActLayout> {
  static constexpr uint32_t kValues = 32;
  explicit TileAct32(uint32_t k) : ChainPlaces(32, k) {}
  size_t codes_at(uint32_t unit) const { return codes + size_t{32} * unit; }
  size_t scale_at(bool halved) const { return halved ? half : 0; }
  F32x16 sums(const uint8_t* x, uint32_t unit) const {
    alignas(32) uint32_t of_units[16] = {};
    for (uint32_t i = 0; i < 16 && unit + i < units; i++) of_units[i] = load_u32(x + ActLayout::sums + 4 * (unit + i));
    return to_float(load_int(of_units));
  }
};

struct TileAct256 : ChainPlaces<ActLayout> {
  static constexpr uint32_t kValues = 256;
  explicit TileAct256(uint32_t k) : ChainPlaces(256, k) {}
  size_t codes_at(uint32_t unit) const { return codes + size_t{256} * unit; }
  size_t scale_at(uint32_t unit) const { return size_t{4} * unit; }
  size_t pairs_at(int sub, uint32_t unit) const { return sums + size_t{48} * unit + (sub == 32 ? 32 : 0); }
};

inline I32x16 dot_words(I32x16 sum, I32x16 a, I32x16 b) {
  return add(sum, I32x16{_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)});
}

// --- weights ---

struct PanelRows {
  const uint8_t* row[16];
};

// Value k of row r in a plane of tiles. A value that its byte cannot hold would be a wrong bound in tile_records.h.
void put(uint8_t* plane, uint32_t k, uint32_t r, int value, bool is_unsigned) {
  if (is_unsigned ? value < 0 || value > 255 : value < -128 || value > 127) fault("a weight does not fit its tile");
  plane[64 * (k / 4) + 4 * r + k % 4] = static_cast<uint8_t>(value);
}
void put_float(uint8_t* record, size_t at, uint32_t r, float value) {
  memcpy(record + at + 4 * r, &value, 4);
}

template <TensorType kType>
void unpack_tiles32(const PanelRows& rows, size_t at, uint8_t* record) {
  for (uint32_t r = 0; r < 16; r++) {
    scalar::Block32 b;
    scalar::decode_block32(kType, rows.row[r] + at, &b);
    for (uint32_t k = 0; k < 32; k++) put(record, k, r, b.q[k], false);
    put_float(record, Record32::kScale, r, b.scale);
    if (kType == TensorType::kQ4_1) put_float(record, Record32::kMins, r, b.min);
  }
}

template <TensorType kType>
void unpack_tiles256(const PanelRows& rows, size_t at, uint8_t* record) {
  constexpr Fold f = fold_of(kType);
  for (uint32_t r = 0; r < 16; r++) {
    scalar::Block256 b;
    scalar::decode_block256(kType, rows.row[r] + at, &b);
    for (uint32_t k = 0; k < 256; k++) {
      const int multiplier = b.multiplier[k / 16], w = b.q[k] * multiplier;
      if (f.planes == 1) put(record, k, r, f.negated ? -w : w, f.is_unsigned);
      if (f.planes == 1) continue;
      put(record, k, r, f.shift == 3 ? b.q[k] * (multiplier & 7) : w & 63, f.is_unsigned);
      put(record + 4096, k, r, f.shift == 3 ? b.q[k] * (multiplier >> 3) : w >> 6, f.is_unsigned);
    }
    put_float(record, Record256::d(f), r, b.d);
    if (!f.min) continue;
    put_float(record, Record256::minus_dmin(f), r, -b.dmin);
    for (uint32_t i = 0; i < 256u / f.sub; i++) {
      const int16_t min = b.min[i * f.sub / 16];
      memcpy(record + Record256::mins(f) + 64 * (i / 2) + 4 * r + 2 * (i % 2), &min, 2);
    }
  }
}

}  // namespace
}  // namespace nandu::avx2

#include "../../../native/kernels/targets/common/panel_tiles.h"

namespace nandu {

extern const KernelSet kernels_amx_emulated;
const KernelSet kernels_amx_emulated = {
    .name = "amx (emulated)",
    .runs_here = cpu_has_avx2,
    .matmul = avx2::tile_matmul,
    .attn_query_bytes = avx2::query_bytes,
    .attn_block_bytes = avx2::block_bytes,
    .attn_pack_query = avx2::pack_query,
    .attn_pack_block = avx2::pack_block,
    .attn_block = avx2::block,
};

}  // namespace nandu
