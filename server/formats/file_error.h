// Errors about model files: a status whose message names the file and the faulty part of it, also
// in machine-readable form (reason MODEL_FILE_INVALID or MODEL_UNSUPPORTED). Names taken
// from the file are escaped and shortened, since they are as hostile as the file.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lectern {

// The subject of an error. `kind` is "key", "tensor", "shard" or empty for the file as a whole.
struct FilePart {
  std::string_view file;
  std::string_view kind = {};
  std::string_view name = {};
};

// INVALID_ARGUMENT "FILE: KIND 'NAME': WHY".
absl::Status InvalidFile(const FilePart& part, std::string_view why);
// UNIMPLEMENTED: the file may be good, but this build does not support it.
absl::Status UnsupportedFile(const FilePart& part, std::string_view why);

// Printable ASCII of at most about 100 characters.
std::string Printable(std::string_view name);

}  // namespace lectern
