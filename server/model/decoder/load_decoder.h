// Loads a DecoderModel from its files.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/model_files.h"

namespace lectern {

// A .gguf file; a Hugging Face folder. Errors are LoadModel's.
absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderGguf(const ModelLoadOptions& options);
absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderFolder(const ModelLoadOptions& options);

// Reads and checks the same, but for the values of the weights.
absl::StatusOr<ModelDescription> DescribeDecoderGguf(const ModelLoadOptions& options);
absl::StatusOr<ModelDescription> DescribeDecoderFolder(const ModelLoadOptions& options);

}  // namespace lectern
