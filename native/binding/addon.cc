// Node-API in, native out: checks arguments, moves bytes, does no arithmetic. The whole surface is at the end of the
// file. Long work (open, close, score, synth) runs as jobs on libuv's pool and comes back as promises; the engine
// itself owns its threads and calls JavaScript through one thread-safe function that only says "reports wait".
#include <napi.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>

#include "../engine/score.h"
#include "../engine/vocabulary.h"
#include "../model/inspect.h"
#include "../model/weights.h"
#include "handles.h"
#include "synth_options.h"

namespace nandu::binding {
namespace {

constexpr napi_type_tag kEngineTag = {0x6e616e6475656e67, 0x696e6568616e646c};

Napi::Value parse_json(Napi::Env env, const std::string& text) {
  const Napi::Object json = env.Global().Get("JSON").As<Napi::Object>();
  return json.Get("parse").As<Napi::Function>().Call(json, {Napi::String::New(env, text)});
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

// The one place that reads the environment; it runs when something is opened, never in a loop.
std::string target_cap() {
  const char* cap = getenv("NANDU_TARGET");
  return cap ? cap : "";
}

// --- options ---------------------------------------------------------------------------------------------------------

std::vector<uint32_t> words_of(const Napi::Object& o, const char* key) {
  const Napi::Value v = o.Get(key);
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) return {};
  const Napi::Uint32Array a = v.As<Napi::Uint32Array>();
  return std::vector<uint32_t>(a.Data(), a.Data() + a.ElementLength());
}

EngineOptions engine_options(const Napi::Object& o) {
  EngineOptions e;
  e.model = text_of(o, "model");
  const std::string numerics = text_of(o, "numerics");
  e.numerics = numerics == "f32"                       ? Numerics::kF32
               : numerics == "reference-f32-attention" ? Numerics::kReferenceF32Attention
                                                       : Numerics::kReference;
  e.threads = static_cast<uint32_t>(count_of(o, "threads", 0, UINT32_MAX));
  e.context = static_cast<uint32_t>(count_of(o, "context", 0, UINT32_MAX));
  e.kv_bytes = count_of(o, "kvBytes", 0, uint64_t{1} << 53);
  e.is_checked = flag_of(o, "isChecked");
  e.target = target_cap();
  return e;
}

// --- engine
// ------------------------------------------------------------------------------------------------------------

// Lives in an External, and in the jobs that open and close it; made and dropped on the JavaScript thread.
struct Handle {
  explicit Handle(Napi::Env env, const Napi::Function& on_wake)
      : env(env), wake(Napi::ThreadSafeFunction::New(env, on_wake, "nandu reports", 0, 1)) {
    // Hooks run last in, first out: the engine thread is gone before the function it calls is.
    napi_add_env_cleanup_hook(env, environment_ends, this);
  }
  ~Handle() {
    engine.reset();
    release_wake();
    napi_remove_env_cleanup_hook(env, environment_ends, this);
  }
  void release_wake() {
    if (!released) wake.Release();
    released = true;
  }
  static void environment_ends(void* self) {
    Handle* handle = static_cast<Handle*>(self);
    handle->engine.reset();
    handle->released = true;  // the environment takes the function down itself
  }

  const napi_env env;
  Napi::ThreadSafeFunction wake;
  bool released = false;
  std::unique_ptr<Engine> engine;  // null before open and after close
};
using HandlePtr = std::shared_ptr<Handle>;

// The engine behind `value`, or null with a JavaScript exception pending.
HandlePtr engine_handle(const Napi::Value& value, bool open) {
  const Napi::Env env = value.Env();
  if (!value.IsExternal() || !value.As<Napi::External<HandlePtr>>().CheckTypeTag(&kEngineTag)) {
    Napi::TypeError::New(env, "an engine handle was expected").ThrowAsJavaScriptException();
    return nullptr;
  }
  HandlePtr handle = *value.As<Napi::External<HandlePtr>>().Data();
  if (open && !handle->engine) {
    Napi::Error::New(env, "the engine is closed").ThrowAsJavaScriptException();
    return nullptr;
  }
  return handle;
}

HandlePtr handle_of(const Napi::CallbackInfo& info, bool open = true) {
  return engine_handle(info[0], open);
}

Napi::Value open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsObject() || !info[1].IsFunction()) {
    Napi::TypeError::New(env, "open(options, wake, progress?)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const EngineOptions options = engine_options(info[0].As<Napi::Object>());
  auto handle = std::make_shared<Handle>(env, info[1].As<Napi::Function>());
  return Job::start(
      env, info.Length() > 2 ? info[2] : env.Undefined(),
      [handle, options](Job& job) -> Status {
        Napi::ThreadSafeFunction wake = handle->wake;
        auto opened = Engine::open(
            options, [wake] { wake.NonBlockingCall(); }, [&job](double f) { job.progress(f, 1); });
        if (!opened.ok()) return opened.error();
        handle->engine = std::move(opened.value());
        return ok();
      },
      [handle](Napi::Env env) -> Napi::Value {
        // Left open, the engine ends with its handle or its environment.
        auto external =
            Napi::External<HandlePtr>::New(env, new HandlePtr(handle), [](Napi::Env, HandlePtr* h) { delete h; });
        external.TypeTag(&kEngineTag);
        return external;
      });
}

Napi::Value close(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info, false);
  if (!handle) return info.Env().Undefined();
  // Only the job holds the engine, so that waiting for its step never falls to this thread; and only the job that
  // stopped it gives up the function that its thread calls.
  std::shared_ptr<Engine> engine = std::move(handle->engine);
  const bool stops = engine != nullptr;
  return Job::start(
      info.Env(), info.Env().Undefined(),
      [engine = std::move(engine)](Job&) mutable -> Status {
        engine.reset();
        return ok();
      },
      [handle, stops](Napi::Env env) {
        if (stops) handle->release_wake();
        return env.Undefined();
      });
}

Napi::Value submit(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info);
  if (!handle) return info.Env().Undefined();
  if (info.Length() < 2 || !info[1].IsTypedArray()) {
    Napi::TypeError::New(info.Env(), "submit(handle, Uint8Array)").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const Napi::Uint8Array plan = info[1].As<Napi::Uint8Array>();
  Status status = handle->engine->submit(plan.Data(), plan.ByteLength());
  if (!status.ok()) to_js(info.Env(), status.error()).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Value drain(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info);
  if (!handle) return info.Env().Undefined();
  if (info.Length() < 2 || !info[1].IsTypedArray()) {
    Napi::TypeError::New(info.Env(), "drain(handle, Uint8Array)").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Uint8Array into = info[1].As<Napi::Uint8Array>();
  return Napi::Number::New(info.Env(), static_cast<double>(handle->engine->drain(into.Data(), into.ByteLength())));
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info);
  if (!handle) return info.Env().Undefined();
  if (info.Length() < 2 || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().ByteLength() < sizeof(abi::Stats)) {
    Napi::TypeError::New(info.Env(), "stats(handle, Uint8Array of the size of abi::Stats)")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const abi::Stats s = handle->engine->stats();
  memcpy(info[1].As<Napi::Uint8Array>().Data(), &s, sizeof s);
  return info.Env().Undefined();
}

// releasePoint(engine, handle): the point's memory is free once nobody starts from it nor writes it any more.
Napi::Value release_point(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info);
  if (!handle) return info.Env().Undefined();
  if (info.Length() < 2 || !info[1].IsNumber()) {
    Napi::TypeError::New(info.Env(), "releasePoint(handle, point)").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  handle->engine->memory()->points.release(static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
  return info.Env().Undefined();
}

Napi::Value describe(const Napi::CallbackInfo& info) {
  HandlePtr handle = handle_of(info);
  if (!handle) return info.Env().Undefined();
  const Engine& e = *handle->engine;
  Napi::Object o = parse_json(info.Env(), describe_json(e.model())).As<Napi::Object>();
  const abi::Stats s = e.stats();
  o.Set("target", e.kernels().name);
  o.Set("cpu", cpu_name());
  o.Set("threads", e.threads());
  o.Set("numerics", e.numerics() == Numerics::kF32 ? "f32" : "reference");
  o.Set("kv_blocks", static_cast<double>(s.kv_blocks_limit));
  o.Set("kv_block_bytes", static_cast<double>(s.kv_block_bytes));
  const KvLayout& layout = e.memory()->layout;
  o.Set("kv_block_payload_bytes", static_cast<double>(layout.block_payload_bytes));
  o.Set("kv_point_bytes", static_cast<double>(layout.point_bytes));
  o.Set("kv_private_bytes", static_cast<double>(layout.private_bytes));
  return o;
}

// --- files
// -------------------------------------------------------------------------------------------------------------

Napi::Value inspect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) {
    Napi::TypeError::New(env, "inspect(path, options?, progress?)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const bool verify = info.Length() > 1 && info[1].IsObject() && flag_of(info[1].As<Napi::Object>(), "verify");
  auto text = std::make_shared<std::string>();
  return Job::start(
      env, info.Length() > 2 ? info[2] : env.Undefined(),
      [path, verify, text](Job& job) -> Status {
        auto model = load_model(path, 0);
        if (!model.ok()) return model.error();
        *text = describe_json(*model.value());
        if (!verify) return ok();
        return check_all_scales(
            *model.value(), Workers::physical_cores(), [](void* j, double f) { static_cast<Job*>(j)->progress(f, 1); },
            &job);
      },
      [text](Napi::Env env) { return parse_json(env, *text); });
}

Napi::Value vocabulary(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) {
    Napi::TypeError::New(env, "vocabulary(path)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto opened = open_model_file(info[0].As<Napi::String>().Utf8Value());
  if (!opened.ok()) {
    to_js(env, opened.error()).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const ModelFile& file = *opened.value();
  if (Status s = check_tokenizer_keys(file, UINT64_MAX); !s.ok()) {
    to_js(env, s.error()).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto tokens = file.get_string_array("tokenizer.ggml.tokens");
  if (!tokens || file.get_string("tokenizer.ggml.model").value_or("no_vocab") == "no_vocab") return env.Null();
  const auto strings = [&](const std::vector<std::string_view>& list) {
    Napi::Array array = Napi::Array::New(env, list.size());
    for (size_t i = 0; i < list.size(); i++)
      array.Set(static_cast<uint32_t>(i), Napi::String::New(env, list[i].data(), list[i].size()));
    return array;
  };
  const auto types = file.get_int_array("tokenizer.ggml.token_type");
  Napi::Int32Array js_types = Napi::Int32Array::New(env, tokens->size());
  for (size_t i = 0; i < tokens->size(); i++)
    js_types[i] = types && i < types->size() ? static_cast<int32_t>((*types)[i]) : kTokenNormal;
  Napi::Object o = Napi::Object::New(env);
  o.Set("model", std::string(*file.get_string("tokenizer.ggml.model")));
  o.Set("tokens", strings(*tokens));
  o.Set("tokenTypes", js_types);
  o.Set("merges", strings(file.get_string_array("tokenizer.ggml.merges").value_or(std::vector<std::string_view>{})));
  const auto id = [&](const char* name, const char* key) {
    const auto value = file.get_uint(key);
    o.Set(name, value && *value < tokens->size() ? Napi::Number::New(env, static_cast<double>(*value)) : env.Null());
  };
  id("bosId", "tokenizer.ggml.bos_token_id");
  id("eosId", "tokenizer.ggml.eos_token_id");
  id("padId", "tokenizer.ggml.padding_token_id");
  o.Set("addBos", file.get_bool("tokenizer.ggml.add_bos_token").value_or(false));
  o.Set("pre", std::string(file.get_string("tokenizer.ggml.pre").value_or("")));
  const auto chat = file.get_string("tokenizer.chat_template");
  o.Set("chatTemplate", chat ? Napi::String::New(env, chat->data(), chat->size()) : env.Null());
  return o;
}

Napi::Value score(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsObject()) {
    Napi::TypeError::New(env, "score(options, progress?)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const Napi::Object o = info[0].As<Napi::Object>();
  ScoreOptions options;
  options.engine = engine_options(o);
  options.tokens = words_of(o, "tokens");
  options.chunk = static_cast<uint32_t>(count_of(o, "chunk", 512, UINT32_MAX));
  options.logits = text_of(o, "logits");
  options.import_state = text_of(o, "importState");
  options.export_state = text_of(o, "exportState");
  options.poison = flag_of(o, "poison");
  auto result = std::make_shared<ScoreResult>();
  return Job::start(
      env, info.Length() > 1 ? info[1] : env.Undefined(),
      [options, result](Job& job) -> Status {
        auto scored = nandu::score(options, [&job](uint64_t done, uint64_t total) {
          job.progress(static_cast<double>(done), static_cast<double>(total));
        });
        if (!scored.ok()) return scored.error();
        *result = scored.value();
        return ok();
      },
      [result](Napi::Env env) -> Napi::Value {
        Napi::Object o = Napi::Object::New(env);
        o.Set("tokens", static_cast<double>(result->tokens));
        o.Set("meanLogLoss", result->mean_log_loss);
        o.Set("perplexity", result->perplexity);
        o.Set("loadSeconds", result->load_seconds);
        o.Set("seconds", result->seconds);
        o.Set("tokensPerSecond", result->seconds > 0 ? static_cast<double>(result->tokens) / result->seconds : 0);
        o.Set("target", result->target);
        o.Set("cpu", cpu_name());
        o.Set("threads", result->threads);
        o.Set("selections", static_cast<double>(result->selections));
        const char* names[kPathCount] = {"d1", "dn", "p", "amxInt8", "float", "amxBf16", "attention"};
        Napi::Object paths = Napi::Object::New(env);
        for (uint32_t i = 0; i < kPathCount; i++) paths.Set(names[i], static_cast<double>(result->paths[i]));
        o.Set("paths", paths);
        return o;
      });
}

Napi::Value synth(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsString() || !info[1].IsObject()) {
    Napi::TypeError::New(env, "synth(path, options, vocabulary | null, progress?)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  auto options = std::make_shared<Result<SynthOptions>>(read_synth_options(info[1].As<Napi::Object>(), info[2]));
  return Job::start(
      env, info.Length() > 3 ? info[3] : env.Undefined(),
      [path, options](Job& job) -> Status {
        if (!options->ok()) return options->error();
        return write_synth(path, options->value(), [&job](uint64_t done, uint64_t total) {
          job.progress(static_cast<double>(done), static_cast<double>(total));
        });
      },
      [](Napi::Env env) { return env.Undefined(); });
}

Napi::Value version(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), "0.1.0");
}

// Ends the process without a word to anybody: node's own exit waits for what runs on its pool, which may be a disk that
// hangs.
Napi::Value exit_now(const Napi::CallbackInfo& info) {
  std::fflush(nullptr);
  std::_Exit(info[0].ToNumber().Int32Value());
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("version", version);
  add("exitNow", exit_now);
  add("open", open);
  add("close", close);
  add("submit", submit);
  add("drain", drain);
  add("stats", stats);
  add("releasePoint", release_point);
  add("describe", describe);
  add("inspect", inspect);
  add("vocabulary", vocabulary);
  add("score", score);
  add("synth", synth);
  add_store(env, exports);
  return exports;
}
}  // namespace

std::shared_ptr<KvMemory> memory_of(const Napi::Value& value) {
  HandlePtr handle = engine_handle(value, true);
  return handle ? handle->engine->memory() : nullptr;
}

}  // namespace nandu::binding

using nandu::binding::init;
NODE_API_MODULE(nandu, init)
