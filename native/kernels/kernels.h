// The whole surface of a kernel target: every float operation of a forward pass is one of these functions.
//
// Contract, for every function of every target (docs/arithmetic.md; D1..D11 are its definitions):
//  * same inputs, same bits, on every target, whatever m, tile, chunk or path was chosen;
//  * pure: no allocation, lock, global, STL or libm (scalar: fmaf and sqrtf only); scratch comes from the caller;
//  * reads no byte outside the given arrays; weights and stored rows at any alignment, float arrays at 4 bytes (most
//    are 64-byte aligned, none need be);
//  * MXCSR is at its default (round to nearest even, FTZ and DAZ off): parallel/workers.cc sets it.
//
// One folder and one translation unit a target, each compiled with its own flags; its object exports exactly one symbol
// (checked with nm by tools/tidy.mjs): a weak symbol from a target file could become everybody's copy.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../quant/types.h"

namespace nandu {

// Paths of a matrix product, counted so that tests can prove which ones ran.
enum KernelPath : uint32_t {
  kPathD1 = 0,     // raw blocks, one activation
  kPathDn,         // raw blocks, decoded once for a few activations
  kPathP,          // transient 8-bit panel, many activations
  kPathAmxInt8,    // as P on AMX tiles
  kPathFloat,      // D4: float weights
  kPathAmxBf16,    // attention on AMX tiles
  kPathAttention,  // attention blocks, any form
  kPathCount
};

// Owned by one worker thread; kernels may scribble over `data` during a call. Bytes: kKernelScratchBytes at least.
struct KernelScratch {
  uint8_t* data;  // 64-byte aligned
  size_t bytes;
  uint64_t counts[kPathCount];  // calls by path since start; the worker's own, summed when asked
};
inline constexpr size_t kKernelScratchBytes = (2u << 20) + (64u << 10);
// What attention's share of it is made for.
inline constexpr uint32_t kHeadsMax = 4096, kHeadDimMax = 4096;

// y[t][r] = W[r] . x[t] for r in [0, rows), t in [0, m).   D2, D3 (C8 over units) or D4 by the type's ActKind.
struct MatmulArgs {
  TensorType type;
  const uint8_t* weights;  // rows * row_bytes bytes, any alignment; nothing may be read behind them
  size_t row_bytes;
  uint32_t rows;
  uint32_t k;            // a multiple of the type's block
  uint32_t m;            // activations
  const void* const* x;  // m prepared activations: float[k] (kF32) or what quantize() wrote
  float* const* y;       // m results, float[rows] each, no alignment promised
  KernelScratch* scratch;
  int32_t force_path;  // a KernelPath, or -1: the target chooses by m. A path the target lacks: it chooses
};

// Attention reads rows in blocks of 64 (D5). A block is packed once and used by every query that sees it.
inline constexpr uint32_t kAttentionBlockRows = 64;

// How numbers are kept and attended to (docs/arithmetic.md). Matters to rows, indexer and attention only.
enum class Numerics : uint32_t {
  kReference = 0,              // rows as e4m3/bf16 bytes, indexer rows as e2m1, attention operands in bf16 (D5 order A)
  kF32 = 1,                    // rows and attention in f32: parity with llama.cpp (F32 cache) and transformers
  kReferenceF32Attention = 2,  // test only: reference rows, f32 attention operands
};

// Bytes of one stored main row / indexer row (D10). f32: 4 bytes a value.
constexpr uint32_t main_row_bytes(bool packed, uint32_t head_dim, uint32_t rope_dim) {
  return packed ? ((head_dim - rope_dim) + 2 * rope_dim + (head_dim - rope_dim + 63) / 64 + 7) / 8 * 8 : head_dim * 4;
}
constexpr uint32_t index_row_bytes(bool packed, uint32_t dim) {
  return packed ? dim / 2 + dim / 32 : dim * 4;
}

struct KernelSet {
  const char* name;     // "scalar", "avx2", "avx512", "amx"
  bool (*runs_here)();  // cpuid and the operating system's consent

  // --- activations and matrices --------------------------------------------------------------------------------------
  // Bytes of one prepared activation of k values (kF32: k * 4). A multiple of 64.
  size_t (*act_bytes)(ActKind kind, uint32_t k);
  // D1. x: float[k]; dst: act_bytes(kind, k), 64-byte aligned, in this target's own order. kF32: copies.
  // Returns false if x holds a NaN or infinity (dst is then unspecified): the sequence fails.
  bool (*quantize)(ActKind kind, const float* x, uint32_t k, void* dst);
  // Best `rows` granularity of one call for this m (rows of one task should be a multiple; 16 or 32 normally).
  void (*matmul)(const MatmulArgs& args);
  // Row `row` of an embedding matrix to f32 (D9): any type, k values.
  void (*dequant_row)(TensorType type, const uint8_t* row, uint32_t k, float* out);

  // --- elementwise and small reductions ------------------------------------------------------------------------------
  // D4-ordered sum of squares, then D9 RMS: out[i] = RN(RN(x[i] * rho) * w[i]); w null: RN(x[i] * rho). out may be x.
  void (*rms_norm)(const float* x, const float* w, uint32_t n, float eps, float* out);
  // rho alone (D9): RN(1 / RN(sqrt(RN(RN(sum/n) + eps)))).
  float (*rms_scale)(const float* x, uint32_t n, float eps);
  // Rotates pairs (2i, 2i+1) of v[0..n) by cos/sin[n/2] (D9). inverse: sin negated.
  void (*rope)(float* v, const float* cos, const float* sin, uint32_t n, bool inverse);
  // h[i] = RN(RN(silu(min(g, limit)) * clamp(u, +-limit)) * weight)   (D8, D9). limit <= 0: no clamp.
  void (*swiglu)(const float* gate, const float* up, float limit, float weight, uint32_t n, float* out);
  // acc[i] = RN(acc[i] + x[i])
  void (*add)(float* acc, const float* x, uint32_t n);

  // --- mHC (deepseek-v4.md 2.2) --------------------------------------------------------------------------------------
  // From mix[24] = fn . x (D4; not yet times rho): pre[4], post[4], comb[16] (row = source j, column = destination k).
  void (*hc_coefficients)(const float* mix, float rho, const float* scale, const float* base, uint32_t iterations,
                          float eps, float* pre, float* post, float* comb);
  // Head: w[i] = sigmoid(RN(mix[i] * rho) * scale + base[i]) + eps, i < 4.
  void (*hc_head_weights)(const float* mix, float rho, float scale, const float* base, float eps, float* w);
  // out[d] = product of term 0, then FMA ascending, over the 4 streams h[4][dim].
  void (*hc_mix_in)(const float* h, const float* w, uint32_t dim, float* out);
  // h'[k] = post[k]*y, then FMA over j ascending of comb[j][k]*h[j]; in place on h[4][dim].
  void (*hc_mix_out)(float* h, const float* y, const float* post, const float* comb, uint32_t dim);

  // --- router (2.7) --------------------------------------------------------------------------------------------------
  // s[e] = sqrt(softplus(z[e])).
  void (*router_scores)(const float* z, uint32_t experts, float* s);

  // --- compressor (2.4, D6) ------------------------------------------------------------------------------------------
  // out[c] = softmax-weighted sum over `rows` rows ascending; k_rows[i], s_rows[i]: float[channels].
  void (*pool)(const float* const* k_rows, const float* const* s_rows, uint32_t rows, uint32_t channels, float* out);

  // --- stored rows (D10) ---------------------------------------------------------------------------------------------
  // v: float[head_dim], rope already applied. dst: main_row_bytes(true, ..), any alignment. bf16-rounds first.
  void (*encode_row)(const float* v, uint32_t head_dim, uint32_t rope_dim, uint8_t* dst);
  void (*decode_row)(const uint8_t* row, uint32_t head_dim, uint32_t rope_dim, float* v);
  // In place: Hadamard (Sylvester, times dim^-0.5) of v[dim].
  void (*hadamard)(float* v, uint32_t dim);
  // e2m1 codes and e8m0 exponents per 32 of v[dim] (after hadamard): index_row_bytes(true, dim): codes, then exponents.
  void (*encode_index_row)(const float* v, uint32_t dim, uint8_t* dst);

  // --- indexer (D7) --------------------------------------------------------------------------------------------------
  // scores[i] of n keys against one query. packed: q and keys are encode_index_row bytes (q: `heads` of them);
  // otherwise floats. keys: n rows, back to back. w: float[heads], already times (dim*heads)^-0.5.
  void (*index_scores)(bool packed, const uint8_t* q, const float* w, uint32_t heads, uint32_t dim, const uint8_t* keys,
                       uint32_t n, float* scores);

  // --- attention (D5) ------------------------------------------------------------------------------------------------
  // Sizes of the target's own forms. f32: operands stay f32 (Numerics other than kReference).
  size_t (*attn_query_bytes)(bool f32, uint32_t heads, uint32_t head_dim);
  size_t (*attn_block_bytes)(bool f32, uint32_t head_dim);
  size_t (*attn_state_bytes)(bool f32, uint32_t heads, uint32_t head_dim);
  // q: float[heads][head_dim], rope applied.
  void (*attn_pack_query)(bool f32, const float* q, uint32_t heads, uint32_t head_dim, void* dst);
  // rows[64]: stored rows (packed bytes or f32, by packed_rows); null = absent, packed as zeros.
  void (*attn_pack_block)(bool f32, bool packed_rows, const uint8_t* const* rows, uint32_t head_dim, uint32_t rope_dim,
                          void* dst);
  // M = sink, L = 1, O = +0 for each head.
  void (*attn_begin)(bool f32, const float* sinks, uint32_t heads, uint32_t head_dim, void* state);
  // Folds rows [first, last) of the block in; rows outside are masked. first < last.
  void (*attn_block)(bool f32, const void* query, const void* block, uint32_t first, uint32_t last, uint32_t heads,
                     uint32_t head_dim, void* state, KernelScratch* scratch);
  // out: float[heads][head_dim] = RN(O * RN(1/L)).
  void (*attn_end)(bool f32, const void* state, uint32_t heads, uint32_t head_dim, float* out);

  // --- sampling ------------------------------------------------------------------------------------------------------
  // Index of the largest value, lowest index on a tie; n >= 1.
  uint32_t (*argmax)(const float* x, uint32_t n);
  // log(sum(exp(x))) in a fixed order: m = max; 16 double lanes by i mod 16 of D9 exp(x - m), folded as D4; log by the
  // shared routine in engine/sampling.cc, so this returns only max and the sum.
  void (*softmax_sum)(const float* x, uint32_t n, float* max, double* sum);
};

// Best first; "scalar" last: always there, and the specification.
const KernelSet* const* kernel_sets(size_t* count);
// `base` with the functions that `tiles`, which lacks the others, has: attention in reference mode, products, its name,
// where it runs.
KernelSet with_tiles(const KernelSet& base, const KernelSet& tiles);
// The best set that runs here, capped by `cap` ("" or null: no cap). nullptr: `cap` names no target.
const KernelSet* choose_kernels(const char* cap);
// The best set below `set` that runs here; nullptr: there is none.
const KernelSet* next_best(const KernelSet& set);
// Compares a set with scalar on random data, under 5 ms: run once at start on the chosen set. nullptr, or what differs
// (a set that differs must not be used).
const char* self_test(const KernelSet& set);

}  // namespace nandu
