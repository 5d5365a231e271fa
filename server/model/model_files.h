// Reads the files of a model that every family has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/load_options.h"
#include "server/model/model.h"

namespace lectern {

// All bytes of a file.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The files of a Hugging Face folder that determine what the model computes, sorted by name,
// because directory order differs between machines.
std::vector<std::string> ModelFilesOf(const std::filesystem::path& folder);

// Identifies the bytes of all files (fingerprint.h).
absl::StatusOr<std::string> HashFiles(const std::vector<std::string>& paths);

// The type that holds most bytes, as "Q4_1".
std::string MainType(const TensorSource& source);
uint64_t CountParameters(const TensorSource& source);

// name, format, quantization and parameters.
ModelInfo InfoOfFiles(const ModelLoadOptions& options, std::string format,
                      const TensorSource& source);

// ModelSettings::context_length of an encoder whose own is `own`. INVALID_ARGUMENT if it is larger.
absl::StatusOr<int64_t> ContextLengthOf(const ModelLoadOptions& options, int64_t own);

// A model that has been read but not loaded.
struct ModelDescription {
  ModelInfo info;  // without fingerprint and load_time
  std::shared_ptr<const Tokenizer> tokenizer;
};

}  // namespace lectern
