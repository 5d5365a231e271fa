// Loads a model of any supported family from a GGUF file or a Hugging Face folder.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"

namespace lectern {

// INVALID_ARGUMENT, NOT_FOUND or UNIMPLEMENTED naming file, tensor or key, and reason. A damaged or
// hostile file never crashes and never takes much memory.
absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelLoadOptions& options);

}  // namespace lectern
