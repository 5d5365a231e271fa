// Loads a model of any supported family from a GGUF file or a Hugging Face folder.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/model_files.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// INVALID_ARGUMENT, NOT_FOUND or UNIMPLEMENTED naming file, tensor or key, and reason. A damaged or
// hostile file never crashes and never takes much memory.
absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelLoadOptions& options);

// Reads and checks everything that LoadModel does but the values of the weights, in about a second
// for a file of any size, with the same errors. For readers and T5 the tensors' shapes are not
// checked. Devices are ignored.
absl::StatusOr<ModelDescription> DescribeModel(const ModelLoadOptions& options);

// The tokenizer of a model, or of a GGUF file that holds a vocabulary alone, whatever its
// architecture.
absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadModelTokenizer(
    const ModelLoadOptions& options);

}  // namespace lectern
