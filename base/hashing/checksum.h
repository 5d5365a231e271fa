// A fast 64-bit checksum against damage on disk: XXH3 (Collet, xxHash 0.8). It does not protect
// against attackers, who can write the checksum along with the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lectern {

uint64_t Checksum(std::span<const std::byte> bytes);
uint64_t Checksum(std::string_view bytes);

}  // namespace lectern
