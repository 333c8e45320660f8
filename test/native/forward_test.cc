// One arithmetic: the logits of a token are the same bits whatever the target, the thread count, the chunks, the batch
// mates and the order of arrival; and they are near the golden model's.
#include <inttypes.h>

#include "../../native/engine/sampling.h"
#include "../../native/store/checksum.h"
#include "models.h"

using namespace nandu;
using namespace nandu::test;

namespace {

constexpr uint32_t kTokens = 300;
constexpr uint32_t kScalarTokens = 140;  // scalar is slow; past the first HCA row and the first selection

void expect_one_arithmetic(int mix, Numerics numerics) {
  const auto model = make_model(mixed_options(mix));
  const std::vector<uint32_t> tokens = random_tokens(1, kTokens, model->geometry.vocab);
  std::vector<float> reference;
  for (const KernelSet* set : usable_sets()) {
    const bool scalar = !strcmp(set->name, "scalar");
    uint64_t paths[kPathCount] = {};
    for (uint32_t threads : {1u, 2u, 3u}) {
      for (uint32_t chunk : {1u, 7u, 128u, 512u}) {
        if (scalar && !(threads == 2 && chunk == 7) && !(threads == 1 && chunk == 512)) continue;
        if (threads == 3 && chunk != 7) continue;
        const uint32_t count = scalar ? kScalarTokens : kTokens;
        Runner runner(*model, *set, numerics, threads);
        SequenceState state(runner.pool);
        const std::vector<float> logits = runner.run(state, tokens.data(), count, chunk);
        if (reference.empty()) reference = logits;
        EXPECT_MSG(memcmp(logits.data(), reference.data(), logits.size() * sizeof(float)) == 0,
                   std::string(set->name) + " threads " + std::to_string(threads) + " chunk " + std::to_string(chunk));
        EXPECT(runner.forward.selections() > 0);
        uint64_t counts[kPathCount];
        runner.workers.counts(counts);
        for (uint32_t p = 0; p < kPathCount; p++) paths[p] += counts[p];
      }
    }
    EXPECT(paths[kPathD1] > 0 && paths[kPathDn] > 0 && paths[kPathFloat] > 0 && paths[kPathAttention] > 0);
    if (!strcmp(set->name, "avx512")) EXPECT(paths[kPathP] > 0);
  }
}

uint64_t digest(const std::vector<float>& numbers) {
  return digest64(reinterpret_cast<const uint8_t*>(numbers.data()), numbers.size() * sizeof(float));
}

}  // namespace

TEST(logits_are_the_same_bits_on_every_target_thread_count_and_chunk_reference_mix0) {
  expect_one_arithmetic(0, Numerics::kReference);
}
TEST(logits_are_the_same_bits_on_every_target_thread_count_and_chunk_reference_mix1) {
  expect_one_arithmetic(1, Numerics::kReference);
}
TEST(logits_are_the_same_bits_on_every_target_thread_count_and_chunk_reference_mix2) {
  expect_one_arithmetic(2, Numerics::kReference);
}
TEST(logits_are_the_same_bits_on_every_target_thread_count_and_chunk_f32_mix0) {
  expect_one_arithmetic(0, Numerics::kF32);
}
TEST(logits_are_the_same_bits_on_every_target_thread_count_and_chunk_f32_mix1) {
  expect_one_arithmetic(1, Numerics::kF32);
}

// One arithmetic between builds as well: other compilers, other instruction sets, other C libraries. These are the
// digests of logits and of tokens drawn from them that x86-64 and arm64 (tools/arm64.sh) both gave. A change of the
// formula changes them, and is a new numeric version (docs/arithmetic.md).
TEST(logits_and_drawn_tokens_have_the_bits_of_every_build) {
  struct Case {
    int mix;
    Numerics numerics;
    uint64_t logits, drawn;
  };
  constexpr Case kCases[] = {
      {0, Numerics::kReference, 0x58866172ac40407a, 0xc2be18b0921a6862},
      {1, Numerics::kReference, 0x8fb2cba5a79f4f03, 0xd95aa5f20f0add98},
      {2, Numerics::kReference, 0x62e9a2983b915c97, 0x008a8d6e6bef605f},
      {0, Numerics::kF32, 0x574b04d181d00efc, 0x54b0038f3b456e70},
  };
  for (const Case& c : kCases) {
    SynthOptions options = mixed_options(c.mix);  // smaller: an emulated processor takes this test too
    options.hidden = 512, options.o_rank = 256;
    const auto model = make_model(options);
    const std::vector<uint32_t> tokens = random_tokens(4, kScalarTokens, model->geometry.vocab);
    const KernelSet& kernels = *usable_sets()[0];
    Runner runner(*model, kernels, c.numerics, 2);
    SequenceState state(runner.pool);
    std::vector<float> logits = runner.run(state, tokens.data(), kScalarTokens, 50);
    EXPECT(runner.forward.selections() > 0);
    const uint64_t all = digest(logits);

    SamplingParameters sampling;
    sampling.temperature = 0.8f, sampling.top_p = 0.9f, sampling.seed = 11;
    std::vector<float> drawn;
    for (uint32_t i = 0; i < kScalarTokens; i++) {
      float* const row = &logits[size_t{i} * runner.vocab];
      std::vector<TokenLogprob> best;
      drawn.push_back(raw_logprobs(kernels, row, runner.vocab, tokens[i], 3, &best));
      for (const TokenLogprob& b : best) drawn.push_back(b.logprob);
      drawn.push_back(static_cast<float>(sample(kernels, sampling, {}, {}, 0, i, row, runner.vocab)));
    }
    char got[64];
    snprintf(got, sizeof got, "0x%016" PRIx64 ", 0x%016" PRIx64, all, digest(drawn));
    EXPECT_MSG(all == c.logits && digest(drawn) == c.drawn, "mix " + std::to_string(c.mix) + " gives " + got);
  }
}

// Decoding shares a row's heads out among threads: no head may be left over, whatever their number.
TEST(every_head_is_computed_when_heads_fill_no_tile) {
  for (uint32_t heads : {1u, 12u, 20u, 36u}) {
    SynthOptions options = mixed_options(0);
    options.heads = heads, options.groups = heads % 4 == 0 ? 4 : 1;
    const auto model = make_model(options);
    const std::vector<uint32_t> tokens = random_tokens(2, 24, model->geometry.vocab);
    for (Numerics numerics : {Numerics::kReference, Numerics::kF32}) {
      Runner one(*model, *usable_sets()[0], numerics, 1);
      SequenceState whole(one.pool);
      const std::vector<float> want = one.run(whole, tokens.data(), 24, 24);
      for (uint32_t threads : {2u, 3u, 5u}) {
        Runner many(*model, *usable_sets()[0], numerics, threads);
        SequenceState state(many.pool);
        EXPECT_MSG(same_bits(many.run(state, tokens.data(), 24, 1), want),
                   std::to_string(heads) + " heads, " + std::to_string(threads) + " threads");
      }
    }
  }
}

// F32 weights take rows of any length, and so do heads: none of a vector's, a row group's or a tile's sizes is needed.
TEST(dimensions_that_are_multiples_of_nothing_give_the_same_bits_everywhere) {
  for (const auto& [head_dim, rope_dim] : {std::pair{84u, 20u}, {33u, 4u}, {10u, 10u}}) {
    SynthOptions options = small_options();
    options.hidden = 44, options.q_rank = 20, options.o_rank = 12, options.expert_ffn = 28, options.window = 13;
    options.head_dim = head_dim, options.rope_dim = rope_dim;
    const auto model = make_model(options);
    const uint32_t count = short_form() ? 24 : kScalarTokens;
    const std::vector<uint32_t> tokens = random_tokens(4, count, model->geometry.vocab);
    for (Numerics numerics : {Numerics::kReference, Numerics::kF32}) {
      std::vector<float> want;
      for (const KernelSet* set : usable_sets())
        for (uint32_t chunk : {1u, 7u, kScalarTokens}) {
          Runner runner(*model, *set, numerics, 2);
          SequenceState state(runner.pool);
          const std::vector<float> logits = runner.run(state, tokens.data(), count, chunk);
          if (want.empty()) want = logits;
          EXPECT_MSG(same_bits(logits, want),
                     std::string(set->name) + " head " + std::to_string(head_dim) + " chunk " + std::to_string(chunk));
        }
    }
  }
}

// Sixteen sequences of different lengths arrive at random, are prefilled in random chunks and decoded together; each
// gives the bits it gives alone.
TEST(batch_mates_and_order_of_arrival_never_change_a_bit) {
  const auto model = make_model(mixed_options(0));
  for (Numerics numerics : {Numerics::kReference, Numerics::kF32}) {
    Runner runner(*model, *usable_sets()[0], numerics, 2);
    constexpr uint32_t kSequences = 16;
    struct One {
      std::vector<uint32_t> tokens;
      std::unique_ptr<SequenceState> state;
      std::vector<float> alone, together;
      uint32_t done = 0;
    };
    std::vector<One> all(kSequences);
    Random random(numerics == Numerics::kF32 ? 5 : 6);
    for (uint32_t s = 0; s < kSequences; s++) {
      all[s].tokens = random_tokens(100 + s, 20 + random.below(180), model->geometry.vocab);
      SequenceState state(runner.pool);
      all[s].alone = runner.run(state, all[s].tokens.data(), static_cast<uint32_t>(all[s].tokens.size()), 64);
      all[s].state = std::make_unique<SequenceState>(runner.pool);
    }
    uint32_t largest = 0;
    for (;;) {
      std::vector<Span> spans;
      std::vector<uint32_t> owner;
      for (uint32_t s = 0; s < kSequences; s++) {
        One& one = all[s];
        const uint32_t left = static_cast<uint32_t>(one.tokens.size()) - one.done;
        if (left == 0 || random.below(4) == 0) continue;
        // Half of each sequence comes as prefill chunks, the rest token by token.
        const uint32_t count = one.done * 2 < one.tokens.size() ? std::min(left, 1 + random.below(40)) : 1;
        NANDU_CHECK(one.state->reserve(count));
        spans.push_back({one.state.get(), one.tokens.data() + one.done, count, 0, false});
        owner.push_back(s);
        one.done += count;
      }
      largest = std::max(largest, static_cast<uint32_t>(spans.size()));
      if (spans.empty()) {
        bool over = true;
        for (const One& one : all) over &= one.done == one.tokens.size();
        if (over) break;
        continue;
      }
      runner.forward.step(spans, [&](uint32_t span, uint32_t, const float* logits) {
        One& one = all[owner[span]];
        one.together.insert(one.together.end(), logits, logits + runner.vocab);
      });
    }
    EXPECT(largest >= 12);
    for (const One& one : all) EXPECT(same_bits(one.alone, one.together));
  }
}

TEST(a_damaged_weight_fails_its_own_sequences_and_nobody_else) {
  // The router bias of one expert is made huge, and that expert's weights overflow: only sequences that reach it fail.
  SynthOptions options = small_options();
  options.hash_layers = 4;  // routing by token id: this test decides who meets the bad expert
  const auto model = make_model(options);
  Layer& layer = model->layers[0];
  std::vector<float> bad(size_t{model->geometry.hidden} * model->geometry.expert_ffn, 3e38f);
  std::vector<uint8_t> experts(layer.gate.stride * model->geometry.experts);
  memcpy(experts.data(), layer.gate.first.data, experts.size());
  memcpy(experts.data() + 3 * layer.gate.stride, bad.data(), layer.gate.stride);
  layer.gate.first.data = experts.data();
  std::vector<uint32_t> safe, unsafe;
  for (uint32_t t = 0; t < model->geometry.vocab; t++) {
    const uint16_t* chosen = &layer.expert_table[size_t{t} * 2];
    (chosen[0] == 3 || chosen[1] == 3 ? unsafe : safe).push_back(t);
  }
  NANDU_CHECK(safe.size() > 40 && unsafe.size() > 4);
  model->geometry.clamp.assign(model->geometry.layers, 0);  // no clamp: let it overflow
  Runner runner(*model, *usable_sets()[0], Numerics::kReference, 2);
  SequenceState alone(runner.pool), a(runner.pool), b(runner.pool);
  const std::vector<float> want = runner.run(alone, safe.data(), 40, 40);
  std::vector<uint32_t> with_bad(safe.begin(), safe.begin() + 20);
  with_bad[10] = unsafe[0];
  NANDU_CHECK(a.reserve(40) && b.reserve(20));
  std::vector<Span> spans = {{&a, safe.data(), 40, 0, false}, {&b, with_bad.data(), 20, 0, false}};
  std::vector<float> got;
  runner.forward.step(spans, [&](uint32_t span, uint32_t, const float* logits) {
    if (span == 0) got.insert(got.end(), logits, logits + runner.vocab);
  });
  EXPECT(!spans[0].failed && spans[1].failed);
  EXPECT(same_bits(got, want));
}
