// The tensors of a model as views: matrices stay where they lie in the mapped file, small vectors are widened to f32.
// Experts are reached through ExpertMatrix, so that a slot arena can later stand where the file stands now.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../base/aligned.h"
#include "../base/status.h"
#include "../load/gguf.h"
#include "../quant/types.h"
#include "geometry.h"

namespace nandu {

// W: [rows, cols], rows of `row_bytes` as they lie in the file.
struct Matrix {
  TensorType type = TensorType::kF32;
  const uint8_t* data = nullptr;
  size_t row_bytes = 0;
  uint32_t rows = 0, cols = 0;

  ActKind act() const { return type_info(type)->act; }
  Matrix slice(uint32_t first, uint32_t count) const {
    return {type, data + first * row_bytes, row_bytes, count, cols};
  }
};

// The same matrix of every expert of a layer, stacked.
struct ExpertMatrix {
  Matrix first;
  uint64_t stride = 0;  // bytes from one expert to the next
  Matrix at(uint32_t expert) const {
    Matrix m = first;
    m.data += expert * stride;
    return m;
  }
};

using Vector = AlignedBuffer<float>;

// Hyper-connection mix of one sub-layer (deepseek-v4.md 2.2).
struct HcMix {
  Matrix fn;           // [24, 4 * hidden]; the head's: [4, 4 * hidden]
  Vector scale, base;  // [3], [24]; the head's: [1], [4]
};

// K and S projections of a compressor (2.4).
struct Compressor {
  Matrix kv, gate;  // [width, hidden]
  Vector ape;       // [ratio, width]
  Vector norm;      // [dim]
};

struct Layer {
  LayerKind kind;
  HcMix attn_mix, ffn_mix;
  Vector attn_norm, ffn_norm, q_norm, kv_norm, sinks;
  Matrix q_a, q_b, kv, out_a, out_b;
  Compressor compressor, index_compressor;
  Matrix index_q, index_weights;

  Matrix router;
  // Hash layers: [vocab, experts_used], else empty. A copy: what was checked must not change with the file.
  std::vector<uint16_t> expert_table;
  Vector router_bias;  // other layers: [experts]
  ExpertMatrix gate, up, down;
  Matrix shared_gate, shared_up, shared_down;
};

struct Model {
  std::unique_ptr<ModelFile> file;
  Geometry geometry;
  Matrix embedding, output;
  Vector output_norm;
  HcMix head_mix;
  std::vector<Layer> layers;
  std::string name;
  uint64_t weight_bytes = 0;

  // Bytes of weights that one decoded token reads (routed experts: experts_used of them).
  uint64_t active_bytes() const;
};

// Reads geometry and binds every tensor; checks shapes, types and table contents. Code::kModelFile names key or tensor.
// context: 0 takes the file's; a larger one than the file's is refused.
Result<std::unique_ptr<Model>> load_model(const std::string& path, uint32_t context);

// Kinds and lengths of the tokenizer.ggml.* keys, for a vocabulary of at most `vocab`; Code::kModelFile names the key.
// What the tokens and merges say is the tokenizer's to check.
Status check_tokenizer_keys(const ModelFile& file, uint64_t vocab);

// NaN and infinite scales of all tensors; progress in [0, 1] may be null. Runs on `threads` threads.
Status check_all_scales(const Model& model, uint32_t threads, void (*progress)(void*, double), void* context);

}  // namespace nandu
