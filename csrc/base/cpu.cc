#include "base/cpu.h"

#include <cstdlib>
#include <initializer_list>
#include <stdexcept>

#if defined(ONEBIT_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace onebit {
namespace {

constexpr const char* kNames[] = {
    // by Isa
    "scalar",
#if defined(ONEBIT_X86)
    "avx2",    "avx512", "avx512vnni", "avx512vp", "amx",
#endif
#if defined(ONEBIT_ARM64)
    "neon",
#endif
#if defined(ONEBIT_WASM)
    "simd128",
#endif
};

#if defined(ONEBIT_X86)
// The register states that the operating system saves (XCR0): without them the wide registers are unusable.
unsigned long long saved_states() {
  unsigned eax, edx;
  __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return static_cast<unsigned long long>(edx) << 32 | eax;
}

bool all(unsigned value, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if (!(value >> bit & 1)) return false;
  }
  return true;
}

// Tiles are 8 KiB of state for each thread that uses them: Linux wants to be asked, once for a process. No compiler for
// them, no level.
bool tiles_allowed() {
#if defined(ONEBIT_AMX) && defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}
#endif

}  // namespace

const char* isa_name(Isa isa) { return kNames[static_cast<int>(isa)]; }

Isa best_isa() {
#if defined(ONEBIT_X86)
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return Isa::scalar;
  // leaf 1 ecx: 12 FMA, 23 POPCNT, 27 OSXSAVE, 28 AVX
  if (!all(ecx, {12, 23, 27, 28})) return Isa::scalar;
  const unsigned long long states = saved_states();
  if ((states & 0x6) != 0x6) return Isa::scalar;  // XMM, YMM
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return Isa::scalar;
  if (!all(ebx, {5})) return Isa::scalar;                              // AVX2
  if ((states & 0xe6) != 0xe6) return Isa::avx2;                       // opmask, upper ZMM, ZMM 16-31
  if (!all(ebx, {16, 17, 30, 31})) return Isa::avx2;                   // F, DQ, BW, VL
  if (!all(ecx, {11})) return Isa::avx512;                             // VNNI
  if (!all(ecx, {14})) return Isa::avx512vnni;                         // VPOPCNTDQ
  constexpr unsigned long long kTiles = 0x60000;                       // TILECFG, TILEDATA
  const bool amx = all(edx, {24, 25}) && (states & kTiles) == kTiles;  // AMX-TILE, AMX-INT8
  return amx && tiles_allowed() ? Isa::amx : Isa::avx512vp;
#elif defined(ONEBIT_ARM64)
  return Isa::neon;
#elif defined(ONEBIT_WASM)
  return Isa::simd128;
#else
  return Isa::scalar;
#endif
}

Isa choose_isa(const std::string& name, Isa best) {
  const char* variable = std::getenv("ONEBIT_ISA");
  const std::string wanted = !name.empty() ? name : variable ? variable : "";
  if (wanted.empty()) return best;
  std::string names;
  int level = 0;
  for (const char* known : kNames) {
    names += (level ? ", " : "") + std::string(known);
    const Isa isa = static_cast<Isa>(level++);
    if (wanted != known) continue;
    if (isa <= best) return isa;
    throw std::invalid_argument("this CPU does not support the instruction set \"" + wanted + "\"; its best is \"" +
                                isa_name(best) + "\"");
  }
  throw std::invalid_argument("unknown instruction set \"" + wanted + "\"; choose one of " + names);
}

}  // namespace onebit
