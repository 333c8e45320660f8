#!/usr/bin/env bash
# Cross-compiles native/ and its tests for arm64, as a machine without Node's headers can, and runs them on an emulated
# processor: the scalar target, files, forward pass, sampling, state, store and I/O. One of them compares digests of logits
# with those of x86-64 (test/native/forward_test.cc), so that both give the same bits.
#
#   tools/arm64.sh [TEST ...]      only these tests, and those that are left out otherwise too
#
# Output: build-arm64/. Needs Debian's g++-aarch64-linux-gnu and qemu-user-static. On an arm64 machine `npm test` does all this.
set -euo pipefail
cd "$(dirname "$0")/.."
export out=build-arm64
for tool in aarch64-linux-gnu-g++ qemu-aarch64-static make; do
  command -v "$tool" >/dev/null || { echo "arm64: no $tool; apt-get install g++-aarch64-linux-gnu qemu-user-static make"; exit 69; }
done

# native/ as binding.gyp builds it; tests need no speed of their own.
make --no-print-directory --jobs "$(nproc)" --file - "$out/nandu_native_test" <<'MAKE'
sources := $(filter-out native/binding/%, $(wildcard native/*/*.cc)) native/kernels/targets/scalar/scalar.cc $(wildcard test/native/*.cc)
objects := $(sources:%.cc=$(out)/%.o)
flags := -std=c++20 -DNANDU_TEST_HOOKS -Wall -Wextra -Wno-missing-field-initializers -ffp-contract=off -fvisibility=hidden \
         -fno-exceptions -fno-rtti
$(out)/nandu_native_test: $(objects)
	aarch64-linux-gnu-g++ -static $^ -o $@ -pthread
$(out)/native/%.o: native/%.cc
	@mkdir -p $(@D)
	aarch64-linux-gnu-g++ $(flags) -O3 -MMD -c $< -o $@
$(out)/test/%.o: test/%.cc
	@mkdir -p $(@D)
	aarch64-linux-gnu-g++ $(flags) -O1 -MMD -c $< -o $@
-include $(objects:.o=.d)
MAKE

# Left out: sweeps of whole models, minutes each on an emulated processor and without a second target to compare, and what
# qemu answers otherwise than Linux does (a seccomp filter, O_DIRECT on /proc).
run() { qemu-aarch64-static "$out/nandu_native_test" "$@"; }
if [ $# -gt 0 ]; then
  tests=("$@")
else
  mapfile -t tests < <(run --list | grep -v -E \
    '^(logits_are_the_same|batch_mates|every_head_is|a_damaged_weight|export_|points_|replayed_|forks_)|^io_(gives_o_direct_up|is_buffered)')
fi
run_one() {
  NANDU_SHORT=1 qemu-aarch64-static "$out/nandu_native_test" "=$1" >"$out/$1.log" 2>&1 || { cat "$out/$1.log"; exit 255; }
}
export -f run_one
printf '%s\n' "${tests[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_one {}'
echo "arm64: ${#tests[@]} tests passed"
