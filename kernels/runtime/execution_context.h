// How a kernel runs: the number of CPU threads and the instruction set.
#pragma once

#include <string_view>

namespace lectern::kernels {

// Classes of CPUs, weakest first. A class is used only when the CPU has all of its instructions:
//   kPortable  plain C++
//   kAvx2      AVX2, FMA, F16C
//   kAvx512    AVX-512 F, BW, DQ, VL and VNNI
enum class Isa { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

const char* ToString(Isa isa);

// The best class of this CPU, from CPUID and XGETBV. Determined once.
Isa BestIsa();

// BestIsa(), lowered by the environment variable LECTERN_FORCE_ISA (portable, avx2 or avx512). A
// class that the CPU lacks, or an unknown word, falls back to BestIsa(). Read once.
Isa DefaultIsa();

// Sets `isa` from its name and returns true; returns false and leaves `isa` alone for an unknown
// word.
bool ParseIsa(std::string_view text, Isa& isa);

// Passed to every kernel. Plain data, cheap to copy, no ownership. Kernels keep nothing between
// calls but scratch memory and waiting threads (thread_team.h) of the calling thread, so calls from
// different threads may run at the same time.
struct ExecutionContext {
  int num_threads = 1;     // for one call, including the caller's; >= 1
  Isa isa = DefaultIsa();  // must not exceed BestIsa()
};

}  // namespace lectern::kernels
