// Speed of the kernels that are no matrix products, one JSON line each: best and median of many windows, the CPU's
// name, and for attention the share of this machine's own peak, measured in the same run: FMA at the target's vector
// width, or bf16 tiles where the target's reference mode runs on them. Build and run, after `npm run build`:
// bench/kernels/attention.sh [target]
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../native/kernels/kernels.h"

using namespace nandu;

static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

static std::string cpu_name() {
  std::string name = "unknown";
  if (FILE* f = fopen("/proc/cpuinfo", "r")) {
    char line[512];
    while (fgets(line, sizeof line, f)) {
      if (strncmp(line, "model name", 10)) continue;
      name = strchr(line, ':') + 2;
      name.pop_back();
      break;
    }
    fclose(f);
  }
  return name;
}

struct Seconds {
  double best, median;
};
static Seconds measure(const std::function<void()>& work) {
  work();
  double begin = now();
  work();
  const int repeats = std::max(1, static_cast<int>(1e-3 / (now() - begin)));
  std::vector<double> windows;
  for (int i = 0; i < 200; i++) {
    begin = now();
    for (int r = 0; r < repeats; r++) work();
    windows.push_back((now() - begin) / repeats);
  }
  std::sort(windows.begin(), windows.end());
  return {windows[windows.size() / 20], windows[windows.size() / 2]};
}

// f32 FMA peak in GFMA/s (lanes), from 12 independent chains of one vector width.
template <typename V>
static double fma_peak(void (*chains)(V*, uint32_t)) {
  V acc[12] = {};
  const Seconds s = measure([&] { chains(acc, 100000); });
  return 12.0 * 100000 * (sizeof(V) / 4) / s.best * 1e-9;
}
typedef float Wide __attribute__((vector_size(64)));
typedef float Half __attribute__((vector_size(32)));
#define CHAINS(name, type, features, reg)                                                                           \
  __attribute__((target(features))) static void name(type* acc, uint32_t n) {                                       \
    type a0 = acc[0], a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, b0 = a0,     \
         b1 = a0;                                                                                                   \
    for (uint32_t i = 0; i < n; i++)                                                                                \
      asm volatile(                                                                                                 \
          "vfmadd231ps %0, %0, %0\n vfmadd231ps %1, %1, %1\n vfmadd231ps %2, %2, %2\n vfmadd231ps %3, %3, %3\n"     \
          "vfmadd231ps %4, %4, %4\n vfmadd231ps %5, %5, %5\n vfmadd231ps %6, %6, %6\n vfmadd231ps %7, %7, %7\n"     \
          "vfmadd231ps %8, %8, %8\n vfmadd231ps %9, %9, %9\n vfmadd231ps %10, %10, %10\n"                           \
          "vfmadd231ps %11, %11, %11\n"                                                                             \
          : "+" reg(a0), "+" reg(a1), "+" reg(a2), "+" reg(a3), "+" reg(a4), "+" reg(a5), "+" reg(a6), "+" reg(a7), \
            "+" reg(a8), "+" reg(a9), "+" reg(b0), "+" reg(b1));                                                    \
    acc[0] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + b0 + b1;                                             \
  }
CHAINS(wide_chains, Wide, "avx512f", "v")
CHAINS(half_chains, Half, "avx2,fma", "x")

// bf16 multiply-adds of tiles in GMAC/s, from four sums in turn. The target that was chosen has asked for permission.
static double tile_peak() {
  struct alignas(64) Config {
    uint8_t palette = 1, rest[15] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" ::"m"(config));
  constexpr uint32_t kLoops = 20000;
  const Seconds s = measure([] {
    for (uint32_t i = 0; i < kLoops; i++)
      asm volatile(
          "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n"
          "tdpbf16ps %%tmm7, %%tmm5, %%tmm3\n" ::);
  });
  asm volatile("tilerelease" ::);
  return 4.0 * kLoops * 16 * 16 * 32 / s.best * 1e-9;
}

static uint64_t state = 1;
static float noise() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-30f;
}
static float* floats(size_t n) {
  float* p = static_cast<float*>(aligned_alloc(64, (n * 4 + 63) / 64 * 64));
  for (size_t i = 0; i < n; i++) p[i] = noise();
  return p;
}
static void* bytes(size_t n) {
  return memset(aligned_alloc(64, (n + 63) / 64 * 64), 0, n);
}

int main(int argc, char** argv) {
  const KernelSet* const k = choose_kernels(argc > 1 ? argv[1] : nullptr);
  if (!k) {
    fprintf(stderr, "no target named '%s'\n", argv[1]);
    return 64;
  }
  const std::string cpu = cpu_name();
  const bool tiles = !strcmp(k->name, "amx"), wide = tiles || !strcmp(k->name, "avx512"),
             half = !strcmp(k->name, "avx2");
  const double vectors = wide ? fma_peak(wide_chains) : half ? fma_peak(half_chains) : 0;
  double peak = vectors;
  const auto report = [&](const char* name, Seconds s, double work, const char* unit, bool share) {
    printf("{\"bench\":\"%s\",\"target\":\"%s\",\"cpu\":\"%s\",\"best_us\":%.2f,\"median_us\":%.2f,\"best_%s\":%.1f",
           name, k->name, cpu.c_str(), s.best * 1e6, s.median * 1e6, unit, work / s.best * 1e-9);
    if (share && peak > 0) printf(",\"peak\":%.1f,\"share_of_peak\":%.3f", peak, work / s.best * 1e-9 / peak);
    printf("}\n");
    fflush(stdout);
  };

  KernelScratch scratch{static_cast<uint8_t*>(bytes(kKernelScratchBytes)), kKernelScratchBytes, {}};
  constexpr uint32_t kDim = 512, kRope = 64;
  for (const uint32_t heads : {64u, 16u}) {
    for (const bool f32 : {false, true}) {
      peak = tiles && !f32 ? tile_peak() : vectors;
      const uint32_t row = main_row_bytes(true, kDim, kRope);
      std::vector<uint8_t> stored(64 * row);
      const uint8_t* rows[64];
      for (uint32_t i = 0; i < 64; i++) {
        k->encode_row(floats(kDim), kDim, kRope, &stored[i * row]);
        rows[i] = &stored[i * row];
      }
      float* const q = floats(heads * kDim);
      float* const out = floats(heads * kDim);
      void* const query = bytes(k->attn_query_bytes(f32, heads, kDim));
      void* const block = bytes(k->attn_block_bytes(f32, kDim));
      void* const st = bytes(k->attn_state_bytes(f32, heads, kDim));
      const std::string tail = std::string(f32 ? "_f32_" : "_") + std::to_string(heads) + "x64x512";
      report(("attn_pack_query" + tail).c_str(), measure([&] { k->attn_pack_query(f32, q, heads, kDim, query); }),
             heads * kDim, "Gvalues", false);
      report(("attn_pack_block" + tail).c_str(),
             measure([&] { k->attn_pack_block(f32, true, rows, kDim, kRope, block); }), 64.0 * kDim, "Gvalues", false);
      k->attn_begin(f32, floats(heads), heads, kDim, st);
      report(("attn_block" + tail).c_str(),
             measure([&] { k->attn_block(f32, query, block, 0, 64, heads, kDim, st, &scratch); }),
             2.0 * heads * 64 * kDim, "GMAC", true);
      report(("attn_end" + tail).c_str(), measure([&] { k->attn_end(f32, st, heads, kDim, out); }), heads * kDim,
             "Gvalues", false);
    }
  }
  {
    constexpr uint32_t kHeads = 64, kIndex = 128, kKeys = 4096;
    const uint32_t row = index_row_bytes(true, kIndex);
    std::vector<uint8_t> q(kHeads * row), keys(kKeys * row);
    for (uint32_t i = 0; i < kHeads; i++) k->encode_index_row(floats(kIndex), kIndex, &q[i * row]);
    for (uint32_t i = 0; i < kKeys; i++) k->encode_index_row(floats(kIndex), kIndex, &keys[i * row]);
    float* const w = floats(kHeads);
    float* const scores = floats(kKeys);
    report("index_scores_64x128x4096",
           measure([&] { k->index_scores(true, q.data(), w, kHeads, kIndex, keys.data(), kKeys, scores); }),
           double{kHeads} * kIndex * kKeys, "GMAC", false);
    for (const uint32_t n : {32u, 128u}) {
      report(("index_scores_64x128x" + std::to_string(n)).c_str(),
             measure([&] { k->index_scores(true, q.data(), w, kHeads, kIndex, keys.data(), n, scores); }),
             double{kHeads} * kIndex * n, "GMAC", false);
    }
    float* const v = floats(kHeads * kIndex);
    report("index_query_64x128", measure([&] {
             for (uint32_t h = 0; h < kHeads; h++) {
               k->hadamard(v + h * kIndex, kIndex);
               k->encode_index_row(v + h * kIndex, kIndex, &q[h * row]);
             }
           }),
           kHeads * kIndex, "Gvalues", false);
  }
  {
    const float *kr[128], *sr[128];
    for (uint32_t i = 0; i < 128; i++) {
      kr[i] = floats(512);
      sr[i] = floats(512);
    }
    float* const out = floats(512);
    report("pool_128x512", measure([&] { k->pool(kr, sr, 128, 512, out); }), 128 * 512, "Gvalues", false);
  }
  {
    constexpr uint32_t kHidden = 4096;
    float* const h = floats(4 * kHidden);
    float* const y = floats(kHidden);
    float* const mix = floats(24);
    float* const base = floats(24);
    const float scale[3] = {0.5f, 1.0f, 0.25f};
    float pre[4], post[4], comb[16];
    report("hc_coefficients", measure([&] { k->hc_coefficients(mix, 1, scale, base, 20, 1e-6f, pre, post, comb); }), 1,
           "G", false);
    report("hc_mix_in_4x4096", measure([&] { k->hc_mix_in(h, pre, kHidden, y); }), 4 * kHidden, "Gvalues", false);
    report("hc_mix_out_4x4096", measure([&] {
             k->hc_mix_out(h, y, post, comb, kHidden);
             h[0] = 1;
           }),
           4 * kHidden, "Gvalues", false);
    for (const uint32_t n : {512u, 4096u, 16384u}) {
      report(("rms_norm_" + std::to_string(n)).c_str(), measure([&] { k->rms_norm(h, nullptr, n, 1e-6f, h); }), n,
             "Gvalues", false);
    }
    float* const gate = floats(2048);
    float* const up = floats(2048);
    report("swiglu_2048", measure([&] { k->swiglu(gate, up, 10, 1, 2048, y); }), 2048, "Gvalues", false);
    report("router_scores_256", measure([&] { k->router_scores(gate, 256, y); }), 256, "Gvalues", false);
  }
  {
    constexpr uint32_t kVocabulary = 129280;
    float* const logits = floats(kVocabulary);
    float max;
    double sum;
    uint32_t sink = 0;
    report("argmax_129280", measure([&] { sink += k->argmax(logits, kVocabulary); }), kVocabulary, "Gvalues", false);
    report("softmax_sum_129280", measure([&] { k->softmax_sum(logits, kVocabulary, &max, &sum); }), kVocabulary,
           "Gvalues", false);
    if (sink == 1) printf("\n");
  }
  return 0;
}
