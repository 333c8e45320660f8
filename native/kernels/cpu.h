// What the CPU and the operating system allow, asked by code that any CPU runs (dispatch.cc): a target's own
// translation unit may contain its instructions anywhere, even in a function that only asks.
#pragma once

namespace nandu {

bool cpu_has_avx2();    // AVX2, FMA, F16C
bool cpu_has_avx512();  // AVX-512 F, BW, DQ, VL, VNNI and VBMI, and AVX2
bool cpu_has_amx();     // AMX bf16 tiles, which the operating system lets this process use, and AVX-512

}  // namespace nandu
