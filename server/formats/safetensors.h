// Safetensors: one file, or shards named by model.safetensors.index.json. Read through mmap and
// treated as hostile, like GGUF.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"

namespace lectern {

// `path` is a .safetensors file, an index .json, or a folder that holds model.safetensors or
// model.safetensors.index.json. Shard names that leave the folder are refused. Dtypes other than
// F32, F16 and BF16 are INVALID_ARGUMENT naming the tensor, unless `ignore_other_types`, which
// leaves those tensors out.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path,
                                                              bool ignore_other_types = false);

}  // namespace lectern
