// The KV store's functions: commands in, events out as bytes (abi/store.h). The store owns its threads; they reach
// JavaScript by one thread-safe function that only says "events wait".
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "../abi/store.h"
#include "../engine/kv_payload.h"
#include "../store/store.h"
#include "handles.h"

namespace nandu::binding {
namespace {

constexpr napi_type_tag kStoreTag = {0x6e616e64756b7673, 0x73746f726568616e};
// Recovery of a large directory waits for JavaScript at this many bytes of events.
constexpr size_t kMaxEventBytes = 8 << 20;

// Lives in an External and in the jobs that open and close it.
struct StoreHandle {
  StoreHandle(Napi::Env env, const Napi::Function& on_wake)
      : env(env), wake(Napi::ThreadSafeFunction::New(env, on_wake, "nandu store events", 0, 1)) {
    napi_add_env_cleanup_hook(env, environment_ends, this);
  }
  ~StoreHandle() {
    close(std::move(store));
    release_wake();
    napi_remove_env_cleanup_hook(env, environment_ends, this);
  }
  void release_wake() {
    if (!released) wake.Release();
    released = true;
  }
  // Waits for the store's last writes. Its last events come in here; nobody may make it wait for a reader that is gone.
  void close(std::unique_ptr<Store> last) {
    {
      std::lock_guard lock(mutex);
      closing = true;
    }
    drained.notify_all();
    last.reset();
  }
  static void environment_ends(void* self) {
    StoreHandle* handle = static_cast<StoreHandle*>(self);
    handle->close(std::move(handle->store));
    handle->released = true;  // the environment takes the function down itself
  }

  void on_event(StoreEvent&& event);

  const napi_env env;
  Napi::ThreadSafeFunction wake;
  bool released = false;
  std::unique_ptr<Store> store;  // null before open and after close

  std::mutex mutex;
  std::condition_variable drained;
  std::vector<uint8_t> events;
  bool called = false;  // a wake is on its way
  bool closing = false;
  struct PointRead {
    std::shared_ptr<Point> point;
    std::shared_ptr<KvMemory> memory;
  };
  std::unordered_map<uint64_t, PointRead> point_reads;  // by ticket
};
using StorePtr = std::shared_ptr<StoreHandle>;

abi::StoredRecord to_abi(const RecordInfo& r) {
  abi::StoredRecord out{};
  out.id = r.id;
  out.created_ms = r.created_ms;
  out.payload_bytes = r.payload_bytes;
  out.stored_bytes = r.stored_bytes;
  out.kind = static_cast<uint32_t>(r.kind);
  out.from_token = r.from_token;
  out.to_token = r.to_token;
  out.region = r.region;
  out.num_blocks = static_cast<uint32_t>(r.blocks.size());
  memcpy(out.key, r.key.data(), sizeof out.key);
  memcpy(out.parent, r.parent.data(), sizeof out.parent);
  memcpy(out.plain, r.plain.data(), sizeof out.plain);
  memcpy(out.identity, r.identity.data(), sizeof out.identity);
  memcpy(out.scope, r.scope.data(), sizeof out.scope);
  return out;
}

// On the store's thread.
void StoreHandle::on_event(StoreEvent&& event) {
  const bool has_record = event.kind == StoreEvent::kRecovered || event.kind == StoreEvent::kMoved ||
                          (event.kind == StoreEvent::kWritten && event.status == StoreStatus::kOk);
  abi::StoreEventHeader header{};
  header.kind = event.kind;
  header.ticket = event.ticket;
  header.number = event.number;
  header.status = static_cast<uint32_t>(event.status);
  header.has_record = has_record;
  header.text_bytes = static_cast<uint32_t>(event.text.size());
  const size_t record_bytes = has_record ? sizeof(abi::StoredRecord) + event.record.blocks.size() * sizeof(Hash) : 0;
  header.bytes = static_cast<uint32_t>(sizeof header + record_bytes + align_up(event.text.size(), 8));
  std::unique_lock lock(mutex);
  // What recovery finds can wait; everything else answers commands, of which there are few.
  if (event.kind == StoreEvent::kRecovered)
    drained.wait(lock, [&] { return closing || events.size() < kMaxEventBytes; });
  if (event.kind == StoreEvent::kRead) {
    if (const auto read = point_reads.find(event.ticket); read != point_reads.end()) {
      if (event.status == StoreStatus::kOk)
        header.point = read->second.memory->points.add(std::move(read->second.point));
      point_reads.erase(read);
    }
  }
  const auto put = [&](const void* data, size_t size) {
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    events.insert(events.end(), bytes, bytes + size);
  };
  put(&header, sizeof header);
  if (has_record) {
    const abi::StoredRecord record = to_abi(event.record);
    put(&record, sizeof record);
    for (const Hash& hash : event.record.blocks) put(hash.data(), hash.size());
  }
  put(event.text.data(), event.text.size());
  events.resize(align_up(events.size(), 8));
  const bool call = !called && !closing;
  called = true;
  lock.unlock();
  if (call) wake.NonBlockingCall();
}

// --- arguments -------------------------------------------------------------------------------------------------------

StorePtr store_of(const Napi::CallbackInfo& info, bool open = true) {
  const Napi::Env env = info.Env();
  if (!info[0].IsExternal() || !info[0].As<Napi::External<StorePtr>>().CheckTypeTag(&kStoreTag)) {
    Napi::TypeError::New(env, "argument 0 must be a store handle").ThrowAsJavaScriptException();
    return nullptr;
  }
  StorePtr handle = *info[0].As<Napi::External<StorePtr>>().Data();
  if (open && !handle->store) {
    Napi::Error::New(env, "the store is closed").ThrowAsJavaScriptException();
    return nullptr;
  }
  return handle;
}

uint64_t number_at(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? static_cast<uint64_t>(info[index].As<Napi::Number>().Int64Value()) : 0;
}

// An array of bytes or words; empty with a JavaScript exception pending when it is of another type.
template <typename Array, typename Element>
std::vector<Element> array_at(const Napi::CallbackInfo& info, size_t index, napi_typedarray_type type) {
  if (!info[index].IsTypedArray() || info[index].As<Napi::TypedArray>().TypedArrayType() != type) {
    Napi::TypeError::New(info.Env(), "a typed array was expected").ThrowAsJavaScriptException();
    return {};
  }
  const Array array = info[index].As<Array>();
  return std::vector<Element>(array.Data(), array.Data() + array.ElementLength());
}
std::vector<uint8_t> bytes_at(const Napi::CallbackInfo& info, size_t index) {
  return array_at<Napi::Uint8Array, uint8_t>(info, index, napi_uint8_array);
}
std::vector<uint32_t> words_at(const Napi::CallbackInfo& info, size_t index) {
  return array_at<Napi::Uint32Array, uint32_t>(info, index, napi_uint32_array);
}
std::vector<uint64_t> ids_at(const Napi::CallbackInfo& info, size_t index) {
  const std::vector<double> numbers = array_at<Napi::Float64Array, double>(info, index, napi_float64_array);
  return std::vector<uint64_t>(numbers.begin(), numbers.end());
}
Hash hash_at(const Napi::CallbackInfo& info, size_t index) {
  Hash hash{};
  const std::vector<uint8_t> bytes = bytes_at(info, index);
  if (bytes.size() == hash.size()) memcpy(hash.data(), bytes.data(), hash.size());
  return hash;
}
bool slots_fit(const Napi::CallbackInfo& info, const std::vector<uint32_t>& slots, const KvMemory& memory) {
  for (uint32_t slot : slots)
    if (slot >= memory.pool.limit()) {
      Napi::RangeError::New(info.Env(), "a slot is outside of the pool").ThrowAsJavaScriptException();
      return false;
    }
  return true;
}

// --- functions -------------------------------------------------------------------------------------------------------

IoBackend backend_of(const std::string& name) {
  if (name == "uring") return IoBackend::kUring;
  if (name == "pool") return IoBackend::kPool;
  if (name == "mmap") return IoBackend::kMmap;
  return IoBackend::kAuto;
}

// openStore({directory, maxBytes, keepsRegions, largestRecord, freeFloor, readOnly, io, fault}, wake) ->
// Promise<handle>
Napi::Value open_store(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject() || !info[1].IsFunction()) {
    Napi::TypeError::New(env, "openStore(options, wake)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const Napi::Object o = info[0].As<Napi::Object>();
  StoreOptions options;
  options.directory = text_of(o, "directory");
  options.max_bytes = count_of(o, "maxBytes", 0, uint64_t{1} << 53);
  options.keeps_regions = flag_of(o, "keepsRegions");
  options.largest_record = count_of(o, "largestRecord", 0, uint64_t{1} << 40);
  options.free_floor = count_of(o, "freeFloor", 0, uint64_t{1} << 53);
  options.read_only = flag_of(o, "readOnly");
  IoOptions io;
  io.backend = backend_of(text_of(o, "io"));
  io.fault = text_of(o, "fault");
  auto handle = std::make_shared<StoreHandle>(env, info[1].As<Napi::Function>());
  return Job::start(
      env, env.Undefined(),
      [handle, options, io](Job&) -> Status {
        auto engine = open_io_engine(io);
        if (!engine.ok()) return engine.error();
        StoreHandle* raw = handle.get();
        auto opened = Store::open(options, std::move(engine.value()),
                                  [raw](StoreEvent&& event) { raw->on_event(std::move(event)); });
        if (!opened.ok()) return opened.error();
        handle->store = std::move(opened.value());
        return ok();
      },
      [handle](Napi::Env env) -> Napi::Value {
        auto external =
            Napi::External<StorePtr>::New(env, new StorePtr(handle), [](Napi::Env, StorePtr* h) { delete h; });
        external.TypeTag(&kStoreTag);
        return external;
      });
}

Napi::Value close_store(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info, false);
  if (!handle) return info.Env().Undefined();
  // Only the job holds the store from here on. std::function wants what can be copied.
  auto last = std::make_shared<std::unique_ptr<Store>>(std::move(handle->store));
  return Job::start(
      info.Env(), info.Env().Undefined(),
      [handle, last](Job&) -> Status {
        handle->close(std::move(*last));
        return ok();
      },
      [handle](Napi::Env env) {
        handle->release_wake();
        return env.Undefined();
      });
}

// drainStore(store, into) -> bytes of whole events copied
Napi::Value drain_store(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info, false);
  if (!handle) return info.Env().Undefined();
  if (!info[1].IsTypedArray()) {
    Napi::TypeError::New(info.Env(), "drainStore(store, Uint8Array)").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Uint8Array into = info[1].As<Napi::Uint8Array>();
  size_t at = 0;
  {
    std::lock_guard lock(handle->mutex);
    std::vector<uint8_t>& events = handle->events;
    while (at + sizeof(abi::StoreEventHeader) <= events.size()) {
      abi::StoreEventHeader header;
      memcpy(&header, &events[at], sizeof header);
      if (at + header.bytes > into.ByteLength()) break;
      at += header.bytes;
    }
    if (at > 0) memcpy(into.Data(), events.data(), at);
    events.erase(events.begin(), events.begin() + static_cast<ptrdiff_t>(at));
    if (events.empty()) handle->called = false;
  }
  handle->drained.notify_all();
  return Napi::Number::New(info.Env(), static_cast<double>(at));
}

// storeAppend(store, engine, ticket, record, slots | null, point)
Napi::Value store_append(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  StorePtr handle = store_of(info);
  if (!handle) return env.Undefined();
  const std::shared_ptr<KvMemory> memory = memory_of(info[1]);
  if (!memory) return env.Undefined();
  const std::vector<uint8_t> bytes = bytes_at(info, 3);
  abi::StoredRecord r;
  if (bytes.size() < sizeof r) {
    if (!env.IsExceptionPending()) Napi::TypeError::New(env, "a record was expected").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  memcpy(&r, bytes.data(), sizeof r);
  if (bytes.size() != sizeof r + size_t{r.num_blocks} * sizeof(Hash)) {
    Napi::TypeError::New(env, "a record's hashes are cut off").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  RecordInfo record;
  record.kind = static_cast<RecordKind>(r.kind);
  memcpy(record.key.data(), r.key, sizeof r.key);
  memcpy(record.parent.data(), r.parent, sizeof r.parent);
  memcpy(record.plain.data(), r.plain, sizeof r.plain);
  memcpy(record.identity.data(), r.identity, sizeof r.identity);
  memcpy(record.scope.data(), r.scope, sizeof r.scope);
  record.from_token = r.from_token;
  record.to_token = r.to_token;
  record.blocks.resize(r.num_blocks);
  if (r.num_blocks > 0) memcpy(record.blocks.data(), bytes.data() + sizeof r, size_t{r.num_blocks} * sizeof(Hash));
  record.created_ms = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  std::unique_ptr<PayloadSource> source;
  if (info[4].IsNull()) {
    auto point = memory->points.find(number_at(info, 5));
    if (!point) {
      Napi::Error::New(env, "no such point").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    record.payload_bytes = point->bytes.size();
    source = point_source(std::move(point));
  } else {
    std::vector<uint32_t> slots = words_at(info, 4);
    if (slots.empty() || !slots_fit(info, slots, *memory)) return env.Undefined();
    record.payload_bytes = segment_bytes(memory->layout, static_cast<uint32_t>(slots.size()));
    source = segment_source(memory, std::move(slots));
  }
  handle->store->append(number_at(info, 2), std::move(record), std::move(source));
  return env.Undefined();
}

// storeReadBlocks(store, engine, ticket, id, key, blocks, skip, slots, urgent): blocks of the record that follow `skip`
Napi::Value store_read_blocks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  StorePtr handle = store_of(info);
  if (!handle) return env.Undefined();
  const std::shared_ptr<KvMemory> memory = memory_of(info[1]);
  if (!memory) return env.Undefined();
  const Hash key = hash_at(info, 4);
  const uint32_t blocks = static_cast<uint32_t>(number_at(info, 5)), skip = static_cast<uint32_t>(number_at(info, 6));
  std::vector<uint32_t> slots = words_at(info, 7);
  if (env.IsExceptionPending() || !slots_fit(info, slots, *memory)) return env.Undefined();
  if (slots.empty() || skip > blocks || slots.size() > blocks - skip) {
    Napi::RangeError::New(env, "the slots are not blocks of the record").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto read = segment_read(memory, blocks, skip, std::move(slots));
  if (!read.ok()) {
    to_js(env, read.error()).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  handle->store->read(number_at(info, 2), number_at(info, 3), key, std::move(read.value().ranges),
                      info[8].ToBoolean() ? IoClass::kDemandKv : IoClass::kPrefetch, std::move(read.value().sink));
  return env.Undefined();
}

// storeReadPoint(store, engine, ticket, id, key, position, urgent)
Napi::Value store_read_point(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  StorePtr handle = store_of(info);
  if (!handle) return env.Undefined();
  const std::shared_ptr<KvMemory> memory = memory_of(info[1]);
  if (!memory) return env.Undefined();
  const uint64_t ticket = number_at(info, 2);
  const Hash key = hash_at(info, 4);
  if (env.IsExceptionPending()) return env.Undefined();
  auto point = std::make_shared<Point>();
  point->position = static_cast<uint32_t>(number_at(info, 5));
  // The size is this layout's: a record that holds less is refused by the store.
  const uint64_t bytes = point_bytes(memory->layout, point->position);
  auto sink = point_sink(point, bytes);
  {
    std::lock_guard lock(handle->mutex);
    handle->point_reads.emplace(ticket, StoreHandle::PointRead{std::move(point), memory});
  }
  handle->store->read(ticket, number_at(info, 3), key, {{0, bytes}},
                      info[6].ToBoolean() ? IoClass::kDemandKv : IoClass::kPrefetch, std::move(sink));
  return env.Undefined();
}

struct NullSink : PayloadSink {
  void take(uint64_t, const uint8_t*, size_t) override {}
};

// storeVerify(store, ticket, id, key, payloadBytes)
Napi::Value store_verify(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info);
  if (!handle) return info.Env().Undefined();
  const Hash key = hash_at(info, 3);
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  handle->store->read(number_at(info, 1), number_at(info, 2), key, {{0, number_at(info, 4)}}, IoClass::kWriteBack,
                      std::make_unique<NullSink>());
  return info.Env().Undefined();
}

Napi::Value store_cancel(const Napi::CallbackInfo& info) {
  if (StorePtr handle = store_of(info)) handle->store->cancel(number_at(info, 1));
  return info.Env().Undefined();
}

// storeReclaim(store, ticket, region, keep: Float64Array)
Napi::Value store_reclaim(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info);
  if (!handle) return info.Env().Undefined();
  std::vector<uint64_t> keep = ids_at(info, 3);
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  handle->store->reclaim(number_at(info, 1), static_cast<uint32_t>(number_at(info, 2)), std::move(keep));
  return info.Env().Undefined();
}

// storeDestroy(store, ticket, ids: Float64Array)
Napi::Value store_destroy(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info);
  if (!handle) return info.Env().Undefined();
  std::vector<uint64_t> ids = ids_at(info, 2);
  if (info.Env().IsExceptionPending()) return info.Env().Undefined();
  handle->store->destroy(number_at(info, 1), std::move(ids));
  return info.Env().Undefined();
}

Napi::Value store_flush(const Napi::CallbackInfo& info) {
  if (StorePtr handle = store_of(info)) handle->store->flush();
  return info.Env().Undefined();
}

Napi::Value store_stats(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info);
  if (!handle) return info.Env().Undefined();
  const StoreStats s = handle->store->stats();
  const IoStats io = handle->store->io().stats();
  Napi::Object o = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) { o.Set(name, static_cast<double>(value)); };
  set("regionsTotal", s.regions_total);
  set("regionsFree", s.regions_free);
  set("regionsOpen", s.regions_open);
  set("regionsSealed", s.regions_sealed);
  set("regionsLimit", s.regions_limit);
  set("regionBytes", s.region_bytes);
  set("usedBytes", s.used_bytes);
  set("liveBytes", s.live_bytes);
  set("records", s.records);
  set("queuedBytes", s.queued_bytes);
  set("bytesAppended", s.bytes_appended);
  set("bytesReinserted", s.bytes_reinserted);
  set("bytesMetadata", s.bytes_metadata);
  set("bytesRead", s.bytes_read);
  set("quarantined", s.quarantined);
  set("readP99Us", io.read_p99_us);
  uint64_t queued = 0;
  for (uint64_t bytes : io.queued_bytes) queued += (bytes + kIoPieceBytes - 1) / kIoPieceBytes;
  set("ioQueued", queued);
  set("faults", io.faults);
  o.Set("recovering", s.recovering);
  return o;
}

// What does not change while it is open.
Napi::Value describe_store(const Napi::CallbackInfo& info) {
  StorePtr handle = store_of(info);
  if (!handle) return info.Env().Undefined();
  const Store& store = *handle->store;
  Napi::Object o = Napi::Object::New(info.Env());
  o.Set("backend", store.io().backend());
  o.Set("remark", store.io().remark());
  o.Set("regionBytes", static_cast<double>(store.stats().region_bytes));
  o.Set("maxBytes", static_cast<double>(store.stats().max_bytes));
  o.Set("secret", Napi::Buffer<uint8_t>::Copy(info.Env(), store.secret().data(), store.secret().size()));
  return o;
}

}  // namespace

void add_store(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("openStore", open_store);
  add("closeStore", close_store);
  add("drainStore", drain_store);
  add("describeStore", describe_store);
  add("storeAppend", store_append);
  add("storeReadBlocks", store_read_blocks);
  add("storeReadPoint", store_read_point);
  add("storeVerify", store_verify);
  add("storeCancel", store_cancel);
  add("storeReclaim", store_reclaim);
  add("storeDestroy", store_destroy);
  add("storeFlush", store_flush);
  add("storeStats", store_stats);
}

}  // namespace nandu::binding
