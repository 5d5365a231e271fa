#include "base/hashing/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lectern {

uint64_t Checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t Checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace lectern
