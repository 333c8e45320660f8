// The tile target's text on a machine without AMX: tiles are arrays, and TILE_DOT is what Intel's SDM says of
// TDPBF16PS, in the order that was measured on real tiles (docs/arithmetic.md, order A). Not proved here: the
// instructions themselves; on a machine that has them the tests of every target prove those.
#include <math.h>
#include <string.h>

#include <cstddef>
#include <cstdint>

namespace nandu::avx2 {

static thread_local struct {
  bool configured;
  uint16_t tile[8][16][32];
} emulated;

static inline float bf16(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
static inline void tile_load(int n, const void* from, size_t stride) {
  for (size_t i = 0; i < 16; i++) memcpy(emulated.tile[n][i], static_cast<const char*>(from) + i * stride, 64);
}
static inline void tile_store(int n, void* to, size_t stride) {
  for (size_t i = 0; i < 16; i++) memcpy(static_cast<char*>(to) + i * stride, emulated.tile[n][i], 64);
}
static inline void tile_dot(int c, int a, int b) {
  for (size_t i = 0; i < 16; i++) {
    float row[16];
    memcpy(row, emulated.tile[c][i], 64);
    for (size_t j = 0; j < 16; j++) {
      float even = 0, odd = 0;
      for (size_t k = 0; k < 16; k++) {
        even = fmaf(bf16(emulated.tile[a][i][2 * k]), bf16(emulated.tile[b][k][2 * j]), even);
        odd = fmaf(bf16(emulated.tile[a][i][2 * k + 1]), bf16(emulated.tile[b][k][2 * j + 1]), odd);
      }
      row[j] += even + odd;
    }
    memcpy(emulated.tile[c][i], row, 64);
  }
}

}  // namespace nandu::avx2

// A verb outside TILES_BEGIN and TILES_END is what an unconfigured machine would trap on.
#define TILE_CHECK() (emulated.configured ? (void)0 : __builtin_trap())
#define TILES_BEGIN() (memset(&emulated, 0xff, sizeof emulated), emulated.configured = true)
#define TILES_END() (emulated.configured = false)
#define TILE_ZERO(n) (TILE_CHECK(), (void)memset(emulated.tile[n], 0, sizeof emulated.tile[n]))
#define TILE_LOAD(n, from, stride) (TILE_CHECK(), tile_load(n, from, stride))
#define TILE_STORE(n, to, stride) (TILE_CHECK(), tile_store(n, to, stride))
#define TILE_DOT(c, a, b) (TILE_CHECK(), tile_dot(c, a, b))
#define TILE_BASE kernels_avx2

#define NANDU_TARGET avx2  // whose vectors it uses
#include "../../../native/kernels/targets/common/vec_avx2.h"

#include "../../../native/kernels/cpu.h"
#include "../../../native/kernels/targets/common/attention_tiles.h"

namespace nandu {

extern const KernelSet kernels_amx_emulated;
const KernelSet kernels_amx_emulated = {
    .name = "amx (emulated)",
    .runs_here = cpu_has_avx2,
    .attn_query_bytes = avx2::query_bytes,
    .attn_block_bytes = avx2::block_bytes,
    .attn_pack_query = avx2::pack_query,
    .attn_pack_block = avx2::pack_block,
    .attn_block = avx2::block,
};

}  // namespace nandu
