// What the kernel tests share: the targets that run here, data with edges in it, bit comparison.
#pragma once

#include <sys/mman.h>

#include "../../native/base/aligned.h"
#include "../../native/kernels/kernels.h"
#include "test.h"

namespace nandu::test {

#if defined(__x86_64__)
}  // namespace nandu::test
namespace nandu {
extern const KernelSet kernels_avx2, kernels_amx_emulated;
}
namespace nandu::test {
#endif

// Every set this CPU can run except scalar, and scalar itself.
inline std::vector<const KernelSet*> vector_sets() {
  size_t count;
  const KernelSet* const* sets = kernel_sets(&count);
  std::vector<const KernelSet*> out;
  for (size_t i = 0; i + 1 < count; i++)
    if (sets[i]->runs_here()) out.push_back(sets[i]);
#if defined(__x86_64__)
  static const KernelSet emulated = with_tiles(kernels_avx2, kernels_amx_emulated);
  if (emulated.runs_here()) out.push_back(&emulated);
#endif
  return out;
}
inline const KernelSet& scalar_set() {
  size_t count;
  const KernelSet* const* sets = kernel_sets(&count);
  return *sets[count - 1];
}
inline std::vector<const KernelSet*> all_sets() {
  std::vector<const KernelSet*> out = vector_sets();
  out.push_back(&scalar_set());
  return out;
}

// 64-byte aligned floats that end exactly where the array ends (ASan sees a read behind them).
struct Floats {
  float* data;
  size_t size;
  explicit Floats(size_t n) : data(static_cast<float*>(aligned_alloc(64, n ? align_up(n * 4) : 64))), size(n) {
    memset(static_cast<void*>(data), 0, n * 4);
  }
  Floats(const Floats& other) : Floats(other.size) { memcpy(data, other.data, size * 4); }
  Floats& operator=(const Floats&) = delete;
  ~Floats() { free(data); }
  float& operator[](size_t i) { return data[i]; }
  float operator[](size_t i) const { return data[i]; }
};

// Bytes that end where a page ends; the next page must not be touched.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t n) : whole_(align_up(n, 4096) + 4096) {
    base_ = static_cast<uint8_t*>(mmap(nullptr, whole_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    NANDU_CHECK(base_ != MAP_FAILED && mprotect(base_ + whole_ - 4096, 4096, PROT_NONE) == 0);
    data = base_ + whole_ - 4096 - n;
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, whole_); }
  uint8_t* data;

 private:
  size_t whole_;
  uint8_t* base_;
};

// How the values of a random vector lie. kEdges mixes zeros, -0, subnormals, tiny, huge and ordinary ones.
enum class Shape { kNormal, kZero, kSpike, kTiny, kHuge, kEdges };
inline constexpr Shape kShapes[] = {Shape::kNormal, Shape::kZero, Shape::kSpike,
                                    Shape::kTiny,   Shape::kHuge, Shape::kEdges};

inline float edge_value(Random& random, Shape shape, size_t i, size_t spike) {
  const float x = random.normal();
  switch (shape) {
    case Shape::kNormal: return x;
    case Shape::kZero: return random.below(2) ? 0.0f : -0.0f;
    case Shape::kSpike: return i == spike ? 1000.0f : x * 1e-3f;
    case Shape::kTiny: return x * 1e-30f;
    case Shape::kHuge: return x * 1e12f;
    case Shape::kEdges: break;
  }
  constexpr float kEdges[] = {0.0f,  -0.0f,  1e-45f, -1e-40f,        0x1p-56f, -0x1.fep-57f,
                              1e-4f, 448.0f, -1.0f,  0x1.ffffffp-1f, 3e4f};
  const uint32_t pick = random.below(16);
  return pick < 11 ? kEdges[pick] : x;
}
inline Floats values(Random& random, size_t n, Shape shape = Shape::kNormal) {
  Floats out(n);
  const size_t spike = n ? random.below(static_cast<uint32_t>(n)) : 0;
  for (size_t i = 0; i < n; i++) out[i] = edge_value(random, shape, i, spike);
  return out;
}

inline uint32_t bits(float x) {
  uint32_t b;
  memcpy(&b, &x, 4);
  return b;
}
// Index of the first float whose bits differ, or -1. Two NaNs are equal (docs/arithmetic.md).
inline int64_t first_difference(const float* a, const float* b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (bits(a[i]) != bits(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) return static_cast<int64_t>(i);
  return -1;
}
inline void expect_same(const KernelSet& set, const std::string& what, const float* got, const float* want, size_t n) {
  const int64_t at = first_difference(got, want, n);
  if (at < 0) return;
  char text[256];
  snprintf(text, sizeof text, "%s %s: [%lld] is %a, scalar says %a", set.name, what.c_str(), static_cast<long long>(at),
           static_cast<double>(got[at]), static_cast<double>(want[at]));
  fail(__FILE__, __LINE__, text);
}
inline void expect_same_bytes(const KernelSet& set, const std::string& what, const std::vector<uint8_t>& got,
                              const std::vector<uint8_t>& want) {
  if (got != want) fail(__FILE__, __LINE__, std::string(set.name) + " " + what + ": bytes differ from scalar's");
}

// Distance in units in the last place of `want` rounded to float.
inline double ulps(float got, double want) {
  const float near = static_cast<float>(want);
  const double unit =
      std::fabs(static_cast<double>(std::nextafter(std::fabs(near), INFINITY)) - std::fabs(static_cast<double>(near)));
  return std::fabs(static_cast<double>(got) - want) / unit;
}

struct ScratchOwner {
  AlignedBuffer<uint8_t> bytes{kKernelScratchBytes};
  KernelScratch scratch{bytes.data(), kKernelScratchBytes, {}};
};

}  // namespace nandu::test
