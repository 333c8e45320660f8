#!/bin/sh
# Builds the kernel targets with the flags of binding.gyp and bench/kernels/matmul.cc on them, and runs it. x86-64.
set -e
cd "$(dirname "$0")/../.."
out=build/bench
mkdir -p "$out"
flags="-O3 -std=c++20 -ffp-contract=off -fno-exceptions -fno-rtti"
avx2="-mavx2 -mfma -mf16c"
avx512="$avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi"
targets=native/kernels/targets
c++ $flags -c $targets/scalar/scalar.cc -o $out/scalar.o
c++ $flags $avx2 -c $targets/avx2/avx2.cc -o $out/avx2.o
c++ $flags $avx512 -c $targets/avx512/avx512.cc -o $out/avx512.o
c++ $flags $avx512 -c $targets/amx/amx.cc -o $out/amx.o
c++ -O2 -std=c++20 -pthread -Wno-uninitialized -o $out/matmul \
  bench/kernels/matmul.cc native/kernels/dispatch.cc $out/scalar.o $out/avx2.o $out/avx512.o $out/amx.o
exec $out/matmul "$@"
