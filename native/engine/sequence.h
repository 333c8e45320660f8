// One request in native: its definition, the choices that share its prompt, and what ends each of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../abi/engine.h"
#include "../base/status.h"
#include "../model/state.h"
#include "sampling.h"

namespace nandu {

struct Definition {
  abi::SequenceDefinition fixed;
  SamplingParameters sampling;
  std::vector<uint32_t> prompt, stop_tokens, points, slots;
  std::vector<std::string> stop_strings;
  std::shared_ptr<const Point> start;  // null: from start_tokens without one

  // What the client sent, without what the sequence generated in an earlier plan.
  size_t asked_tokens() const { return prompt.size() - fixed.num_generated; }
};

// Reads one definition with its tails; `size` is what is left of the plan. Error: a bug of the caller, named.
Result<Definition> read_definition(const uint8_t* data, size_t size, uint32_t vocab, const KvMemory& memory);

struct Choice {
  std::unique_ptr<SequenceState> state;
  TokenCounts counts;       // kept only when penalties are on
  uint32_t next_token = 0;  // sampled, not yet computed
  uint32_t completion = 0;  // tokens generated
  uint32_t reasoning = 0;   // of them, reasoning
  bool in_reasoning = false;
  bool ended = false;
  uint32_t pointed = 0;  // position of the last point taken, or where it started
  std::string tail;      // end of the answer's bytes, for stop strings across token borders
};

//   prefilling ──last prompt row──▶ decoding ──every choice ended──▶ over
//        └────────────── failed, released from the plan ────────────▶ over
struct Sequence {
  uint64_t id;
  Definition definition;
  uint32_t prefilled = 0;  // prompt tokens in place
  bool paused = false;
  bool over = false;  // all choices ended, or failed; waits to leave the plan
  uint32_t max_chunk = 0;
  uint32_t extra_point = 0;     // of the plan's entry
  std::vector<Choice> choices;  // [0] alone computes the prompt

  bool prefilling() const { return prefilled < definition.prompt.size(); }
  // First position behind `position` whose point is wanted; abi::kNone: none.
  uint32_t next_point(uint32_t position) const;
  // Slots of a further choice, behind the whole blocks of the prompt.
  std::vector<uint32_t> slots_of_choice(uint32_t choice) const;
};

struct End {
  abi::EndReason reason;
  uint32_t value;
};

// Takes note of a generated token (counts for penalties included) and says whether it ends the choice. token_bytes: its
// bytes as answer text.
bool accept_token(const Definition& d, Choice& choice, uint32_t token, const std::string& token_bytes,
                  bool* in_reasoning, End* end);

// The token that must come next whatever the logits say, or abi::kNone.
uint32_t forced_token(const Definition& d, const Choice& choice);
// Ids that may not be chosen now (before min_tokens: EOS and stop ids).
std::vector<uint32_t> masked_tokens(const Definition& d, const Choice& choice);

}  // namespace nandu
