// A machine of matrix tiles in terms of verbs, as attention_tiles.h and panel_tiles.h are written: the includer defines
// them, by instructions (amx.cc) or by arrays, so that a test can run the same text on a machine without AMX.
//
//   TILES_BEGIN(config)               eight tiles of these shapes until TILES_END(); again: other shapes
//   TILES_END()                       gives them back, so that a thread that sleeps leaves the kernel none to save
//   TILE_ZERO(n)                      tile n = 0
//   TILE_LOAD(n, from, stride)        its rows from memory; strides in bytes
//   TILE_STORE(n, to, stride)
//   TILE_DOT(c, a, b)                 f32 c[i][j] = c + (even + odd), the chains over the pairs of bf16 of a's row i
//   and
//                                     b's column j: one step of order A for 16 pairs (Intel SDM, TDPBF16PS)
//   TILE_DOT_SS(c, a, b)              int32 c[i][j] += the sum over k of a[i][k] * b[k / 4][4 j + k % 4], both signed
//   TILE_DOT_SU(c, a, b)              the same with unsigned b (TDPBSSD, TDPBSUD)
//
//   TILE_BASE                         the set that does all that tiles do not
#pragma once

#include "../../kernels.h"

namespace nandu {
extern const KernelSet TILE_BASE;
}

namespace nandu::NANDU_TARGET {

static constexpr uint32_t kTile = 16;  // most rows; a row has 64 bytes at most

// Intel SDM vol. 1, 18.2: the operand of LDTILECFG, palette 1.
struct alignas(64) TileConfig {
  unsigned char palette, start_row, reserved[14];
  unsigned short bytes[16];
  unsigned char rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// Tiles 0-3 are sums [m][16], 4 and 5 left operands [m] of `k` bytes, 6 and 7 right ones [k / 4] of 64 bytes.
static constexpr TileConfig tile_config(uint32_t m, uint32_t k) {
  TileConfig c = {1, 0, {}, {}, {}};
  for (uint32_t i = 0; i < 8; i++) {
    c.bytes[i] = static_cast<unsigned short>(i == 4 || i == 5 ? k : 64);
    c.rows[i] = static_cast<unsigned char>(i < 6 ? m : k / 4);
  }
  return c;
}

}  // namespace nandu::NANDU_TARGET
