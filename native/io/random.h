// SplitMix64, for faults that a seed reproduces.
#pragma once

#include <cstdint>

namespace nandu {

inline uint64_t next_random(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
inline double next_unit(uint64_t& state) {
  return static_cast<double>(next_random(state) >> 11) * 0x1p-53;
}

}  // namespace nandu
