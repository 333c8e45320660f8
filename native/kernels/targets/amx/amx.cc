// The amx target: attention on bf16 tiles, products of quantised matrices with many activations on int8 tiles;
// everything else is the avx512 target's. Exports its table and nothing else.
#define NANDU_TARGET avx512  // whose vectors it uses
#include "../common/vec_avx512.h"

// Written out, since the compiler's own macros do not say that a tile is read from memory.
#define TILE_ZERO(n) __asm__ volatile("tilezero %%tmm" #n ::)
#define TILE_LOAD(n, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n ::"r"(from), "r"(static_cast<size_t>(stride)) : "memory")
#define TILE_STORE(n, to, stride) \
  __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" ::"r"(to), "r"(static_cast<size_t>(stride)) : "memory")
#define TILE_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILE_DOT_SS(c, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILE_DOT_SU(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define TILES_BEGIN(config) begin_tiles(config)
#define TILES_END() __asm__ volatile("tilerelease" ::)
#define TILE_BASE kernels_avx512
#include "../../cpu.h"
#include "../common/tiles.h"

namespace nandu::avx512 {
static inline void begin_tiles(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}
}  // namespace nandu::avx512

#include "../common/attention_tiles.h"
#include "unpack_amx.h"
// The tiles of unpack_amx.h multiplied.
#include "../common/panel_tiles.h"

namespace nandu {

extern const KernelSet kernels_amx;
// Constants only: code that runs at start would be AVX-512 code on every machine. dispatch.cc fills in the rest.
const KernelSet kernels_amx = {
    .name = "amx",
    .runs_here = cpu_has_amx,
    .matmul = avx512::tile_matmul,
    .attn_query_bytes = avx512::query_bytes,
    .attn_block_bytes = avx512::block_bytes,
    .attn_pack_query = avx512::pack_query,
    .attn_pack_block = avx512::pack_block,
    .attn_block = avx512::block,
};

}  // namespace nandu
