// Finds a model's files, and recognises files that are something else: what people have on their
// disks by mistake, named for what it is and with what to do.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lectern {

// The .gguf file or model folder that `path` means: itself, or the one GGUF file (the first part of
// the one split model) of a folder that holds no config.json or no safetensors.
//
// NOT_FOUND if nothing is there (the message says so for names of a hub, since nothing is
// downloaded). INVALID_ARGUMENT for what is broken or incomplete: an empty file, a Git LFS pointer,
// an HTML page, a folder without a model. UNIMPLEMENTED for what is valid but not supported:
// adapters, pickles, ONNX, another layout of safetensors, big-endian GGUF.
absl::StatusOr<std::string> ResolveModelPath(const std::string& path);

}  // namespace lectern
