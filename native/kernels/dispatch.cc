// The list of targets, best first, the choice among them, and the test that a chosen one must pass at start.
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <vector>

#include "../base/aligned.h"
#include "cpu.h"
#include "kernels.h"

namespace nandu {

extern const KernelSet kernels_scalar;
#if defined(__x86_64__)
extern const KernelSet kernels_avx2;
extern const KernelSet kernels_avx512;
extern const KernelSet kernels_amx;

// __builtin_cpu_supports asks the operating system (xgetbv) as well. Not every compiler's knows F16C, whose registers
// are AVX's.
bool cpu_has_avx2() {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
         (c & bit_F16C);
}
bool cpu_has_avx512() {
  return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}
bool cpu_has_amx() {
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25,
                     kAmx = kAmxBf16 | kAmxTile | kAmxInt8;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA of Linux 5.16
  unsigned a, b, c, d;
  if (!cpu_has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAmx) != kAmx) return false;
  // Of the whole process, once; an older kernel and some sandboxes refuse it.
  static const bool permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
}
#endif

KernelSet with_tiles(const KernelSet& base, const KernelSet& tiles) {
  KernelSet set = base;
  set.name = tiles.name;
  set.runs_here = tiles.runs_here;
  set.matmul = tiles.matmul;
  set.attn_query_bytes = tiles.attn_query_bytes;
  set.attn_block_bytes = tiles.attn_block_bytes;
  set.attn_pack_query = tiles.attn_pack_query;
  set.attn_pack_block = tiles.attn_pack_block;
  set.attn_block = tiles.attn_block;
  return set;
}

#if defined(__x86_64__)
static const KernelSet amx_set = with_tiles(kernels_avx512, kernels_amx);
#endif

// Best first. A new target adds a folder, a line here and a line in the build.
static const KernelSet* const kSets[] = {
#if defined(__x86_64__)
    &amx_set,
    &kernels_avx512,
    &kernels_avx2,
#endif
    // targets/neon comes here, its i8mm form before its dotprod form.
    &kernels_scalar,
};

const KernelSet* const* kernel_sets(size_t* count) {
  *count = sizeof kSets / sizeof kSets[0];
  return kSets;
}

// Every name a cap may have, best first; a build need not hold them all.
static const char* const kCaps[] = {"amx", "avx512", "avx2", "scalar"};

const KernelSet* choose_kernels(const char* cap) {
  const bool capped = cap && *cap;
  bool known = !capped;
  for (const char* name : kCaps) {
    known = known || !strcmp(name, cap);
    if (!known) continue;
    for (const KernelSet* set : kSets)
      if (!strcmp(set->name, name) && set->runs_here()) return set;
  }
  return nullptr;  // the scalar target runs anywhere, so only an unknown cap comes here
}

const KernelSet* next_best(const KernelSet& set) {
  bool below = false;
  for (const KernelSet* other : kSets) {
    if (below && other->runs_here()) return other;
    below = below || other == &set;
  }
  return nullptr;
}

// --- self-test
// --------------------------------------------------------------------------------------------------------
namespace {

// SplitMix64: the same data at every start.
struct Noise {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  void fill(float* x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = static_cast<float>(static_cast<int64_t>(next()) >> 32) * 0x1p-29f;  // +-4
  }
};

constexpr uint32_t kRows = 16, kColumns = 512, kActivations = 9;
constexpr uint32_t kHeads = 16, kHeadDim = 96, kRopeDim = 32, kIndexDim = 64, kKeys = 24;

// A type of each family of kernels, and where its blocks keep binary16 scales: random bits there could be NaN.
struct Sample {
  TensorType type;
  const char* name;
  int32_t scale_at[2];
};
constexpr Sample kSamples[] = {
    {TensorType::kF16, "product of F16", {0, -1}},         {TensorType::kQ8_0, "product of Q8_0", {0, -1}},
    {TensorType::kMXFP4, "product of MXFP4", {-1, -1}},    {TensorType::kQ2_K, "product of Q2_K", {80, 82}},
    {TensorType::kQ4_K, "product of Q4_K", {0, 2}},        {TensorType::kQ6_K, "product of Q6_K", {208, -1}},
    {TensorType::kIQ2_XXS, "product of IQ2_XXS", {0, -1}},
};

struct Data {
  float x[kActivations * kColumns];
  float q[kHeads * kHeadDim], rows[kAttentionBlockRows * kHeadDim], sinks[kHeads];
  float index_q[kHeads * kIndexDim], index_keys[kKeys * kIndexDim], weights[kHeads];
};

void run_matmul(const KernelSet& set, const Sample& sample, const Data& data, KernelScratch* scratch, uint32_t m,
                float* y) {
  const TypeInfo& info = *type_info(sample.type);
  const size_t bytes = row_bytes(info, kColumns);
  std::vector<uint8_t> w(kRows * bytes);
  Noise noise{static_cast<uint64_t>(sample.type)};
  for (uint8_t& b : w) b = static_cast<uint8_t>(noise.next());
  for (size_t at = 0; at < w.size(); at += info.block_bytes) {
    for (const int32_t scale : sample.scale_at)
      if (scale >= 0) w[at + static_cast<size_t>(scale) + 1] &= 0xbb;  // no exponent of all ones
    if (sample.type == TensorType::kMXFP4) w[at] = static_cast<uint8_t>(120 + w[at] % 16);
  }
  const size_t act = set.act_bytes(info.act, kColumns);
  AlignedBuffer<uint8_t> prepared(m * act);
  const void* x[kActivations];
  float* out[kActivations];
  for (uint32_t i = 0; i < m; i++) {
    set.quantize(info.act, data.x + i * kColumns, kColumns, prepared.data() + i * act);
    x[i] = prepared.data() + i * act;
    out[i] = y + i * kRows;
  }
  // Many activations on tiles, where there are tiles.
  const int32_t path = m == kActivations ? int32_t{kPathAmxInt8} : -1;
  set.matmul({sample.type, w.data(), bytes, kRows, kColumns, m, x, out, scratch, path});
}

void run_attention(const KernelSet& set, bool f32, const Data& data, KernelScratch* scratch, float* out) {
  const uint32_t bytes = main_row_bytes(true, kHeadDim, kRopeDim);
  std::vector<uint8_t> stored(kAttentionBlockRows * bytes);
  const uint8_t* rows[kAttentionBlockRows];
  for (uint32_t i = 0; i < kAttentionBlockRows; i++) {
    rows[i] = stored.data() + i * bytes;
    set.encode_row(data.rows + i * kHeadDim, kHeadDim, kRopeDim, stored.data() + i * bytes);
  }
  AlignedBuffer<uint8_t> query(set.attn_query_bytes(f32, kHeads, kHeadDim)), block(set.attn_block_bytes(f32, kHeadDim)),
      state(set.attn_state_bytes(f32, kHeads, kHeadDim));
  set.attn_pack_query(f32, data.q, kHeads, kHeadDim, query.data());
  set.attn_pack_block(f32, true, rows, kHeadDim, kRopeDim, block.data());
  set.attn_begin(f32, data.sinks, kHeads, kHeadDim, state.data());
  set.attn_block(f32, query.data(), block.data(), 0, kAttentionBlockRows, kHeads, kHeadDim, state.data(), scratch);
  set.attn_block(f32, query.data(), block.data(), 3, 38, kHeads, kHeadDim, state.data(), scratch);
  set.attn_end(f32, state.data(), kHeads, kHeadDim, out);
}

void run_indexer(const KernelSet& set, const Data& data, float* scores) {
  const uint32_t bytes = index_row_bytes(true, kIndexDim);
  std::vector<uint8_t> q(kHeads * bytes), keys(kKeys * bytes);
  alignas(64) float v[kIndexDim];
  const auto encode = [&](const float* from, uint8_t* to) {
    memcpy(v, from, sizeof v);
    set.hadamard(v, kIndexDim);
    set.encode_index_row(v, kIndexDim, to);
  };
  for (uint32_t h = 0; h < kHeads; h++) encode(data.index_q + h * kIndexDim, q.data() + h * bytes);
  for (uint32_t i = 0; i < kKeys; i++) encode(data.index_keys + i * kIndexDim, keys.data() + i * bytes);
  set.index_scores(true, q.data(), data.weights, kHeads, kIndexDim, keys.data(), kKeys, scores);
}

// Norm, gate, router, pooling and stream mixes, one behind the other in `out`: 5 * kColumns floats.
void run_elementwise(const KernelSet& set, const Data& data, float* out) {
  set.rms_norm(data.x, data.x + kColumns, kColumns, 1e-6f, out);
  set.swiglu(data.x, data.x + kColumns, 2.5f, 0.75f, kColumns, out + kColumns);
  set.router_scores(data.x, kColumns, out + 2 * kColumns);
  const float* rows[8];
  for (uint32_t i = 0; i < 8; i++) rows[i] = data.x + i * kColumns;
  set.pool(rows, rows + 4, 4, kColumns, out + 3 * kColumns);
  constexpr uint32_t kStream = kColumns / 4;
  float pre[4], post[4], comb[16];
  const float scale[3] = {0.5f, 1.0f, 0.25f};
  set.hc_coefficients(data.x, 0.5f, scale, data.x + 24, 20, 1e-6f, pre, post, comb);
  alignas(64) float y[kStream];
  float* const h = out + 4 * kColumns;
  memcpy(h, data.x, sizeof(float) * kColumns);
  set.hc_mix_in(h, pre, kStream, y);
  set.hc_mix_out(h, y, post, comb, kStream);
}

}  // namespace

const char* self_test(const KernelSet& set) {
  AlignedBuffer<Data> held(1);
  AlignedBuffer<uint8_t> scratch_data(kKernelScratchBytes);
  KernelScratch scratch{scratch_data.data(), kKernelScratchBytes, {}};
  Data& data = *held.data();
  Noise{1}.fill(data.x, sizeof data / sizeof(float));

  constexpr size_t kMost = 5 * kColumns;
  static_assert(kMost >= kHeads * kHeadDim && kMost >= kActivations * kRows);
  AlignedBuffer<float> got(kMost), want(kMost);
  const auto same = [&](size_t n) { return !memcmp(got.data(), want.data(), n * sizeof(float)); };

  // The activations' own codes are in each target's order, so products are what can be compared.
  for (const Sample& sample : kSamples) {
    for (const uint32_t m : {1u, 3u, kActivations}) {
      run_matmul(set, sample, data, &scratch, m, got.data());
      run_matmul(kernels_scalar, sample, data, &scratch, m, want.data());
      if (!same(m * kRows)) return sample.name;
    }
  }
  for (const bool f32 : {false, true}) {
    run_attention(set, f32, data, &scratch, got.data());
    run_attention(kernels_scalar, f32, data, &scratch, want.data());
    if (!same(kHeads * kHeadDim)) return f32 ? "attention in f32" : "attention";
  }
  run_indexer(set, data, got.data());
  run_indexer(kernels_scalar, data, want.data());
  if (!same(kKeys)) return "indexer scores";
  run_elementwise(set, data, got.data());
  run_elementwise(kernels_scalar, data, want.data());
  if (!same(kMost)) return "elementwise operations";
  return nullptr;
}

}  // namespace nandu
