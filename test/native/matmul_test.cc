// Matrix products of every target: the same bits as the scalar specification on every path, and the specification
// itself against double precision. Weights lie unaligned and end at an unreadable page.
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "../../native/quant/dequant.h"
#include "../../native/quant/float16.h"
#include "kernel_sets.h"

namespace nandu::test {
namespace {

// Sanitizers make vector code some 50 times slower: they see every type, target and path, but fewer combinations.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kThin = true;
#else
constexpr bool kThin = false;
#endif

// --- data
// -----------------------------------------------------------------------------------------------------------------
struct Free {
  void operator()(void* p) const { free(p); }
};
using Bytes = std::unique_ptr<uint8_t, Free>;
Bytes aligned_bytes(size_t n) {
  uint8_t* p = static_cast<uint8_t*>(aligned_alloc(64, (n + 127) / 64 * 64));
  memset(p, 0xa5, (n + 127) / 64 * 64);
  return Bytes(p);
}

// `size` bytes that end where an unreadable page begins.
class Guarded {
 public:
  explicit Guarded(size_t size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (size + page - 1) / page * page + page;
    base_ = static_cast<uint8_t*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + mapped_ - page, page, PROT_NONE);
    data_ = base_ + mapped_ - page - size;
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  uint8_t* data() { return data_; }

 private:
  uint8_t *base_, *data_;
  size_t mapped_;
};

enum class Fill { kRandom, kSaturated, kEdgeScales };

void put_u16(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}

// Where the f16 scales of a block lie; -1: none.
struct ScalePlaces {
  int d, dmin;
};
ScalePlaces scale_places(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: return {0, 2};
    case TensorType::kQ2_K: return {80, 82};
    case TensorType::kQ3_K: return {108, -1};
    case TensorType::kQ6_K: return {208, -1};
    case TensorType::kMXFP4: return {-1, -1};
    default: return {0, -1};
  }
}

void fill_block(const TypeInfo& info, Fill fill, Random& random, uint8_t* p) {
  static const uint16_t kEdgeF16[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00, 0xbc00};
  static const uint8_t kEdgeE8m0[] = {0, 1, 2, 3, 120, 127, 128, 200, 253};
  static const uint8_t kExtremes[] = {0x00, 0xff, 0x80, 0x7f, 0xf0, 0x0f};
  const uint8_t extreme = kExtremes[random.below(6)];
  for (uint32_t i = 0; i < info.block_bytes; i++)
    p[i] = fill == Fill::kSaturated ? extreme : static_cast<uint8_t>(random.next() >> 40);
  if (info.block_values == 1) {  // floats: finite ones
    float v = random.normal() * (random.below(8) == 0 ? 1000.0f : 1.0f);
    if (fill == Fill::kSaturated) v = random.below(2) ? 65504.0f : -65504.0f;
    if (fill == Fill::kEdgeScales) v = f16_to_f32(kEdgeF16[random.below(10)]);
    if (info.type == TensorType::kF16) put_u16(p, f32_to_f16(v));
    if (info.type == TensorType::kBF16) put_u16(p, f32_to_bf16(v));
    if (info.type == TensorType::kF32) memcpy(p, &v, 4);
    return;
  }
  const ScalePlaces places = scale_places(info.type);
  if (places.d < 0)
    p[0] = fill == Fill::kEdgeScales ? kEdgeE8m0[random.below(9)] : static_cast<uint8_t>(118 + random.below(8));
  for (int at : {places.d, places.dmin})
    if (at >= 0)
      put_u16(p + at, fill == Fill::kEdgeScales ? kEdgeF16[random.below(10)] : f32_to_f16(0.01f * random.normal()));
}

void fill_rows(const TypeInfo& info, Fill fill, uint64_t blocks, Random& random, uint8_t* p) {
  for (uint64_t b = 0; b < blocks; b++) fill_block(info, fill, random, p + b * info.block_bytes);
}

// Activation number t of a set: all kinds in turn.
void fill_activation(uint32_t t, uint32_t k, Random& random, float* x) {
  const uint32_t kind = t % 7, spike = random.below(k);
  for (uint32_t i = 0; i < k; i++) {
    const float v = random.normal();
    switch (kind) {
      case 0:
      case 1: x[i] = v; break;
      case 2: x[i] = random.below(2) ? 3.0f : -3.0f; break;  // all codes +-127
      case 3: x[i] = 0.0f; break;
      case 4: x[i] = i == spike ? 7.5f : 0.0f; break;
      case 5: x[i] = v * (i / 32 % 2 ? 0x1p-98f : 0x1p-110f); break;  // scales about and below the smallest
      default: x[i] = i % 3 ? 1.0f : -0.0f; break;
    }
  }
}

struct Problem {
  const TypeInfo* info;
  uint32_t k, rows, m;
  std::vector<Bytes> x;  // float[k] each
  std::unique_ptr<Guarded> weights;
  std::vector<float> want;  // [m][rows], by the scalar target
  size_t row_bytes() const { return nandu::row_bytes(*info, k); }
};

// Where prepared activations lie: kernels may use that they lie at equal distances.
enum class Lay { kApart, kInOrder, kBackwards };

// First m activations of the problem on `set`; results [m][rows], with guards around each that must stay. Activations
// in order and the scratch end where an unreadable page begins.
std::vector<float> product(const KernelSet& set, const Problem& p, const uint8_t* weights, uint32_t m, int32_t path,
                           uint64_t* counts, Lay lay = Lay::kApart, size_t scratch_bytes = kKernelScratchBytes) {
  const size_t act = set.act_bytes(p.info->act, p.k);
  std::vector<Bytes> apart;
  Guarded in_order(m * act);
  std::vector<const void*> x;
  for (uint32_t t = 0; t < m; t++) {
    if (lay == Lay::kApart) apart.push_back(aligned_bytes(act));
    uint8_t* prepared =
        lay == Lay::kApart ? apart[t].get() : in_order.data() + act * (lay == Lay::kInOrder ? t : m - 1 - t);
    EXPECT(set.quantize(p.info->act, reinterpret_cast<const float*>(p.x[t].get()), p.k, prepared));
    x.push_back(prepared);
  }
  const uint32_t stride = p.rows + 3;  // results at any alignment
  std::vector<float> y(size_t{m} * stride + 1, -77.0f);
  std::vector<float*> out;
  for (uint32_t t = 0; t < m; t++) out.push_back(&y[1 + size_t{t} * stride]);
  Guarded space(scratch_bytes);
  KernelScratch scratch = {space.data(), scratch_bytes, {}};
  set.matmul({p.info->type, weights, p.row_bytes(), p.rows, p.k, m, x.data(), out.data(), &scratch, path});
  std::vector<float> packed;
  for (uint32_t t = 0; t < m; t++) {
    packed.insert(packed.end(), out[t], out[t] + p.rows);
    for (uint32_t i = p.rows; i < stride && 1 + size_t{t} * stride + i < y.size(); i++) EXPECT(out[t][i] == -77.0f);
  }
  EXPECT(y[0] == -77.0f);
  if (counts) memcpy(counts, scratch.counts, sizeof scratch.counts);
  return packed;
}

Problem make_problem(const TypeInfo& info, uint32_t k, uint32_t rows, uint32_t m, Fill fill, uint64_t seed) {
  Random random(seed);
  Problem p{&info, k, rows, m, {}, nullptr, {}};
  p.weights = std::make_unique<Guarded>(p.row_bytes() * rows);
  fill_rows(info, fill, p.row_bytes() / info.block_bytes * rows, random, p.weights->data());
  for (uint32_t t = 0; t < m; t++) {
    p.x.push_back(aligned_bytes(size_t{k} * 4));
    fill_activation(t, k, random, reinterpret_cast<float*>(p.x[t].get()));
  }
  p.want = product(scalar_set(), p, p.weights->data(), m, -1, nullptr);
  return p;
}

bool same_bits(const float* a, const float* b, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (memcmp(&a[i], &b[i], 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  return true;
}

void expect_same(const KernelSet& set, const Problem& p, const uint8_t* weights, uint32_t m, int32_t path) {
  const std::vector<float> got = product(set, p, weights, m, path, nullptr);
  EXPECT_MSG(same_bits(got.data(), p.want.data(), got.size()),
             std::string(set.name) + " " + p.info->name + " k " + std::to_string(p.k) + " rows " +
                 std::to_string(p.rows) + " m " + std::to_string(m) + " path " + std::to_string(path));
}

template <class Run>
void each_type(Run run) {
  for (const TypeInfo& info : kTypes)
    if (info.type != TensorType::kI32) run(info);
}

std::vector<uint32_t> widths(const TypeInfo& info) {
  if (info.block_values == 1) return {1, 15, 16, 17, 64, 250, 1024, 1500, 4096};
  if (info.block_values == 32) return {32, 64, 96, 256, 512, 544, 1024, 2048, 2080, 4096};
  return {256, 512, 768, 1024, 2048, 2304, 4096, 4864, 8192};
}

const int32_t kPaths[] = {-1, kPathD1, kPathDn, kPathP, kPathAmxInt8};

}  // namespace

// --- one arithmetic
// -----------------------------------------------------------------------------------------------------------
TEST(matmul_on_every_target_and_path_gives_the_bits_of_the_scalar_target) {
  const uint32_t counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 33};
  const uint32_t row_counts[] = {1, 5, 8, 16, 19, 32, 35, 50};
  uint64_t seed = 1;
  each_type([&](const TypeInfo& info) {
    for (uint32_t k : widths(info))
      for (Fill fill : {Fill::kRandom, Fill::kSaturated, Fill::kEdgeScales}) {
        Random pick(++seed);
        if (kThin && seed % 7 != 0) continue;
        const Problem p = make_problem(info, k, row_counts[pick.below(8)], 33, fill, seed);
        for (const KernelSet* set : all_sets())
          for (int32_t path : kPaths) {
            expect_same(*set, p, p.weights->data(), counts[pick.below(12)], path);
            expect_same(*set, p, p.weights->data(), 1, path);
          }
      }
  });
}

TEST(matmul_agrees_for_every_count_of_activations) {
  each_type([&](const TypeInfo& info) {
    const Problem p =
        make_problem(info, info.block_values == 256 ? 2304 : 544, 35, 130, Fill::kRandom, 1000 + info.block_bytes);
    for (const KernelSet* set : all_sets())
      for (uint32_t m : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 11u, 12u, 16u, 17u, 33u, 64u, 130u}) {
        if (kThin && m > 9) continue;
        for (int32_t path : kPaths) expect_same(*set, p, p.weights->data(), m, path);
      }
  });
}

TEST(matmul_agrees_beyond_one_block_of_panel_tokens) {
  for (TensorType type : {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kF16}) {
    const Problem p = make_problem(*type_info(type), 512, 34, 600, Fill::kRandom, 5);
    for (const KernelSet* set : all_sets()) expect_same(*set, p, p.weights->data(), 600, -1);
  }
}

TEST(matmul_agrees_at_every_alignment_of_the_weights) {
  each_type([&](const TypeInfo& info) {
    const uint32_t k = info.block_values == 256 ? 1280 : 608;
    const Problem p = make_problem(info, k, 33, 9, Fill::kRandom, 77);
    const size_t bytes = p.row_bytes() * p.rows;
    const Bytes room = aligned_bytes(bytes + 64);
    for (uint32_t shift = 0; shift < 64; shift += kThin ? 21 : 1) {
      memcpy(room.get() + shift, p.weights->data(), bytes);
      for (const KernelSet* set : all_sets())
        for (uint32_t m : {1u, 3u, 9u}) expect_same(*set, p, room.get() + shift, m, -1);
    }
  });
}

bool has_tiles(const KernelSet& set) {
  return !strncmp(set.name, "amx", 3);
}

// Tiles: every type, from one activation to several groups of 16 and a rest; read where they lie or copied; in one pass
// or, with little scratch, in several; and with too little by another path.
TEST(matmul_on_tiles_agrees_wherever_activations_lie_and_however_little_scratch_there_is) {
  uint64_t seed = 7000;
  each_type([&](const TypeInfo& info) {
    if (info.act == ActKind::kF32) return;
    for (uint32_t k : {info.block_values == 256 ? 2816u : 672u, 2048u}) {
      const Problem p = make_problem(info, k, 50, 83, Fill::kSaturated, ++seed);
      for (const KernelSet* set : all_sets()) {
        uint64_t passes = 0, fallbacks = 0;
        for (Lay lay : {Lay::kApart, Lay::kInOrder, Lay::kBackwards})
          for (uint32_t m : {1u, 2u, 15u, 16u, 17u, 32u, 47u, 83u})
            for (size_t scratch : {kKernelScratchBytes, size_t{192} << 10, size_t{128} << 10, size_t{16} << 10}) {
              if (kThin && (m + scratch / 1024) % 3 != 0) continue;
              uint64_t counts[kPathCount];
              const std::vector<float> got = product(*set, p, p.weights->data(), m, kPathAmxInt8, counts, lay, scratch);
              EXPECT_MSG(same_bits(got.data(), p.want.data(), got.size()),
                         std::string(set->name) + " " + info.name + " k " + std::to_string(k) + " m " +
                             std::to_string(m) + " scratch " + std::to_string(scratch));
              passes += counts[kPathAmxInt8];
              fallbacks += 1 - counts[kPathAmxInt8];
            }
        EXPECT(has_tiles(*set) ? passes > 0 && fallbacks > 0 : passes == 0);
      }
    }
  });
}

TEST(matmul_rows_longer_than_the_panel_still_agree) {
  // 32 rows of it do not fit the scratch: P steps aside.
  const Problem p = make_problem(*type_info(TensorType::kQ4_0), 98304, 3, 8, Fill::kRandom, 3);
  for (const KernelSet* set : all_sets()) expect_same(*set, p, p.weights->data(), 8, kPathP);
}

TEST(matmul_counts_the_path_that_ran) {
  for (const KernelSet* set : all_sets()) {
    const bool scalar = set == &scalar_set();
    const Problem q = make_problem(*type_info(TensorType::kQ8_0), 256, 8, 33, Fill::kRandom, 1);
    const Problem f = make_problem(*type_info(TensorType::kF32), 256, 8, 2, Fill::kRandom, 1);
    uint64_t counts[kPathCount];
    product(*set, q, q.weights->data(), 1, -1, counts);
    EXPECT(counts[kPathD1] == 1);
    product(*set, q, q.weights->data(), 2, -1, counts);
    EXPECT(counts[kPathDn] == 1);
    product(*set, q, q.weights->data(), 33, -1, counts);
    EXPECT(counts[has_tiles(*set) ? kPathAmxInt8 : scalar ? kPathDn : kPathP] == 1);
    product(*set, q, q.weights->data(), 3, kPathP, counts);
    EXPECT(counts[scalar ? kPathDn : kPathP] == 1);
    product(*set, f, f.weights->data(), 2, -1, counts);
    EXPECT(counts[kPathFloat] == 1);
  }
}

// --- against double precision
// ----------------------------------------------------------------------------------------------------
TEST(matmul_of_the_specification_is_within_its_bound_of_double_precision) {
  each_type([&](const TypeInfo& info) {
    for (Fill fill : {Fill::kRandom, Fill::kSaturated}) {
      const uint32_t k = 2048, rows = 9;
      const Problem p = make_problem(info, k, rows, 7, fill, 400 + info.block_bytes);
      for (uint32_t t = 0; t < 7; t++) {
        const float* x = reinterpret_cast<const float*>(p.x[t].get());
        std::vector<double> a(x, x + k);
        const uint32_t n = info.act == ActKind::kAct8x32 ? 32 : info.act == ActKind::kAct8x256 ? 256 : 0;
        for (uint32_t u = 0; n != 0 && u < k; u += n) {  // D1 in its own words
          float amax = 0;
          for (uint32_t i = u; i < u + n; i++) amax = std::max(amax, std::fabs(x[i]));
          const bool zero = amax < 0x1p-100f;
          const float s_a = zero ? 0 : amax / 127.0f, r = zero ? 0 : 127.0f / amax;
          for (uint32_t i = u; i < u + n; i++)
            a[i] = std::nearbyint(static_cast<double>(x[i] * r)) * static_cast<double>(s_a);
        }
        for (uint32_t r = 0; r < rows; r++) {
          std::vector<double> w(k);
          dequant_row_f64(info.type, p.weights->data() + r * p.row_bytes(), k, w.data());
          double sum = 0, terms = 0;
          for (uint32_t i = 0; i < k; i++) {
            sum += w[i] * a[i];
            terms += std::fabs(w[i] * a[i]);
          }
          const double y = static_cast<double>(p.want[size_t{t} * rows + r]);
          EXPECT_MSG(std::fabs(y - sum) <= 0x1p-22 * (k / 32) * terms,
                     std::string(info.name) + " token " + std::to_string(t));
        }
      }
    }
  });
}

TEST(matmul_activations_with_nan_or_infinity_are_refused) {
  for (const KernelSet* set : all_sets())
    for (ActKind kind : {ActKind::kF32, ActKind::kAct8x32, ActKind::kAct8x256})
      for (float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
        const uint32_t k = 1280;
        const Bytes x = aligned_bytes(k * 4), prepared = aligned_bytes(set->act_bytes(kind, k));
        float* v = reinterpret_cast<float*>(x.get());
        for (uint32_t i = 0; i < k; i++) v[i] = 3.4e38f;
        EXPECT(set->quantize(kind, v, k, prepared.get()));
        for (uint32_t at : {0u, 31u, 32u, 640u, k - 1}) {
          v[at] = bad;
          EXPECT_MSG(!set->quantize(kind, v, k, prepared.get()), set->name);
          v[at] = 0;
        }
      }
}

// --- embedding rows
// -----------------------------------------------------------------------------------------------------------------
TEST(matmul_embedding_rows_have_the_same_bits_everywhere_and_the_value_of_the_format) {
  each_type([&](const TypeInfo& info) {
    for (uint32_t k : widths(info))
      for (Fill fill : {Fill::kRandom, Fill::kSaturated, Fill::kEdgeScales}) {
        Random random(k + info.block_bytes);
        Guarded row(nandu::row_bytes(info, k));
        fill_rows(info, fill, k / info.block_values, random, row.data());
        std::vector<float> want(k), got(k + 1, -77.0f);
        scalar_set().dequant_row(info.type, row.data(), k, want.data());
        for (const KernelSet* set : all_sets()) {
          set->dequant_row(info.type, row.data(), k, got.data());
          EXPECT_MSG(same_bits(got.data(), want.data(), k) && got[k] == -77.0f,
                     std::string(set->name) + " " + info.name + " k " + std::to_string(k));
        }
        if (fill != Fill::kRandom) continue;
        std::vector<double> value(k);
        dequant_row_f64(info.type, row.data(), k, value.data());
        for (uint32_t i = 0; i < k; i++)
          EXPECT_MSG(std::fabs(static_cast<double>(want[i]) - value[i]) <= std::fabs(value[i]) * 0x1p-20 + 1e-6,
                     info.name);
      }
  });
}

}  // namespace nandu::test
