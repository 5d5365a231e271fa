// Loops that are written out while compiling: GCC 12 takes an array for registers only if it sees
// constant indices early. Everything here has internal linkage. Internal to kernels/.
#pragma once

#include <type_traits>
#include <utility>

namespace lectern::kernels {
namespace {

template <typename Body, int... kIndex>
inline __attribute__((always_inline)) void ForEachIndex(const Body& body,
                                                        std::integer_sequence<int, kIndex...>) {
  (body(std::integral_constant<int, kIndex>{}), ...);
}

// body(index) for the constants 0 .. kCount - 1. Give lambdas the attribute always_inline.
template <int kCount, typename Body>
inline __attribute__((always_inline)) void Unrolled(const Body& body) {
  ForEachIndex(body, std::make_integer_sequence<int, kCount>{});
}

}  // namespace
}  // namespace lectern::kernels
