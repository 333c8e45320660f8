// The engine: one thread that repeats the standing plan step by step. TypeScript submits plans and drains reports;
// nothing on the token path waits for JavaScript. Layout of what crosses: abi/engine.h.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "../model/forward.h"
#include "sequence.h"

namespace nandu {

struct EngineOptions {
  std::string model;
  Numerics numerics = Numerics::kReference;
  uint32_t threads = 0;     // 0: physical cores of the cpuset
  uint32_t context = 0;     // 0: the model's
  uint64_t kv_bytes = 0;    // budget of KV blocks; 0: half of the memory that is free now
  std::string target;       // kernel target cap; empty: none
  bool is_checked = false;  // no scale is NaN or infinite, as is known from before
};

// What computing starts from: a model whose scales were checked (of files up to 8 GiB, now or before),
// kernels that passed their self-test, and a sensible number of threads.
struct Loaded {
  std::unique_ptr<Model> model;
  const KernelSet* kernels;
  uint32_t threads;
};
// progress(fraction) is called on the calling thread.
Result<Loaded> load_for_use(const EngineOptions& options, const std::function<void(double)>& progress);

class Engine {
 public:
  // Loads the model and starts the engine thread. `wake` is called on that thread when reports begin to wait.
  // progress(fraction) is called on the calling thread.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options, std::function<void()> wake,
                                              const std::function<void(double)>& progress);
  ~Engine();

  // Replaces the standing plan. Checks it whole before anything changes.
  Status submit(const uint8_t* plan, size_t size);
  // Copies whole reports, at most `size` bytes; returns the bytes written, 0 when nothing waits.
  size_t drain(uint8_t* into, size_t size);
  abi::Stats stats() const;

  const Model& model() const { return *model_; }
  const std::shared_ptr<KvMemory>& memory() const { return memory_; }
  const KernelSet& kernels() const { return *kernels_; }
  Numerics numerics() const { return options_.numerics; }
  uint32_t threads() const { return workers_threads_; }

 private:
  struct Plan {
    abi::PlanHeader header;
    std::vector<abi::PlanEntry> entries;
    std::vector<Definition> definitions;
  };
  Engine() = default;
  void loop();
  void apply(Plan& plan);
  bool step();
  struct Draw {
    Sequence* sequence;
    uint32_t choice;
    const float* logits;
    uint32_t token;
    float logprob;
    std::vector<TokenLogprob> top;
  };
  void draw(Draw& draw, uint32_t worker);
  void accept(const Draw& draw);
  const std::string& text_of(uint32_t token) const;
  void finish_choice(Sequence& sequence, uint32_t choice, const End& end);
  void fail(Sequence& sequence, Code code, const std::string& message);
  void begin_choices(Sequence& sequence);
  void start(Sequence& sequence);
  void take_points(Sequence& sequence);
  void take_point(const Sequence& sequence, uint32_t choice, std::shared_ptr<const Point> point);
  void keep_end(Sequence& sequence, uint32_t choice, bool exact_end);
  void report(abi::ReportKind kind, uint64_t sequence, uint32_t choice, std::initializer_list<std::string_view> pieces);

  std::unique_ptr<Model> model_;
  std::shared_ptr<KvMemory> memory_;  // outlives the engine while the disk tier still writes from it
  const KernelSet* kernels_ = nullptr;
  std::unique_ptr<Forward> forward_;  // the engine thread's
  std::vector<std::string>
      token_bytes_;  // [vocab] bytes as answer text; empty for special tokens and without vocabulary
  std::function<void()> wake_;
  EngineOptions options_;
  uint32_t workers_threads_ = 0;

  // The engine thread's own.
  std::unordered_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> order_;  // of the plan's entries
  uint32_t step_tokens_ = 1;
  std::vector<AlignedBuffer<float>> sampling_logits_;  // [threads]
  struct Pending {
    Sequence* sequence;
    uint32_t choice;
    bool prefill;
    std::vector<float> logits;
  };
  std::vector<Pending> pending_;  // logits of the step at hand

  // Shared with the JavaScript thread.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Plan> next_plan_;  // newest not yet applied
  bool stop_ = false;
  std::vector<uint8_t> reports_;
  std::unordered_map<uint64_t, size_t> progress_at_;  // offset of a waiting progress report, to be overwritten
  bool drained_ = true;                               // false: a wake is on its way
  abi::Stats stats_{};
  std::thread thread_;
};

}  // namespace nandu
