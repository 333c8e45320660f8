// Compressed rows (deepseek-v4.md 2.4, D6) and the lightning indexer's choice among them (2.5, D7).
#include <algorithm>
#include <numeric>

#include "forward.h"

namespace nandu {
namespace {

constexpr uint32_t kKeyChunkBlocks = 64;         // indexer keys of one task: 64 blocks, 2,048 keys
constexpr size_t kMaxScores = size_t{64} << 20;  // scores held at once, in floats

}  // namespace

// Emits every compressed row whose window ends in this step, then keeps the K and S rows that later windows need.
// K, S: [M][width], S with ape already added. For indexer rows K and S come from the indexer's own compressor.
void Forward::compress(uint32_t layer, const Compressor& c, bool indexer, std::vector<Span>& spans) {
  const LayerKind kind = m_.layers[layer].kind;
  const uint32_t ratio = Geometry::ratio(kind), dim = indexer ? g_.index_dim : g_.head_dim;
  const uint32_t width = Geometry::compressor_width(kind, dim),
                 slots = kind == LayerKind::kCsa ? kCarryRows : kHcaRatio;
  float* k_chunk = indexer ? ik_.data() : ck_.data();
  float* s_chunk = indexer ? is_.data() : cs_.data();
  const auto carry_of = [&](SequenceState& state) -> const KvLayout::Carry& {
    const KvLayout::Layer& at = state.layout().layers[layer];
    return indexer ? at.index_carry : at.carry;
  };
  // The K or S row of a position: of this step, or kept from an earlier one.
  const auto row_at = [&](uint32_t s, uint32_t position, const float* chunk, size_t kept) {
    SequenceState& state = *spans[s].state;
    const uint32_t start = state.length();
    return position >= start ? chunk + (first_row_[s] + position - start) * size_t{width}
                             : state.carry(kept) + size_t{position % slots} * width;
  };
  struct Emission {
    uint32_t span, row;
  };
  std::vector<Emission> emissions;
  for (uint32_t s = 0; s < spans.size(); s++) {
    const uint32_t start = spans[s].state->length(), frozen = spans[s].state->frozen() / ratio;
    for (uint32_t row = std::max(start / ratio, frozen); row < (start + spans[s].count) / ratio; row++)
      emissions.push_back({s, row});
  }
  pooled_.reserve(size_t{workers_.threads()} * align_up(dim, 16));
  workers_.run(static_cast<uint32_t>(emissions.size()), [&](uint32_t task, uint32_t worker) {
    const auto [s, b] = emissions[task];
    SequenceState& state = *spans[s].state;
    const KvLayout::Carry& carry = carry_of(state);
    const uint32_t start = state.length();
    const float *k_rows[kHcaRatio], *s_rows[kHcaRatio];
    uint32_t count = 0;
    // A CSA window also sees the four tokens before it, through their first halves.
    const auto add = [&](uint32_t position, uint32_t half) {
      k_rows[count] = row_at(s, position, k_chunk, carry.k) + half;
      s_rows[count++] = row_at(s, position, s_chunk, carry.s) + half;
    };
    if (kind == LayerKind::kCsa && b > 0)
      for (uint32_t p = (b - 1) * ratio; p < b * ratio; p++) add(p, 0);
    for (uint32_t p = b * ratio; p < (b + 1) * ratio; p++) add(p, kind == LayerKind::kCsa ? dim : 0);

    float* e = pooled_.data() + worker * align_up(dim, 16);
    k_.pool(k_rows, s_rows, count, dim, e);
    k_.rms_norm(e, c.norm.data(), dim, g_.rms_eps, e);
    if (!all_finite(e, dim)) fail_row(first_row_[s] + (b + 1) * ratio - 1 - start);
    // The position of the window's first token, not of its last.
    std::vector<float> cos(g_.rope_dim / 2), sin(g_.rope_dim / 2);
    rope_.angles(true, b * ratio, cos.data(), sin.data());
    k_.rope(e + dim - g_.rope_dim, cos.data(), sin.data(), g_.rope_dim, false);
    if (indexer) {
      k_.hadamard(e, dim);
      uint8_t* row = state.index_row(layer, b);
      if (packed_) k_.encode_index_row(e, dim, row);
      else memcpy(row, e, dim * sizeof(float));
    } else {
      uint8_t* row = state.main_row(layer, b);
      if (packed_) k_.encode_row(e, dim, g_.rope_dim, row);
      else memcpy(row, e, dim * sizeof(float));
    }
  });
  for (uint32_t s = 0; s < spans.size(); s++) {
    SequenceState& state = *spans[s].state;
    const KvLayout::Carry& carry = carry_of(state);
    const uint32_t count = spans[s].count, kept = std::min(count, slots), end = state.length() + count;
    // What a continuation at the last multiple of 128 passed would read: the A-halves of the window before it.
    const uint32_t boundary = end / kBlockTokens * kBlockTokens;
    if (kind == LayerKind::kCsa && boundary > state.length())
      for (uint32_t i = 0; i < kCsaRatio; i++) {
        const uint32_t position = boundary - kCsaRatio + i;
        const size_t bytes = width / 2 * sizeof(float);
        memcpy(state.carry(carry.boundary_k) + i * size_t{width / 2}, row_at(s, position, k_chunk, carry.k), bytes);
        memcpy(state.carry(carry.boundary_s) + i * size_t{width / 2}, row_at(s, position, s_chunk, carry.s), bytes);
      }
    for (uint32_t i = count - kept; i < count; i++) {
      const size_t from = (first_row_[s] + i) * size_t{width}, to = size_t{(state.length() + i) % slots} * width;
      memcpy(state.carry(carry.k) + to, k_chunk + from, width * sizeof(float));
      memcpy(state.carry(carry.s) + to, s_chunk + from, width * sizeof(float));
    }
  }
}

// selected_[row] = ascending main rows with the top_k highest scores; empty while all visible rows fit.
void Forward::select_rows(uint32_t layer, std::vector<Span>& spans) {
  const uint32_t m = static_cast<uint32_t>(rows_.size()), top_k = g_.index_top_k;
  const auto visible = [&](uint32_t row) { return (rows_[row].position + 1) / kCsaRatio; };
  std::vector<uint32_t> selecting;
  for (uint32_t row = 0; row < m; row++) {
    selected_[row].clear();
    if (visible(row) > top_k) selecting.push_back(row);
  }
  constexpr uint32_t kBlockKeys = kBlockTokens / kCsaRatio;
  const size_t q_bytes = size_t{g_.index_heads} * index_row_bytes(packed_, g_.index_dim);
  for (size_t at = 0; at < selecting.size();) {
    // As many rows at once as the score buffer holds, one at least.
    struct Task {
      uint32_t row, key, count;
      float* scores;
    };
    std::vector<Task> tasks;
    size_t end = at, total = 0;
    for (; end < selecting.size() && (end == at || total + visible(selecting[end]) <= kMaxScores); end++)
      total += visible(selecting[end]);
    scores_.reserve(total);
    float* scores = scores_.data();
    std::vector<float*> first_score;
    for (size_t i = at; i < end; i++) {
      const uint32_t n = visible(selecting[i]);
      first_score.push_back(scores);
      for (uint32_t key = 0; key < n; key += kKeyChunkBlocks * kBlockKeys)
        tasks.push_back({selecting[i], key, std::min(n - key, kKeyChunkBlocks * kBlockKeys), scores + key});
      scores += n;
    }
    workers_.run(static_cast<uint32_t>(tasks.size()), [&](uint32_t index, uint32_t) {
      const Task& t = tasks[index];
      SequenceState& state = *spans[rows_[t.row].span].state;
      const uint8_t* q = packed_ ? &iq_packed_[t.row * q_bytes]
                                 : reinterpret_cast<const uint8_t*>(&iq_[t.row * (q_bytes / sizeof(float))]);
      for (uint32_t key = 0; key < t.count; key += kBlockKeys)
        k_.index_scores(packed_, q, &iw_[size_t{t.row} * align_up(g_.index_heads, 16)], g_.index_heads, g_.index_dim,
                        state.index_row(layer, t.key + key), std::min(kBlockKeys, t.count - key), t.scores + key);
    });
    workers_.run(static_cast<uint32_t>(end - at), [&](uint32_t i, uint32_t worker) {
      const uint32_t row = selecting[at + i];
      const float* score = first_score[i];
      std::vector<uint32_t>& picked = candidates_[worker];
      picked.resize(visible(row));
      std::iota(picked.begin(), picked.end(), 0);
      // Higher score first, then the lower row; NaN counts as minus infinity.
      std::nth_element(picked.begin(), picked.begin() + top_k, picked.end(), [&](uint32_t a, uint32_t b) {
        const float x = score[a] == score[a] ? score[a] : -__builtin_inff();
        const float y = score[b] == score[b] ? score[b] : -__builtin_inff();
        return x != y ? x > y : a < b;
      });
      picked.resize(top_k);
      std::sort(picked.begin(), picked.end());
      selected_[row].assign(picked.begin(), picked.end());
    });
    selections_ += end - at;
    at = end;
  }
}

}  // namespace nandu
