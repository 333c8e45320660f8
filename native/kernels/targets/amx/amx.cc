// The amx target: attention on bf16 tiles; everything else is the avx512 target's. Exports its table and nothing else.
// int8 panels for prefill would be 1.2-1.5 times VNNI (docs/arithmetic.md) and are not here yet.
#define NANDU_TARGET avx512  // whose vectors it uses
#include "../common/vec_avx512.h"

// Written out, since the compiler's own macros do not say that a tile is read from memory.
#define TILE_ZERO(n) __asm__ volatile("tilezero %%tmm" #n ::)
#define TILE_LOAD(n, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n ::"r"(from), "r"(static_cast<size_t>(stride)) : "memory")
#define TILE_STORE(n, to, stride) \
  __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" ::"r"(to), "r"(static_cast<size_t>(stride)) : "memory")
#define TILE_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILES_BEGIN() begin_tiles()
#define TILES_END() __asm__ volatile("tilerelease" ::)

namespace nandu::avx512 {

// Intel SDM vol. 1, 18.2: palette 1, eight tiles of 16 rows x 64 bytes. Given back after each block, so that a thread
// that sleeps leaves the kernel no tiles to save.
static inline void begin_tiles() {
  alignas(64) struct {
    unsigned char palette, start_row, reserved[14];
    unsigned short bytes[16];
    unsigned char rows[16];
  } config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  static_assert(sizeof config == 64);
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

}  // namespace nandu::avx512

#define TILE_BASE kernels_avx512
#include "../../cpu.h"
#include "../common/attention_tiles.h"

namespace nandu {

extern const KernelSet kernels_amx;
// Constants only: code that runs at start would be AVX-512 code on every machine. dispatch.cc fills in the rest.
const KernelSet kernels_amx = {
    .name = "amx",
    .runs_here = cpu_has_amx,
    .attn_query_bytes = avx512::query_bytes,
    .attn_block_bytes = avx512::block_bytes,
    .attn_pack_query = avx512::pack_query,
    .attn_pack_block = avx512::pack_block,
    .attn_block = avx512::block,
};

}  // namespace nandu
