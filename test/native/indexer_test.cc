// Indexer rows and scores (D7, D10) and the choice of a target: every target against scalar bit for bit, scalar against
// double and the e2m1 vector of deepseek-v4.md.
#include "../../native/kernels/targets/scalar/float_scalar.h"
#include "kernel_sets.h"

using namespace nandu;
using namespace nandu::test;

namespace {

std::vector<uint8_t> encode_all(const KernelSet& k, const Floats& v, uint32_t dim) {
  const uint32_t bytes = index_row_bytes(true, dim);
  std::vector<uint8_t> out(v.size / dim * bytes);
  for (size_t i = 0; i < v.size / dim; i++) k.encode_index_row(v.data + i * dim, dim, out.data() + i * bytes);
  return out;
}

double decode(const uint8_t* row, uint32_t dim, uint32_t i) {
  constexpr double kLevels[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  const uint32_t code = row[i / 2] >> (i % 2 * 4) & 15;
  return (code & 8 ? -1 : 1) * kLevels[code & 7] * std::ldexp(1.0, row[dim / 2 + i / 32] - 127);
}

}  // namespace

TEST(an_index_row_meets_the_e2m1_vector_of_the_model_description) {
  const float x[6] = {0.1f, -0.25f, 0.75f, 2.5f, 5, -6.5f};
  const double want[6] = {0, -0.0, 1, 2, 4, -6};
  for (const KernelSet* k : all_sets()) {
    Floats v(32);
    for (int i = 0; i < 6; i++) v[i] = x[i];
    std::vector<uint8_t> row(index_row_bytes(true, 32));
    k->encode_index_row(v.data, 32, row.data());
    EXPECT(row[16] == 128);  // amax 6.5: scale 2
    for (uint32_t i = 0; i < 6; i++) EXPECT(decode(row.data(), 32, i) == want[i]);
    EXPECT((row[0] >> 4) == 8);  // -0
  }
}

TEST(e2m1_takes_the_nearest_value_ties_to_the_even_code_for_every_bf16) {
  constexpr double kLevels[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  for (uint32_t high = 0; high < 65536; high++) {
    const float y = scalar::from_bits(high << 16);
    if (std::isnan(y)) continue;
    const double m = std::min(std::fabs(double{y}), 6.0);
    uint32_t below = 0;
    while (below < 7 && kLevels[below + 1] <= m) below++;
    uint32_t want = below;
    if (below < 7) {
      const double middle = (kLevels[below] + kLevels[below + 1]) / 2;
      want = m > middle || (m == middle && (below & 1)) ? below + 1 : below;
    }
    EXPECT(scalar::to_e2m1(y) == (want | high >> 15 << 3));
  }
}

TEST(index_rows_have_scalars_bytes_and_the_smallest_scale_that_fits) {
  Random random(1);
  for (const uint32_t dim : {32u, 64u, 96u, 128u, 256u}) {
    for (int round = 0; round < 60; round++) {
      const Floats v = values(random, dim, kShapes[round % 6]);
      const std::vector<uint8_t> want = encode_all(scalar_set(), v, dim);
      for (const KernelSet* k : vector_sets()) expect_same_bytes(*k, "index row", encode_all(*k, v, dim), want);
      for (uint32_t g = 0; g < dim / 32; g++) {
        double amax = 0;
        for (uint32_t i = 0; i < 32; i++) amax = std::max(amax, std::fabs(double{v[32 * g + i]}));
        const int e = want[dim / 2 + g] - 127;
        EXPECT(e >= -60 && e <= 60);
        if (e < 60) EXPECT(amax <= 6 * std::ldexp(1.0, e));
        if (e > -60) EXPECT(amax > 6 * std::ldexp(1.0, e - 1));
        for (uint32_t i = 32 * g; i < 32 * g + 32 && e < 60; i++)
          EXPECT(std::fabs(decode(want.data(), dim, i) - double{v[i]}) <= std::ldexp(1.0, e));
      }
    }
  }
}

TEST(index_scores_have_scalars_bits_for_every_count_and_any_bytes) {
  Random random(2);
  for (const uint32_t heads : {1u, 2u, 3u, 4u, 5u, 16u, 64u, 130u}) {
    for (const uint32_t dim : {32u, 64u, 96u, 128u, 160u, 512u, 544u}) {
      for (const uint32_t n : {1u, 15u, 16u, 17u, 31u, 33u, 70u}) {
        if (heads * dim * n > 64 * 128 * 40) continue;
        const uint32_t bytes = index_row_bytes(true, dim);
        std::vector<uint8_t> q(heads * bytes), keys(n * bytes);
        for (uint8_t& b : q) b = static_cast<uint8_t>(random.next());
        for (uint8_t& b : keys) b = static_cast<uint8_t>(random.next());
        const Floats w = values(random, heads);
        std::vector<float> want(n), got(n);
        scalar_set().index_scores(true, q.data(), w.data, heads, dim, keys.data(), n, want.data());
        for (const KernelSet* k : vector_sets()) {
          k->index_scores(true, q.data(), w.data, heads, dim, keys.data(), n, got.data());
          expect_same(*k, "any bytes " + std::to_string(heads) + "x" + std::to_string(dim), got.data(), want.data(), n);
        }
      }
    }
  }
}

TEST(saturated_codes_and_scales_score_alike_and_exactly) {
  for (const KernelSet* k : all_sets()) {
    for (const uint8_t code : {uint8_t{0x77}, uint8_t{0xff}, uint8_t{0x7f}}) {
      for (const uint8_t exponent : {uint8_t{0}, uint8_t{67}, uint8_t{127}, uint8_t{187}, uint8_t{255}}) {
        constexpr uint32_t kDim = 128, kBytes = index_row_bytes(true, kDim);
        std::vector<uint8_t> q(kBytes, 0x77), keys(20 * kBytes, code);
        for (uint32_t g = 0; g < 4; g++) {
          q[64 + g] = 127;
          for (uint32_t i = 0; i < 20; i++) keys[i * kBytes + 64 + g] = exponent;
        }
        const float w = 1;
        float scores[20];
        k->index_scores(true, q.data(), &w, 1, kDim, keys.data(), 20, scores);
        const int e = std::min(std::max(static_cast<int>(exponent) - 127, -60), 60);
        const double want = code == 0x77 ? std::ldexp(128 * 36.0, e) : 0;
        for (const float s : scores) EXPECT(double{s} == want);
      }
    }
  }
}

TEST(index_scores_meet_double_on_the_stored_values) {
  Random random(3);
  const uint32_t heads = 64, dim = 128, n = 50, bytes = index_row_bytes(true, dim);
  const Floats w = values(random, heads);
  const std::vector<uint8_t> q = encode_all(scalar_set(), values(random, heads * dim), dim);
  const std::vector<uint8_t> keys = encode_all(scalar_set(), values(random, n * dim), dim);
  std::vector<float> scores(n);
  scalar_set().index_scores(true, q.data(), w.data, heads, dim, keys.data(), n, scores.data());
  for (uint32_t i = 0; i < n; i++) {
    double want = 0, size = 0;
    for (uint32_t h = 0; h < heads; h++) {
      double dot = 0;
      for (uint32_t d = 0; d < dim; d++)
        dot += decode(q.data() + h * bytes, dim, d) * decode(keys.data() + i * bytes, dim, d);
      want += std::max(0.0, dot) * double{w[h]};
      size += std::fabs(dot * double{w[h]});
    }
    EXPECT(std::fabs(double{scores[i]} - want) <= size * 64 * 0x1p-24);
  }
}

TEST(f32_index_scores_have_scalars_bits_and_meet_double) {
  Random random(4);
  for (const uint32_t heads : {1u, 3u, 4u, 6u, 16u}) {
    for (const uint32_t dim : {16u, 64u, 100u, 128u}) {
      for (const Shape shape : kShapes) {
        const uint32_t n = 9;
        const Floats q = values(random, heads * dim, shape), keys = values(random, n * dim, shape),
                     w = values(random, heads);
        std::vector<float> want(n), got(n);
        const auto run = [&](const KernelSet& k, float* out) {
          k.index_scores(false, reinterpret_cast<const uint8_t*>(q.data), w.data, heads, dim,
                         reinterpret_cast<const uint8_t*>(keys.data), n, out);
        };
        run(scalar_set(), want.data());
        for (const KernelSet* k : vector_sets()) {
          run(*k, got.data());
          expect_same(*k, "f32 scores", got.data(), want.data(), n);
        }
        for (uint32_t i = 0; i < n && shape == Shape::kNormal; i++) {
          double exact = 0;
          for (uint32_t h = 0; h < heads; h++) {
            double dot = 0;
            for (uint32_t d = 0; d < dim; d++) dot += double{q[h * dim + d]} * double{keys[i * dim + d]};
            exact += std::max(0.0, dot) * double{w[h]};
          }
          EXPECT(std::fabs(double{want[i]} - exact) < 1e-3);
        }
      }
    }
  }
}

TEST(a_cap_names_a_target_and_an_unknown_name_gives_none) {
  size_t count;
  const KernelSet* const* sets = kernel_sets(&count);
  EXPECT(!strcmp(sets[count - 1]->name, "scalar") && sets[count - 1]->runs_here());
  EXPECT(choose_kernels("scalar") == sets[count - 1]);
  EXPECT(choose_kernels("sse9") == nullptr);
  EXPECT(next_best(*sets[count - 1]) == nullptr);
  if (choose_kernels("") != sets[count - 1]) EXPECT(next_best(*choose_kernels(""))->runs_here());
  EXPECT(choose_kernels(nullptr) == choose_kernels("") && choose_kernels("")->runs_here());
  for (size_t i = 0; i < count; i++) {  // the named one, or the best below it
    const KernelSet* const chosen = choose_kernels(sets[i]->name);
    size_t at = 0;
    while (sets[at] != chosen) at++;
    EXPECT(at >= i && (at == i || !sets[i]->runs_here()));
  }
}

TEST(the_start_up_self_test_passes_on_every_target_and_finds_a_wrong_one) {
  for (const KernelSet* k : all_sets()) EXPECT_MSG(self_test(*k) == nullptr, self_test(*k));
  KernelSet wrong = scalar_set();
  wrong.router_scores = [](const float*, uint32_t experts, float* s) { memset(s, 0, experts * sizeof(float)); };
  EXPECT(self_test(wrong) != nullptr);
  wrong = scalar_set();
  wrong.index_scores = [](bool, const uint8_t*, const float*, uint32_t, uint32_t, const uint8_t*, uint32_t n,
                          float* s) { memset(s, 0, n * sizeof(float)); };
  EXPECT(self_test(wrong) != nullptr);
}
