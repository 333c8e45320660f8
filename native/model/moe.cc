// Mixture of experts (deepseek-v4.md 2.7): hash or biased sqrt-softplus routing, clamped SwiGLU, shared expert (D8).
#include <algorithm>

#include "forward.h"

namespace nandu {
namespace {

// Output rows of one task of the down projection, which reads those rows of every chosen expert: with few rows of
// tokens as many as lie in kDownBytes of weights, since tasks then stream; with many, a fixed stretch.
constexpr size_t kDownBytes = 64 << 10;
constexpr uint32_t kRowMultiple = 16;  // of a task's rows (kernels.h, matmul)
constexpr uint32_t kLeastDownRows = 32, kMostDownRows = 256;
constexpr uint32_t kDownMany = 4, kDownManyRows = 64;

}  // namespace

// Fills chosen_ (ascending expert ids) and chosen_weight_ of every row from router_ [M][experts].
void Forward::route(const Layer& layer) {
  const uint32_t m = static_cast<uint32_t>(rows_.size()), used = g_.experts_used;
  const size_t stride = align_up(g_.experts, 16);
  chosen_.resize(size_t{m} * used);
  chosen_weight_.resize(size_t{m} * used);
  workers_.run(m, [&](uint32_t row, uint32_t) {
    float* score = &router_[row * stride];
    uint32_t* chosen = &chosen_[size_t{row} * used];
    k_.router_scores(score, g_.experts, score);
    if (!layer.expert_table.empty()) {
      const uint16_t* experts = &layer.expert_table[size_t{rows_[row].token} * used];
      for (uint32_t i = 0; i < used; i++) chosen[i] = experts[i];
    } else {
      // Insertion into a list ordered by (score + bias descending, id ascending); NaN never wins.
      uint32_t count = 0;
      const auto rank = [&](uint32_t e) { return score[e] + layer.router_bias[e]; };
      for (uint32_t e = 0; e < g_.experts; e++) {
        const float value = rank(e);
        uint32_t at = count;
        while (at > 0 && (value > rank(chosen[at - 1]) || rank(chosen[at - 1]) != rank(chosen[at - 1]))) at--;
        if (at >= used) continue;
        if (count < used) count++;
        for (uint32_t i = count - 1; i > at; i--) chosen[i] = chosen[i - 1];
        chosen[at] = e;
      }
    }
    std::sort(chosen, chosen + used);
    float sum = 0;
    for (uint32_t i = 0; i < used; i++) sum += score[chosen[i]];
    for (uint32_t i = 0; i < used; i++) {
      const float share = score[chosen[i]] / sum;
      chosen_weight_[size_t{row} * used + i] = share * g_.routed_scale;
    }
  });

  // Pairs (row, expert) grouped by expert, rows ascending within.
  expert_first_.assign(g_.experts + 1, 0);
  for (uint32_t expert : chosen_) expert_first_[expert + 1]++;
  for (uint32_t e = 0; e < g_.experts; e++) expert_first_[e + 1] += expert_first_[e];
  std::vector<uint32_t> next(expert_first_.begin(), expert_first_.end() - 1);
  pair_row_.resize(chosen_.size());
  pair_weight_.resize(chosen_.size());
  for (size_t i = 0; i < chosen_.size(); i++) {
    const uint32_t pair = next[chosen_[i]]++;
    pair_row_[pair] = static_cast<uint32_t>(i / used);
    pair_weight_[pair] = chosen_weight_[i];
  }
}

void Forward::moe(uint32_t layer) {
  const Layer& l = m_.layers[layer];
  const uint32_t m = static_cast<uint32_t>(rows_.size()), pairs = m * g_.experts_used;
  const size_t width = g_.expert_ffn, shared_width = g_.shared_ffn, d = g_.hidden;
  const auto act = [](const Activations& a, const Matrix& w) {
    return a.pointers[static_cast<uint32_t>(w.act())].data();
  };

  router_.reserve(m * align_up(g_.experts, 16));
  shared_gate_.reserve(m * shared_width);
  shared_up_.reserve(m * shared_width);
  const std::vector<float*> router = rows_of(router_.data(), m, align_up(g_.experts, 16));
  const std::vector<float*> shared_gate = rows_of(shared_gate_.data(), m, shared_width);
  const std::vector<float*> shared_up = rows_of(shared_up_.data(), m, shared_width);
  // The router comes first, so that a store of experts can begin to read while the shared expert is computed.
  multiply({{l.router, act(act_h_, l.router), router.data(), m},
            {l.shared_gate, act(act_h_, l.shared_gate), shared_gate.data(), m},
            {l.shared_up, act(act_h_, l.shared_up), shared_up.data(), m}});
  route(l);

  expert_gate_.reserve(pairs * width);
  expert_up_.reserve(pairs * width);
  const std::vector<float*> gate = rows_of(expert_gate_.data(), pairs, width),
                            up = rows_of(expert_up_.data(), pairs, width);
  std::vector<const void*> gate_x(pairs), up_x(pairs);
  for (uint32_t p = 0; p < pairs; p++) {
    gate_x[p] = act(act_h_, l.gate.first)[pair_row_[p]];
    up_x[p] = act(act_h_, l.up.first)[pair_row_[p]];
  }
  std::vector<Product> products;
  std::vector<uint32_t> active;
  for (uint32_t e = 0; e < g_.experts; e++) {
    const uint32_t first = expert_first_[e], count = expert_first_[e + 1] - first;
    if (count == 0) continue;
    active.push_back(e);
    products.push_back({l.gate.at(e), gate_x.data() + first, gate.data() + first, count});
    products.push_back({l.up.at(e), up_x.data() + first, up.data() + first, count});
  }
  multiply(products);

  prepare(act_pairs_, {&l.down.first}, pairs, g_.expert_ffn);
  prepare(act_shared_, {&l.shared_down}, m, g_.shared_ffn);
  workers_.run(pairs + m, [&](uint32_t task, uint32_t) {
    if (task < pairs) {
      k_.swiglu(gate[task], up[task], g_.clamp[layer], pair_weight_[task], g_.expert_ffn, gate[task]);
      if (!quantize(act_pairs_, task, gate[task], g_.expert_ffn)) fail_row(pair_row_[task]);
    } else {
      const uint32_t row = task - pairs;
      k_.swiglu(shared_gate[row], shared_up[row], g_.clamp_shared[layer], 1, g_.shared_ffn, shared_gate[row]);
      if (!quantize(act_shared_, row, shared_gate[row], g_.shared_ffn)) fail_row(row);
    }
  });

  // Each task owns a stretch of output rows and adds the experts up in ascending id, then the shared one.
  y_.reserve(m * d);
  const size_t rows_of_bytes = kDownBytes / l.down.first.row_bytes / kRowMultiple * kRowMultiple;
  const uint32_t chunk =
      m >= kDownMany ? kDownManyRows
                     : std::clamp<uint32_t>(static_cast<uint32_t>(rows_of_bytes), kLeastDownRows, kMostDownRows);
  panel_.reserve(size_t{workers_.threads()} * m * chunk);
  workers_.run((g_.hidden + chunk - 1) / chunk, [&](uint32_t task, uint32_t worker) {
    const uint32_t first_out = task * chunk, rows = std::min(chunk, g_.hidden - first_out);
    float* panel = panel_.data() + size_t{worker} * m * chunk;
    std::vector<float*>& out = task_y_[worker];
    out.resize(m);
    for (uint32_t i = 0; i < m; i++) out[i] = panel + size_t{i} * chunk;
    for (uint32_t row = 0; row < m; row++) memset(&y_[row * d + first_out], 0, rows * sizeof(float));
    const auto accumulate = [&](const Matrix& whole, const void* const* x, uint32_t count, const uint32_t* row_of) {
      const Matrix w = whole.slice(first_out, rows);
      k_.matmul({w.type, w.data, w.row_bytes, w.rows, w.cols, count, x, out.data(), &workers_.scratch(worker), -1});
      for (uint32_t i = 0; i < count; i++) k_.add(&y_[(row_of ? row_of[i] : i) * d + first_out], out[i], rows);
    };
    for (uint32_t e : active)
      accumulate(l.down.at(e), act(act_pairs_, l.down.first) + expert_first_[e],
                 expert_first_[e + 1] - expert_first_[e], pair_row_.data() + expert_first_[e]);
    accumulate(l.shared_down, act(act_shared_, l.shared_down), m, nullptr);
  });
}

}  // namespace nandu
