// Loads a BertModel of any family (bert_family.h) from a Hugging Face folder.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/model_files.h"

namespace lectern {

// Errors are LoadModel's. A model without a question-answering head is UNIMPLEMENTED, unless
// `encoder_alone` is set: then ForwardSlice::encoded is its only output.
absl::StatusOr<std::shared_ptr<const Model>> LoadBertFolder(const ModelLoadOptions& options,
                                                            bool encoder_alone = false);

// Reads and checks the folder as LoadBertFolder does, but for the values of the weights.
absl::StatusOr<ModelDescription> DescribeBertFolder(const ModelLoadOptions& options);

}  // namespace lectern
