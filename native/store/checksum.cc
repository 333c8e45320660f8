#include "checksum.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

namespace nandu {
namespace {

// Reflected polynomial 0x1EDC6F41 (RFC 3720, appendix B.4).
constexpr uint32_t kPolynomial = 0x82F63B78;

constexpr std::array<uint32_t, 256> byte_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = (c >> 1) ^ (c & 1 ? kPolynomial : 0);
    table[i] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = byte_table();

// States here are the register itself, without the inversions at both ends.
uint32_t run_table(uint32_t state, const uint8_t* data, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) state = (state >> 8) ^ kTable[(state ^ data[i]) & 0xff];
  return state;
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#define NANDU_CRC_TARGET __attribute__((target("sse4.2")))
NANDU_CRC_TARGET inline uint64_t step8(uint64_t state, uint64_t word) {
  return _mm_crc32_u64(state, word);
}
bool has_instruction() {
  return __builtin_cpu_supports("sse4.2");
}
#else
#define NANDU_CRC_TARGET __attribute__((target("+crc")))
NANDU_CRC_TARGET inline uint64_t step8(uint64_t state, uint64_t word) {
  return __crc32cd(static_cast<uint32_t>(state), word);
}
bool has_instruction() {
  return (getauxval(AT_HWCAP) & (1ul << 7)) != 0;  // HWCAP_CRC32
}
#endif

inline uint64_t word_at(const uint8_t* p) {
  uint64_t word;
  memcpy(&word, p, 8);
  return word;
}

// The instruction takes three cycles and starts every cycle, so three streams of this length run abreast; a stream's
// state is then moved over the bytes of the next by a linear map.
constexpr size_t kStream = 2048;

// What kStream zero bytes make of a state, one table a byte of it.
struct Shift {
  uint32_t table[4][256];
  Shift() {
    static constexpr uint8_t kZeroes[kStream] = {};
    uint32_t column[32];
    for (int bit = 0; bit < 32; bit++) column[bit] = run_table(1u << bit, kZeroes, kStream);
    for (int byte = 0; byte < 4; byte++) {
      for (uint32_t value = 0; value < 256; value++) {
        uint32_t sum = 0;
        for (int bit = 0; bit < 8; bit++) sum ^= value >> bit & 1 ? column[8 * byte + bit] : 0;
        table[byte][value] = sum;
      }
    }
  }
  uint32_t operator()(uint32_t s) const {
    return table[0][s & 0xff] ^ table[1][s >> 8 & 0xff] ^ table[2][s >> 16 & 0xff] ^ table[3][s >> 24];
  }
};

NANDU_CRC_TARGET uint32_t run_instruction(uint32_t state, const uint8_t* data, size_t bytes) {
  static const Shift shift;
  uint64_t a = state;
  for (; bytes >= 3 * kStream; data += 3 * kStream, bytes -= 3 * kStream) {
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < kStream; i += 8) {
      a = step8(a, word_at(data + i));
      b = step8(b, word_at(data + kStream + i));
      c = step8(c, word_at(data + 2 * kStream + i));
    }
    a = shift(shift(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ static_cast<uint32_t>(c);
  }
  for (; bytes >= 8; data += 8, bytes -= 8) a = step8(a, word_at(data));
  return run_table(static_cast<uint32_t>(a), data, bytes);
}
#else
bool has_instruction() {
  return false;
}
uint32_t run_instruction(uint32_t state, const uint8_t* data, size_t bytes) {
  return run_table(state, data, bytes);
}
#endif

}  // namespace

uint32_t crc32c(const uint8_t* data, size_t bytes, uint32_t before) {
  static const bool instruction = has_instruction();
  return ~(instruction ? run_instruction(~before, data, bytes) : run_table(~before, data, bytes));
}

uint32_t crc32c_table(const uint8_t* data, size_t bytes) {
  return ~run_table(~0u, data, bytes);
}

uint64_t digest64(const uint8_t* data, size_t bytes) {
  uint64_t h = 0x9E3779B97F4A7C15ull ^ bytes;
  for (size_t i = 0; i + 8 <= bytes; i += 8) {
    uint64_t word;
    memcpy(&word, data + i, 8);
    h = (h ^ word) * 0xBF58476D1CE4E5B9ull;
    h ^= h >> 29;
  }
  return h;
}

}  // namespace nandu
