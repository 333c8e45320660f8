// What the two parts of the binding share: errors for JavaScript, options out of objects, jobs, and the engine's
// handle.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../base/status.h"
#include "../engine/engine.h"

namespace nandu::binding {

Napi::Error to_js(Napi::Env env, const Error& e);

std::string text_of(const Napi::Object& o, const char* key);
// Clamped to [0, most], since a double outside of an integer's range has no value there.
uint64_t count_of(const Napi::Object& o, const char* key, uint64_t fallback, uint64_t most);
bool flag_of(const Napi::Object& o, const char* key);

// Work on a pool thread, its result as a promise. Progress calls from the work reach JavaScript by a thread-safe
// function.
class Job : public Napi::AsyncWorker {
 public:
  using Work = std::function<Status(Job&)>;
  using Resolve = std::function<Napi::Value(Napi::Env)>;

  static Napi::Promise start(Napi::Env env, const Napi::Value& progress, Work work, Resolve resolve);
  // From the work's thread.
  void progress(double done, double total);

 protected:
  void Execute() override;
  void OnOK() override;

 private:
  Job(Napi::Env env, Work work, Resolve resolve);
  bool runs_javascript() const;

  Work work_;
  Resolve resolve_;
  Napi::Promise::Deferred deferred_;
  Napi::ThreadSafeFunction progress_;
  bool has_progress_ = false;
  std::shared_ptr<bool> over_ = std::make_shared<bool>(false);  // JavaScript thread only
  std::unique_ptr<Error> problem_;
};

// KV in RAM of the open engine behind a handle; null with a JavaScript exception pending.
std::shared_ptr<KvMemory> memory_of(const Napi::Value& engine_handle);

// Adds the store's functions to the addon's exports.
void add_store(Napi::Env env, Napi::Object exports);

}  // namespace nandu::binding
