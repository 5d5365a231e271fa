// A fast checksum against damage on disk: XXH3 with 64 bits (Collet, xxHash 0.8). Not against
// attackers: whoever can write the file can write its checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lectern {

uint64_t Checksum(std::span<const std::byte> bytes);
uint64_t Checksum(std::string_view bytes);

}  // namespace lectern
