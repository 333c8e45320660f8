#include "directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>

namespace nandu {
namespace {

constexpr uint64_t kRegionBytesMin = 4u << 20, kRegionBytesMax = 32u << 20;
constexpr uint64_t kSuperblockBytes = uint64_t{kSuperblockCopies} * kPageBytes;
// A disk that does not answer within this is refused at start; the server then runs without it.
constexpr std::chrono::seconds kStartPatience{10};
// A lost superblock is made again with numbers this far above the highest known one: 4,096 openings.
constexpr uint64_t kNumbersJump = kNumbersPerOpening << 12;
constexpr uint64_t kNumbersEnd = uint64_t{1} << 53;

// weights.json: digests of model files, which the server remembers here (src/cli/weights-digest.ts); pins.json: what
// clients pinned (src/cli/pins.ts); *.new: one of them that a crash cut off.
const char* const kOurNames[] = {"lock",         "secret",           "superblock", "data",         "index",
                                 "weights.json", "weights.json.new", "pins.json",  "pins.json.new"};

uint64_t smallest_region() {
  const uint64_t of_test = smallest_region_of_test();
  return of_test ? of_test : kRegionBytesMin;
}

uint32_t regions_within(uint64_t max_bytes, uint64_t region_bytes) {
  if (max_bytes < kFixedBytes) return 0;
  return static_cast<uint32_t>(
      std::min<uint64_t>((max_bytes - kFixedBytes) / (region_bytes + kSlotBytes), UINT32_MAX / 2));
}

bool fill_random(uint8_t* to, size_t bytes) {
  return getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes);
}

// --- one request and its end -------------------------------------------------------------------------

struct PageBuffer {
  explicit PageBuffer(size_t bytes) : data(static_cast<uint8_t*>(aligned_alloc(kIoAlign, bytes))) {
    NANDU_CHECK(data);
    memset(data, 0, bytes);
  }
  ~PageBuffer() { free(data); }
  PageBuffer(const PageBuffer&) = delete;
  uint8_t* data;
};

// -ETIMEDOUT when the disk does not answer; the buffer then lives until it does.
int32_t transfer(IoEngine& io, IoOp op, uint32_t file, uint64_t offset, const std::shared_ptr<PageBuffer>& buffer,
                 uint32_t bytes) {
  struct End {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    int32_t result = 0;
    std::shared_ptr<PageBuffer> buffer;
  };
  auto end = std::make_shared<End>();
  end->buffer = buffer;
  IoRequest request;
  request.op = op, request.priority = IoClass::kDemandKv, request.file = file, request.offset = offset;
  request.data = buffer ? buffer->data : nullptr, request.bytes = bytes;
  request.done = [end](int32_t result) {
    std::lock_guard lock(end->mutex);
    end->done = true, end->result = result;
    end->changed.notify_one();
  };
  io.submit(std::move(request));
  std::unique_lock lock(end->mutex);
  return end->changed.wait_for(lock, kStartPatience, [&] { return end->done; }) ? end->result : -ETIMEDOUT;
}

Error io_error(const std::string& path, const char* what, int32_t result) {
  return error(Code::kIo, "%s: %s: %s", path.c_str(), what, strerror(-result));
}

// --- whose directory is it? ----------------------------------------------------------------------------

Status make_directory(const std::string& path) {
  for (size_t at = 1; at <= path.size(); at++) {
    if (at != path.size() && path[at] != '/') continue;
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST)
      return error(Code::kIo, "%s: cannot be made: %s", part.c_str(), strerror(errno));
  }
  return ok();
}

// First bytes of a file, for looking at it before anything of it is touched. False: there is no such plain file.
bool peek(const std::string& path, uint8_t* to, size_t bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  memset(to, 0, bytes);
  const ssize_t got = pread(fd, to, bytes, 0);
  close(fd);
  return got > 0;
}

// As it lies there, before anything of the directory is touched; the newest valid copy.
std::optional<Superblock> peek_superblock(const std::string& path) {
  std::vector<uint8_t> bytes(kSuperblockBytes);
  std::optional<Superblock> best;
  if (!peek(path + "/superblock", bytes.data(), bytes.size())) return best;
  for (uint32_t copy = 0; copy < kSuperblockCopies; copy++) {
    const auto found = parse_superblock(bytes.data() + size_t{copy} * kPageBytes);
    if (found && (!best || found->sequence > best->sequence)) best = found;
  }
  return best;
}

// A directory is ours when its superblock or first region says so, or when there is nothing in it that is not called
// like our files (an empty one, one whose making was interrupted, one whose content rotted).
Status check_ours(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  if (!directory) return error(Code::kIo, "%s: cannot be read: %s", path.c_str(), strerror(errno));
  std::string foreign;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    const bool ours = name == "." || name == ".." ||
                      std::any_of(std::begin(kOurNames), std::end(kOurNames), [&](const char* n) { return name == n; });
    if (!ours && (foreign.empty() || name < foreign)) foreign = name;
  }
  closedir(directory);
  if (peek_superblock(path)) return ok();
  std::vector<uint8_t> bytes(kPageBytes);
  const bool has_superblock = peek(path + "/superblock", bytes.data(), kPageBytes);
  const bool has_data = peek(path + "/data", bytes.data(), kPageBytes);
  if (has_data && parse_region_header(bytes.data())) return ok();
  if (foreign.empty() && has_data && !has_superblock) foreign = "data";
  if (foreign.empty()) return ok();
  return error(Code::kIo, "%s: holds %s, which is not ours; choose an empty directory", path.c_str(), foreign.c_str());
}

Error busy(const std::string& directory, int owner) {
  if (owner > 0) return error(Code::kBusy, "%s: in use by process %d", directory.c_str(), owner);
  return error(Code::kBusy, "%s: in use by another process, whose lock file was removed", directory.c_str());
}

int pid_in(int lock) {
  char text[32] = {};
  return lock >= 0 && pread(lock, text, sizeof text - 1, 0) > 0 ? atoi(text) : 0;
}

// -1: this file system locks no directories; the file in it must do. Readers share the lock.
Result<int> lock_folder(const std::string& directory, bool read_only) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return error(Code::kIo, "%s: %s", directory.c_str(), strerror(errno));
  if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return fd;
  const int why = errno;
  const bool is_read = why == EWOULDBLOCK && flock(fd, LOCK_SH | LOCK_NB) == 0;
  close(fd);
  if (why != EWOULDBLOCK) return -1;
  if (is_read)
    return error(Code::kBusy, "%s: another process reads it (nandu cache); try again when that has ended",
                 directory.c_str());
  const int lock = ::open((directory + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const int owner = pid_in(lock);
  if (lock >= 0) close(lock);
  return busy(directory, owner);
}

// -1: there is none, and a reader makes none.
Result<int> take_lock(const std::string& directory, bool read_only) {
  const std::string path = directory + "/lock";
  const int access = read_only ? O_RDONLY | O_NONBLOCK : O_RDWR | O_CREAT;
  const int fd = ::open(path.c_str(), access | O_CLOEXEC, 0600);
  if (fd < 0 && read_only && errno == ENOENT) return -1;
  if (fd < 0) return error(Code::kIo, "%s: %s", path.c_str(), strerror(errno));
  char text[32] = {};
  if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    const int why = errno;
    const int owner = pid_in(fd);
    close(fd);
    if (why != EWOULDBLOCK) return error(Code::kIo, "%s: %s", path.c_str(), strerror(why));
    return busy(directory, owner);
  }
  if (read_only) return fd;
  const int length = snprintf(text, sizeof text, "%d\n", static_cast<int>(getpid()));
  // Only shown to others: a full disk must not keep us from starting.
  if (ftruncate(fd, 0) == 0 && pwrite(fd, text, static_cast<size_t>(length), 0) != length) (void)ftruncate(fd, 0);
  return fd;
}

// Read, or made when it is not there in full (records written under a lost secret are never matched again, and age).
Status load_secret(const std::string& directory, bool read_only, Hash& secret) {
  const std::string path = directory + "/secret";
  // A pipe in its place must not be waited for.
  const int fd = ::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd < 0) return error(Code::kIo, "%s: %s", path.c_str(), strerror(errno));
  const ssize_t got = pread(fd, secret.data(), secret.size(), 0);
  const bool whole = got == static_cast<ssize_t>(secret.size());
  bool made = false;
  // One that cannot be read today may be readable tomorrow; one that is too short never was whole.
  if (!whole && got >= 0 && !read_only)
    made = fill_random(secret.data(), secret.size()) && ftruncate(fd, 0) == 0 &&
           pwrite(fd, secret.data(), secret.size(), 0) == static_cast<ssize_t>(secret.size()) && fsync(fd) == 0;
  const int why = errno;
  close(fd);
  if (whole || made) return ok();
  return error(Code::kIo, "%s: %s", path.c_str(), read_only ? "is damaged" : strerror(why));
}

// --- superblock ------------------------------------------------------------------------------------------

// The newest valid copy; none when there is none. An error when there may be one that cannot be read.
Result<std::optional<Superblock>> read_superblock(IoEngine& io, const OpenDirectory& d, bool& hangs) {
  std::optional<Superblock> best;
  int32_t unreadable = 0;
  auto page = std::make_shared<PageBuffer>(kPageBytes);
  for (uint32_t copy = 0; copy < kSuperblockCopies; copy++) {
    const uint64_t at = uint64_t{copy} * kPageBytes;
    if (at + kPageBytes > io.file_bytes(d.superblock_file)) break;
    const int32_t result = transfer(io, IoOp::kRead, d.superblock_file, at, page, kPageBytes);
    hangs = result == -ETIMEDOUT;
    if (hangs) return io_error(d.path, "the disk does not answer", result);
    if (result != 0) {
      unreadable = result;
      continue;
    }
    const auto found = parse_superblock(page->data);
    if (found && (!best || found->sequence > best->sequence)) best = found;
  }
  if (!best && unreadable != 0) return io_error(d.path + "/superblock", "cannot be read", unreadable);
  return best;
}

// In two halves with a sync between: whatever a crash tears, one half is whole.
Status write_superblocks(IoEngine& io, OpenDirectory& d, bool& hangs) {
  auto page = std::make_shared<PageBuffer>(kPageBytes);
  write_superblock(d.superblock, page->data);
  int32_t result = 0;
  for (uint32_t copy = 0; result == 0 && copy < kSuperblockCopies; copy++) {
    result = transfer(io, IoOp::kWrite, d.superblock_file, uint64_t{copy} * kPageBytes, page, kPageBytes);
    crash_point("superblock copy written");
    if (result == 0 && copy % 2 == 1) result = transfer(io, IoOp::kSync, d.superblock_file, 0, nullptr, 0);
  }
  hangs = result == -ETIMEDOUT;
  if (result != 0) return io_error(d.path + "/superblock", "cannot be written", result);
  crash_point("superblock synced");
  return ok();
}

// Names are as durable as what they name: the files' in the directory, and the directory's own.
Status sync_names(const OpenDirectory& d) {
  if (fsync(d.folder) != 0) return error(Code::kIo, "%s: %s", d.path.c_str(), strerror(errno));
  const int parent = ::openat(d.folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return ok();  // not everybody may read what lies above
  (void)fsync(parent);
  close(parent);
  return ok();
}

Status open_files(const StoreOptions& options, IoEngine& io, OpenDirectory& d) {
  struct {
    const char* name;
    uint32_t* file;
  } files[] = {{"superblock", &d.superblock_file}, {"data", &d.data_file}, {"index", &d.index_file}};
  for (const auto& f : files) {
    auto added = io.add_file(options.directory + "/" + f.name, !options.read_only, options.read_only);
    if (!added.ok()) return added.error();
    *f.file = added.value();
  }
  return ok();
}

// The superblock as it lies there, as region 0 remembers it, or none: then the directory starts empty.
Result<std::optional<Superblock>> find_superblock(IoEngine& io, const OpenDirectory& d, bool& hangs) {
  auto read = read_superblock(io, d, hangs);
  if (!read.ok() || read.value() || io.file_bytes(d.data_file) < kPageBytes) return read;
  auto page = std::make_shared<PageBuffer>(kPageBytes);
  const int32_t result = transfer(io, IoOp::kRead, d.data_file, 0, page, kPageBytes);
  hangs = result == -ETIMEDOUT;
  if (result != 0) return io_error(d.path + "/data", "cannot be read", result);
  const auto header = parse_region_header(page->data);
  if (!header) return read;
  Superblock made{};
  made.store = header->store, made.region_bytes = header->region_bytes;
  made.numbers_below = header->epoch + kNumbersJump;
  return std::optional(made);
}

bool sensible(const Superblock& s) {
  return s.region_bytes % kPageBytes == 0 && s.region_bytes >= 2 * kPageBytes && s.region_bytes <= uint64_t{1} << 40 &&
         s.numbers_below > 0 && s.numbers_below <= kNumbersEnd - kNumbersPerOpening;
}

// What the regions that are there take, and at least as many as a store needs.
uint64_t bytes_of_regions(const StoreOptions& options) {
  const auto found = peek_superblock(options.directory);
  struct stat data;
  if (!found || stat((options.directory + "/data").c_str(), &data) != 0) return 0;
  const uint64_t region = found->region_bytes;
  if (!sensible(*found) || region < round_up(options.largest_record, kPageBytes) + kPageBytes) return 0;
  const uint64_t regions = std::max<uint64_t>(kRegionsMin, static_cast<uint64_t>(data.st_size) / region);
  return kFixedBytes + regions * (region + kSlotBytes);
}

}  // namespace

OpenDirectory::OpenDirectory(OpenDirectory&& other) noexcept
    : path(std::move(other.path)),
      secret(other.secret),
      store(other.store),
      region_bytes(other.region_bytes),
      regions_limit(other.regions_limit),
      max_bytes(other.max_bytes),
      next_number(other.next_number),
      end_number(other.end_number),
      superblock_file(other.superblock_file),
      data_file(other.data_file),
      index_file(other.index_file),
      superblock(other.superblock),
      lock(std::exchange(other.lock, -1)),
      folder(std::exchange(other.folder, -1)) {}

OpenDirectory::~OpenDirectory() {
  if (lock >= 0) close(lock);
  if (folder >= 0) close(folder);
}

uint64_t region_bytes_for(uint64_t max_bytes, uint64_t largest_record) {
  const uint64_t smallest = smallest_region();
  const uint64_t wanted = std::clamp(max_bytes / 16, smallest, std::max(smallest, kRegionBytesMax));
  // The region's own header page stands before the record.
  return round_up(std::max(wanted, round_up(largest_record, kPageBytes) + kPageBytes), kPageBytes);
}

uint64_t minimum_quota(uint64_t largest_record) {
  return kFixedBytes + kRegionsMin * (region_bytes_for(0, largest_record) + kSlotBytes);
}

Result<OpenDirectory> open_directory(const StoreOptions& options, IoEngine& io, bool& hangs) {
  OpenDirectory d;
  d.path = options.directory;
  d.max_bytes = options.max_bytes;
  if (options.keeps_regions) d.max_bytes = std::max(d.max_bytes, bytes_of_regions(options));
  const uint64_t wanted_bytes = region_bytes_for(d.max_bytes, options.largest_record);
  if (!options.read_only && regions_within(d.max_bytes, wanted_bytes) < kRegionsMin)
    return error(Code::kInvalidArgument,
                 "%s: a quota of %llu bytes holds fewer than %u regions of %llu bytes; the minimum is %llu",
                 d.path.c_str(), static_cast<unsigned long long>(d.max_bytes), kRegionsMin,
                 static_cast<unsigned long long>(wanted_bytes),
                 static_cast<unsigned long long>(minimum_quota(options.largest_record)));
  if (!options.read_only) {
    if (const Status made = make_directory(d.path); !made.ok()) return made.error();
  }
  if (const Status ours = check_ours(d.path); !ours.ok()) return ours.error();
  auto folder = lock_folder(d.path, options.read_only);
  if (!folder.ok()) return folder.error();
  d.folder = folder.value();
  auto lock = take_lock(d.path, options.read_only);
  if (!lock.ok()) return lock.error();
  d.lock = lock.value();
  crash_point("directory locked");
  if (const Status loaded = load_secret(d.path, options.read_only, d.secret); !loaded.ok()) return loaded.error();
  crash_point("secret written");
  if (const Status opened = open_files(options, io, d); !opened.ok()) return opened.error();

  auto found = find_superblock(io, d, hangs);
  if (!found.ok()) return found.error();
  bool usable = found.value() && sensible(*found.value());
  const uint64_t old_numbers = usable ? found.value()->numbers_below : 1;
  if (options.read_only && !usable) return error(Code::kIo, "%s: there is no store in it", d.path.c_str());
  // Regions that do not hold today's records, or of which the quota holds too few, are of no use to anybody.
  if (!options.read_only && usable)
    usable = found.value()->region_bytes >= round_up(options.largest_record, kPageBytes) + kPageBytes &&
             regions_within(d.max_bytes, found.value()->region_bytes) >= kRegionsMin;
  if (usable) {
    d.superblock = *found.value();
  } else {
    d.superblock = {};
    d.superblock.region_bytes = wanted_bytes, d.superblock.numbers_below = old_numbers;
    if (found.value()) d.superblock.sequence = found.value()->sequence;
    if (!fill_random(d.superblock.store.data(), sizeof d.superblock.store))
      return error(Code::kIo, "%s: no random numbers: %s", d.path.c_str(), strerror(errno));
  }
  d.store = d.superblock.store, d.region_bytes = d.superblock.region_bytes;
  d.next_number = d.superblock.numbers_below, d.end_number = d.next_number;
  const uint64_t data_bytes = io.file_bytes(d.data_file);
  d.regions_limit = static_cast<uint32_t>(std::min<uint64_t>(data_bytes / d.region_bytes, UINT32_MAX / 2));
  if (options.read_only) return d;

  d.end_number += kNumbersPerOpening;
  d.superblock.numbers_below = d.end_number, d.superblock.sequence++;
  if (const Status written = write_superblocks(io, d, hangs); !written.ok()) return written.error();
  if (!usable)
    if (const Status named = sync_names(d); !named.ok()) return named.error();
  // What lies beyond the quota goes; what another superblock wrote, entirely (its pages carry another store's tag).
  d.regions_limit = regions_within(d.max_bytes, d.region_bytes);
  const uint64_t keep = usable ? std::min(data_bytes / d.region_bytes, uint64_t{d.regions_limit}) : 0;
  int32_t result = 0;
  if (data_bytes > keep * d.region_bytes) result = io.truncate(d.data_file, keep * d.region_bytes);
  if (result == 0 && io.file_bytes(d.index_file) > keep * kSlotBytes)
    result = io.truncate(d.index_file, keep * kSlotBytes);
  if (result != 0) return io_error(d.path, "cannot be cut to the quota", result);
  crash_point("cut to the quota");
  return d;
}

}  // namespace nandu
