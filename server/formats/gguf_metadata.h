// The metadata section of a GGUF file.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/formats/byte_reader.h"
#include "server/formats/gguf.h"

namespace lectern {

// Reads `count` key-value pairs. INVALID_ARGUMENT naming `path` and key.
absl::StatusOr<std::map<std::string, GgufValue>> ReadGgufMetadata(ByteReader& reader,
                                                                  uint64_t count,
                                                                  const std::string& path);

}  // namespace lectern
