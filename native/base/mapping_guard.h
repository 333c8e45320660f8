// SIGBUS: what a mapped file raises, on any thread, where it shrank or its device cannot be read. The one file that
// handles it. Two answers:
// - the model file: nothing can go on without its weights, so the process ends with exit code 66 and one line that
//   names the file instead of a bare signal;
// - block I/O through a mapping (native/io/mmap.cc): the copy returns and says that it failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace nandu {

// Copies `bytes`, of which `mapped` (one of the two) is the file's side. False: it raised SIGBUS; some bytes may have
// been copied.
bool copy_mapped(void* to, const void* from, const void* mapped, size_t bytes);

// From now on a SIGBUS inside [data, data + size) is answered by that line. Every other SIGBUS goes where it went
// before.
void guard_mapping(const uint8_t* data, uint64_t size, const std::string& path);
// Call before the mapping is given up.
void unguard_mapping(const uint8_t* data);

}  // namespace nandu
