// Loads a T5Model from a Hugging Face folder.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/model_files.h"

namespace lectern {

// Errors are LoadModel's.
absl::StatusOr<std::shared_ptr<const Model>> LoadT5Folder(const ModelLoadOptions& options);

// Reads and checks the folder as LoadT5Folder does, but for the values of the weights.
absl::StatusOr<ModelDescription> DescribeT5Folder(const ModelLoadOptions& options);

}  // namespace lectern
