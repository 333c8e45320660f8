#include "handles.h"

namespace nandu::binding {
namespace {

const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument: return "INVALID_ARGUMENT";
    case Code::kModelFile: return "MODEL_FILE";
    case Code::kNoMemory: return "NO_MEMORY";
    case Code::kIo: return "IO";
    case Code::kBusy: return "BUSY";
    default: return "ENGINE";
  }
}

}  // namespace

Napi::Error to_js(Napi::Env env, const Error& e) {
  Napi::Error error = Napi::Error::New(env, e.message);
  error.Value().Set("code", code_name(e.code));
  return error;
}

std::string text_of(const Napi::Object& o, const char* key) {
  const Napi::Value v = o.Get(key);
  return v.IsString() ? v.As<Napi::String>().Utf8Value() : "";
}
// Clamped to [0, most], since a double outside of an integer's range has no value there.
uint64_t count_of(const Napi::Object& o, const char* key, uint64_t fallback, uint64_t most) {
  const Napi::Value v = o.Get(key);
  const double n = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : -1;
  if (!(n >= 0)) return fallback;
  return n >= static_cast<double>(most) ? most : static_cast<uint64_t>(n);
}
bool flag_of(const Napi::Object& o, const char* key) {
  const Napi::Value v = o.Get(key);
  return v.IsBoolean() && v.As<Napi::Boolean>().Value();
}
Napi::Promise Job::start(Napi::Env env, const Napi::Value& progress, Work work, Resolve resolve) {
  Job* job = new Job(env, std::move(work), std::move(resolve));
  if (progress.IsFunction()) {
    job->progress_ = Napi::ThreadSafeFunction::New(env, progress.As<Napi::Function>(), "nandu progress", 0, 1);
    job->has_progress_ = true;
  }
  job->Queue();
  return job->deferred_.Promise();
}

Job::Job(Napi::Env env, Work work, Resolve resolve)
    : AsyncWorker(env, "nandu job"),
      work_(std::move(work)),
      resolve_(std::move(resolve)),
      deferred_(Napi::Promise::Deferred::New(env)) {}

void Job::progress(double done, double total) {
  if (!has_progress_) return;
  progress_.NonBlockingCall([done, total, over = over_](Napi::Env env, Napi::Function callback) {
    // A call may arrive behind the promise; whoever awaited it must hear no more.
    if (!*over) callback.Call({Napi::Number::New(env, done), Napi::Number::New(env, total)});
  });
}

void Job::Execute() {
  Status status = work_(*this);
  if (!status.ok()) problem_ = std::make_unique<Error>(status.error());
}

void Job::OnOK() {
  const Napi::HandleScope scope(Env());
  *over_ = true;
  if (has_progress_) progress_.Release();
  if (!runs_javascript()) return;
  if (problem_) deferred_.Reject(to_js(Env(), *problem_).Value());
  else deferred_.Resolve(resolve_(Env()));
}

// False while the environment ends: values can be made no more, and nobody awaits the promise.
bool Job::runs_javascript() const {
  napi_value global;
  bool has;
  return napi_get_global(Env(), &global) == napi_ok && napi_has_named_property(Env(), global, "JSON", &has) == napi_ok;
}

}  // namespace nandu::binding
