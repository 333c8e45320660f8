// What load_model makes of metadata: wrong kinds are refused by key, and what other engines accept is accepted.
#include "../../native/model/weights.h"

#include <cmath>
#include <functional>

#include "../../native/synth/synth.h"
#include "gguf_builder.h"
#include "models.h"
#include "test.h"

using namespace nandu;
using test::little;
using test::MemoryFile;

namespace {

// One metadata key as it stands in a file, behind its name.
using Values = std::map<std::string, std::string>;

std::string value_bytes(const MetaValue& v) {
  const std::string data(reinterpret_cast<const char*>(v.data), v.bytes);
  const uint32_t type = static_cast<uint32_t>(v.type);
  return v.is_array ? little(9, 4) + little(type, 4) + little(v.count, 8) + data : little(type, 4) + data;
}

// The bytes of a small model after `change` has been at its metadata.
std::string changed_model(const std::function<void(Values&)>& change) {
  SynthOptions o;
  o.hidden = 64, o.heads = 2, o.head_dim = 32, o.rope_dim = 16, o.q_rank = 32, o.groups = 1, o.o_rank = 16;
  o.compress_ratios = {0, 4, 128}, o.window = 8, o.context = 64, o.experts = 4, o.experts_used = 2, o.expert_ffn = 32;
  o.hash_layers = 1, o.index_heads = 2, o.index_dim = 64, o.index_top_k = 4, o.vocab_size = 8;
  o.vocabulary.tokens = {"<s>", "</s>", "a", "b"}, o.vocabulary.token_types = {3, 3, 1, 1};
  o.vocabulary.merges = {"a b"};
  const std::string path = test::temporary_directory() + "/weights.gguf";
  Status written = write_synth(path, o, {});
  if (!written.ok()) fprintf(stderr, "%s\n", written.error().message.c_str());
  NANDU_CHECK(written.ok());
  auto opened = open_model_file(path);
  NANDU_CHECK(opened.ok());
  const ModelFile& file = *opened.value();
  Values values;
  for (const MetaValue& v : file.metadata()) values[std::string(v.key)] = value_bytes(v);
  change(values);
  test::GgufBuilder b;
  for (const auto& [key, value] : values) b.keys.push_back(test::gguf_string(key) + value);
  for (const TensorView& t : file.tensors())
    b.tensors.push_back({std::string(t.name), std::vector<uint64_t>(t.ne, t.ne + t.n_dims),
                         static_cast<uint32_t>(t.type), std::string(reinterpret_cast<const char*>(t.data), t.bytes),
                         std::nullopt});
  return b.build();
}

// "" when the model loads.
std::string refusal(const std::function<void(Values&)>& change, Geometry* geometry = nullptr) {
  const MemoryFile file(changed_model(change));
  auto model = load_model(file.path, 0);
  if (!model.ok()) return model.error().message;
  if (geometry) *geometry = model.value()->geometry;
  return "";
}

std::string f32_array(std::initializer_list<float> values) {
  std::string out = little(9, 4) + little(6, 4) + little(values.size(), 8);
  for (float v : values) out += std::string(reinterpret_cast<const char*>(&v), 4);
  return out;
}

const std::string kText = little(8, 4) + test::gguf_string("x"), kFlag = little(7, 4) + little(1, 1);

}  // namespace

TEST(a_key_of_the_wrong_kind_is_refused_by_name_also_where_it_could_be_left_out) {
  EXPECT(refusal([](Values&) {}).empty());
  const struct {
    const char *key, *words;
    std::string value;
  } cases[] = {
      {"deepseek4.vocab_size", "", kText},
      {"deepseek4.vocab_size", "", little(5, 4) + little(static_cast<uint64_t>(-1), 4)},
      {"deepseek4.vocab_size", "", little(10, 4) + little(static_cast<uint64_t>(-1), 8)},
      {"deepseek4.rope.scaling.type", "not a text", kFlag},
      {"deepseek4.expert_weights_norm", "must be true", kText},
      {"deepseek4.expert_weights_norm", "must be true", little(7, 4) + little(0, 1)},
      {"tokenizer.ggml.model", "not a text", kFlag},
      {"tokenizer.ggml.pre", "not a text", kFlag},
      {"tokenizer.chat_template", "not a text", kFlag},
      {"tokenizer.ggml.tokens", "no list of texts", kFlag},
      {"tokenizer.ggml.token_type", "each of the 4 tokens", kFlag},
      {"tokenizer.ggml.token_type", "each of the 4 tokens",
       little(9, 4) + little(5, 4) + little(3, 8) + little(1, 4) + little(1, 4) + little(1, 4)},
      {"tokenizer.ggml.merges", "no list of texts", kText},
      {"tokenizer.ggml.bos_token_id", "one of the 4 tokens", little(4, 4) + little(4, 4)},
      {"tokenizer.ggml.eos_token_id", "one of the 4 tokens", kText},
      {"tokenizer.ggml.add_bos_token", "not true or false", kText},
  };
  for (const auto& c : cases) {
    const std::string problem = refusal([&](Values& v) { v[c.key] = c.value; });
    EXPECT_MSG(problem.find(c.key) != std::string::npos && problem.find(c.words) != std::string::npos,
               std::string(c.key) + ": " + problem);
    EXPECT_MSG(problem.find('\n') == std::string::npos, problem);
  }
}

TEST(a_clamp_of_0_is_no_limit_as_in_other_engines) {
  Geometry g{};
  const std::string problem = refusal(
      [](Values& v) {
        v["deepseek4.swiglu_clamp_exp"] = f32_array({0, 2, -1});
        v["deepseek4.swiglu_clamp_shexp"] = f32_array({7, 1e-7f, 3});
      },
      &g);
  EXPECT_MSG(problem.empty(), problem);
  EXPECT(g.clamp.size() == 3 && std::isinf(g.clamp[0]) && g.clamp[1] == 2 && std::isinf(g.clamp[2]));
  EXPECT(g.clamp_shared.size() == 3 && g.clamp_shared[0] == 7 && std::isinf(g.clamp_shared[1]));
}

TEST(a_count_of_hash_layers_beyond_the_last_layer_means_all_of_them) {
  Geometry g{};
  // The synthetic file has one hash layer; the others lack the table, which must be what is missing then.
  const std::string problem =
      refusal([](Values& v) { v["deepseek4.hash_layer_count"] = little(4, 4) + little(9, 4); }, &g);
  EXPECT_MSG(problem.find("tensor blk.1.ffn_gate_tid2eid.weight is missing") != std::string::npos, problem);
}
