#pragma once

namespace lectern {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace lectern
