// Which code a tensor's type has in a vector target: products and embedding rows, by one list. The includer brings, for
// its vectors,
//
//   FloatType<W>, Type32<F>, Type256<F>   each with product(args) and widen(row, k, out)
//   Float32, Float16, Bfloat16            W: how floats are widened
//   DotQ8_0 ... DotIq4Xs                  F: a block's format
#pragma once

#include "../../kernels.h"

namespace nandu::NANDU_TARGET {
namespace {

template <class Use>
inline void with_type(TensorType type, const Use& use) {
  switch (type) {
    case TensorType::kF32:
    case TensorType::kI32: return use(FloatType<Float32>{});  // kI32 is data, never multiplied
    case TensorType::kF16: return use(FloatType<Float16>{});
    case TensorType::kBF16: return use(FloatType<Bfloat16>{});
    case TensorType::kQ8_0: return use(Type32<DotQ8_0>{});
    case TensorType::kQ4_0: return use(Type32<DotQ4_0>{});
    case TensorType::kQ4_1: return use(Type32<DotQ4_1>{});
    case TensorType::kQ5_0: return use(Type32<DotQ5_0>{});
    case TensorType::kIQ4_NL: return use(Type32<DotIq4Nl>{});
    case TensorType::kMXFP4: return use(Type32<DotMxfp4>{});
    case TensorType::kQ2_K: return use(Type256<DotQ2K>{});
    case TensorType::kQ3_K: return use(Type256<DotQ3K>{});
    case TensorType::kQ4_K: return use(Type256<DotQ45K<false>>{});
    case TensorType::kQ5_K: return use(Type256<DotQ45K<true>>{});
    case TensorType::kQ6_K: return use(Type256<DotQ6K>{});
    case TensorType::kIQ2_XXS: return use(Type256<DotIq2Xxs>{});
    case TensorType::kIQ4_XS: return use(Type256<DotIq4Xs>{});
  }
}

inline void matmul(const MatmulArgs& args) {
  if (args.m == 0 || args.rows == 0) return;
  with_type(args.type, [&](auto of_type) { of_type.product(args); });
}

inline void dequant_row(TensorType type, const uint8_t* row, uint32_t k, float* out) {
  with_type(type, [&](auto of_type) { of_type.widen(row, k, out); });
}

}  // namespace
}  // namespace nandu::NANDU_TARGET
