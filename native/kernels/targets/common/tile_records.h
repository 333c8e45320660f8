// Weights of 16 rows as right operands of int8 tiles: what a target's unpacking writes and panel_tiles.h multiplies.
//
//   blocks of 32   one tile [8][16 rows][4]: 8192 products, then a float step of 16 vectors, which takes longer than
//                  the tiles: that is why this is 1.4-1.5 times VNNI and not 8 times (docs/performance.md).
//   superblocks    multipliers are folded into the weights, so that all 256 products of a row are one integer sum:
//                  planes of 4 tiles [16][16 rows][4]. Where code times multiplier fits a byte there is one plane
//                  (Q2_K, Q3_K: 0..45 and -124..128, kept negated), and two times 16 rows share the activations' tiles.
//                  Else there are two: the codes times the multiplier's low three bits and times its others (Q4_K,
//                  Q5_K: 0..217), or the low six bits of the product and the rest (Q6_K, IQ2_XXS, IQ4_XS: -63..64).
//
// All sums are exact: 256 * 127 * 255, times 64, is below 2^31.
#pragma once

#include "../../kernels.h"

namespace nandu::NANDU_TARGET {

// A layout of prepared activations, and where its units stand in the order of their chains: unit u is u / 8 of chain u
// % 8.
template <class Layout>
struct ChainPlaces : Layout {
  using Layout::Layout;
  uint32_t places() const { return 8 * this->chain_units; }
  uint32_t place(uint32_t unit) const { return unit % 8 * this->chain_units + unit / 8; }
};

// codes int8 [8][16 rows][4], s_w float[16], with a minimum m float[16]
struct Record32 {
  static constexpr size_t kScale = 512, kMins = 576;
  static constexpr size_t bytes(bool min) { return min ? 640 : 576; }
};

// How multipliers are folded into tiles. `planes`: isum = first + (second << shift), or minus the first.
struct Fold {
  int planes, shift;
  bool is_unsigned, negated;
  int sub;  // values that share a multiplier
  bool min;
};
static constexpr Fold fold_of(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K: return {1, 0, true, false, 16, true};
    case TensorType::kQ3_K: return {1, 0, false, true, 16, false};
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: return {2, 3, true, false, 32, true};
    case TensorType::kQ6_K: return {2, 6, false, false, 16, false};
    default: return {2, 6, false, false, 32, false};  // IQ2_XXS, IQ4_XS
  }
}

// planes [planes][4][16][16 rows][4], d float[16], with minima -dmin float[16] and the mins as word pairs int16
// [pairs][16 rows][2]. d and dmin of IQ2_XXS: an eighth of the block's.
struct Record256 {
  static constexpr size_t d(const Fold& f) { return size_t{4096} * static_cast<size_t>(f.planes); }
  static constexpr size_t minus_dmin(const Fold& f) { return d(f) + 64; }
  static constexpr size_t mins(const Fold& f) { return d(f) + 128; }
  static constexpr int pairs(const Fold& f) { return f.min ? 128 / f.sub : 0; }
  static constexpr size_t bytes(const Fold& f) { return mins(f) + size_t{64} * static_cast<size_t>(pairs(f)); }
};

}  // namespace nandu::NANDU_TARGET
