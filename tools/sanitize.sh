#!/usr/bin/env bash
# Builds the native tests with AddressSanitizer and UBSan and runs them all but the slow sweeps of whole models.
# Output: build-asan/. Every kernel target that this machine has runs.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build-asan
mkdir -p "$out"
common=(-std=c++20 -DNANDU_TEST_HOOKS -O1 -g1 -fno-exceptions -fno-rtti -ffp-contract=off -Wno-missing-field-initializers)
checked=(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
avx2=(-mavx2 -mfma -mf16c)
avx512=("${avx2[@]}" -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi)

# One make-like step a file: rebuilt when any header or the file itself is newer.
compile() {
  local source=$1 object="$out/${1//\//_}.o"
  shift
  if [ ! -f "$object" ] || [ -n "$(find native test/native "$source" -newer "$object" \( -name '*.h' -o -path "$source" \) -print -quit)" ]; then
    g++ "${common[@]}" "$@" -c "$source" -o "$object"
  fi
}
# As many compilers as there are cores; ends with an error if one of them failed: an old object must not be linked in its place.
running=0
one_ended() {
  wait -n || { echo 'sanitize: a file does not compile'; exit 1; }
  running=$((running - 1))
}
begin() {
  if [ "$running" = "$(nproc)" ]; then one_ended; fi
  compile "$@" &
  running=$((running + 1))
}
finish() {
  while [ "$running" -gt 0 ]; do one_ended; done
}
# The largest ones first, so that none of them is left for the end.
if [ "$(uname -m)" = x86_64 ]; then
  # What cannot run here is only linked; checks would take a minute to compile.
  checks=()
  if grep -q avx512_vnni /proc/cpuinfo; then checks=("${checked[@]}"); fi
  begin native/kernels/targets/avx512/avx512.cc "${avx512[@]}" "${checks[@]}"
  begin native/kernels/targets/amx/amx.cc "${avx512[@]}" "${checks[@]}"
  begin test/native/emulated/amx_emulated.cc "${avx2[@]}" "${checked[@]}"
  begin native/kernels/targets/avx2/avx2.cc "${avx2[@]}" "${checked[@]}"
fi
for source in $(find native -maxdepth 2 -name '*.cc' ! -path 'native/binding/*') native/kernels/targets/scalar/scalar.cc; do
  begin "$source" "${checked[@]}"
done
# A test may run over its own buffers; what else is undefined is asked of the code it tests. Saves a third of their compilation.
for source in test/native/*.cc; do begin "$source" -fsanitize=address -fno-omit-frame-pointer; done
finish
g++ -fsanitize=address,undefined "$out"/*.o -o "$out/nandu_native_test" -pthread
# Minutes of plain arithmetic under ASan; the same code runs in the tests that stay, of which one numeric mode is enough.
"$out/nandu_native_test" --list | grep -v -E '^(logits_are_the_same_bits|batch_mates)_|^(points|export|replayed).*_f32$' > "$out/tests"
run_one() {
  NANDU_SHORT=1 "$1/nandu_native_test" "=$2" > "$1/$2.log" 2>&1 || { cat "$1/$2.log"; echo "sanitize: $2 failed"; exit 255; }
}
export -f run_one
# The list backwards: the longest ones, of state and store, are at its end.
tac "$out/tests" | xargs -P "$(nproc)" -I{} bash -c 'run_one "$0" "$1"' "$out" {}
echo "sanitize: clean"
