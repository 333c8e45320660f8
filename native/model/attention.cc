// Attention of one layer (deepseek-v4.md 2.3): low-rank queries, one shared latent as key and value, a sliding window
// of raw rows joined by compressed rows, a sink per head, grouped output projection. Arithmetic: D5, in blocks of 64
// rows.
#include <algorithm>

#include "forward.h"

namespace nandu {
namespace {

// Heads of one task are a multiple of this, so that a target's head tiles stay full.
constexpr uint32_t kHeadTile = 8;

}  // namespace

void Forward::attention(uint32_t layer, std::vector<Span>& spans) {
  const Layer& l = m_.layers[layer];
  const uint32_t m = static_cast<uint32_t>(rows_.size()), half = g_.rope_dim / 2;
  const bool compressed = l.kind != LayerKind::kPlain, csa = l.kind == LayerKind::kCsa;
  const size_t width = Geometry::compressor_width(l.kind, g_.head_dim);
  const size_t index_width = Geometry::compressor_width(l.kind, g_.index_dim);
  const size_t q_width = size_t{g_.heads} * g_.head_dim, iq_width = size_t{g_.index_heads} * g_.index_dim;
  const size_t iw_stride = align_up(g_.index_heads, 16);
  const auto act = [](const Activations& a, const Matrix& w) {
    return a.pointers[static_cast<uint32_t>(w.act())].data();
  };

  qr_.reserve(m * size_t{g_.q_rank});
  kv_.reserve(m * size_t{g_.head_dim});
  std::vector<std::vector<float*>> outputs;  // keeps the pointer arrays alive until multiply returns
  std::vector<Product> products;
  const auto project = [&](const Matrix& w, const Activations& a, AlignedBuffer<float>& out, size_t stride) {
    out.reserve(m * stride);
    outputs.push_back(rows_of(out.data(), m, stride));
    products.push_back({w, act(a, w), outputs.back().data(), m});
  };
  outputs.reserve(16);
  project(l.q_a, act_x_, qr_, g_.q_rank);
  project(l.kv, act_x_, kv_, g_.head_dim);
  if (compressed) {
    project(l.compressor.kv, act_x_, ck_, width);
    project(l.compressor.gate, act_x_, cs_, width);
  }
  if (csa) {
    project(l.index_compressor.kv, act_x_, ik_, index_width);
    project(l.index_compressor.gate, act_x_, is_, index_width);
    project(l.index_weights, act_x_, iw_, iw_stride);
  }
  multiply(products);

  const uint32_t row_bytes = main_row_bytes(packed_, g_.head_dim, g_.rope_dim);
  chunk_rows_.reserve(size_t{m} * row_bytes);
  prepare(act_qr_, {&l.q_b, &l.index_q}, m, g_.q_rank);
  const float index_scale = static_cast<float>(1 / __builtin_sqrt(static_cast<double>(g_.index_dim) * g_.index_heads));
  workers_.run(m, [&](uint32_t row, uint32_t) {
    float *qr = &qr_[row * size_t{g_.q_rank}], *kv = &kv_[row * size_t{g_.head_dim}];
    k_.rms_norm(qr, l.q_norm.data(), g_.q_rank, g_.rms_eps, qr);
    bool finite = quantize(act_qr_, row, qr, g_.q_rank);
    k_.rms_norm(kv, l.kv_norm.data(), g_.head_dim, g_.rms_eps, kv);
    k_.rope(kv + g_.head_dim - g_.rope_dim, &cos_[compressed][row * half], &sin_[compressed][row * half], g_.rope_dim,
            false);
    finite &= all_finite(kv, g_.head_dim);
    // Rounded to its stored form before anything reads it, this token included.
    uint8_t* stored = &chunk_rows_[size_t{row} * row_bytes];
    if (packed_) k_.encode_row(kv, g_.head_dim, g_.rope_dim, stored);
    else memcpy(stored, kv, row_bytes);
    if (compressed) {
      const uint32_t slot = rows_[row].position % Geometry::ratio(l.kind);
      k_.add(&cs_[row * width], &l.compressor.ape[slot * width], static_cast<uint32_t>(width));
      if (csa)
        k_.add(&is_[row * index_width], &l.index_compressor.ape[slot * index_width],
               static_cast<uint32_t>(index_width));
    }
    if (csa)
      for (uint32_t h = 0; h < g_.index_heads; h++) iw_[row * iw_stride + h] *= index_scale;
    if (!finite) fail_row(row);
  });
  if (compressed) compress(layer, l.compressor, false, spans);
  if (csa) compress(layer, l.index_compressor, true, spans);

  products.clear();
  outputs.clear();
  project(l.q_b, act_qr_, q_, q_width);
  // Index queries are needed only where some row has more visible rows than top_k.
  bool selecting = false;
  for (const Row& row : rows_) selecting |= csa && (row.position + 1) / kCsaRatio > g_.index_top_k;
  if (selecting) project(l.index_q, act_qr_, iq_, iq_width);
  multiply(products);

  const size_t index_bytes = index_row_bytes(packed_, g_.index_dim);
  if (selecting) iq_packed_.reserve(m * g_.index_heads * index_bytes);
  workers_.run(m, [&](uint32_t row, uint32_t) {
    const float *cos = &cos_[compressed][row * half], *sin = &sin_[compressed][row * half];
    for (uint32_t h = 0; h < g_.heads; h++) {
      float* q = &q_[row * q_width + size_t{h} * g_.head_dim];
      k_.rms_norm(q, nullptr, g_.head_dim, g_.rms_eps, q);
      k_.rope(q + g_.head_dim - g_.rope_dim, cos, sin, g_.rope_dim, false);
    }
    if (!selecting) return;
    for (uint32_t h = 0; h < g_.index_heads; h++) {
      float* q = &iq_[row * iq_width + size_t{h} * g_.index_dim];
      k_.rope(q + g_.index_dim - g_.rope_dim, cos, sin, g_.rope_dim, false);
      k_.hadamard(q, g_.index_dim);
      if (packed_) k_.encode_index_row(q, g_.index_dim, &iq_packed_[(size_t{row} * g_.index_heads + h) * index_bytes]);
    }
  });
  selected_.resize(std::max<size_t>(selected_.size(), m));
  for (uint32_t row = 0; row < m; row++) selected_[row].clear();
  if (selecting) select_rows(layer, spans);
  attend(layer, spans);

  // The ring takes this step's rows only now: attention above needed the older ones.
  for (uint32_t s = 0; s < spans.size(); s++) {
    const uint32_t ring = spans[s].state->layout().ring_rows;
    for (uint32_t i = spans[s].count - std::min(spans[s].count, ring); i < spans[s].count; i++)
      memcpy(spans[s].state->raw_row(layer, spans[s].state->length() + i),
             &chunk_rows_[size_t{first_row_[s] + i} * row_bytes], row_bytes);
  }

  // Grouped output: each group of heads has its own first matrix.
  const uint32_t group_width = g_.group_width();
  const size_t rank = size_t{g_.groups} * g_.o_rank;
  prepare(act_o_, {&l.out_a}, m * g_.groups, group_width);
  workers_.run(m * g_.groups, [&](uint32_t task, uint32_t) {
    if (!quantize(act_o_, task, &attn_[size_t{task} * group_width], group_width)) fail_row(task / g_.groups);
  });
  group_out_.reserve(m * rank);
  products.clear();
  outputs.clear();
  std::vector<std::vector<const void*>> group_x(g_.groups, std::vector<const void*>(m));
  outputs.reserve(g_.groups);
  for (uint32_t g = 0; g < g_.groups; g++) {
    for (uint32_t row = 0; row < m; row++) group_x[g][row] = act(act_o_, l.out_a)[row * g_.groups + g];
    outputs.push_back(rows_of(group_out_.data() + size_t{g} * g_.o_rank, m, rank));
    products.push_back({l.out_a.slice(g * g_.o_rank, g_.o_rank), group_x[g].data(), outputs.back().data(), m});
  }
  multiply(products);
  prepare(act_u_, {&l.out_b}, m, static_cast<uint32_t>(rank));
  workers_.run(m, [&](uint32_t row, uint32_t) {
    if (!quantize(act_u_, row, &group_out_[row * rank], static_cast<uint32_t>(rank))) fail_row(row);
  });
  products.clear();
  outputs.clear();
  project(l.out_b, act_u_, y_, g_.hidden);
  multiply(products);
}

// q_ [M][heads][head_dim] -> attn_ of the same shape, inverse rope applied.
void Forward::attend(uint32_t layer, std::vector<Span>& spans) {
  const Layer& l = m_.layers[layer];
  const uint32_t m = static_cast<uint32_t>(rows_.size()), half = g_.rope_dim / 2;
  const bool compressed = l.kind != LayerKind::kPlain;
  const uint32_t row_bytes = main_row_bytes(packed_, g_.head_dim, g_.rope_dim);
  const size_t block_bytes = k_.attn_block_bytes(f32_attention_, g_.head_dim);
  // First raw row that a query at `position` sees.
  const auto oldest_raw = [&](const SequenceState& state, uint32_t position) {
    return std::max(state.raw_from(), position > g_.window - 1 ? position - (g_.window - 1) : 0);
  };
  const auto visible = [&](uint32_t row) {
    return compressed ? (rows_[row].position + 1) / Geometry::ratio(l.kind) : 0;
  };
  // Few rows: several tasks a row, each with its share of the heads. Many rows: a task a row.
  const uint32_t threads = workers_.threads();
  const bool few = m < 2 * threads;
  const uint32_t tiles = (g_.heads + kHeadTile - 1) / kHeadTile;  // the last one may be short
  const uint32_t parts = few ? std::min(tiles, threads) : 1;
  const uint32_t part_heads = (tiles + parts - 1) / parts * kHeadTile;

  // Blocks that several tasks read are packed first: raw rows by absolute position, compressed rows by index, and for
  // few rows each row's own selection. With many rows a selection is packed by its only reader.
  struct Source {
    uint32_t span, first;                 // of 64 rows: position or row index
    const std::vector<uint32_t>* picked;  // selected rows from `first` on, else null
    bool raw;
  };
  std::vector<Source> sources;
  struct SpanBlocks {
    size_t raw, compressed;  // index of the first block in `sources`
    uint32_t first_raw;      // its block number (position / 64)
  };
  std::vector<SpanBlocks> span_blocks;
  std::vector<size_t> row_blocks(m, SIZE_MAX);
  for (uint32_t s = 0; s < spans.size(); s++) {
    const uint32_t start = spans[s].state->length(), count = spans[s].count;
    const uint32_t oldest = oldest_raw(*spans[s].state, start);
    SpanBlocks at{sources.size(), 0, oldest / kAttentionBlockRows};
    if (count > 0)
      for (uint32_t b = at.first_raw; b <= (start + count - 1) / kAttentionBlockRows; b++)
        sources.push_back({s, b * kAttentionBlockRows, nullptr, true});
    at.compressed = sources.size();
    uint32_t shared = 0;
    for (uint32_t i = 0; i < count; i++)
      if (selected_[first_row_[s] + i].empty()) shared = std::max(shared, visible(first_row_[s] + i));
    for (uint32_t first = 0; first < shared; first += kAttentionBlockRows)
      sources.push_back({s, first, nullptr, false});
    span_blocks.push_back(at);
    for (uint32_t i = 0; few && i < count; i++) {
      const std::vector<uint32_t>& picked = selected_[first_row_[s] + i];
      if (picked.empty()) continue;
      row_blocks[first_row_[s] + i] = sources.size();
      for (uint32_t first = 0; first < picked.size(); first += kAttentionBlockRows)
        sources.push_back({s, first, &picked, false});
    }
  }
  const auto pack = [&](const Source& source, uint8_t* block) {
    const Span& span = spans[source.span];
    const uint8_t* rows[kAttentionBlockRows];
    const uint32_t start = span.state->length(), end = start + span.count;
    for (uint32_t i = 0; i < kAttentionBlockRows; i++) {
      const uint32_t index = source.first + i;
      rows[i] = nullptr;
      if (source.raw) {
        if (index >= end || index < oldest_raw(*span.state, start)) continue;
        rows[i] = index >= start ? &chunk_rows_[size_t{first_row_[source.span] + index - start} * row_bytes]
                                 : span.state->raw_row(layer, index);
      } else if (source.picked) {
        if (index < source.picked->size()) rows[i] = span.state->main_row(layer, (*source.picked)[index]);
      } else if (index < end / Geometry::ratio(l.kind)) {
        rows[i] = span.state->main_row(layer, index);
      }
    }
    k_.attn_pack_block(f32_attention_, packed_, rows, g_.head_dim, g_.rope_dim, block);
  };
  blocks_.reserve((sources.size() + threads) * block_bytes);
  workers_.run(static_cast<uint32_t>(sources.size()),
               [&](uint32_t i, uint32_t) { pack(sources[i], &blocks_[i * block_bytes]); });

  const size_t query_bytes = align_up(k_.attn_query_bytes(f32_attention_, g_.heads, g_.head_dim));
  const size_t state_bytes = align_up(k_.attn_state_bytes(f32_attention_, g_.heads, g_.head_dim));
  queries_.reserve(threads * query_bytes);
  states_.reserve(threads * state_bytes);
  const size_t q_width = size_t{g_.heads} * g_.head_dim;
  attn_.reserve(m * q_width);
  workers_.run(m * parts, [&](uint32_t task, uint32_t worker) {
    const uint32_t row = task / parts, head = task % parts * part_heads;
    if (head >= g_.heads) return;
    const uint32_t heads = std::min(part_heads, g_.heads - head), position = rows_[row].position, s = rows_[row].span;
    uint8_t *query = &queries_[worker * query_bytes], *state = &states_[worker * state_bytes];
    k_.attn_pack_query(f32_attention_, &q_[row * q_width + size_t{head} * g_.head_dim], heads, g_.head_dim, query);
    k_.attn_begin(f32_attention_, l.sinks.data() + head, heads, g_.head_dim, state);
    const auto fold = [&](const uint8_t* block, uint32_t first, uint32_t last) {
      k_.attn_block(f32_attention_, query, block, first, last, heads, g_.head_dim, state, &workers_.scratch(worker));
    };
    const SpanBlocks& at = span_blocks[s];
    const uint32_t oldest = oldest_raw(*spans[s].state, position);
    for (uint32_t b = oldest / kAttentionBlockRows; b <= position / kAttentionBlockRows; b++) {
      const uint32_t base = b * kAttentionBlockRows;
      fold(&blocks_[(at.raw + b - at.first_raw) * block_bytes], std::max(oldest, base) - base,
           std::min(position + 1, base + kAttentionBlockRows) - base);
    }
    const std::vector<uint32_t>& picked = selected_[row];
    const uint32_t n = picked.empty() ? visible(row) : static_cast<uint32_t>(picked.size());
    for (uint32_t first = 0; first < n; first += kAttentionBlockRows) {
      const uint8_t* block;
      if (picked.empty()) {
        block = &blocks_[(at.compressed + first / kAttentionBlockRows) * block_bytes];
      } else if (few) {
        block = &blocks_[(row_blocks[row] + first / kAttentionBlockRows) * block_bytes];
      } else {
        uint8_t* own = &blocks_[(sources.size() + worker) * block_bytes];
        pack({s, first, &picked, false}, own);
        block = own;
      }
      fold(block, 0, std::min(n - first, kAttentionBlockRows));
    }
    float* out = &attn_[row * q_width + size_t{head} * g_.head_dim];
    k_.attn_end(f32_attention_, state, heads, g_.head_dim, out);
    // Values carry rope, so it is undone at the query's position.
    for (uint32_t h = 0; h < heads; h++)
      k_.rope(out + size_t{h} * g_.head_dim + g_.head_dim - g_.rope_dim, &cos_[compressed][row * half],
              &sin_[compressed][row * half], g_.rope_dim, true);
  });
}

}  // namespace nandu
