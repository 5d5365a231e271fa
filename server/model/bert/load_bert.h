// From a Hugging Face folder to a BertModel.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/load_options.h"
#include "server/model/model.h"

namespace lectern {

// Errors are LoadModel's. A BertModel without a head for questions is UNIMPLEMENTED, unless
// `encoder_alone`: then only ForwardSlice::encoded can be asked for.
absl::StatusOr<std::shared_ptr<const Model>> LoadBertFolder(const ModelLoadOptions& options,
                                                            bool encoder_alone = false);

}  // namespace lectern
