#include "weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>

#include "../kernels/kernels.h"
#include "../quant/dequant.h"

namespace nandu {
namespace {

constexpr uint32_t kGatingSqrtSoftplus = 4;  // llama.cpp's id of sqrt(softplus)

// Reads metadata and tensors of one file; keeps the first problem and lets the rest run on harmless values.
class Loader {
 public:
  explicit Loader(const ModelFile& file) : file_(file) {}
  const Error* problem() const { return failed_ ? &problem_ : nullptr; }

  template <typename... Args>
  void fail(const char* format, Args... args) {
    if (failed_) return;
    failed_ = true;
    if constexpr (sizeof...(args) == 0) {
      problem_ = error(Code::kModelFile, "%s", format);
    } else {
      problem_ = error(Code::kModelFile, format, args...);
    }
    problem_.message += " (" + file_.path() + ")";
  }

  std::string key(const char* suffix) const { return std::string("deepseek4.") + suffix; }
  bool has(const char* suffix) const { return file_.find(key(suffix)) != nullptr; }

  // A required count in [low, high].
  uint32_t count(const char* suffix, uint64_t low, uint64_t high) {
    const std::string name = key(suffix);
    const auto value = file_.get_uint(name);
    if (!value)
      return fail("metadata key %s is missing or not a whole number", name.c_str()), static_cast<uint32_t>(low);
    if (*value < low || *value > high)
      return fail("metadata key %s is %llu; it must be %llu to %llu", name.c_str(),
                  static_cast<unsigned long long>(*value), static_cast<unsigned long long>(low),
                  static_cast<unsigned long long>(high)),
             static_cast<uint32_t>(low);
    return static_cast<uint32_t>(*value);
  }
  uint32_t count_or(const char* suffix, uint32_t fallback, uint64_t low, uint64_t high) {
    return has(suffix) ? count(suffix, low, high) : fallback;
  }
  float number(const char* suffix, double low, double high) {
    const std::string name = key(suffix);
    const auto value = file_.get_float(name);
    if (!value) return fail("metadata key %s is missing or not a number", name.c_str()), static_cast<float>(low);
    if (!(*value >= low && *value <= high))
      return fail("metadata key %s is %g; it must be %g to %g", name.c_str(), *value, low, high),
             static_cast<float>(low);
    return static_cast<float>(*value);
  }
  float number_or(const char* suffix, float fallback, double low, double high) {
    return has(suffix) ? number(suffix, low, high) : fallback;
  }
  // An optional text.
  std::string text_or(const char* suffix, std::string_view fallback) {
    const std::string name = key(suffix);
    if (!has(suffix)) return std::string(fallback);
    const auto value = file_.get_string(name);
    if (!value) fail("metadata key %s is not a text", name.c_str());
    return std::string(value.value_or(fallback));
  }
  // Per-layer numbers; a scalar stands for all layers.
  std::vector<float> numbers(const char* suffix, uint32_t layers) {
    const std::string name = key(suffix);
    std::vector<float> out;
    if (const auto one = file_.get_float(name)) out.assign(layers, static_cast<float>(*one));
    else if (const auto many = file_.get_float_array(name)) out.assign(many->begin(), many->end());
    if (out.size() < layers) fail("metadata key %s is missing or has fewer than %u values", name.c_str(), layers);
    out.resize(layers);
    for (float value : out)
      if (std::isnan(value)) fail("metadata key %s holds a NaN", name.c_str());
    return out;
  }
  std::vector<int64_t> integers(const char* suffix, uint32_t layers) {
    const std::string name = key(suffix);
    std::vector<int64_t> out;
    if (const auto many = file_.get_int_array(name)) out = *many;
    if (out.size() < layers) fail("metadata key %s is missing or has fewer than %u values", name.c_str(), layers);
    out.resize(layers);
    return out;
  }

  // ne: expected ggml shape, trailing ones left out.
  const TensorView* tensor(const std::string& name, std::initializer_list<uint64_t> ne) {
    const TensorView* t = file_.tensor(name);
    if (!t) return fail("tensor %s is missing", name.c_str()), nullptr;
    uint32_t i = 0;
    bool same = true;
    for (uint64_t n : ne) same &= (i < 4 ? t->ne[i] : 1) == n, i++;
    for (; i < 4; i++) same &= t->ne[i] == 1;
    if (same) return t;
    std::string want, have;
    for (uint64_t n : ne) want += (want.empty() ? "" : ", ") + std::to_string(n);
    for (uint32_t j = 0; j < std::max<uint32_t>(1, t->n_dims); j++)
      have += (have.empty() ? "" : ", ") + std::to_string(t->ne[j]);
    fail("tensor %s has shape [%s]; the metadata asks for [%s]", name.c_str(), have.c_str(), want.c_str());
    return nullptr;
  }
  Matrix matrix(const std::string& name, uint64_t cols, uint64_t rows) {
    return matrix_of(tensor(name, {cols, rows}), name, cols, rows);
  }
  ExpertMatrix experts(const std::string& name, uint64_t cols, uint64_t rows, uint64_t n) {
    ExpertMatrix e;
    e.first = matrix_of(tensor(name, {cols, rows, n}), name, cols, rows);
    e.stride = e.first.row_bytes * rows;
    return e;
  }
  // Any weight type, widened. Values must be finite: they are few, so this is checked at once.
  Vector vector(const std::string& name, std::initializer_list<uint64_t> ne) {
    uint64_t n = 1;
    for (uint64_t x : ne) n *= x;
    const TensorView* t = tensor(name, ne);
    if (!t) return Vector(16);  // not n: that is only what the metadata claims
    Vector v(std::max<uint64_t>(n, 16));
    if (t->type == TensorType::kI32)
      return fail("tensor %s has type I32; it must be a weight type", name.c_str()), std::move(v);
    std::vector<double> wide(n);
    dequant_row_f64(t->type, t->data, n, wide.data());
    for (uint64_t i = 0; i < n; i++) {
      if (!std::isfinite(wide[i]))
        fail("tensor %s holds a NaN or infinity at element %llu", name.c_str(), static_cast<unsigned long long>(i));
      v[i] = static_cast<float>(wide[i]);
    }
    return v;
  }

 private:
  Matrix matrix_of(const TensorView* t, const std::string& name, uint64_t cols, uint64_t rows) {
    if (!t) return {};
    const TypeInfo* info = type_info(t->type);
    if (!info || t->type == TensorType::kI32)
      return fail("tensor %s has a type that cannot be multiplied", name.c_str()), Matrix{};
    return {t->type, t->data, row_bytes(*info, cols), static_cast<uint32_t>(rows), static_cast<uint32_t>(cols)};
  }

  const ModelFile& file_;
  bool failed_ = false;
  Error problem_{};
};

constexpr uint32_t kMost = 1u << 24;  // no dimension of a sane model reaches this

Geometry read_geometry(Loader& in, const ModelFile& file) {
  Geometry g{};
  g.layers = in.count("block_count", 1, 4096);
  // A file that holds its draft (MTP) block counts it; the draft is not run.
  const uint32_t drafts = in.count_or("nextn_predict_layers", 0, 0, 16);
  if (drafts > 0 && drafts < g.layers &&
      file.tensor("blk." + std::to_string(g.layers - drafts) + ".nextn.eh_proj.weight"))
    g.layers -= drafts;
  g.hidden = in.count("embedding_length", 1, kMost);
  g.context = in.count("context_length", 1, 0x7fffffff);
  g.heads = in.count("attention.head_count", 1, kHeadsMax);
  if (in.count_or("attention.head_count_kv", 1, 1, 4096) != 1) in.fail("deepseek4.attention.head_count_kv must be 1");
  g.head_dim = in.count("attention.key_length", 2, kHeadDimMax);
  if (in.count_or("attention.value_length", g.head_dim, 1, 4096) != g.head_dim)
    in.fail("deepseek4.attention.value_length must equal key_length (one latent is key and value)");
  g.rope_dim = in.count("rope.dimension_count", 2, 512);
  g.q_rank = in.count("attention.q_lora_rank", 1, kMost);
  g.groups = in.count("attention.output_group_count", 1, 4096);
  g.o_rank = in.count("attention.output_lora_rank", 1, kMost / std::max(g.groups, 1u));
  g.window = in.count("attention.sliding_window", 1, 1 << 20);
  g.index_heads = in.count("attention.indexer.head_count", 1, 4096);
  g.index_dim = in.count("attention.indexer.key_length", 32, 4096);
  g.index_top_k = in.count("attention.indexer.top_k", 1, kMost);
  g.experts = in.count("expert_count", 1, 65535);
  g.experts_used = in.count("expert_used_count", 1, g.experts);
  if (in.count("expert_shared_count", 0, 64) != 1) in.fail("deepseek4.expert_shared_count must be 1");
  g.expert_ffn = in.count("expert_feed_forward_length", 1, kMost);
  g.shared_ffn = g.expert_ffn;
  // A file that was cut to fewer layers keeps the count of the whole.
  g.hash_layers = std::min(in.count("hash_layer_count", 0, kMost), g.layers);
  if (in.count("expert_gating_func", 0, 255) != kGatingSqrtSoftplus)
    in.fail(
        "deepseek4.expert_gating_func must be 4 (sqrt-softplus); older conversions of this model have to be redone");
  if (in.has("expert_weights_norm") && !file.get_bool("deepseek4.expert_weights_norm").value_or(false))
    in.fail("metadata key deepseek4.expert_weights_norm must be true");
  if (in.count_or("expert_group_count", 0, 0, 1) > 1)
    in.fail("deepseek4.expert_group_count: expert groups are not part of this architecture");
  g.routed_scale = in.number("expert_weights_scale", 0, 1e6);
  g.rms_eps = in.number("attention.layer_norm_rms_epsilon", 0, 1);
  if (in.count("hyper_connection.count", 1, 64) != kStreams) in.fail("deepseek4.hyper_connection.count must be 4");
  g.sinkhorn_iterations = in.count("hyper_connection.sinkhorn_iterations", 1, 1000);
  g.hc_eps = in.number("hyper_connection.epsilon", 0, 1);
  g.rope_base = in.number_or("rope.freq_base", 10000, 1, 1e12);
  g.compress_rope_base = in.number("attention.compress_rope_freq_base", 1, 1e12);
  g.yarn_factor = 1;
  g.yarn_beta_fast = 32, g.yarn_beta_slow = 1;
  const std::string scaling = in.text_or("rope.scaling.type", "none");
  if (scaling == "yarn") {
    g.yarn_factor = in.number_or("rope.scaling.factor", 1, 1, 1e6);
    g.yarn_original_context = in.count_or("rope.scaling.original_context_length", g.context, 1, 0x7fffffff);
    g.yarn_beta_fast = in.number_or("rope.scaling.yarn_beta_fast", 32, 1e-6, 1e6);
    g.yarn_beta_slow = in.number_or("rope.scaling.yarn_beta_slow", 1, 1e-6, 1e6);
  } else if (scaling != "none") {
    in.fail("deepseek4.rope.scaling.type is not 'yarn' or 'none'");
  }
  if (g.yarn_factor != 1 && g.compress_rope_base <= 1)
    in.fail("deepseek4.attention.compress_rope_freq_base must be above 1 with YaRN");
  for (int64_t ratio : in.integers("attention.compress_ratios", g.layers)) {
    if (ratio != 0 && ratio != kCsaRatio && ratio != kHcaRatio)
      in.fail("deepseek4.attention.compress_ratios holds %lld; known are 0, 4 and 128", static_cast<long long>(ratio));
    g.kinds.push_back(ratio == kCsaRatio ? LayerKind::kCsa : ratio == kHcaRatio ? LayerKind::kHca : LayerKind::kPlain);
  }
  g.clamp = in.numbers("swiglu_clamp_exp", g.layers);
  g.clamp_shared = in.has("swiglu_clamp_shexp") ? in.numbers("swiglu_clamp_shexp", g.layers) : g.clamp;
  // Other engines take 0 for "no limit" (llama.cpp everything up to 1e-6); a limit of 0 would silence the experts.
  for (std::vector<float>* limits : {&g.clamp, &g.clamp_shared})
    for (float& limit : *limits)
      if (limit <= 1e-6f) limit = std::numeric_limits<float>::infinity();
  const TensorView* embedding = file.tensor("token_embd.weight");
  if (!embedding && !in.has("vocab_size")) in.fail("tensor token_embd.weight is missing");
  else
    g.vocab = in.count_or("vocab_size",
                          static_cast<uint32_t>(embedding ? std::min<uint64_t>(embedding->ne[1], kMost) : 1), 1, kMost);

  if (g.heads % g.groups != 0) in.fail("deepseek4.attention.head_count must be a multiple of output_group_count");
  if (g.rope_dim % 2 != 0 || g.rope_dim > g.head_dim || g.rope_dim > g.index_dim)
    in.fail("deepseek4.rope.dimension_count must be even and at most key_length and indexer.key_length");
  if (g.index_dim % 32 != 0 || (g.index_dim & (g.index_dim - 1)) != 0)
    in.fail("deepseek4.attention.indexer.key_length must be a power of two of at least 32 (Hadamard transform)");
  return g;
}

HcMix read_mix(Loader& in, const std::string& prefix, uint64_t rows, uint64_t scales, uint64_t hidden) {
  return {in.matrix(prefix + "_fn.weight", kStreams * hidden, rows), in.vector(prefix + "_scale.weight", {scales}),
          in.vector(prefix + "_base.weight", {rows})};
}

Compressor read_compressor(Loader& in, const std::string& prefix, const Geometry& g, LayerKind kind, uint64_t dim) {
  const uint64_t width = Geometry::compressor_width(kind, static_cast<uint32_t>(dim));
  return {in.matrix(prefix + "_kv.weight", g.hidden, width), in.matrix(prefix + "_gate.weight", g.hidden, width),
          in.vector(prefix + "_ape.weight", {width, Geometry::ratio(kind)}), in.vector(prefix + "_norm.weight", {dim})};
}

// Every row must name distinct experts that exist, or routing would read outside the model.
std::vector<uint16_t> read_expert_table(Loader& in, const TensorView& t, const std::string& name, const Geometry& g) {
  std::vector<uint16_t> table(uint64_t{g.vocab} * g.experts_used);
  // The last row that names each expert: a file may say that a row has 65,535, too many to compare with one another.
  std::vector<uint64_t> last_row(g.experts, ~uint64_t{0});
  for (uint64_t at = 0; at < table.size(); at++) {
    int32_t expert;
    memcpy(&expert, t.data + at * sizeof expert, sizeof expert);
    const uint64_t row = at / g.experts_used;
    if (expert < 0 || static_cast<uint32_t>(expert) >= g.experts || std::exchange(last_row[expert], row) == row) {
      in.fail("tensor %s: row %llu names expert %d, repeated or outside 0..%u", name.c_str(),
              static_cast<unsigned long long>(row), expert, g.experts - 1);
      return {};
    }
    table[at] = static_cast<uint16_t>(expert);
  }
  return table;
}

Layer read_layer(Loader& in, const Geometry& g, uint32_t index) {
  const std::string b = "blk." + std::to_string(index) + ".";
  Layer l{};
  l.kind = g.kinds[index];
  l.attn_mix = read_mix(in, b + "hc_attn", kMixRows, 3, g.hidden);
  l.ffn_mix = read_mix(in, b + "hc_ffn", kMixRows, 3, g.hidden);
  l.attn_norm = in.vector(b + "attn_norm.weight", {g.hidden});
  l.ffn_norm = in.vector(b + "ffn_norm.weight", {g.hidden});
  l.sinks = in.vector(b + "attn_sinks.weight", {g.heads});
  l.q_a = in.matrix(b + "attn_q_a.weight", g.hidden, g.q_rank);
  l.q_norm = in.vector(b + "attn_q_a_norm.weight", {g.q_rank});
  l.q_b = in.matrix(b + "attn_q_b.weight", g.q_rank, uint64_t{g.heads} * g.head_dim);
  l.kv = in.matrix(b + "attn_kv.weight", g.hidden, g.head_dim);
  l.kv_norm = in.vector(b + "attn_kv_a_norm.weight", {g.head_dim});
  l.out_a = in.matrix(b + "attn_output_a.weight", g.group_width(), uint64_t{g.groups} * g.o_rank);
  l.out_b = in.matrix(b + "attn_output_b.weight", uint64_t{g.groups} * g.o_rank, g.hidden);
  if (l.kind != LayerKind::kPlain) l.compressor = read_compressor(in, b + "attn_compressor", g, l.kind, g.head_dim);
  if (l.kind == LayerKind::kCsa) {
    l.index_compressor = read_compressor(in, b + "indexer_compressor", g, l.kind, g.index_dim);
    l.index_q = in.matrix(b + "indexer.attn_q_b.weight", g.q_rank, uint64_t{g.index_heads} * g.index_dim);
    l.index_weights = in.matrix(b + "indexer.proj.weight", g.hidden, g.index_heads);
  }
  l.router = in.matrix(b + "ffn_gate_inp.weight", g.hidden, g.experts);
  if (index < g.hash_layers) {
    const std::string name = b + "ffn_gate_tid2eid.weight";
    if (const TensorView* t = in.tensor(name, {g.experts_used, g.vocab})) {
      if (t->type != TensorType::kI32) in.fail("tensor %s must be I32", name.c_str());
      else l.expert_table = read_expert_table(in, *t, name, g);
    }
  } else {
    l.router_bias = in.vector(b + "exp_probs_b.bias", {g.experts});
  }
  l.gate = in.experts(b + "ffn_gate_exps.weight", g.hidden, g.expert_ffn, g.experts);
  l.up = in.experts(b + "ffn_up_exps.weight", g.hidden, g.expert_ffn, g.experts);
  l.down = in.experts(b + "ffn_down_exps.weight", g.expert_ffn, g.hidden, g.experts);
  l.shared_gate = in.matrix(b + "ffn_gate_shexp.weight", g.hidden, g.shared_ffn);
  l.shared_up = in.matrix(b + "ffn_up_shexp.weight", g.hidden, g.shared_ffn);
  l.shared_down = in.matrix(b + "ffn_down_shexp.weight", g.shared_ffn, g.hidden);
  return l;
}

uint64_t bytes_of(const Matrix& m) {
  return m.data ? uint64_t{m.row_bytes} * m.rows : 0;
}

}  // namespace

uint64_t Model::active_bytes() const {
  uint64_t bytes = bytes_of(output) + bytes_of(head_mix.fn);
  for (const Layer& l : layers) {
    for (const Matrix* m : {&l.attn_mix.fn, &l.ffn_mix.fn, &l.q_a, &l.q_b, &l.kv, &l.out_a, &l.out_b, &l.compressor.kv,
                            &l.compressor.gate, &l.index_compressor.kv, &l.index_compressor.gate, &l.index_q,
                            &l.index_weights, &l.router, &l.shared_gate, &l.shared_up, &l.shared_down})
      bytes += bytes_of(*m);
    bytes += geometry.experts_used * (l.gate.stride + l.up.stride + l.down.stride);
  }
  return bytes;
}

Result<std::unique_ptr<Model>> load_model(const std::string& path, uint32_t context) {
  auto opened = open_model_file(path);
  if (!opened.ok()) return opened.error();
  auto model = std::make_unique<Model>();
  model->file = std::move(opened.value());
  const ModelFile& file = *model->file;
  Loader in(file);
  const auto architecture = file.get_string("general.architecture");
  if (!architecture || *architecture != "deepseek4") {
    in.fail("general.architecture is '%s'; nandu runs deepseek4",
            architecture ? printable(*architecture).c_str() : "(missing)");
    return *in.problem();
  }
  model->geometry = read_geometry(in, file);
  const Geometry& g = model->geometry;
  if (in.problem()) return *in.problem();
  if (context > g.context)
    return error(Code::kInvalidArgument, "context: %u tokens asked for; the model's context_length is %u (%s)", context,
                 g.context, path.c_str());
  if (context) model->geometry.context = context;
  if (Status s = check_tokenizer_keys(file, g.vocab); !s.ok()) return s.error();
  model->embedding = in.matrix("token_embd.weight", g.hidden, g.vocab);
  model->output = file.tensor("output.weight") ? in.matrix("output.weight", g.hidden, g.vocab) : model->embedding;
  model->output_norm = in.vector("output_norm.weight", {g.hidden});
  model->head_mix = read_mix(in, "output_hc", kStreams, 1, g.hidden);
  for (uint32_t i = 0; i < g.layers && !in.problem(); i++) model->layers.push_back(read_layer(in, g, i));
  if (in.problem()) return *in.problem();
  const auto name = file.get_string("general.name");
  model->name = name ? std::string(*name) : "deepseek4";
  for (const TensorView& t : file.tensors()) model->weight_bytes += t.bytes;
  return model;
}

Status check_tokenizer_keys(const ModelFile& file, uint64_t vocab) {
  Loader in(file);
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template"})
    if (file.find(key) && !file.get_string(key)) in.fail("metadata key %s is not a text", key);
  const std::string_view model = file.get_string("tokenizer.ggml.model").value_or("no_vocab");
  if (in.problem()) return *in.problem();
  // They begin and end sequences, whether or not the file says what they look like.
  const auto check_ids = [&](uint64_t count) {
    for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"})
      if (const auto id = file.get_uint(key); file.find(key) && (!id || *id >= count))
        in.fail("metadata key %s is not the id of one of the %llu tokens", key, static_cast<unsigned long long>(count));
  };
  if (model == "no_vocab") {
    check_ids(vocab);
    return in.problem() ? Status(*in.problem()) : ok();
  }
  if (model != "gpt2")
    in.fail("metadata key tokenizer.ggml.model is '%s'; nandu knows gpt2 and no_vocab", printable(model).c_str());
  const auto tokens = file.get_string_array("tokenizer.ggml.tokens");
  if (!tokens || tokens->size() > vocab)
    in.fail("metadata key tokenizer.ggml.tokens is missing, no list of texts, or longer than the vocabulary of %llu",
            static_cast<unsigned long long>(vocab));
  if (in.problem()) return *in.problem();
  const char* types = "tokenizer.ggml.token_type";
  if (const auto kinds = file.get_int_array(types); file.find(types) && (!kinds || kinds->size() != tokens->size()))
    in.fail("metadata key %s is no list of whole numbers, one for each of the %zu tokens", types, tokens->size());
  const char* merges = "tokenizer.ggml.merges";
  if (file.find(merges) && !file.get_string_array(merges)) in.fail("metadata key %s is no list of texts", merges);
  check_ids(tokens->size());
  for (const char* key : {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"})
    if (file.find(key) && !file.get_bool(key)) in.fail("metadata key %s is not true or false", key);
  if (in.problem()) return *in.problem();
  return ok();
}

Status check_all_scales(const Model& model, uint32_t threads, void (*progress)(void*, double), void* context) {
  const auto& tensors = model.file->tensors();
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done{0};
  std::vector<std::unique_ptr<Error>> problems(tensors.size());
  const auto work = [&](bool reports) {
    for (size_t i; (i = next.fetch_add(1)) < tensors.size();) {
      Status checked = check_scales(tensors[i]);
      if (!checked.ok()) problems[i] = std::make_unique<Error>(checked.error());
      done += tensors[i].bytes;
      if (reports && progress)
        progress(context, static_cast<double>(done) / static_cast<double>(std::max<uint64_t>(1, model.weight_bytes)));
    }
  };
  std::vector<std::thread> pool;
  for (uint32_t i = 1; i < threads; i++) pool.emplace_back(work, false);
  work(true);
  for (std::thread& thread : pool) thread.join();
  for (const auto& problem : problems)
    if (problem) return *problem;
  return ok();
}

}  // namespace nandu
