// How fast are the matrix products, against what this machine can do? One JSON line a figure:
//   machine   CPU, the kernel target, threads
//   peak      int8 multiply-adds a second of one core, by the target's own instruction (GMAC/s)
//   read      read loop over DRAM (GB/s), asking ahead as D1 does, 1 thread and all
//   decode    D1 over rows in DRAM, all threads: GB/s of weights and the ratio to the read loop of the same round
//   panel     m activations, one thread, weights from DRAM, unpacking included: GMAC/s and the share of the peak; the
//             amx target takes what it takes for so many, which is tiles for most
//   path      Dn against P by m, all threads: where P begins to pay
//   tiles     int8 tiles against P by m, one thread, unpacking included; only where the target is amx
// Windows of all kinds take turns within a round, so a neighbour's noise hits them alike; `best` is the mean of the
// best 5 % of the rounds, `median` their middle. Build and run: bench/kernels/matmul.sh [--target NAME] [--only KIND]
// [--types A,B]
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "../../native/kernels/kernels.h"

namespace {

using namespace nandu;

constexpr size_t kBufferBytes = size_t{3} << 29;  // 1.5 GiB: far beyond an L3 of 260 MiB
constexpr uint32_t kK = 4096;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Threads that run one job together, the caller among them; the others sleep between jobs. The time is from the moment
// all are awake to the last end.
class Team {
 public:
  explicit Team(uint32_t n) : size_(n) {
    for (uint32_t i = 1; i < n; i++) threads_.emplace_back([this, i] { work(i); });
  }
  ~Team() {
    job_ = nullptr;
    generation_++;
    generation_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  uint32_t size() const { return size_; }
  double run(uint32_t active, const std::function<void(uint32_t)>& job) {
    if (active > 1) {
      job_ = &job;
      awake_ = left_ = size_ - 1;
      generation_++;
      generation_.notify_all();
      while (awake_ != 0) _mm_pause();
    }
    const double start = seconds();
    job(0);
    while (left_ != 0) _mm_pause();
    return seconds() - start;
  }

 private:
  void work(uint32_t i) {
    for (uint64_t seen = 0;; seen++) {
      generation_.wait(seen);
      if (!job_) return;
      awake_--;
      while (awake_ != 0) _mm_pause();
      (*job_)(i);
      left_--;
    }
  }
  uint32_t size_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint32_t> awake_{0}, left_{0};
  const std::function<void(uint32_t)>* job_ = nullptr;
  std::vector<std::thread> threads_;
};

struct Rounds {
  std::vector<double> values;
  double best() const {
    std::vector<double> v = values;
    std::sort(v.rbegin(), v.rend());
    const size_t n = std::max<size_t>(1, v.size() / 20);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += v[i];
    return sum / static_cast<double>(n);
  }
  double median() const {
    std::vector<double> v = values;
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
  }
};

// --- what the machine can do
// ------------------------------------------------------------------------------------------------ Twelve independent
// chains each; written as instructions, because compilers rearrange such loops.
#define NANDU_12(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
uint64_t peak_vnni(uint64_t loops) {
  for (uint64_t n = 0; n < loops; n++) {
#define NANDU_DOT(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n\t"
    asm volatile(NANDU_12(NANDU_DOT)::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                       "xmm11");
  }
  return loops * 12 * 64;
}
uint64_t peak_avx2(uint64_t loops) {
  for (uint64_t n = 0; n < loops; n++) {
#define NANDU_TRIPLE(i)                                                                                    \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n\tvpmaddwd %%ymm13, %%ymm12, %%ymm12\n\tvpaddd %%ymm12, %%ymm" #i \
  ", %%ymm" #i "\n\t"
    asm volatile(NANDU_12(NANDU_TRIPLE)::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12");
  }
  return loops * 12 * 32;
}
__attribute__((target("avx2"), noinline)) void read_all(const uint8_t* p, size_t n) {
  __m256i a[8];
  for (__m256i& v : a) v = _mm256_setzero_si256();
  for (size_t i = 0; i + 256 <= n; i += 256)
    for (int j = 0; j < 8; j++) {
      _mm_prefetch(p + i + 4096 + 32 * j, _MM_HINT_T0);
      if (j % 2 == 0) _mm_prefetch(p + i + 16384 + 32 * j, _MM_HINT_T1);
      a[j] = _mm256_xor_si256(a[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
    }
  __m256i all = a[0];
  for (int j = 1; j < 8; j++) all = _mm256_xor_si256(all, a[j]);
  volatile int sink = _mm256_extract_epi32(all, 0);
  (void)sink;
}

std::string cpu_model() {
  FILE* f = fopen("/proc/cpuinfo", "r");
  char line[512];
  std::string model = "unknown";
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, "model name", 10)) {
      model = strchr(line, ':') + 2;
      model.pop_back();
      break;
    }
  if (f) fclose(f);
  return model;
}

// --- the bench
// --------------------------------------------------------------------------------------------------------------
struct Bench {
  const KernelSet* set;
  uint8_t* buffer;
  Team team;
  std::vector<size_t> cursor;  // each thread walks its own part of the buffer, on and on
  std::vector<std::vector<uint8_t>> scratch;
  std::vector<std::vector<float>> results;
  std::vector<uint8_t*> prepared[3];  // by ActKind
  std::vector<const TypeInfo*> types;

  Bench(const KernelSet* s, uint32_t threads) : set(s), team(threads), cursor(threads) {
    buffer =
        static_cast<uint8_t*>(mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(buffer, kBufferBytes, MADV_HUGEPAGE);
    // Bytes 0x30..0x3b: every 16-bit or e8m0 scale made of them is an ordinary number in every type.
    uint64_t state = 1;
    for (size_t i = 0; i < (1 << 20); i++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      buffer[i] = static_cast<uint8_t>(0x30 + (state >> 33) % 12);
    }
    for (size_t i = 1 << 20; i < kBufferBytes; i += 1 << 20) memcpy(buffer + i, buffer, 1 << 20);
    for (uint32_t t = 0; t < threads; t++) {
      scratch.emplace_back(kKernelScratchBytes + 64);
      results.emplace_back(256 * 1024);
    }
    // One activation behind the other, as the engine keeps them.
    float* x = static_cast<float*>(aligned_alloc(64, kK * 4));
    for (ActKind kind : {ActKind::kF32, ActKind::kAct8x32, ActKind::kAct8x256}) {
      const size_t bytes = set->act_bytes(kind, kK);
      uint8_t* const all = static_cast<uint8_t*>(aligned_alloc(64, 256 * bytes));
      for (uint32_t m = 0; m < 256; m++) {
        for (uint32_t i = 0; i < kK; i++) x[i] = static_cast<float>((i * 7919u + m * 104729u) % 255) - 127.0f;
        prepared[static_cast<int>(kind)].push_back(all + m * bytes);
        set->quantize(kind, x, kK, prepared[static_cast<int>(kind)].back());
      }
    }
    free(x);
  }

  // The next `bytes` of thread t's part.
  const uint8_t* next(uint32_t t, size_t bytes) {
    const size_t part = kBufferBytes / team.size();
    if (cursor[t] + bytes > part) cursor[t] = 0;
    const uint8_t* p = buffer + t * part + cursor[t];
    cursor[t] += (bytes + 4095) / 4096 * 4096;
    return p;
  }

  double read(uint32_t active, size_t bytes) {
    std::vector<const uint8_t*> from;
    for (uint32_t t = 0; t < active; t++) from.push_back(next(t, bytes));
    const double s = team.run(active, [&](uint32_t t) { read_all(from[t], bytes); });
    return static_cast<double>(bytes) * active / s;
  }

  // Weight bytes a second; calls of `rows` rows, about `bytes` a thread.
  double product(const TypeInfo& info, uint32_t active, uint32_t m, uint32_t rows, size_t bytes, int32_t path) {
    const size_t row = row_bytes(info, kK), calls = std::max<size_t>(1, bytes / (row * rows));
    std::vector<const uint8_t*> from;
    for (uint32_t t = 0; t < active; t++) from.push_back(next(t, calls * rows * row));
    const double s = team.run(active, [&](uint32_t t) {
      uint8_t* aligned = scratch[t].data() + (64 - reinterpret_cast<uintptr_t>(scratch[t].data()) % 64);
      KernelScratch space = {aligned, kKernelScratchBytes, {}};
      std::vector<const void*> x(prepared[static_cast<int>(info.act)].begin(),
                                 prepared[static_cast<int>(info.act)].begin() + m);
      std::vector<float*> y;
      for (uint32_t i = 0; i < m; i++) y.push_back(results[t].data() + size_t{i} * rows);
      for (size_t c = 0; c < calls; c++)
        set->matmul({info.type, from[t] + c * rows * row, row, rows, kK, m, x.data(), y.data(), &space, path});
    });
    return static_cast<double>(calls * rows * row) * active / s;
  }

  double peak() {
    uint64_t macs = 0;
    const bool vnni = !strcmp(set->name, "avx512") || !strcmp(set->name, "amx");
    const double s = team.run(1, [&](uint32_t) { macs = vnni ? peak_vnni(200000) : peak_avx2(100000); });
    return static_cast<double>(macs) / s;
  }
};

constexpr int kRounds = 40;

void peak(Bench& b) {
  Rounds read[2], macs;
  for (int round = 0; round < kRounds; round++) {
    for (uint32_t n : {1u, b.team.size()}) read[n > 1].values.push_back(b.read(n, size_t{24} << 20) / 1e9);
    macs.values.push_back(b.peak() / 1e9);
  }
  printf("{\"kind\":\"peak\",\"threads\":1,\"best_gmac_s\":%.1f,\"median_gmac_s\":%.1f}\n", macs.best(), macs.median());
  for (uint32_t n : {1u, b.team.size()})
    printf("{\"kind\":\"read\",\"threads\":%u,\"best_gb_s\":%.2f,\"median_gb_s\":%.2f}\n", n, read[n > 1].best(),
           read[n > 1].median());
}

void decode(Bench& b) {
  const uint32_t n = b.team.size();
  const size_t bytes = size_t{24} << 20;
  std::vector<Rounds> speed(b.types.size()), ratio(b.types.size());
  Rounds one, all;
  for (int round = 0; round < kRounds; round++) {
    one.values.push_back(b.read(1, bytes) / 1e9);
    const double before = b.read(n, bytes);
    for (size_t i = 0; i < b.types.size(); i++) {
      const double v = b.product(*b.types[i], n, 1, 32, bytes, -1);
      speed[i].values.push_back(v / 1e9);
    }
    const double after = b.read(n, bytes);
    all.values.push_back(before / 1e9);
    all.values.push_back(after / 1e9);
    for (size_t i = 0; i < b.types.size(); i++)
      ratio[i].values.push_back(speed[i].values.back() * 1e9 / ((before + after) / 2));
  }
  printf("{\"kind\":\"read\",\"threads\":1,\"best_gb_s\":%.2f,\"median_gb_s\":%.2f}\n", one.best(), one.median());
  printf("{\"kind\":\"read\",\"threads\":%u,\"best_gb_s\":%.2f,\"median_gb_s\":%.2f}\n", n, all.best(), all.median());
  for (size_t i = 0; i < b.types.size(); i++)
    printf(
        "{\"kind\":\"decode\",\"type\":\"%s\",\"threads\":%u,\"best_gb_s\":%.2f,\"median_gb_s\":%.2f,\"best_of_read\":%"
        ".3f,"
        "\"median_of_read\":%.3f}\n",
        b.types[i]->name, n, speed[i].best(), speed[i].median(), speed[i].best() / all.best(), ratio[i].median());
}

void panel(Bench& b) {
  const bool has_tiles = !strcmp(b.set->name, "amx");
  const uint32_t ms[] = {8, 16, 32, 64, 256};
  for (const TypeInfo* info : b.types) {
    Rounds speed[5], ratio[5], peaks;
    for (int round = 0; round < kRounds; round++) {
      const double before = b.peak();
      peaks.values.push_back(before / 1e9);
      for (int i = 0; i < 5; i++) {
        const double macs = b.product(*info, 1, ms[i], 128, std::max(size_t{1} << 20, (size_t{64} << 20) / ms[i]),
                                      info->block_values == 1 || has_tiles ? -1 : int32_t{kPathP}) /
                            static_cast<double>(row_bytes(*info, kK)) * kK * ms[i];
        speed[i].values.push_back(macs / 1e9);
        ratio[i].values.push_back(macs / before);
      }
    }
    printf("{\"kind\":\"peak\",\"threads\":1,\"best_gmac_s\":%.1f,\"median_gmac_s\":%.1f}\n", peaks.best(),
           peaks.median());
    for (int i = 0; i < 5; i++)
      printf(
          "{\"kind\":\"panel\",\"type\":\"%s\",\"m\":%u,\"best_gmac_s\":%.1f,\"median_gmac_s\":%.1f,\"best_of_peak\":%."
          "3f,"
          "\"median_of_peak\":%.3f}\n",
          info->name, ms[i], speed[i].best(), speed[i].median(), speed[i].best() / peaks.best(), ratio[i].median());
  }
}

void path(Bench& b) {
  const uint32_t n = b.team.size();
  for (const TypeInfo* info : b.types) {
    if (info->block_values == 1) continue;
    for (uint32_t m : {2u, 3u, 4u, 5u, 6u, 7u, 8u, 10u, 12u, 16u}) {
      Rounds dn, p;
      for (int round = 0; round < kRounds / 4; round++) {
        dn.values.push_back(b.product(*info, n, m, 32, size_t{8} << 20, kPathDn) / 1e9);
        p.values.push_back(b.product(*info, n, m, 32, size_t{8} << 20, kPathP) / 1e9);
      }
      printf(
          "{\"kind\":\"path\",\"type\":\"%s\",\"m\":%u,\"dn_best_gb_s\":%.2f,\"p_best_gb_s\":%.2f,\"dn_median_gb_s\":%."
          "2f,"
          "\"p_median_gb_s\":%.2f}\n",
          info->name, m, dn.best(), p.best(), dn.median(), p.median());
    }
  }
}

// Ratios are of windows next to each other; that of the medians is printed.
void tiles(Bench& b) {
  if (strcmp(b.set->name, "amx") != 0) return;
  for (const TypeInfo* info : b.types) {
    if (info->block_values == 1) continue;
    for (uint32_t m : {8u, 12u, 16u, 24u, 32u, 48u, 64u, 128u, 256u}) {
      Rounds p, t, ratio;
      const double macs = static_cast<double>(kK * m) / static_cast<double>(row_bytes(*info, kK)) / 1e9;
      const size_t bytes = std::max(size_t{1} << 20, (size_t{64} << 20) / m);
      for (int round = 0; round < kRounds / 4; round++) {
        p.values.push_back(b.product(*info, 1, m, 64, bytes, kPathP) * macs);
        t.values.push_back(b.product(*info, 1, m, 64, bytes, kPathAmxInt8) * macs);
        ratio.values.push_back(t.values.back() / p.values.back());
      }
      printf(
          "{\"kind\":\"tiles\",\"type\":\"%s\",\"m\":%u,\"p_best_gmac_s\":%.1f,\"tiles_best_gmac_s\":%.1f,"
          "\"median_ratio\":%.3f}\n",
          info->name, m, p.best(), t.best(), ratio.median());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char *target = "", *only = "", *types = "Q8_0,Q4_0,Q4_K,MXFP4,Q2_K,Q6_K,IQ2_XXS,F16";
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--target")) target = argv[i + 1];
    if (!strcmp(argv[i], "--only")) only = argv[i + 1];
    if (!strcmp(argv[i], "--types")) types = argv[i + 1];
  }
  const KernelSet* set = choose_kernels(target);
  if (!set) return fprintf(stderr, "no such target: %s\n", target), 64;
  const uint32_t threads = std::max(1u, std::min(2u, std::thread::hardware_concurrency()));
  Bench b(set, threads);
  for (const TypeInfo& info : kTypes)
    if (strstr((std::string(",") + types + ",").c_str(), (std::string(",") + info.name + ",").c_str()))
      b.types.push_back(&info);
  printf("{\"kind\":\"machine\",\"cpu\":\"%s\",\"target\":\"%s\",\"threads\":%u,\"k\":%u}\n", cpu_model().c_str(),
         set->name, threads, kK);
  if (!strcmp(only, "peak")) peak(b);
  if (!*only || !strcmp(only, "decode")) decode(b);
  if (!*only || !strcmp(only, "panel")) panel(b);
  if (!*only || !strcmp(only, "path")) path(b);
  if (!*only || !strcmp(only, "tiles")) tiles(b);
  return 0;
}
