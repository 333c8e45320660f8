// Synthetic models: the golden one to the bit, the same bytes for the same options, every type with the wanted spread.
#include "../../native/synth/synth.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "../../native/load/gguf.h"
#include "../../native/quant/dequant.h"
#include "test.h"

using namespace nandu;

namespace {

// A path in a directory of its own; both disappear.
struct Scratch {
  std::string folder, path;
  Scratch() {
    char name[] = "/tmp/nandu-synth-test-XXXXXX";
    folder = mkdtemp(name) ? name : "";
    path = folder + "/model.gguf";
  }
  ~Scratch() { std::filesystem::remove_all(folder); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
    return names;
  }
  bool exists() const { return access(path.c_str(), F_OK) == 0; }
};

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

// Few layers, all kinds; rows that every type divides.
SynthOptions little_model() {
  SynthOptions o;
  synth_preset("tiny", &o);
  o.compress_ratios = {0, 4, 128};
  o.vocab_size = 300;
  return o;
}

std::unique_ptr<ModelFile> made(const Scratch& scratch, const SynthOptions& o) {
  const Status written = write_synth(scratch.path, o, {});
  EXPECT_MSG(written.ok(), written.ok() ? "" : written.error().message);
  auto opened = open_model_file(scratch.path);
  EXPECT_MSG(opened.ok(), opened.ok() ? "" : opened.error().message);
  return opened.ok() ? std::move(opened.value()) : nullptr;
}

float f32_at(const ModelFile& file, const char* name, uint64_t i) {
  const TensorView* t = file.tensor(name);
  EXPECT_MSG(t && t->type == TensorType::kF32, name);
  float value = NAN;
  if (t) memcpy(&value, t->data + 4 * i, 4);
  return value;
}

void set_all_types(SynthOptions* o, TensorType type) {
  SynthTypes& t = o->types;
  t.experts_gate_up = t.experts_down = t.shared = t.projections = t.output_a = t.indexer = t.compressor = t.router =
      type;
  t.hc = t.embedding = t.output = type;
  // Position tables have rows of 2 * head_dim = 256, of the indexer of 128.
  if (type_info(type)->block_values <= 32) t.ape = type;
}

}  // namespace

TEST(the_golden_model_has_its_check_values_and_its_count_of_numbers) {
  Scratch scratch;
  SynthOptions o;
  EXPECT(synth_preset("golden", &o));
  const auto file = made(scratch, o);
  if (!file) return;
  const float embedding[] = {.3397032f, .99207693f, -.72566843f, .14126608f},
              ape[] = {.48061985f, 1.4548726f, -.6524425f};
  const float scale[] = {.7809919f, .8347871f, 1.2656403f};
  for (int i = 0; i < 4; i++) EXPECT(f32_at(*file, "token_embd.weight", i) == embedding[i]);
  for (int i = 0; i < 3; i++) EXPECT(f32_at(*file, "blk.2.attn_compressor_ape.weight", i) == ape[i]);
  for (int i = 0; i < 3; i++) EXPECT(f32_at(*file, "blk.0.hc_attn_scale.weight", i) == scale[i]);
  EXPECT(file->tensor_bytes() == 4ull * 7327615);
  // FNV-1a over all tensor bytes of the file that test/parity/golden_model.py writes without our code.
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const TensorView& t : file->tensors())
    for (uint64_t i = 0; i < t.bytes; i++) hash = (hash ^ t.data[i]) * 0x100000001b3ull;
  EXPECT_MSG(hash == 0x5479e7fb02219732ull, std::to_string(hash));
  const TensorView* table = file->tensor("blk.1.ffn_gate_tid2eid.weight");
  EXPECT(table && table->type == TensorType::kI32 && table->ne[0] == 2 && table->ne[1] == 512);
  for (int32_t token : {0, 1, 7, 511}) {
    int32_t experts[2];
    memcpy(experts, table->data + 8 * token, 8);
    EXPECT(experts[0] == (7 * token + 4) % 8 && experts[1] == (experts[0] + 1 + token % 7) % 8);
  }
  EXPECT(file->get_string("tokenizer.ggml.model") == "no_vocab" && file->get_uint("deepseek4.vocab_size") == 512u);
}

TEST(the_same_options_give_the_same_bytes_and_another_seed_others) {
  Scratch a, b, c;
  SynthOptions o = little_model();
  o.seed = 7;
  EXPECT(write_synth(a.path, o, {}).ok() && write_synth(b.path, o, {}).ok());
  o.seed = 8;
  EXPECT(write_synth(c.path, o, {}).ok());
  EXPECT(bytes_of(a.path) == bytes_of(b.path));
  EXPECT(bytes_of(a.path).size() == bytes_of(c.path).size() && bytes_of(a.path) != bytes_of(c.path));
  // A fixed hash: no change of compiler, machine or code may change what a seed means unnoticed.
  uint64_t hash = 0xcbf29ce484222325ull;
  for (unsigned char byte : bytes_of(a.path)) hash = (hash ^ byte) * 0x100000001b3ull;
  EXPECT_MSG(hash == 0x4b880265650c0217ull, std::to_string(hash));
}

TEST(every_type_in_every_place_has_finite_scales_and_the_wanted_spread) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == TensorType::kI32) continue;
    Scratch scratch;
    SynthOptions o = little_model();
    set_all_types(&o, info.type);
    const auto file = made(scratch, o);
    if (!file) continue;
    uint32_t with_type = 0;
    for (const TensorView& t : file->tensors()) {
      EXPECT(check_scales(t).ok());
      with_type += t.type == info.type;
      if (t.n_dims == 1 || t.type == TensorType::kI32) continue;
      // Whole tensors, at most 64 Ki values.
      uint64_t rows = t.bytes / row_bytes(*type_info(t.type), t.ne[0]);
      rows = std::min<uint64_t>(rows, 65536 / t.ne[0]);
      std::vector<double> values(rows * t.ne[0]);
      for (uint64_t r = 0; r < rows; r++)
        dequant_row_f64(t.type, t.data + r * row_bytes(*type_info(t.type), t.ne[0]), t.ne[0], &values[r * t.ne[0]]);
      double sum = 0, squares = 0;
      for (double v : values) sum += v, squares += v * v;
      const double n = static_cast<double>(values.size()), mean = sum / n, deviation = std::sqrt(squares / n);
      const std::string name(t.name);
      const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
      const double gain = has("ffn_down")                                                    ? 0.1
                          : has("ffn_gate_inp") || has("compressor_gate") || has("output_b") ? 2
                          : has("ffn_gate_") || has("ffn_up_")                               ? 4
                                                                                             : 1;
      const double wanted = has("token_embd") ? 1.7 / std::sqrt(3)
                            : has("_ape")     ? 1.5 / std::sqrt(3)
                                              : gain / std::sqrt(double(t.ne[0]));
      // Scales differ from block to block, so few blocks say little.
      const double slack = 0.03 + 3 / std::sqrt(n) + 0.6 / std::sqrt(n / type_info(t.type)->block_values);
      EXPECT_MSG(std::fabs(deviation / wanted - 1) < slack,
                 name + " " + info.name + " " + std::to_string(deviation / wanted));
      EXPECT_MSG(std::fabs(mean) < slack * wanted, name + " " + info.name + " mean " + std::to_string(mean / wanted));
    }
    EXPECT(with_type >= 40);
  }
}

TEST(every_token_of_a_hash_layer_has_distinct_experts) {
  Scratch scratch;
  SynthOptions o = little_model();
  o.experts = 12, o.experts_used = 11, o.hash_layers = 2;
  const auto file = made(scratch, o);
  if (!file) return;
  const TensorView* t = file->tensor("blk.1.ffn_gate_tid2eid.weight");
  EXPECT(t && t->ne[0] == 11 && t->ne[1] == 300 && !file->tensor("blk.1.exp_probs_b.bias") &&
         file->tensor("blk.2.exp_probs_b.bias"));
  uint32_t left_out[12] = {};
  for (uint64_t token = 0; t && token < 300; token++) {
    uint32_t seen = 0;
    for (int i = 0; i < 11; i++) {
      int32_t expert;
      memcpy(&expert, t->data + (token * 11 + i) * 4, 4);
      EXPECT(expert >= 0 && expert < 12);
      seen |= 1u << expert;
    }
    EXPECT(__builtin_popcount(seen) == 11);
    left_out[__builtin_ctz(~seen)]++;
  }
  for (uint32_t n : left_out) EXPECT(n > 5);
}

TEST(a_vocabulary_and_the_geometry_come_back_out_of_the_file) {
  Scratch scratch;
  SynthOptions o = little_model();
  o.vocabulary.tokens = {"<bos>", "<eos>", "a", "\xc4\xa0"};
  o.vocabulary.token_types = {3, 3, 1, 1};
  o.vocabulary.merges = {"a \xc4\xa0"};
  o.vocabulary.bos = 0, o.vocabulary.eos = 1, o.vocabulary.add_bos = true;
  o.vocabulary.chat_template = "{{ messages }}";
  o.clamp = 7.5;
  const auto file = made(scratch, o);
  if (!file) return;
  EXPECT(file->get_string("general.architecture") == "deepseek4" && file->get_uint("deepseek4.vocab_size") == 4u);
  EXPECT(file->get_string("tokenizer.ggml.model") == "gpt2" && file->get_string("tokenizer.ggml.pre") == "joyai-llm");
  EXPECT(file->get_string_array("tokenizer.ggml.tokens") ==
         (std::vector<std::string_view>{"<bos>", "<eos>", "a", "\xc4\xa0"}));
  EXPECT(file->get_int_array("tokenizer.ggml.token_type") == (std::vector<int64_t>{3, 3, 1, 1}));
  EXPECT(file->get_string_array("tokenizer.ggml.merges")->size() == 1 &&
         file->get_bool("tokenizer.ggml.add_bos_token") == true);
  EXPECT(file->get_uint("tokenizer.ggml.bos_token_id") == 0u && file->get_uint("tokenizer.ggml.eos_token_id") == 1u);
  EXPECT(!file->find("tokenizer.ggml.padding_token_id") &&
         file->get_string("tokenizer.chat_template") == "{{ messages }}");
  EXPECT(file->get_int_array("deepseek4.attention.compress_ratios") == (std::vector<int64_t>{0, 4, 128}));
  EXPECT(file->get_float_array("deepseek4.swiglu_clamp_exp") == (std::vector<double>{7.5, 7.5, 7.5}));
  EXPECT(file->tensor("token_embd.weight")->ne[1] == 4);
}

TEST(options_that_do_not_fit_are_refused_by_name_and_leave_no_file) {
  const auto refused = [](const char* words, auto change) {
    Scratch scratch;
    SynthOptions o = little_model();
    change(o);
    const Status s = write_synth(scratch.path, o, {});
    EXPECT_MSG(
        !s.ok() && s.error().code == Code::kInvalidArgument && s.error().message.find(words) != std::string::npos,
        std::string(words) + " | " + (s.ok() ? "" : s.error().message));
    EXPECT(scratch.files().empty());
  };
  using O = SynthOptions;
  refused("hidden", [](O& o) { o.hidden = 0; });
  refused("layers", [](O& o) { o.compress_ratios.clear(); });
  refused("compress_ratios", [](O& o) { o.compress_ratios[1] = 8; });
  refused("groups", [](O& o) { o.groups = 3; });
  refused("rope_dim", [](O& o) { o.rope_dim = 130; });
  refused("index_dim", [](O& o) { o.index_dim = 96; });
  refused("experts_used", [](O& o) { o.experts_used = 17; });
  refused("hash_layers", [](O& o) { o.hash_layers = 4; });
  refused("vocab_size", [](O& o) { o.vocab_size = 0; });
  refused("token_types", [](O& o) { o.vocabulary.tokens = {"a"}; });
  refused("special token 5",
          [](O& o) { o.vocabulary.tokens = {"a"}, o.vocabulary.token_types = {1}, o.vocabulary.eos = 5; });
  refused("yarn_factor", [](O& o) { o.yarn_factor = NAN; });
  refused("type 26", [](O& o) { o.types.router = TensorType::kI32; });
  refused("type 99", [](O& o) { o.types.router = static_cast<TensorType>(99); });
  refused("blk.0.ffn_down_exps.weight", [](O& o) { o.expert_ffn = 128, o.types.experts_down = TensorType::kQ4_K; });
  refused("too large", [](O& o) { o.hidden = o.expert_ffn = o.experts = 1 << 24; });
}

TEST(a_file_gets_its_name_only_when_it_is_whole) {
  Scratch scratch;
  const SynthOptions o = little_model();
  uint64_t last = 0, total = 0;
  bool rising = true;
  const Status written = write_synth(scratch.path, o, [&](uint64_t done, uint64_t all) {
    rising = rising && done >= last && done <= all;
    if (done < all) rising = rising && !scratch.exists() && scratch.files().size() == 1;
    last = done, total = all;
  });
  EXPECT(written.ok() && rising && last == total && scratch.exists() && scratch.files().size() == 1);
  EXPECT(bytes_of(scratch.path).size() == total);
  const Status nowhere = write_synth("/nonexistent/model.gguf", o, {});
  EXPECT(!nowhere.ok() && nowhere.error().code == Code::kIo);
}

TEST(only_a_regular_file_is_replaced_and_a_link_stays_one) {
  Scratch scratch;
  const std::string folder = scratch.path + ".folder", fifo = folder + "/fifo", link = folder + "/link";
  const SynthOptions o = little_model();
  EXPECT(mkdir(folder.c_str(), 0700) == 0 && mkfifo(fifo.c_str(), 0600) == 0);
  EXPECT(symlink(scratch.path.c_str(), link.c_str()) == 0);
  for (const auto& [path, words] : {std::pair{folder, "is a directory"}, std::pair{fifo, "is not a regular file"}}) {
    const Status written = write_synth(path, o, {});
    EXPECT(!written.ok() && written.error().code == Code::kIo);
    if (!written.ok()) EXPECT_MSG(written.error().message.find(words) != std::string::npos, written.error().message);
  }
  struct stat now;
  EXPECT(lstat(fifo.c_str(), &now) == 0 && S_ISFIFO(now.st_mode));
  EXPECT(write_synth(scratch.path, o, {}).ok());
  const std::string before = bytes_of(scratch.path);
  SynthOptions other = o;
  other.seed++;
  EXPECT(write_synth(link, other, {}).ok());
  EXPECT(lstat(link.c_str(), &now) == 0 && S_ISLNK(now.st_mode));
  EXPECT(bytes_of(scratch.path) != before);
  unlink(fifo.c_str());
  unlink(link.c_str());
  rmdir(folder.c_str());
}

TEST(two_writers_of_one_path_do_not_disturb_each_other) {
  Scratch scratch, alone;
  const SynthOptions o = little_model();
  EXPECT(write_synth(alone.path, o, {}).ok());
  bool started = false;
  const Status outer = write_synth(scratch.path, o, [&](uint64_t done, uint64_t all) {
    if (started || done < all / 2) return;
    started = true;
    EXPECT(write_synth(scratch.path, o, {}).ok());
    EXPECT(bytes_of(scratch.path) == bytes_of(alone.path));
  });
  EXPECT(outer.ok() && started && bytes_of(scratch.path) == bytes_of(alone.path) && scratch.files().size() == 1);
}

TEST(a_disk_that_fills_up_leaves_no_file_behind) {
  Scratch scratch;
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1 << 20, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const Status written = write_synth(scratch.path, little_model(), {});
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT(!written.ok() && written.error().code == Code::kIo &&
         written.error().message.find(scratch.path) != std::string::npos);
  EXPECT(scratch.files().empty());
}
