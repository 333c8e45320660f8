// CRC32C (Castagnoli) of everything that lies in the store, and the 64-bit digest of a header that is kept with the
// reference to it. Chosen at run time: the processor's own instruction, three streams at once, or a table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nandu {

// `before`: the checksum of what came before these bytes.
uint32_t crc32c(const uint8_t* data, size_t bytes, uint32_t before = 0);
// The specification of the above, and what runs where the processor has no instruction for it.
uint32_t crc32c_table(const uint8_t* data, size_t bytes);
// Not a checksum of the same family: what CRC32C misses, this does not miss for the same reason. `bytes`: multiple
// of 8.
uint64_t digest64(const uint8_t* data, size_t bytes);

}  // namespace nandu
