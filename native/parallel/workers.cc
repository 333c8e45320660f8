#include "workers.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include <algorithm>
#include <set>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nandu {
namespace {

// About 50 us of pauses: longer than the gap between two regions of a step, shorter than anyone would notice idle.
constexpr uint32_t kSpins = 2000;

constexpr uint64_t kTaskMask = (1u << 20) - 1;
constexpr uint32_t kMostTasks = kTaskMask;
constexpr uint64_t epoch_of(uint64_t state) {
  return state >> 40;
}
constexpr uint32_t tasks_of(uint64_t state) {
  return static_cast<uint32_t>(state >> 20 & kTaskMask);
}
constexpr uint32_t next_of(uint64_t state) {
  return static_cast<uint32_t>(state & kTaskMask);
}

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Workers::set_float_environment() {
#if defined(__x86_64__)
  _mm_setcsr(0x1f80);
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" ::"r"(uint64_t{0}));
#endif
}

uint32_t Workers::physical_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return std::max(1u, std::thread::hardware_concurrency());
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &set)) continue;
    char path[128], siblings[128] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (FILE* file = fopen(path, "r")) {
      if (!fgets(siblings, sizeof siblings, file)) siblings[0] = 0;
      fclose(file);
    }
    cores.insert(siblings[0] ? siblings : "cpu" + std::to_string(cpu));
  }
  return std::max<uint32_t>(1, static_cast<uint32_t>(cores.size()));
}

Workers::Workers(uint32_t threads) : stretches_(threads), memory_(threads), scratch_(threads) {
  NANDU_CHECK(threads >= 1);
  for (uint32_t i = 0; i < threads; i++)
    scratch_[i] = {memory_[i].reserve(kKernelScratchBytes), kKernelScratchBytes, {}};
  for (uint32_t i = 1; i < threads; i++) pool_.emplace_back([this, i] { loop(i); });
}

Workers::~Workers() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& thread : pool_) thread.join();
}

void Workers::counts(uint64_t out[kPathCount]) const {
  for (uint32_t p = 0; p < kPathCount; p++) {
    out[p] = 0;
    for (const KernelScratch& s : scratch_) out[p] += s.counts[p];
  }
}

void Workers::run_tasks(uint32_t tasks, Function function, void* context) {
  if (tasks <= 1 || pool_.empty()) {
    for (uint32_t i = 0; i < tasks; i++) function(context, i, 0);
    return;
  }
  // More tasks than the state word counts: one region after the other.
  for (uint32_t first = 0; first < tasks; first += std::min(tasks - first, kMostTasks))
    run_region(first, std::min(tasks - first, kMostTasks), function, context);
}

void Workers::run_region(uint32_t first, uint32_t tasks, Function function, void* context) {
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  const uint64_t workers = stretches_.size();
  for (uint64_t w = 0; w < workers; w++) {
    stretches_[w].next.store(first + static_cast<uint32_t>(tasks * w / workers), std::memory_order_relaxed);
    stretches_[w].end.store(first + static_cast<uint32_t>(tasks * (w + 1) / workers), std::memory_order_relaxed);
  }
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t state = (epoch_of(state_.load(std::memory_order_relaxed)) + 1) << 40 | uint64_t{tasks} << 20;
  state_.store(state, std::memory_order_release);
  epoch_.store(static_cast<uint32_t>(epoch_of(state)), std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) epoch_.notify_all();
  claim(state, 0);
  for (uint32_t spins = 0; finished_.load(std::memory_order_acquire) != tasks; spins++) {
    // A claimed task runs on another core, or its thread was preempted by ours: let it run.
    if (spins < kSpins) pause();
    else sched_yield();
  }
}

// Works on the region of `state`'s epoch until nothing is left to claim.
void Workers::claim(uint64_t state, uint32_t worker) {
  const uint64_t epoch = epoch_of(state);
  for (;;) {
    const Function function = function_.load(std::memory_order_relaxed);
    void* context = context_.load(std::memory_order_relaxed);
    state = state_.load(std::memory_order_acquire);
    for (;;) {
      if (epoch_of(state) != epoch || next_of(state) >= tasks_of(state)) return;
      // Success proves that the region is still ours, so what was read before belongs to it.
      if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) break;
    }
    function(context, pick(worker), worker);
    finished_.fetch_add(1, std::memory_order_release);
  }
}

// A task for one that was claimed: there is one, because as many are claimed as there are.
uint32_t Workers::pick(uint32_t worker) {
  for (uint32_t w = worker;; w = w + 1 == stretches_.size() ? 0 : w + 1) {
    Stretch& stretch = stretches_[w];
    const uint32_t end = stretch.end.load(std::memory_order_relaxed);
    if (stretch.next.load(std::memory_order_relaxed) >= end) continue;
    const uint32_t task = stretch.next.fetch_add(1, std::memory_order_relaxed);
    if (task < end) return task;
  }
}

void Workers::loop(uint32_t worker) {
  pthread_setname_np(pthread_self(), "nandu-worker");
  set_float_environment();
  uint32_t seen = 0;
  for (;;) {
    uint32_t spins = 0;
    while (epoch_.load(std::memory_order_acquire) == seen) {
      if (spins++ < kSpins) {
        pause();
        continue;
      }
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      epoch_.wait(seen, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load()) return;  // after `seen`: the destructor's epoch must never be waited on
    claim(state_.load(std::memory_order_acquire), worker);
  }
}

}  // namespace nandu
