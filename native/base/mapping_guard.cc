#include "mapping_guard.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

namespace nandu {
namespace {

constexpr int kExitModelFile = 66;

// A list that only grows and whose entries are used again, so that the handler can walk it without a lock.
struct Mapping {
  std::atomic<const uint8_t*> data{nullptr};  // null: free
  uint64_t size = 0;
  std::string line;
  Mapping* next = nullptr;
};
std::atomic<Mapping*> mappings{nullptr};
std::mutex changing;
struct sigaction before;  // what answered SIGBUS before us
std::atomic<bool> told{false};

// Where this thread goes on when [begin, begin + bytes) raises SIGBUS.
struct Recovery {
  const uint8_t* begin;
  size_t bytes;
  sigjmp_buf back;
};
// The handler looks at it after a fault of its own thread only, which was reading or writing a mapping and thus is not
// inside malloc: the storage that a first access may allocate is no danger.
thread_local Recovery* volatile recovery = nullptr;

// Async-signal-safe: atomics, write, _exit, sigaction, raise and siglongjmp only.
void on_sigbus(int, siginfo_t* info, void*) {
  const uint8_t* at = static_cast<const uint8_t*>(info->si_addr);
  const bool is_fault = info->si_code > 0;  // else somebody sent it, and there is no address
  if (Recovery* r = is_fault ? recovery : nullptr; r && at >= r->begin && static_cast<size_t>(at - r->begin) < r->bytes)
    siglongjmp(r->back, 1);
  for (const Mapping* m = mappings.load(std::memory_order_acquire); is_fault && m; m = m->next) {
    const uint8_t* data = m->data.load(std::memory_order_acquire);
    if (!data || at < data || static_cast<uint64_t>(at - data) >= m->size) continue;
    // Several threads may meet it at once; one of them says so, and takes the others with it.
    while (told.exchange(true)) pause();
    if (write(STDERR_FILENO, m->line.data(), m->line.size()) < 0) _exit(kExitModelFile);
    _exit(kExitModelFile);
  }
  sigaction(SIGBUS, &before, nullptr);
  raise(SIGBUS);  // blocked until this handler returns
}

// Once a process, when the first mapping is guarded.
void install_handler() {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
    return true;
  }();
  (void)installed;
}

}  // namespace

bool copy_mapped(void* to, const void* from, const void* mapped, size_t bytes) {
  install_handler();
  Recovery here{static_cast<const uint8_t*>(mapped), bytes, {}};
  recovery = &here;
  // The mask is saved: SIGBUS is blocked inside its handler and must not stay so after the jump.
  const bool failed = sigsetjmp(here.back, 1) != 0;
  if (!failed) memcpy(to, from, bytes);
  recovery = nullptr;
  return !failed;
}

void guard_mapping(const uint8_t* data, uint64_t size, const std::string& path) {
  const std::lock_guard lock(changing);
  install_handler();
  Mapping* m = mappings.load(std::memory_order_relaxed);
  while (m && m->data.load(std::memory_order_relaxed)) m = m->next;
  const bool fresh = !m;
  if (fresh) m = new Mapping;
  m->size = size;
  m->line = "nandu: model file " + path + " was truncated or became unreadable while it was in use\n";
  m->data.store(data, std::memory_order_release);
  if (!fresh) return;
  m->next = mappings.load(std::memory_order_relaxed);
  mappings.store(m, std::memory_order_release);
}

void unguard_mapping(const uint8_t* data) {
  const std::lock_guard lock(changing);
  for (Mapping* m = mappings.load(std::memory_order_relaxed); m; m = m->next)
    if (m->data.load(std::memory_order_relaxed) == data) return m->data.store(nullptr, std::memory_order_release);
}

}  // namespace nandu
