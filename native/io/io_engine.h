// Block I/O on a few open files: one interface, three back ends (io_uring, a pool of pread/pwrite threads, mmap), and a
// seeded fault shim that can stand in front of any of them. Owns its threads; never computes, never decides what to
// read.
//
// Every request ends exactly once: its `done` is called on an I/O thread (never inside submit or cancel) and must be
// short; it may submit further requests. A request is transferred whole or fails: short transfers, EINTR and EAGAIN are
// the engine's own business. Offsets, lengths and addresses are multiples of kIoAlign.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "../base/status.h"

namespace nandu {

inline constexpr uint32_t kIoAlign = 4096;
// Requests are split into pieces of at most this size: a read never waits behind more than one write of it.
inline constexpr uint32_t kIoPieceBytes = 1u << 20;

enum class IoOp : uint8_t {
  kRead,
  kWrite,
  kSync,      // fdatasync; covers the writes that ended before it was submitted
  kAllocate,  // makes room [offset, offset + length) in the file, blocks really allocated (fallocate); moves no data
};

inline constexpr bool moves_data(IoOp op) {
  return op == IoOp::kRead || op == IoOp::kWrite;
}

// Strict order in front of the device, with reserved shares (kernels-and-io.md 9.4): while a demand class is queued or
// in flight, prefetch has at most a quarter of the window, guesses nothing, write-back a twentieth (one piece at
// least); nobody starves: a request older than its class's patience moves up one class.
enum class IoClass : uint8_t { kDemandExpert, kDemandKv, kPrefetch, kGuess, kWriteBack };
inline constexpr uint32_t kIoClasses = 5;

enum class IoBackend : uint8_t { kAuto, kUring, kPool, kMmap };

struct IoRequest {
  IoOp op = IoOp::kRead;
  IoClass priority = IoClass::kDemandKv;
  uint32_t file = 0;  // from add_file
  uint64_t offset = 0;
  uint8_t* data = nullptr;
  uint32_t bytes = 0;
  uint64_t length = 0;                // of kAllocate
  uint64_t group = 0;                 // for cancel; 0: none
  std::function<void(int32_t)> done;  // 0, or -errno; -ECANCELED after cancel
};

struct IoStats {
  uint64_t read_bytes[kIoClasses], write_bytes[kIoClasses];
  uint64_t requests[kIoClasses];
  uint64_t queued_bytes[kIoClasses];  // now, not yet given to the device
  uint64_t inflight_bytes;            // now
  uint64_t errors;
  uint64_t read_p50_us, read_p99_us;  // from submit to done, of the last few thousand reads
  uint64_t faults;                    // injected by the shim
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;  // cancels what is queued, waits for what is in flight
  // Opens (O_CREAT when `create`) and registers a file; O_DIRECT where the file system takes it. Small files for
  // metadata and the big data file alike. Error: kIo with the path and errno's text.
  virtual Result<uint32_t> add_file(const std::string& path, bool create, bool read_only) = 0;
  virtual void submit(IoRequest request) = 0;
  // Queued requests of the group end with -ECANCELED; those in flight run out.
  virtual void cancel(uint64_t group) = 0;
  // On the caller's thread. 0 or -errno.
  virtual int32_t truncate(uint32_t file, uint64_t bytes) = 0;
  virtual uint64_t file_bytes(uint32_t file) const = 0;
  virtual IoStats stats() const = 0;
  virtual const char* backend() const = 0;       // "io_uring", "pool", "mmap"
  virtual bool direct(uint32_t file) const = 0;  // O_DIRECT is in force
  // Why the back end is not the one that was asked for, or why O_DIRECT is not in force; empty: nothing to say.
  virtual std::string remark() const = 0;
};

// contract.md --kv-fault: "seed=N,read-error=P,write-error=P,short=P,flip=P,lost=P,misdirect=P,torn=P,delay-ms=N:P,
// full-after=BYTES,crash-after=N"; beside them for tests: "sync-error=P,stale=P,reorder=P,hang=P" (an operation that
// never ends until the engine is closed). Errors are EIO, or those of "read-error=P:ERRNO". Empty: no shim.
struct IoOptions {
  IoBackend backend = IoBackend::kAuto;
  std::string fault;
  uint32_t window_bytes = 8u << 20;  // most bytes in flight
  uint32_t pool_threads = 4;
};
// Error: kInvalidArgument naming the part of `fault` that cannot be read. A back end that is refused falls back
// (uring -> pool) and says so in remark(); mmap is never fallen back to nor from silently.
Result<std::unique_ptr<IoEngine>> open_io_engine(const IoOptions& options);

}  // namespace nandu
