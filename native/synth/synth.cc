// The tensors and metadata of a V4 model, and the file that holds them. Their values: values.h.
#include "synth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstring>
#include <string_view>
#include <utility>

#include "../quant/float16.h"
#include "values.h"

namespace nandu {
namespace {

constexpr uint64_t kFileAlignment = 32;
constexpr uint32_t kStreams = 4, kMixRows = 24;  // mHC; llama.cpp allows no other number
constexpr uint32_t kMostOfAnything = 1u << 24;   // a dimension beyond this is a typing error
constexpr uint64_t kMostFileBytes = 1ull << 50;

// --- tensors -------------------------------------------------------------------------------------

class TensorList {
 public:
  explicit TensorList(const SynthOptions& options);
  std::vector<SynthTensor> tensors;
  uint64_t bytes = 0;  // of the data section

 private:
  // Uniform of standard deviation gain / sqrt(row length), so that products keep the size of their input.
  void matrix(const std::string& name, TensorType type, std::vector<uint64_t> ne, double gain = 1) {
    const double amplitude = gain * std::sqrt(3.0 / static_cast<double>(ne[0]));
    tensors.push_back({name, type, std::move(ne), 0, amplitude});
  }
  void table(const std::string& name, TensorType type, std::vector<uint64_t> ne, double mean, double amplitude) {
    tensors.push_back({name, type, std::move(ne), mean, amplitude});
  }
  void vector(const std::string& name, uint64_t n, double mean, double amplitude) {
    table(name, TensorType::kF32, {n}, mean, amplitude);
  }
  void norm(const std::string& name, uint64_t n) { vector(name, n, 1, 0.2); }
  void mixer(const std::string& name, uint64_t rows, uint64_t scales, const SynthOptions& o) {
    matrix(name + "_fn.weight", o.types.hc, {uint64_t{kStreams} * o.hidden, rows});
    vector(name + "_base.weight", rows, 0, 1);
    vector(name + "_scale.weight", scales, 1, 0.3);
  }
  void compressor(const std::string& name, uint64_t dim, uint32_t ratio, const SynthOptions& o) {
    const uint64_t width = ratio == 4 ? 2 * dim : dim;
    matrix(name + "_kv.weight", o.types.compressor, {o.hidden, width});
    matrix(name + "_gate.weight", o.types.compressor, {o.hidden, width}, 2);
    table(name + "_ape.weight", o.types.ape, {width, ratio}, 0, 1.5);
    norm(name + "_norm.weight", dim);
  }
  void layer(uint32_t index, const SynthOptions& o, uint64_t vocab);
};

void TensorList::layer(uint32_t index, const SynthOptions& o, uint64_t vocab) {
  const std::string b = "blk." + std::to_string(index) + ".";
  const SynthTypes& t = o.types;
  const uint64_t h = o.hidden, attended = uint64_t{o.heads} * o.head_dim, ffn = o.expert_ffn;
  const uint32_t ratio = o.compress_ratios[index];
  mixer(b + "hc_attn", kMixRows, 3, o);
  mixer(b + "hc_ffn", kMixRows, 3, o);
  norm(b + "attn_norm.weight", h);
  norm(b + "ffn_norm.weight", h);
  vector(b + "attn_sinks.weight", o.heads, 0, 1.5);
  matrix(b + "attn_q_a.weight", t.projections, {h, o.q_rank});
  norm(b + "attn_q_a_norm.weight", o.q_rank);
  matrix(b + "attn_q_b.weight", t.projections, {o.q_rank, attended});
  matrix(b + "attn_kv.weight", t.projections, {h, o.head_dim});
  norm(b + "attn_kv_a_norm.weight", o.head_dim);
  matrix(b + "attn_output_a.weight", t.output_a, {attended / o.groups, uint64_t{o.groups} * o.o_rank});
  matrix(b + "attn_output_b.weight", t.projections, {uint64_t{o.groups} * o.o_rank, h}, 2);
  if (ratio != 0) compressor(b + "attn_compressor", o.head_dim, ratio, o);
  if (ratio == 4) {
    matrix(b + "indexer.attn_q_b.weight", t.indexer, {o.q_rank, uint64_t{o.index_heads} * o.index_dim});
    matrix(b + "indexer.proj.weight", t.indexer, {h, o.index_heads});
    compressor(b + "indexer_compressor", o.index_dim, ratio, o);
  }
  matrix(b + "ffn_gate_inp.weight", t.router, {h, o.experts}, 2);
  if (index < o.hash_layers) {
    table(b + "ffn_gate_tid2eid.weight", TensorType::kI32, {o.experts_used, vocab}, 0, 0);
    tensors.back().hash_layer = static_cast<int>(index);
  } else {
    vector(b + "exp_probs_b.bias", o.experts, 0, 0.5);
  }
  matrix(b + "ffn_gate_exps.weight", t.experts_gate_up, {h, ffn, o.experts}, 4);
  matrix(b + "ffn_up_exps.weight", t.experts_gate_up, {h, ffn, o.experts}, 4);
  matrix(b + "ffn_down_exps.weight", t.experts_down, {ffn, h, o.experts}, 0.1);
  matrix(b + "ffn_gate_shexp.weight", t.shared, {h, ffn}, 4);
  matrix(b + "ffn_up_shexp.weight", t.shared, {h, ffn}, 4);
  matrix(b + "ffn_down_shexp.weight", t.shared, {ffn, h}, 0.1);
}

uint64_t vocab_size(const SynthOptions& o) {
  return o.vocabulary.tokens.empty() ? o.vocab_size : o.vocabulary.tokens.size();
}

TensorList::TensorList(const SynthOptions& o) {
  const uint64_t vocab = vocab_size(o);
  table("token_embd.weight", o.types.embedding, {o.hidden, vocab}, 0, 1.7);
  norm("output_norm.weight", o.hidden);
  matrix("output.weight", o.types.output, {o.hidden, vocab});
  mixer("output_hc", kStreams, 1, o);
  for (uint32_t i = 0; i < o.compress_ratios.size(); i++) layer(i, o, vocab);
  for (SynthTensor& t : tensors) {
    for (uint64_t n : t.ne) t.count *= n;
    const TypeInfo* info = type_info(t.type);
    t.bytes = t.count / info->block_values * info->block_bytes;
    t.offset = bytes;
    bytes += (t.bytes + kFileAlignment - 1) / kFileAlignment * kFileAlignment;
  }
}

// --- options -------------------------------------------------------------------------------------

__attribute__((format(printf, 1, 2))) Status invalid(const char* format, ...) {
  char text[300];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return Error{Code::kInvalidArgument, std::string("synth: ") + text};
}

Status check(const SynthOptions& o) {
  const SynthVocabulary& v = o.vocabulary;
  // clang-format off
  const std::pair<const char*, uint64_t> sizes[] = {
      {"layers", o.compress_ratios.size()}, {"context", o.context}, {"hidden", o.hidden}, {"heads", o.heads},
      {"head_dim", o.head_dim}, {"rope_dim", o.rope_dim}, {"q_rank", o.q_rank}, {"groups", o.groups},
      {"o_rank", o.o_rank}, {"window", o.window}, {"experts", o.experts}, {"experts_used", o.experts_used},
      {"expert_ffn", o.expert_ffn}, {"index_heads", o.index_heads}, {"index_dim", o.index_dim},
      {"index_top_k", o.index_top_k}, {"vocab_size", vocab_size(o)},
      {"yarn_original_context", o.yarn_original_context}, {"sinkhorn_iterations", o.sinkhorn_iterations}};
  // clang-format on
  for (const auto& [name, size] : sizes)
    if (size < 1 || size > kMostOfAnything) return invalid("%s must be 1 to %u", name, kMostOfAnything);
  const std::pair<const char*, double> numbers[] = {
      {"routed_scale", o.routed_scale},    {"clamp", o.clamp},
      {"rope_base", o.rope_base},          {"compress_rope_base", o.compress_rope_base},
      {"yarn_factor", o.yarn_factor},      {"yarn_beta_fast", o.yarn_beta_fast},
      {"yarn_beta_slow", o.yarn_beta_slow}};
  for (const auto& [name, number] : numbers)
    if (!(number > 0 && number < 1e30)) return invalid("%s must be positive and finite", name);
  for (uint32_t ratio : o.compress_ratios)
    if (ratio != 0 && ratio != 4 && ratio != 128)
      return invalid("compress_ratios holds %u; known are 0, 4 and 128", ratio);
  if (o.heads % o.groups != 0) return invalid("heads (%u) must be a multiple of groups (%u)", o.heads, o.groups);
  if (o.rope_dim % 2 != 0 || o.rope_dim > o.head_dim || o.rope_dim > o.index_dim)
    return invalid("rope_dim (%u) must be even and at most head_dim and index_dim", o.rope_dim);
  if (o.index_dim < 64 || (o.index_dim & (o.index_dim - 1)) != 0)
    return invalid("index_dim (%u) must be a power of two from 64", o.index_dim);
  if (o.experts_used > o.experts)
    return invalid("experts_used (%u) must be at most experts (%u)", o.experts_used, o.experts);
  if (o.hash_layers > o.compress_ratios.size())
    return invalid("hash_layers (%u) must be at most the number of layers", o.hash_layers);
  const SynthTypes& t = o.types;
  for (TensorType type : {t.experts_gate_up, t.experts_down, t.shared, t.projections, t.output_a, t.indexer,
                          t.compressor, t.ape, t.router, t.hc, t.embedding, t.output})
    if (!type_info(type) || type == TensorType::kI32)
      return invalid("type %u is not a weight type", static_cast<uint32_t>(type));
  if (v.token_types.size() != v.tokens.size())
    return invalid("vocabulary: token_types must have one entry for each token");
  for (uint32_t id : {v.bos, v.eos, v.pad})
    if (id != kNoToken && id >= v.tokens.size()) return invalid("vocabulary: special token %u is outside it", id);
  if (o.golden && (o.experts_used != 2 || o.experts < 2)) return invalid("golden needs experts_used 2");
  return ok();
}

Status check(const std::vector<SynthTensor>& tensors) {
  uint64_t total = 0;
  for (const SynthTensor& t : tensors) {
    const TypeInfo* info = type_info(t.type);
    uint64_t count = 1;
    bool overflow = false;
    for (uint64_t n : t.ne) overflow |= __builtin_mul_overflow(count, n, &count);
    if (overflow || count > kMostFileBytes || (total += t.bytes) > kMostFileBytes)
      return invalid("tensor %s makes the file too large", t.name.c_str());
    if (t.ne[0] % info->block_values != 0)
      return invalid("tensor %s has rows of %llu values; type %s needs a multiple of %u", t.name.c_str(),
                     static_cast<unsigned long long>(t.ne[0]), info->name, info->block_values);
  }
  return ok();
}

// --- header --------------------------------------------------------------------------------------

class Header {
 public:
  std::string bytes;
  uint64_t keys = 0;

  void u32(uint32_t v) { put(v, 4); }
  void u64(uint64_t v) { put(v, 8); }
  void string(std::string_view v) {
    u64(v.size());
    bytes += v;
  }
  void key_u32(const char* key, uint32_t v) { begin(key, 4), u32(v); }
  void key_f32(const char* key, double v) { begin(key, 6), u32(float_bits(static_cast<float>(v))); }
  void key_bool(const char* key, bool v) { begin(key, 7), put(v, 1); }
  void key_string(const char* key, std::string_view v) { begin(key, 8), string(v); }
  template <typename T, typename Put>
  void key_array(const char* key, uint32_t type, const std::vector<T>& values, Put put_value) {
    begin(key, 9);
    u32(type);
    u64(values.size());
    for (const T& v : values) put_value(v);
  }

 private:
  void begin(const char* key, uint32_t type) {
    keys++;
    string(key);
    u32(type);
  }
  void put(uint64_t v, int n) {
    for (int i = 0; i < n; i++) bytes += static_cast<char>(v >> (8 * i) & 255);
  }
};

void write_metadata(const SynthOptions& o, Header* h) {
  const uint32_t layers = static_cast<uint32_t>(o.compress_ratios.size());
  const auto put_i32 = [h](int64_t v) { h->u32(static_cast<uint32_t>(v)); };
  const auto put_f32 = [h](float v) { h->u32(float_bits(v)); };
  const auto put_string = [h](const std::string& v) { h->string(v); };
  h->key_string("general.architecture", "deepseek4");
  if (!o.name.empty()) {
    h->key_string("general.type", "model");
    h->key_string("general.name", o.name);
    h->key_u32("general.quantization_version", 2);
  }
  h->key_u32("deepseek4.block_count", layers);
  h->key_u32("deepseek4.context_length", o.context);
  h->key_u32("deepseek4.embedding_length", o.hidden);
  h->key_u32("deepseek4.vocab_size", static_cast<uint32_t>(vocab_size(o)));
  h->key_u32("deepseek4.attention.head_count", o.heads);
  h->key_u32("deepseek4.attention.head_count_kv", 1);
  h->key_u32("deepseek4.attention.key_length", o.head_dim);
  h->key_u32("deepseek4.attention.value_length", o.head_dim);
  h->key_f32("deepseek4.attention.layer_norm_rms_epsilon", 1e-6);
  h->key_u32("deepseek4.attention.q_lora_rank", o.q_rank);
  h->key_u32("deepseek4.attention.output_group_count", o.groups);
  h->key_u32("deepseek4.attention.output_lora_rank", o.o_rank);
  h->key_u32("deepseek4.attention.sliding_window", o.window);
  h->key_array("deepseek4.attention.compress_ratios", 5, o.compress_ratios, put_i32);
  h->key_f32("deepseek4.attention.compress_rope_freq_base", o.compress_rope_base);
  h->key_u32("deepseek4.attention.indexer.head_count", o.index_heads);
  h->key_u32("deepseek4.attention.indexer.key_length", o.index_dim);
  h->key_u32("deepseek4.attention.indexer.top_k", o.index_top_k);
  h->key_u32("deepseek4.rope.dimension_count", o.rope_dim);
  h->key_f32("deepseek4.rope.freq_base", o.rope_base);
  h->key_string("deepseek4.rope.scaling.type", "yarn");
  h->key_f32("deepseek4.rope.scaling.factor", o.yarn_factor);
  h->key_u32("deepseek4.rope.scaling.original_context_length", o.yarn_original_context);
  h->key_f32("deepseek4.rope.scaling.yarn_beta_fast", o.yarn_beta_fast);
  h->key_f32("deepseek4.rope.scaling.yarn_beta_slow", o.yarn_beta_slow);
  h->key_u32("deepseek4.expert_count", o.experts);
  h->key_u32("deepseek4.expert_used_count", o.experts_used);
  h->key_u32("deepseek4.expert_shared_count", 1);
  h->key_u32("deepseek4.expert_feed_forward_length", o.expert_ffn);
  h->key_u32("deepseek4.expert_gating_func", 4);  // sqrt(softplus)
  h->key_f32("deepseek4.expert_weights_scale", o.routed_scale);
  h->key_bool("deepseek4.expert_weights_norm", true);
  h->key_array("deepseek4.swiglu_clamp_exp", 6, std::vector<float>(layers, static_cast<float>(o.clamp)), put_f32);
  h->key_u32("deepseek4.hash_layer_count", o.hash_layers);
  h->key_u32("deepseek4.hyper_connection.count", kStreams);
  h->key_u32("deepseek4.hyper_connection.sinkhorn_iterations", o.sinkhorn_iterations);
  h->key_f32("deepseek4.hyper_connection.epsilon", 1e-6);

  const SynthVocabulary& v = o.vocabulary;
  if (v.tokens.empty()) return h->key_string("tokenizer.ggml.model", "no_vocab");
  h->key_string("tokenizer.ggml.model", "gpt2");
  h->key_string("tokenizer.ggml.pre", v.pre);
  h->key_array("tokenizer.ggml.tokens", 8, v.tokens, put_string);
  h->key_array("tokenizer.ggml.token_type", 5, v.token_types, put_i32);
  h->key_array("tokenizer.ggml.merges", 8, v.merges, put_string);
  if (v.bos != kNoToken) h->key_u32("tokenizer.ggml.bos_token_id", v.bos);
  if (v.eos != kNoToken) h->key_u32("tokenizer.ggml.eos_token_id", v.eos);
  if (v.pad != kNoToken) h->key_u32("tokenizer.ggml.padding_token_id", v.pad);
  h->key_bool("tokenizer.ggml.add_bos_token", v.add_bos);
  h->key_bool("tokenizer.ggml.add_eos_token", false);
  if (!v.chat_template.empty()) h->key_string("tokenizer.chat_template", v.chat_template);
}

std::string header_bytes(const SynthOptions& o, const std::vector<SynthTensor>& tensors) {
  Header body;
  write_metadata(o, &body);
  const uint64_t keys = body.keys;
  for (const SynthTensor& t : tensors) {
    body.string(t.name);
    body.u32(static_cast<uint32_t>(t.ne.size()));
    for (uint64_t n : t.ne) body.u64(n);
    body.u32(static_cast<uint32_t>(t.type));
    body.u64(t.offset);
  }
  Header all;
  all.bytes = "GGUF";
  all.u32(3);
  all.u64(tensors.size());
  all.u64(keys);
  all.bytes += body.bytes;
  all.bytes.resize((all.bytes.size() + kFileAlignment - 1) / kFileAlignment * kFileAlignment);
  return all.bytes;
}

// --- file ----------------------------------------------------------------------------------------

// A file that gets its name when it is complete; until then, and after a failure, nothing stands under that name. The
// temporary one is new every time: two processes may well make the same default model at once.
class Output {
 public:
  explicit Output(const std::string& path) : path_(real_path(path)), temporary_(path_ + ".XXXXXX.tmp") {
    // A rename would put the file in the place of a device, a FIFO or a socket.
    struct stat there;
    if (stat(path_.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
      problem_ = S_ISDIR(there.st_mode) ? "is a directory" : "is not a regular file";
      errno_ = EINVAL;
      return;
    }
    fd_ = mkostemps(temporary_.data(), 4, O_CLOEXEC);
    if (fd_ < 0 || fchmod(fd_, 0644) != 0) errno_ = errno;
  }
  ~Output() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(temporary_.c_str());
  }
  bool write(const void* data, uint64_t bytes) {
    const char* p = static_cast<const char*>(data);
    while (errno_ == 0 && bytes > 0) {
      const ssize_t n = ::write(fd_, p, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return errno_ = n < 0 ? errno : EIO, false;
      p += n;
      bytes -= static_cast<uint64_t>(n);
    }
    return errno_ == 0;
  }
  Status finish() {
    if (errno_ == 0) {
      const int closed = close(fd_);
      if (closed != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) {
        errno_ = errno;
        unlink(temporary_.c_str());
      }
      fd_ = -1;
    }
    if (errno_ != 0)
      return error(Code::kIo, "cannot write %s: %s", path_.c_str(), problem_ ? problem_ : strerror(errno_));
    return ok();
  }

 private:
  // Where a link leads: what it names is written, and the link stays.
  static std::string real_path(const std::string& path) {
    char* real = realpath(path.c_str(), nullptr);
    const std::string out = real ? real : path;
    free(real);
    return out;
  }

  std::string path_, temporary_;
  int fd_ = -1;
  int errno_ = 0;
  const char* problem_ = nullptr;  // says more than errno_
};

}  // namespace

bool synth_preset(const std::string& name, SynthOptions* options) {
  SynthOptions o;
  SynthTypes& t = o.types;
  const auto quantise = [&t](TensorType compressors) {
    t.experts_gate_up = t.experts_down = TensorType::kMXFP4;
    t.shared = t.projections = t.output_a = t.indexer = t.router = t.embedding = t.output = TensorType::kQ8_0;
    t.compressor = compressors;
  };
  if (name == "golden") {
    o.hidden = 256, o.vocab_size = 512, o.compress_ratios = {0, 128, 4, 128, 4};
    o.heads = 4, o.head_dim = 256, o.q_rank = 64, o.groups = 2, o.o_rank = 32, o.window = 16;
    o.experts = 8, o.experts_used = 2, o.expert_ffn = 128, o.hash_layers = 2;
    o.index_heads = 16, o.index_top_k = 8;
    o.golden = true;
  } else if (name == "tiny") {
    o.context = 8192, o.hidden = 256, o.vocab_size = 4096, o.compress_ratios = {0, 4, 128, 4, 128, 4};
    o.heads = 8, o.head_dim = 128, o.q_rank = 256, o.groups = 2, o.o_rank = 128;
    o.experts = 16, o.experts_used = 2, o.expert_ffn = 256, o.hash_layers = 1;
    o.index_heads = 16, o.index_dim = 64;
    quantise(TensorType::kBF16);
    t.output_a = TensorType::kBF16;
  } else if (name == "small") {
    o.context = 16384, o.hidden = 1024, o.vocab_size = 8192, o.compress_ratios = {0, 4, 128, 4, 128, 4, 128, 4};
    o.heads = 8, o.head_dim = 256, o.q_rank = 512, o.groups = 4, o.o_rank = 256;
    o.experts = 32, o.experts_used = 4, o.expert_ffn = 512, o.hash_layers = 2;
    o.index_heads = 16;
    quantise(TensorType::kF16);
  } else if (name == "medium") {
    o.context = 131072, o.hidden = 2048, o.vocab_size = 32000;
    o.compress_ratios = {0, 0, 4, 128, 4, 128, 4, 128, 4, 128, 4, 128};
    o.heads = 16, o.head_dim = 512, o.q_rank = 512, o.groups = 4, o.o_rank = 512;
    o.experts = 128, o.experts_used = 6, o.expert_ffn = 512, o.hash_layers = 3;
    o.index_heads = 16;
    quantise(TensorType::kF16);
  } else {
    return false;
  }
  if (name != "golden") o.name = "nandu-" + name;
  *options = o;
  return true;
}

Status write_synth(const std::string& path, const SynthOptions& options, const SynthProgress& progress) {
  if (Status s = check(options); !s.ok()) return s;
  const TensorList list(options);
  if (Status s = check(list.tensors); !s.ok()) return s;
  const std::string header = header_bytes(options, list.tensors);
  const uint64_t total = header.size() + list.bytes;
  uint64_t done = header.size();
  Output out(path);
  bool good = out.write(header.data(), header.size());
  for (size_t i = 0; good && i < list.tensors.size(); i++) {
    const SynthTensor& t = list.tensors[i];
    const TypeInfo& info = *type_info(t.type);
    const SynthFiller filler(options, t);
    const uint64_t chunk = std::min(filler.chunk(), t.count);
    // 8 more: random words may reach past the last block.
    std::vector<uint8_t> buffer(chunk / info.block_values * info.block_bytes + 8);
    for (uint64_t first = 0; good && first < t.count; first += chunk) {
      const uint64_t count = std::min(chunk, t.count - first), bytes = count / info.block_values * info.block_bytes;
      filler.fill(first, count, buffer.data());
      good = out.write(buffer.data(), bytes);
      done += bytes;
      if (good && progress) progress(done, total);
    }
    const char zeros[kFileAlignment] = {};
    const uint64_t padding = (kFileAlignment - t.bytes % kFileAlignment) % kFileAlignment;
    good = good && out.write(zeros, padding);
    done += padding;
  }
  if (good && progress) progress(total, total);
  return out.finish();
}

}  // namespace nandu
