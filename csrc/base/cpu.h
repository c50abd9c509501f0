// What the CPU can do: one enum, one detector.
#pragma once

#include <string>

namespace onebit {

// The levels of the architecture that the engine is built for; each includes the ones before it. Levels of another
// architecture do not exist: their names are unknown.
enum class Isa {
  scalar,  // any CPU
#if defined(ONEBIT_X86)
  avx2,        // AVX2, FMA, POPCNT
  avx512,      // AVX-512 F, BW, VL, DQ
  avx512vnni,  // + VNNI
  avx512vp,    // + VPOPCNTDQ
  amx,         // + AMX-TILE, AMX-INT8
#endif
#if defined(ONEBIT_ARM64)
  neon,  // Advanced SIMD, which every AArch64 CPU with an operating system has
#endif
#if defined(ONEBIT_WASM)
  simd128,  // 128-bit SIMD of WebAssembly: a module with such code loads nowhere else
#endif
};

const char* isa_name(Isa isa);

// The best level that the CPU and the operating system support.
Isa best_isa();

// The level to use: `name` if not empty, else $ONEBIT_ISA if set and not empty, else the best one.
// Throws std::invalid_argument for an unknown name or a level above `best` (an argument, so that tests can lie).
Isa choose_isa(const std::string& name, Isa best);

}  // namespace onebit
