// A persistent pool that runs the parallel regions of a step. Owned by one thread (worker 0), which takes part.
//
// Tasks are claimed one by one, so a thread that the machine takes away for a while stalls one task, not the region;
// a thread that comes late finds nothing to claim and is not waited for. Each worker begins with a stretch of its own
// and then helps with the others': tasks side by side read weights side by side, and what one asked for ahead of itself
// the same core will need. Between regions workers spin briefly, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "../base/aligned.h"
#include "../kernels/kernels.h"

namespace nandu {

class Workers {
 public:
  // threads >= 1, the calling thread included. `kernels` scratch is allocated for each.
  explicit Workers(uint32_t threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Calls body(task, worker) for every task in [0, tasks), in any order on any worker; returns when all are done.
  template <typename Body>
  void run(uint32_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_tasks(
        tasks, [](void* context, uint32_t task, uint32_t worker) { (*static_cast<Plain*>(context))(task, worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  uint32_t threads() const { return static_cast<uint32_t>(scratch_.size()); }
  KernelScratch& scratch(uint32_t worker) { return scratch_[worker]; }
  // Sum of all workers' path counters; exact only between regions.
  void counts(uint64_t out[kPathCount]) const;

  // Floating-point environment every worker runs in: round to nearest, no flush to zero. Call on threads that compute.
  static void set_float_environment();
  // Cores this process may run on, hyper-threads of one core counted once.
  static uint32_t physical_cores();

 private:
  using Function = void (*)(void*, uint32_t, uint32_t);
  void run_tasks(uint32_t tasks, Function function, void* context);
  void run_region(uint32_t first, uint32_t tasks, Function function, void* context);
  void claim(uint64_t state, uint32_t worker);
  uint32_t pick(uint32_t worker);
  void loop(uint32_t worker);

  // Epoch (24 bits), number of tasks (20), next unclaimed task (20) in one word: a late worker cannot claim from a
  // region that is over, nor with the size of the next one.
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // what sleepers wait on
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<Function> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  struct alignas(64) Stretch {
    std::atomic<uint32_t> next{0};
    std::atomic<uint32_t> end{0};
  };
  std::vector<Stretch> stretches_;  // by worker; touched by those who claimed a task of the region
  std::atomic<bool> stop_{false};
  std::vector<AlignedBuffer<uint8_t>> memory_;
  std::vector<KernelScratch> scratch_;
  std::vector<std::thread> pool_;
};

}  // namespace nandu
