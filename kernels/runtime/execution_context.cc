#include "kernels/runtime/execution_context.h"

#include <cstdlib>

namespace lectern::kernels {

const char* ToString(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool ParseIsa(std::string_view text, Isa& isa) {
  for (Isa candidate : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (text == ToString(candidate)) {
      isa = candidate;
      return true;
    }
  }
  return false;
}

Isa BestIsa() {
  // __builtin_cpu_supports also checks that the operating system saves the registers.
  static const Isa best = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    if (avx2 && avx512) return Isa::kAvx512;
    return avx2 ? Isa::kAvx2 : Isa::kPortable;
  }();
  return best;
}

Isa DefaultIsa() {
  static const Isa isa = [] {
    Isa forced = BestIsa();
    if (const char* text = std::getenv("LECTERN_FORCE_ISA")) ParseIsa(text, forced);
    return forced <= BestIsa() ? forced : BestIsa();
  }();
  return isa;
}

}  // namespace lectern::kernels
