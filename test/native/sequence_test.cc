// What ends a choice: EOS, stop ids, stop strings across token borders, limits, reasoning; and hostile plan bytes.
#include "../../native/engine/sequence.h"
#include "test.h"

using namespace nandu;
using nandu::test::Random;

namespace {

Definition plain(uint32_t max_tokens = 100) {
  Definition d{};
  d.fixed.max_tokens = max_tokens;
  d.fixed.context_tokens = 1000;
  d.fixed.eos_token = 1;
  d.fixed.reasoning_end_token = 7;
  d.fixed.max_reasoning_tokens = abi::kNone;
  d.prompt = {5, 6};
  return d;
}

// Feeds texts as tokens 100, 101, ...; returns how many were taken and the end, if any.
struct Outcome {
  size_t taken;
  bool ended;
  End end;
};
Outcome feed(const Definition& d, Choice& choice, const std::vector<std::string>& texts) {
  bool in_reasoning;
  End end{};
  for (size_t i = 0; i < texts.size(); i++)
    if (accept_token(d, choice, static_cast<uint32_t>(100 + i), texts[i], &in_reasoning, &end))
      return {i + 1, true, end};
  return {texts.size(), false, end};
}

}  // namespace

TEST(a_stop_string_ends_on_the_token_that_completes_it_however_tokens_cut_it) {
  const std::string text = "one two STOP three";
  Random random(3);
  for (int round = 0; round < 500; round++) {
    std::vector<std::string> tokens;
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min<size_t>(text.size() - at, random.below(5));
      tokens.push_back(text.substr(at, n));
      at += n;
    }
    Definition d = plain();
    d.stop_strings = {"never", "STOP"};
    Choice choice;
    const Outcome o = feed(d, choice, tokens);
    size_t bytes = 0, want = 0;
    while (bytes < text.find("STOP") + 4) bytes += tokens[want++].size();
    EXPECT(o.ended && o.end.reason == abi::kEndStopString && o.end.value == 1 && o.taken == want);
  }
}

TEST(of_two_stop_strings_the_one_that_ends_first_wins) {
  Definition d = plain();
  d.stop_strings = {"abcd", "bc"};
  Choice choice;
  const Outcome o = feed(d, choice, {"xabcd"});
  EXPECT(o.ended && o.end.value == 1);
}

TEST(stop_strings_are_not_looked_for_in_reasoning_nor_before_min_tokens) {
  Definition d = plain();
  d.stop_strings = {"x"};
  Choice choice;
  choice.in_reasoning = true;
  bool in_reasoning;
  End end;
  EXPECT(!accept_token(d, choice, 100, "x", &in_reasoning, &end) && in_reasoning);
  EXPECT(!accept_token(d, choice, 7, "", &in_reasoning, &end) && in_reasoning && choice.reasoning == 2 &&
         !choice.in_reasoning);
  EXPECT(accept_token(d, choice, 100, "x", &in_reasoning, &end) && !in_reasoning);
  d.fixed.min_tokens = 3;
  Choice late;
  const Outcome o = feed(d, late, {"x", "x", "a", "x"});
  EXPECT(o.ended && o.taken == 4);
}

TEST(limits_eos_and_stop_ids_end_with_their_own_reasons) {
  bool in_reasoning;
  End end;
  Definition d = plain(2);
  Choice choice;
  EXPECT(!accept_token(d, choice, 100, "", &in_reasoning, &end));
  EXPECT(accept_token(d, choice, 100, "", &in_reasoning, &end) && end.reason == abi::kEndLength &&
         choice.completion == 2);
  d = plain();
  d.stop_tokens = {9};
  Choice a, b, c, e;
  EXPECT(accept_token(d, a, 9, "", &in_reasoning, &end) && end.reason == abi::kEndStopToken && end.value == 9);
  EXPECT(accept_token(d, b, 1, "", &in_reasoning, &end) && end.reason == abi::kEndEos && end.value == 1);
  d.fixed.flags = abi::kFlagIgnoreEos;
  EXPECT(!accept_token(d, c, 1, "", &in_reasoning, &end));
  d.fixed.context_tokens = 3;
  EXPECT(accept_token(d, e, 100, "", &in_reasoning, &end) && end.reason == abi::kEndContext);
}

TEST(reasoning_is_closed_by_force_at_its_limit_and_eos_is_masked_before_min_tokens) {
  Definition d = plain();
  d.fixed.max_reasoning_tokens = 2;
  d.fixed.min_tokens = 2;
  d.stop_tokens = {9};
  Choice choice;
  choice.in_reasoning = true;
  EXPECT(forced_token(d, choice) == abi::kNone);
  choice.reasoning = 2;
  EXPECT(forced_token(d, choice) == 7);
  choice.in_reasoning = false;
  EXPECT(forced_token(d, choice) == abi::kNone);
  EXPECT((masked_tokens(d, choice) == std::vector<uint32_t>{9, 1}));
  choice.completion = 2;
  EXPECT(masked_tokens(d, choice).empty());
}

TEST(hostile_definitions_are_refused_and_never_read_beyond_their_bytes) {
  Geometry geometry;
  geometry.window = geometry.context = 16;
  const KvMemory memory(geometry, true, 64);  // without layers: 64 slots of nothing
  abi::SequenceDefinition f{};
  f.num_slots = 1;
  f.num_choices = 1, f.num_prompt_tokens = 3, f.context_tokens = 100, f.top_p = 1, f.repetition_penalty = 1;
  f.eos_token = f.reasoning_end_token = f.max_reasoning_tokens = abi::kNone;
  f.total_bytes = sizeof f + 24;
  std::vector<uint8_t> good(f.total_bytes);
  memcpy(good.data(), &f, sizeof f);
  const uint32_t prompt[6] = {1, 2, 3, 0, 63, 0};
  memcpy(good.data() + sizeof f, prompt, sizeof prompt);
  EXPECT(read_definition(good.data(), good.size(), 10, memory).ok());
  EXPECT(!read_definition(good.data(), good.size(), 3, memory).ok());  // token 3 outside a vocabulary of 3
  for (size_t n = 0; n < good.size(); n++) {
    std::vector<uint8_t> cut(good.begin(),
                             good.begin() + static_cast<ptrdiff_t>(n));  // exact size: ASan sees a read behind it
    EXPECT(!read_definition(cut.data(), cut.size(), 10, memory).ok());
  }
  Random random(11);
  for (int i = 0; i < 200000; i++) {
    std::vector<uint8_t> bad = good;
    for (uint32_t flips = 1 + random.below(4); flips > 0; flips--)
      bad[random.below(static_cast<uint32_t>(bad.size()))] = static_cast<uint8_t>(random.next());
    auto read = read_definition(bad.data(), bad.size(), 10, memory);
    if (read.ok())
      EXPECT(!read.value().prompt.empty() && read.value().prompt.size() < read.value().fixed.context_tokens &&
             read.value().fixed.start_tokens < read.value().prompt.size());
  }
}
