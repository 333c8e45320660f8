#include "sequence.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nandu {
namespace {

constexpr uint32_t kMostTopLogprobs = 20;  // contract.md; a report must fit the buffer it is drained into

// Walks the tails of a definition; every take is checked against what is left.
struct Reader {
  const uint8_t* at;
  size_t left;
  bool whole = true;
  const uint8_t* take(size_t bytes) {
    const size_t padded = align_up(bytes, 8);
    if (!whole || padded > left) {
      whole = false;
      return nullptr;
    }
    const uint8_t* p = at;
    at += padded;
    left -= padded;
    return p;
  }
  std::vector<uint32_t> words(uint32_t count) {
    std::vector<uint32_t> out;
    if (const uint8_t* p = take(size_t{count} * 4); p && count > 0) {
      out.resize(count);
      memcpy(out.data(), p, size_t{count} * 4);
    }
    return out;
  }
};

}  // namespace

Result<Definition> read_definition(const uint8_t* data, size_t size, uint32_t vocab, const KvMemory& memory) {
  Definition d;
  if (size < sizeof d.fixed) return error(Code::kInvalidArgument, "plan: definition cut off");
  memcpy(&d.fixed, data, sizeof d.fixed);
  const abi::SequenceDefinition& f = d.fixed;
  if (f.total_bytes < sizeof f || f.total_bytes > size)
    return error(Code::kInvalidArgument, "plan: total_bytes of a definition");
  Reader reader{data + sizeof f, f.total_bytes - sizeof f};
  d.prompt = reader.words(f.num_prompt_tokens);
  if (f.num_logit_bias > f.total_bytes / 8) return error(Code::kInvalidArgument, "plan: num_logit_bias");
  const std::vector<uint32_t> bias = reader.words(f.num_logit_bias * 2);
  d.stop_tokens = reader.words(f.num_stop_tokens);
  const std::vector<uint32_t> lengths = reader.words(f.num_stop_strings);
  const uint8_t* bytes = reader.take(f.stop_bytes);
  d.points = reader.words(f.num_points);
  d.slots = reader.words(f.num_slots);
  if (!reader.whole || reader.left != 0)
    return error(Code::kInvalidArgument, "plan: tails do not fill their definition");
  size_t at = 0;
  for (uint32_t length : lengths) {
    if (length == 0 || length > f.stop_bytes - at) return error(Code::kInvalidArgument, "plan: stop string lengths");
    d.stop_strings.emplace_back(reinterpret_cast<const char*>(bytes) + at, length);
    at += length;
  }
  if (f.num_choices < 1 || f.num_choices > 8)
    return error(Code::kInvalidArgument, "plan: num_choices %u", f.num_choices);
  if (f.top_logprobs > kMostTopLogprobs) return error(Code::kInvalidArgument, "plan: top_logprobs %u", f.top_logprobs);
  if (d.prompt.empty() || d.prompt.size() >= f.context_tokens)
    return error(Code::kInvalidArgument, "plan: prompt length");
  if (d.slots.size() < (d.prompt.size() + kBlockTokens - 1) / kBlockTokens)
    return error(Code::kInvalidArgument, "plan: %zu slots do not hold the prompt", d.slots.size());
  for (uint32_t slot : d.slots)
    if (slot >= memory.pool.limit()) return error(Code::kInvalidArgument, "plan: slot %u", slot);
  if (f.num_generated >= d.prompt.size() || (f.num_generated > 0 && f.num_choices > 1))
    return error(Code::kInvalidArgument, "plan: num_generated %u", f.num_generated);
  if (f.start_tokens >= d.prompt.size()) return error(Code::kInvalidArgument, "plan: start_tokens %u", f.start_tokens);
  if (f.start_point != 0) {
    d.start = memory.points.find(f.start_point);
    if (!d.start || d.start->position != f.start_tokens) return error(Code::kInvalidArgument, "plan: start_point");
  } else if (f.start_tokens % kBlockTokens != 0 || f.frozen_tokens % kBlockTokens != 0 ||
             f.frozen_tokens < f.start_tokens || f.frozen_tokens >= d.prompt.size()) {
    return error(Code::kInvalidArgument, "plan: start_tokens %u without a point", f.start_tokens);
  }
  for (uint32_t token : d.prompt)
    if (token >= vocab) return error(Code::kInvalidArgument, "plan: prompt token %u is outside the vocabulary", token);
  for (size_t i = 0; i < bias.size(); i += 2) {
    float value;
    memcpy(&value, &bias[i + 1], 4);
    if (bias[i] >= vocab || !std::isfinite(value))
      return error(Code::kInvalidArgument, "plan: logit_bias token %u", bias[i]);
    d.sampling.bias.push_back({bias[i], value});
  }
  for (uint32_t token : d.stop_tokens)
    if (token >= vocab) return error(Code::kInvalidArgument, "plan: stop token %u", token);
  for (uint32_t token : {f.reasoning_end_token, f.eos_token})
    if (token != abi::kNone && token >= vocab) return error(Code::kInvalidArgument, "plan: special token %u", token);
  if (!(f.temperature >= 0) || !(f.top_p > 0) || !(f.min_p >= 0) || !(f.repetition_penalty > 0) ||
      !std::isfinite(f.temperature) || !std::isfinite(f.presence_penalty) || !std::isfinite(f.frequency_penalty) ||
      !std::isfinite(f.repetition_penalty))
    return error(Code::kInvalidArgument, "plan: sampling parameters");
  SamplingParameters& s = d.sampling;
  s.temperature = f.temperature, s.top_k = f.top_k, s.top_p = f.top_p, s.min_p = f.min_p;
  s.presence = f.presence_penalty, s.frequency = f.frequency_penalty, s.repetition = f.repetition_penalty,
  s.seed = f.seed;
  return d;
}

uint32_t forced_token(const Definition& d, const Choice& choice) {
  const abi::SequenceDefinition& f = d.fixed;
  return choice.in_reasoning && f.reasoning_end_token != abi::kNone && choice.reasoning >= f.max_reasoning_tokens
             ? f.reasoning_end_token
             : abi::kNone;
}

std::vector<uint32_t> masked_tokens(const Definition& d, const Choice& choice) {
  std::vector<uint32_t> masked;
  if (choice.completion + 1 > d.fixed.min_tokens) return masked;
  masked = d.stop_tokens;
  if (d.fixed.eos_token != abi::kNone && !(d.fixed.flags & abi::kFlagIgnoreEos)) masked.push_back(d.fixed.eos_token);
  return masked;
}

uint32_t Sequence::next_point(uint32_t position) const {
  uint32_t next = abi::kNone;
  if (extra_point > position) next = extra_point;
  const auto listed = std::upper_bound(definition.points.begin(), definition.points.end(), position);
  return listed == definition.points.end() ? next : std::min(next, *listed);
}

std::vector<uint32_t> Sequence::slots_of_choice(uint32_t choice) const {
  const abi::SequenceDefinition& f = definition.fixed;
  const std::vector<uint32_t>& slots = definition.slots;
  const size_t shared = definition.prompt.size() / kBlockTokens;
  const size_t own = (slots.size() - shared) / f.num_choices;
  const auto begin = slots.begin() + static_cast<ptrdiff_t>(shared + choice * own);
  return {begin, begin + static_cast<ptrdiff_t>(own)};
}

bool accept_token(const Definition& d, Choice& choice, uint32_t token, const std::string& token_bytes,
                  bool* in_reasoning, End* end) {
  const abi::SequenceDefinition& f = d.fixed;
  const SamplingParameters& p = d.sampling;
  if (p.repetition != 1 || p.presence != 0 || p.frequency != 0) choice.counts.output[token]++;
  choice.completion++;
  *in_reasoning = choice.in_reasoning;
  if (choice.in_reasoning) {
    choice.reasoning++;
    if (token == f.reasoning_end_token) choice.in_reasoning = false;
  }
  if (token == f.eos_token && !(f.flags & abi::kFlagIgnoreEos)) return *end = {abi::kEndEos, token}, true;
  if (std::find(d.stop_tokens.begin(), d.stop_tokens.end(), token) != d.stop_tokens.end())
    return *end = {abi::kEndStopToken, token}, true;
  if (!*in_reasoning && !d.stop_strings.empty()) {
    size_t longest = 0;
    for (const std::string& s : d.stop_strings) longest = std::max(longest, s.size());
    const size_t old = choice.tail.size();
    choice.tail += token_bytes;
    // The match that ends first wins, then the one named first; it must end inside the new bytes.
    size_t best_end = SIZE_MAX;
    uint32_t best = 0;
    for (uint32_t i = 0; i < d.stop_strings.size(); i++) {
      const std::string& s = d.stop_strings[i];
      const size_t from = old + 1 > s.size() ? old + 1 - s.size() : 0;
      const size_t found = choice.tail.find(s, from);
      if (found != std::string::npos && found + s.size() < best_end) best_end = found + s.size(), best = i;
    }
    if (best_end != SIZE_MAX && choice.completion >= f.min_tokens) return *end = {abi::kEndStopString, best}, true;
    if (choice.tail.size() >= longest) choice.tail.erase(0, choice.tail.size() - (longest - 1));
  }
  if (choice.completion >= f.max_tokens) return *end = {abi::kEndLength, 0}, true;
  if (d.asked_tokens() + choice.completion >= f.context_tokens) return *end = {abi::kEndContext, 0}, true;
  return false;
}

}  // namespace nandu
