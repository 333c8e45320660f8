// Small random models for tests of the whole forward pass, written once a process into a temporary directory.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../native/model/forward.h"
#include "../../native/synth/synth.h"
#include "test.h"

namespace nandu::test {

// Every layer kind, hash and biased routing, K of 1,024, a top-k that really selects from token 68 on, window wrap.
inline SynthOptions small_options() {
  SynthOptions o;
  o.context = 2048;
  o.hidden = 1024;
  o.compress_ratios = {0, 4, 128, 4};
  o.heads = 4, o.head_dim = 128, o.rope_dim = 64;
  o.q_rank = 256, o.groups = 2, o.o_rank = 512;
  o.window = 48;
  o.experts = 6, o.experts_used = 2, o.expert_ffn = 256;
  o.hash_layers = 1;
  o.index_heads = 16, o.index_dim = 64, o.index_top_k = 16;
  o.vocab_size = 256;
  o.seed = 7;
  return o;
}

// Three mixes that hold all sixteen weight types between them.
inline SynthOptions mixed_options(int mix) {
  SynthOptions o = small_options();
  SynthTypes& t = o.types;
  using T = TensorType;
  if (mix == 0) {
    t.experts_gate_up = t.experts_down = T::kMXFP4, t.shared = t.projections = t.indexer = t.output = T::kQ8_0;
    t.output_a = t.embedding = T::kBF16, t.compressor = t.router = T::kF16;
  } else if (mix == 1) {
    t.experts_gate_up = T::kIQ2_XXS, t.experts_down = T::kQ2_K, t.shared = T::kQ4_K, t.projections = T::kQ6_K;
    t.output_a = T::kQ5_K, t.indexer = T::kQ3_K, t.output = T::kIQ4_XS, t.embedding = T::kQ4_K;
    t.hc = T::kQ6_K, t.ape = T::kQ8_0;
  } else {
    t.experts_gate_up = T::kQ4_0, t.experts_down = T::kQ5_0, t.shared = T::kQ4_1, t.projections = T::kIQ4_NL;
    t.output_a = T::kQ4_0, t.indexer = T::kQ8_0, t.compressor = T::kBF16, t.output = T::kQ5_0;
  }
  return o;
}

// Under a sanitizer arithmetic takes twenty times as long: one of each kind then, instead of all of them.
inline bool short_form() {
  return getenv("NANDU_SHORT") != nullptr;
}

inline std::string temporary_directory() {
  static const std::string path = [] {
    char name[] = "/tmp/nandu-test-XXXXXX";
    NANDU_CHECK(mkdtemp(name));
    static std::string made = name;
    atexit([] {
      if (system(("rm -rf '" + made + "'").c_str()) != 0) fprintf(stderr, "could not remove %s\n", made.c_str());
    });
    return made;
  }();
  return path;
}

// The loaded model of `options`; aborts if it cannot be made, since nothing could be tested then.
inline std::unique_ptr<Model> make_model(const SynthOptions& options) {
  static int count = 0;
  const std::string path = temporary_directory() + "/" + std::to_string(count++) + ".gguf";
  Status written = write_synth(path, options, {});
  if (!written.ok()) fprintf(stderr, "%s\n", written.error().message.c_str());
  NANDU_CHECK(written.ok());
  auto model = load_model(path, 0);
  if (!model.ok()) fprintf(stderr, "%s\n", model.error().message.c_str());
  NANDU_CHECK(model.ok());
  return std::move(model.value());
}

inline std::vector<uint32_t> random_tokens(uint64_t seed, uint32_t n, uint32_t vocab) {
  Random random(seed);
  std::vector<uint32_t> tokens(n);
  for (uint32_t& t : tokens) t = random.below(vocab);
  return tokens;
}

// Everything one run of a model needs.
struct Runner {
  Workers workers;
  KvLayout layout;
  KvPool pool;
  Forward forward;
  uint32_t vocab;

  Runner(const Model& model, const KernelSet& kernels, Numerics numerics, uint32_t threads)
      : workers(threads),
        layout(model.geometry, numerics != Numerics::kF32),
        pool(layout, 1 << 20),
        forward(model, kernels, numerics, workers),
        vocab(model.geometry.vocab) {}

  // Logits of every token, computed `chunk` at a time.
  std::vector<float> run(SequenceState& state, const uint32_t* tokens, uint32_t count, uint32_t chunk) {
    std::vector<float> all;
    for (uint32_t at = 0; at < count; at += chunk) {
      const uint32_t n = std::min(chunk, count - at);
      NANDU_CHECK(state.reserve(n));
      std::vector<Span> spans = {{&state, tokens + at, n, 0, false}};
      forward.step(spans,
                   [&](uint32_t, uint32_t, const float* logits) { all.insert(all.end(), logits, logits + vocab); });
      EXPECT(!spans[0].failed);
    }
    return all;
  }
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline std::vector<const KernelSet*> usable_sets() {
  size_t n;
  const KernelSet* const* sets = kernel_sets(&n);
  std::vector<const KernelSet*> usable;
  for (size_t i = 0; i < n; i++)
    if (sets[i]->runs_here()) usable.push_back(sets[i]);
  return usable;
}

}  // namespace nandu::test
