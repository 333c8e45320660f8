// A machine of matrix tiles made of arrays: the verbs of targets/common/tiles.h as Intel's SDM describes their
// instructions (vol. 1, 18.2; vol. 2, LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS, TDPBSSD, TDPBSUD). What
// would be a fault there ends the process here. TDPBF16PS sums in the order that was measured on real tiles
// (docs/arithmetic.md, order A). Not proved here: the instructions themselves; on a machine that has them the tests of
// every target prove those.
//
// To be included before the kernels' text, in the namespace of the target whose vectors they use.
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cstddef>
#include <cstdint>

#define TILES_BEGIN(config) configure(config)
#define TILES_END() release()
#define TILE_ZERO(n) tile_zero(n)
#define TILE_LOAD(n, from, stride) tile_load(n, from, stride)
#define TILE_STORE(n, to, stride) tile_store(n, to, stride)
#define TILE_DOT(c, a, b) tile_dot(c, a, b, add_bf16_pair)
#define TILE_DOT_SS(c, a, b) tile_dot(c, a, b, add_bytes<int8_t>)
#define TILE_DOT_SU(c, a, b) tile_dot(c, a, b, add_bytes<uint8_t>)

#include "../../../native/kernels/targets/common/tiles.h"

namespace nandu::NANDU_TARGET {
namespace {

struct Tile {
  uint32_t rows, bytes;  // both 0: not configured
  uint8_t row[16][64];
};
thread_local struct {
  bool configured;
  Tile tile[8];
} machine;

[[noreturn]] void fault(const char* why) {
  fprintf(stderr, "emulated tiles: %s\n", why);
  abort();
}

// #GP of LDTILECFG. Tiles begin as 0 there; here as what would show in every result.
void configure(const TileConfig& config) {
  if (config.palette != 1) fault("palette is not 1");
  if (config.start_row != 0) fault("a start row without an interrupted load");
  for (const unsigned char reserved : config.reserved)
    if (reserved) fault("reserved bytes of the configuration are set");
  for (uint32_t n = 0; n < 16; n++) {
    const uint32_t rows = config.rows[n], bytes = config.bytes[n];
    if (n >= 8 && (rows || bytes)) fault("palette 1 has eight tiles");
    if (rows > 16 || bytes > 64) fault("a tile is larger than the palette allows");
    if (!rows != !bytes) fault("a tile has rows or columns, but not both");
    if (n < 8) machine.tile[n] = {rows, bytes, {}}, memset(machine.tile[n].row, 0xff, sizeof machine.tile[n].row);
  }
  machine.configured = true;
}
void release() {
  machine.configured = false;
}
// #UD of every instruction on tiles.
Tile& known(int n) {
  if (!machine.configured) fault("no configuration is loaded");
  if (n < 0 || n > 7 || !machine.tile[n].rows) fault("a tile is not configured");
  return machine.tile[n];
}

void tile_zero(int n) {
  memset(known(n).row, 0, sizeof known(n).row);
}
void tile_load(int n, const void* from, size_t stride) {
  Tile& t = known(n);
  memset(t.row, 0, sizeof t.row);  // behind its rows and columns
  for (size_t i = 0; i < t.rows; i++) memcpy(t.row[i], static_cast<const char*>(from) + i * stride, t.bytes);
}
void tile_store(int n, void* to, size_t stride) {
  const Tile& t = known(n);
  for (size_t i = 0; i < t.rows; i++) memcpy(static_cast<char*>(to) + i * stride, t.row[i], t.bytes);
}

inline float bf16(const uint8_t* p) {
  uint16_t half;
  memcpy(&half, p, 2);
  const uint32_t bits = uint32_t{half} << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
// One element of c: row a of `pairs` dwords against column j of b.
inline void add_bf16_pair(uint8_t* c, const uint8_t* a, const Tile& b, uint32_t pairs, uint32_t j) {
  float sum, even = 0, odd = 0;
  memcpy(&sum, c, 4);
  for (uint32_t k = 0; k < pairs; k++) {
    even = fmaf(bf16(a + 4 * k), bf16(b.row[k] + 4 * j), even);
    odd = fmaf(bf16(a + 4 * k + 2), bf16(b.row[k] + 4 * j + 2), odd);
  }
  sum += even + odd;
  memcpy(c, &sum, 4);
}
template <class Right>
inline void add_bytes(uint8_t* c, const uint8_t* a, const Tile& b, uint32_t quads, uint32_t j) {
  uint32_t sum;  // wraps, as the instruction does
  memcpy(&sum, c, 4);
  for (uint32_t k = 0; k < quads; k++)
    for (uint32_t i = 0; i < 4; i++)
      sum += static_cast<uint32_t>(static_cast<int8_t>(a[4 * k + i]) * static_cast<Right>(b.row[k][4 * j + i]));
  memcpy(c, &sum, 4);
}

// #UD of the products of tiles, then rows and columns as configured; what lies behind them in c becomes 0.
template <class Add>
inline void tile_dot(int c, int a, int b, Add add) {
  Tile& to = known(c);
  const Tile &left = known(a), &right = known(b);
  if (c == a || c == b || a == b) fault("a product with one tile in two places");
  if (to.bytes % 4 || left.bytes % 4 || right.bytes % 4) fault("a product of rows that are no dwords");
  if (left.bytes / 4 != right.rows) fault("a product whose left columns are not the right rows");
  if (to.rows != left.rows || to.bytes != right.bytes) fault("a product into a tile of another shape");
  for (uint32_t i = 0; i < to.rows; i++) {
    for (uint32_t j = 0; j < to.bytes / 4; j++) add(to.row[i] + 4 * j, left.row[i], right, left.bytes / 4, j);
    memset(to.row[i] + to.bytes, 0, 64 - to.bytes);
  }
  for (uint32_t i = to.rows; i < 16; i++) memset(to.row[i], 0, 64);
}

}  // namespace
}  // namespace nandu::NANDU_TARGET
