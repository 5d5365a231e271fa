// Identifies the weights of a model by its files' bytes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/hashing/sha256.h"

namespace lectern {

// Adds the size and the bytes of a file: all of them up to 256 MiB; of a larger file the first 16
// MiB (which hold the header) and 1 MiB out of every 64, so that starting stays quick. Errors are
// MappedFile's.
absl::Status HashFile(const std::string& path, Sha256& hash);

}  // namespace lectern
