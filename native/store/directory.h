// The store's directory: who may use it, how large it may become, its files, and the superblock. Runs on the caller's
// thread while the store is opened; the lock is held until the store is gone.
#pragma once

#include <memory>
#include <string>

#include "record.h"

namespace nandu {

// Numbers for ids, epochs and sequences, taken from the superblock in this portion at each opening and never given out
// again, whatever was lost with the end of the process. 2^21 openings fit below 2^53.
inline constexpr uint64_t kNumbersPerOpening = uint64_t{1} << 32;
// Superblock, lock, secret, the directory itself, and room for the few small files of the server beside them.
inline constexpr uint64_t kFixedBytes = 128u << 10;
// One open region for each class, one that takes what a reclaim keeps, two clean ones, and something to reclaim.
inline constexpr uint32_t kRegionsMin = 8;

struct OpenDirectory {
  std::string path;
  Hash secret{};
  Tag store{};
  uint64_t region_bytes = 0;
  uint32_t regions_limit = 0;
  uint64_t max_bytes = 0;
  uint64_t next_number = 0, end_number = 0;  // ids of what is found at start lie below next_number
  uint32_t superblock_file = 0, data_file = 0, index_file = 0;
  Superblock superblock{};

  OpenDirectory() = default;
  OpenDirectory(OpenDirectory&& other) noexcept;
  OpenDirectory& operator=(OpenDirectory&&) = delete;
  ~OpenDirectory();  // unlocks
  int lock = -1;     // a file in it, which says whose it is
  int folder = -1;   // the directory itself: whoever removes a file that looks left over does not unlock it
};

// Locks and reads the directory, makes or repairs it where it is ours. See Store::open for the errors. hangs: it gave
// up on requests that the device still has.
Result<OpenDirectory> open_directory(const StoreOptions& options, IoEngine& io, bool& hangs);

}  // namespace nandu
