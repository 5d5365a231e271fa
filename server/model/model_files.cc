#include "server/model/model_files.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"
#include "server/model/fingerprint.h"

namespace lectern {

namespace fs = std::filesystem;

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return std::string(file.bytes());
}

std::vector<std::string> ModelFilesOf(const fs::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".json" || extension == ".safetensors" || extension == ".model" ||
        extension == ".txt") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<std::string> HashFiles(const std::vector<std::string>& paths) {
  Sha256 hash;
  for (const std::string& path : paths) LECTERN_RETURN_IF_ERROR(HashFile(path, hash));
  return hash.HexDigest();
}

std::string MainType(const TensorSource& source) {
  std::map<std::string_view, size_t> bytes;
  for (const std::string_view name : source.Names()) {
    const TensorView* tensor = source.Find(name);
    bytes[ToString(tensor->type)] += tensor->bytes.size();
  }
  std::string_view main = "none";
  size_t most = 0;
  for (const auto& [type, count] : bytes) {
    if (count > most) {
      main = type;
      most = count;
    }
  }
  return std::string(main);
}

uint64_t CountParameters(const TensorSource& source) {
  uint64_t count = 0;
  for (const std::string_view name : source.Names()) {
    const TensorView* tensor = source.Find(name);
    count += static_cast<uint64_t>(tensor->rows()) * static_cast<uint64_t>(tensor->cols());
  }
  return count;
}

ModelInfo InfoOfFiles(const ModelLoadOptions& options, std::string format,
                      const TensorSource& source) {
  ModelInfo info;
  info.name = options.name;
  info.format = std::move(format);
  info.quantization = MainType(source);
  info.parameters = CountParameters(source);
  return info;
}

absl::StatusOr<int64_t> ContextLengthOf(const ModelLoadOptions& options, int64_t own) {
  const int64_t wanted = options.settings.context_length;
  if (wanted <= own) return wanted == 0 ? own : wanted;
  return absl::InvalidArgumentError(absl::StrCat(options.path, ": context length ", wanted,
                                                 " is not from 1 to the model's, ", own));
}

}  // namespace lectern
