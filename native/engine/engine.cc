#include "engine.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "vocabulary.h"

namespace nandu {
namespace {

// Above this many bytes of waiting reports the engine pauses until JavaScript drains: about 20,000 tokens.
constexpr size_t kMaxReportBytes = 1 << 20;

constexpr uint32_t kMostThreads = 1024;
// Files up to this size have all their scales checked before they are used, at 0.1 s a GiB.
constexpr uint64_t kCheckedBytes = uint64_t{8} << 30;

uint64_t now_ns() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// What this process may still take: the machine's free memory, at most what its control group may have at all.
uint64_t free_memory() {
  uint64_t bytes = 0;
  if (FILE* file = fopen("/proc/meminfo", "r")) {
    char line[256];
    unsigned long kib;
    while (fgets(line, sizeof line, file))
      if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1) bytes = uint64_t{kib} << 10;
    fclose(file);
  }
  if (bytes == 0) bytes = uint64_t{1} << 30;
  if (FILE* file = fopen("/sys/fs/cgroup/memory.max", "r")) {
    unsigned long limit;
    if (fscanf(file, "%lu", &limit) == 1) bytes = std::min<uint64_t>(bytes, limit);  // else it says "max"
    fclose(file);
  }
  return bytes;
}

}  // namespace

Result<Loaded> load_for_use(const EngineOptions& options, const std::function<void(double)>& progress) {
  if (options.threads > kMostThreads)
    return error(Code::kInvalidArgument, "threads: %u; at most %u are allowed", options.threads, kMostThreads);
  const KernelSet* kernels = choose_kernels(options.target.c_str());
  if (!kernels)
    return error(Code::kInvalidArgument,
                 "NANDU_TARGET: no kernel target is called '%s'; known are scalar, avx2, avx512, amx",
                 options.target.c_str());
  Workers::set_float_environment();
  // A set that is wrong on this machine is passed over, unless it was asked for.
  const char* differs = self_test(*kernels);
  while (differs && options.target.empty() && next_best(*kernels)) {
    kernels = next_best(*kernels);
    differs = self_test(*kernels);
  }
  if (differs)
    return error(Code::kEngine, "kernel target %s computes %s wrongly on this machine; cap it with NANDU_TARGET",
                 kernels->name, differs);
  auto model = load_model(options.model, options.context);
  if (!model.ok()) return model.error();
  const Model& m = *model.value();
  const uint32_t threads = options.threads ? options.threads : Workers::physical_cores();
  if (!options.is_checked && m.weight_bytes <= kCheckedBytes) {
    Status checked = check_all_scales(
        m, threads, [](void* c, double f) { (*static_cast<const std::function<void(double)>*>(c))(f); },
        const_cast<std::function<void(double)>*>(&progress));
    if (!checked.ok()) return checked.error();
  }
  return Loaded{std::move(model.value()), kernels, threads};
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options, std::function<void()> wake,
                                             const std::function<void(double)>& progress) {
  auto loaded = load_for_use(options, progress);
  if (!loaded.ok()) return loaded.error();
  std::unique_ptr<Engine> engine(new Engine);
  engine->kernels_ = loaded.value().kernels;
  engine->model_ = std::move(loaded.value().model);
  engine->workers_threads_ = loaded.value().threads;
  const Model& m = *engine->model_;
  const uint64_t budget = options.kv_bytes ? options.kv_bytes : free_memory() / 2;
  engine->memory_ = std::make_shared<KvMemory>(m.geometry, options.numerics != Numerics::kF32, budget);
  engine->token_bytes_ = token_texts(*m.file);
  engine->options_ = options;
  engine->wake_ = std::move(wake);
  engine->stats_.kv_blocks_limit = engine->memory_->pool.limit();
  engine->stats_.kv_block_bytes = engine->memory_->layout.block_bytes;
  Engine* self = engine.get();
  engine->thread_ = std::thread([self] {
    pthread_setname_np(pthread_self(), "nandu-engine");
    Workers::set_float_environment();
    Workers workers(self->workers_threads_);
    self->sampling_logits_.resize(self->workers_threads_);
    self->forward_ = std::make_unique<Forward>(*self->model_, *self->kernels_, self->options_.numerics, workers);
    self->loop();
    self->sequences_.clear();
  });
  return engine;
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status Engine::submit(const uint8_t* data, size_t size) {
  auto plan = std::make_unique<Plan>();
  if (size < sizeof plan->header)
    return error(Code::kInvalidArgument, "plan: %zu bytes are shorter than its header", size);
  memcpy(&plan->header, data, sizeof plan->header);
  size_t at = sizeof plan->header;
  if (plan->header.magic != abi::kPlanMagic || plan->header.step_tokens == 0)
    return error(Code::kInvalidArgument, "plan: bad magic or step_tokens");
  if (plan->header.num_entries > (size - at) / sizeof(abi::PlanEntry))
    return error(Code::kInvalidArgument, "plan: entries cut off");
  plan->entries.resize(plan->header.num_entries);
  if (!plan->entries.empty()) memcpy(plan->entries.data(), data + at, plan->entries.size() * sizeof(abi::PlanEntry));
  at += plan->entries.size() * sizeof(abi::PlanEntry);
  for (uint32_t i = 0; i < plan->header.num_definitions; i++) {
    auto definition = read_definition(data + at, size - at, model_->geometry.vocab, *memory_);
    if (!definition.ok()) return definition.error();
    at += definition.value().fixed.total_bytes;
    plan->definitions.push_back(std::move(definition.value()));
  }
  if (at != size) return error(Code::kInvalidArgument, "plan: %zu bytes behind its end", size - at);
  {
    std::lock_guard lock(mutex_);
    // A plan that was never applied still brought definitions; only its order is superseded.
    if (next_plan_)
      plan->definitions.insert(plan->definitions.begin(), std::make_move_iterator(next_plan_->definitions.begin()),
                               std::make_move_iterator(next_plan_->definitions.end()));
    next_plan_ = std::move(plan);
  }
  changed_.notify_all();
  return ok();
}

size_t Engine::drain(uint8_t* into, size_t size) {
  std::unique_lock lock(mutex_);
  size_t at = 0;
  while (at + sizeof(abi::ReportHeader) <= reports_.size()) {
    abi::ReportHeader header;
    memcpy(&header, &reports_[at], sizeof header);
    if (at + header.bytes > size) break;
    at += header.bytes;
  }
  if (at > 0) memcpy(into, reports_.data(), at);
  reports_.erase(reports_.begin(), reports_.begin() + static_cast<ptrdiff_t>(at));
  progress_at_.clear();  // a waiting one is at most superseded by a second
  if (reports_.empty()) drained_ = true;
  lock.unlock();
  changed_.notify_all();
  return at;
}

abi::Stats Engine::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

// The payload is the concatenation of `pieces`, padded to 8 bytes.
void Engine::report(abi::ReportKind kind, uint64_t sequence, uint32_t choice,
                    std::initializer_list<std::string_view> pieces) {
  size_t payload_bytes = 0;
  for (std::string_view piece : pieces) payload_bytes += piece.size();
  payload_bytes = align_up(payload_bytes, 8);
  const abi::ReportHeader header{kind, static_cast<uint16_t>(choice),
                                 static_cast<uint32_t>(sizeof(abi::ReportHeader) + payload_bytes), sequence};
  std::unique_lock lock(mutex_);
  if (kind == abi::kReportProgress) {
    if (const auto waiting = progress_at_.find(sequence); waiting != progress_at_.end()) {
      memcpy(&reports_[waiting->second + sizeof header], pieces.begin()->data(), pieces.begin()->size());
      return;
    }
    progress_at_[sequence] = reports_.size();
  }
  const size_t end = reports_.size() + sizeof header + payload_bytes;
  const std::string_view head = bytes_of(header);
  reports_.insert(reports_.end(), head.begin(), head.end());
  for (std::string_view piece : pieces) reports_.insert(reports_.end(), piece.begin(), piece.end());
  reports_.resize(end);
  const bool call = drained_;
  drained_ = false;
  lock.unlock();
  if (call) wake_();
}

void Engine::loop() {
  for (;;) {
    std::unique_ptr<Plan> plan;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        if (stop_ || next_plan_) return true;
        if (reports_.size() > kMaxReportBytes) return false;
        return std::any_of(order_.begin(), order_.end(), [](const Sequence* s) { return !s->over && !s->paused; });
      });
      if (stop_) return;
      plan = std::move(next_plan_);
    }
    if (plan) apply(*plan);
    const uint64_t begin = now_ns(), prefilled = stats_.prefill_tokens, decoded = stats_.decode_tokens;
    const bool worked = step();
    std::lock_guard lock(mutex_);
    if (worked) {
      stats_.steps++;
      const double prompt_rows = static_cast<double>(stats_.prefill_tokens - prefilled);
      const double rows = prompt_rows + static_cast<double>(stats_.decode_tokens - decoded);
      stats_.prefill_ns +=
          static_cast<uint64_t>(static_cast<double>(now_ns() - begin) * prompt_rows / std::max(rows, 1.0));
    }
    stats_.sequences = sequences_.size();
    stats_.kv_blocks_used = memory_->pool.allocated();
    stats_.point_bytes = memory_->points.bytes();
    stats_.private_bytes = 0;
    for (const auto& [id, s] : sequences_)
      for (const Choice& c : s->choices) stats_.private_bytes += c.state ? memory_->layout.private_bytes : 0;
    static_assert(kPathCount <= 8);
    forward_->workers().counts(stats_.paths);
  }
}

void Engine::apply(Plan& plan) {
  step_tokens_ = std::min(plan.header.step_tokens, kMostStepRows);
  std::unordered_map<uint64_t, Definition*> fresh;
  for (Definition& d : plan.definitions) fresh.emplace(d.fixed.sequence, &d);
  std::unordered_map<uint64_t, std::unique_ptr<Sequence>> kept;
  order_.clear();
  for (const abi::PlanEntry& entry : plan.entries) {
    if (kept.count(entry.sequence)) continue;
    std::unique_ptr<Sequence> sequence;
    if (const auto known = sequences_.find(entry.sequence); known != sequences_.end()) {
      sequence = std::move(known->second);
      sequences_.erase(known);
    } else if (const auto defined = fresh.find(entry.sequence); defined != fresh.end()) {
      sequence = std::make_unique<Sequence>();
      sequence->id = entry.sequence;
      sequence->definition = std::move(*defined->second);
      start(*sequence);
    } else {
      continue;  // named before its definition ever came: nothing to run
    }
    sequence->paused = entry.flags & abi::kEntryPaused;
    sequence->max_chunk = entry.max_chunk;
    sequence->extra_point = entry.point;
    order_.push_back(sequence.get());
    kept.emplace(entry.sequence, std::move(sequence));
  }
  std::vector<uint64_t> released;
  for (const auto& [id, sequence] : sequences_) {
    for (uint32_t c = 0; c < sequence->choices.size(); c++)
      if (!sequence->choices[c].ended) keep_end(*sequence, c, false);
    released.push_back(id);
  }
  // Defined by a plan that was superseded before it was applied: it never lived here, and its end is still waited for.
  for (const auto& [id, definition] : fresh)
    if (!kept.count(id) && !sequences_.count(id)) released.push_back(id);
  sequences_ = std::move(kept);
  for (uint64_t id : released) report(abi::kReportReleased, id, 0, {});
  std::lock_guard lock(mutex_);
  stats_.plan = plan.header.plan;
}

// A new sequence: its blocks are in place up to where it starts.
void Engine::start(Sequence& s) {
  const abi::SequenceDefinition& f = s.definition.fixed;
  s.choices.resize(1);
  const size_t first = s.definition.prompt.size() / kBlockTokens;
  std::vector<uint32_t> slots(s.definition.slots.begin(), s.definition.slots.begin() + static_cast<ptrdiff_t>(first));
  const std::vector<uint32_t> own = s.slots_of_choice(0);
  slots.insert(slots.end(), own.begin(), own.end());
  s.choices[0].state = std::make_unique<SequenceState>(memory_->pool, std::move(slots));
  s.choices[0].pointed = std::max(f.start_tokens, f.frozen_tokens);
  s.prefilled = f.start_tokens;
  SequenceState& state = *s.choices[0].state;
  const bool started = s.definition.start    ? state.resume(*s.definition.start)
                       : f.frozen_tokens > 0 ? state.replay(f.start_tokens, f.frozen_tokens)
                                             : true;
  s.definition.start.reset();
  if (!started) fail(s, Code::kNoMemory, "there is no memory to continue a cached prefix");
}

void Engine::take_point(const Sequence& s, uint32_t choice, std::shared_ptr<const Point> point) {
  abi::PointPayload payload{0, point->position, static_cast<uint32_t>(point->bytes.size())};
  payload.point = memory_->points.add(std::move(point));
  report(abi::kReportPoint, s.id, choice, {bytes_of(payload)});
}

// Points that became due in this step: at most one a choice, since no chunk passes two wanted positions.
void Engine::take_points(Sequence& s) {
  for (uint32_t c = 0; c < s.choices.size(); c++) {
    Choice& choice = s.choices[c];
    if (choice.ended || !choice.state) continue;
    const uint32_t boundary = choice.state->boundary();
    if (boundary <= choice.pointed || s.next_point(boundary - 1) != boundary) continue;
    take_point(s, c, choice.state->point_at_boundary());
    choice.pointed = boundary;
  }
}

// What a later request can continue from when this choice goes.
void Engine::keep_end(Sequence& s, uint32_t c, bool exact_end) {
  Choice& choice = s.choices[c];
  if (!(s.definition.fixed.flags & abi::kFlagKeepEnds) || !choice.state || s.over) return;
  const SequenceState& state = *choice.state;
  if (state.boundary() > choice.pointed) take_point(s, c, state.point_at_boundary());
  if (exact_end && state.length() > choice.pointed && state.length() % kBlockTokens != 0)
    take_point(s, c, state.point_at_end());
}

// One pass over the plan: every decoding choice one row, then prefill chunks until the step is full.
bool Engine::step() {
  struct Part {
    Sequence* sequence;
    uint32_t choice;
    bool prefill;
  };
  std::vector<Part> parts;
  std::vector<Span> spans;
  uint64_t decoded = 0, prefilled = 0;
  const auto add = [&](Sequence& s, uint32_t c, const uint32_t* tokens, uint32_t count, uint32_t first_logit) {
    if (!s.choices[c].state->reserve(count)) {
      fail(s, Code::kNoMemory, "KV memory is used up; lower max_tokens or raise the server's memory limit");
      return false;
    }
    parts.push_back({&s, c, s.prefilling()});
    spans.push_back({s.choices[c].state.get(), tokens, count, first_logit, false});
    return true;
  };
  for (Sequence* s : order_) {
    if (s->over || s->paused || s->prefilling()) continue;
    for (uint32_t c = 0; c < s->choices.size() && !s->over; c++)
      if (!s->choices[c].ended && add(*s, c, &s->choices[c].next_token, 1, 0)) decoded++;
  }
  uint32_t budget = step_tokens_ > spans.size() ? step_tokens_ - static_cast<uint32_t>(spans.size()) : 0;
  if (spans.empty()) budget = std::max(budget, 1u);
  for (Sequence* s : order_) {
    if (s->over || s->paused || !s->prefilling() || budget == 0) continue;
    const std::vector<uint32_t>& prompt = s->definition.prompt;
    uint32_t count = std::min<uint32_t>(budget, static_cast<uint32_t>(prompt.size()) - s->prefilled);
    if (s->max_chunk) count = std::min(count, s->max_chunk);
    // A point can be taken at the last boundary that a chunk passes; any other wanted one ends its chunk.
    const uint32_t point = s->next_point(s->prefilled);
    if (point < (s->prefilled + count) / kBlockTokens * kBlockTokens) count = point - s->prefilled;
    const bool last = s->prefilled + count == prompt.size();
    const bool wants = last && s->definition.fixed.max_tokens > 0;
    if (!add(*s, 0, prompt.data() + s->prefilled, count, wants ? count - 1 : count)) continue;
    budget -= count;
    prefilled += count;
  }
  if (spans.empty()) return false;

  // A sequence that failed above took its earlier spans with it.
  for (size_t i = spans.size(); i-- > 0;)
    if (parts[i].sequence->over)
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(i)), spans.erase(spans.begin() + static_cast<ptrdiff_t>(i));

  // Copied, at a thousandth of a step: the forward pass reuses its memory from some rows on, and a finished prompt is
  // forked into its choices before the first token of each is sampled.
  forward_->step(spans, [&](uint32_t span, uint32_t, const float* logits) {
    const Part& part = parts[span];
    pending_.push_back(
        {part.sequence, part.choice, part.prefill, std::vector<float>(logits, logits + model_->geometry.vocab)});
  });
  for (size_t i = 0; i < spans.size(); i++) {
    Sequence& s = *parts[i].sequence;
    if (parts[i].prefill && !spans[i].failed) {
      s.prefilled += spans[i].count;
      const abi::ProgressPayload progress{s.prefilled, static_cast<uint32_t>(s.definition.prompt.size())};
      report(abi::kReportProgress, s.id, 0, {bytes_of(progress)});
    }
    if (spans[i].failed && !s.over)
      fail(s, Code::kEngine,
           "a non-finite value came up in the forward pass; the model file or its quantisation is damaged");
  }
  for (size_t i = 0; i < spans.size(); i++) {
    Sequence& s = *parts[i].sequence;
    if (!s.over) take_points(s);
    if (!s.over && parts[i].prefill && !s.prefilling()) begin_choices(s);
  }
  std::vector<Draw> draws;
  for (const Pending& p : pending_) {
    if (p.sequence->over) continue;
    const uint32_t first = p.prefill ? 0 : p.choice;
    const uint32_t last = p.prefill ? static_cast<uint32_t>(p.sequence->choices.size()) : p.choice + 1;
    for (uint32_t c = first; c < last; c++) draws.push_back({p.sequence, c, p.logits.data(), 0, 0, {}});
  }
  forward_->workers().run(static_cast<uint32_t>(draws.size()),
                          [&](uint32_t i, uint32_t worker) { draw(draws[i], worker); });
  for (const Draw& d : draws) accept(d);
  pending_.clear();
  std::lock_guard lock(mutex_);
  stats_.decode_tokens += decoded;
  stats_.prefill_tokens += prefilled;
  return true;
}

// The prompt is in place: every choice gets its own continuation.
void Engine::begin_choices(Sequence& s) {
  const abi::SequenceDefinition& f = s.definition.fixed;
  s.choices.reserve(f.num_choices);  // `first` stays where it is
  Choice& first = s.choices[0];
  first.in_reasoning = f.flags & abi::kFlagStartsInReasoning;
  const std::vector<uint32_t>& prompt = s.definition.prompt;
  const size_t asked = s.definition.asked_tokens();
  if (f.repetition_penalty != 1)
    for (size_t i = 0; i < asked; i++) first.counts.prompt[prompt[i]] = true;
  for (size_t i = asked; i < prompt.size(); i++) {
    bool in_reasoning;
    End end;
    if (accept_token(s.definition, first, prompt[i], text_of(prompt[i]), &in_reasoning, &end))
      return fail(s, Code::kInvalidArgument, "plan: a sequence goes on behind its end");
  }
  for (uint32_t c = 1; c < f.num_choices; c++) {
    Choice choice;
    choice.in_reasoning = first.in_reasoning;
    choice.counts = first.counts;
    choice.pointed = std::max(first.pointed, first.state->boundary());  // the prompt's own end is the first choice's
    if (f.max_tokens > 0 && !(choice.state = first.state->fork(s.slots_of_choice(c)))) {
      fail(s, Code::kNoMemory, "KV memory is used up; ask for fewer choices or raise the server's memory limit");
      return;
    }
    s.choices.push_back(std::move(choice));
  }
  if (f.max_tokens == 0)
    for (uint32_t c = 0; c < s.choices.size(); c++) finish_choice(s, c, {abi::kEndLength, 0});
}

// From logits to a token; runs on any worker, touches nothing but the draw.
void Engine::draw(Draw& d, uint32_t worker) {
  const Definition& definition = d.sequence->definition;
  const Choice& choice = d.sequence->choices[d.choice];
  const uint32_t vocab = model_->geometry.vocab;
  d.token = forced_token(definition, choice);
  if (d.token == abi::kNone) {
    float* work = sampling_logits_[worker].reserve(vocab);
    memcpy(work, d.logits, vocab * sizeof(float));
    d.token = sample(*kernels_, definition.sampling, choice.counts, masked_tokens(definition, choice), d.choice,
                     choice.completion, work, vocab);
  }
  if (definition.fixed.flags & abi::kFlagLogprobs)
    d.logprob =
        raw_logprobs(*kernels_, d.logits, vocab, d.token, std::min(definition.fixed.top_logprobs, vocab), &d.top);
}

const std::string& Engine::text_of(uint32_t token) const {
  static const std::string kNoText;
  return token < token_bytes_.size() ? token_bytes_[token] : kNoText;
}

// Takes the token over into its choice and reports it.
void Engine::accept(const Draw& d) {
  Sequence& s = *d.sequence;
  Choice& choice = s.choices[d.choice];
  bool in_reasoning;
  End end;
  const bool ended = accept_token(s.definition, choice, d.token, text_of(d.token), &in_reasoning, &end);
  const struct {
    abi::TokensPayload payload;
    abi::TokenRecord record;
  } head{{1, 0}, {d.token, d.logprob, static_cast<uint32_t>(d.top.size()), in_reasoning}};
  static_assert(sizeof(TokenLogprob) == sizeof(abi::TopRecord));
  report(abi::kReportTokens, s.id, d.choice,
         {bytes_of(head), {reinterpret_cast<const char*>(d.top.data()), d.top.size() * sizeof(TokenLogprob)}});
  choice.next_token = d.token;
  if (ended) finish_choice(s, d.choice, end);
}

void Engine::finish_choice(Sequence& s, uint32_t c, const End& end) {
  Choice& choice = s.choices[c];
  keep_end(s, c, true);
  choice.ended = true;
  choice.state.reset();
  const abi::EndedPayload ended{end.reason, end.value, choice.completion, choice.reasoning};
  report(abi::kReportEnded, s.id, c, {bytes_of(ended)});
  s.over = std::all_of(s.choices.begin(), s.choices.end(), [](const Choice& x) { return x.ended; });
}

void Engine::fail(Sequence& s, Code code, const std::string& message) {
  s.over = true;
  for (Choice& choice : s.choices) choice.ended = true, choice.state.reset();
  const abi::FailedPayload failed{static_cast<int32_t>(code), static_cast<uint32_t>(message.size())};
  report(abi::kReportFailed, s.id, 0, {bytes_of(failed), message});
}

}  // namespace nandu
