// Reads everything of a GGUF model, for files that may be damaged.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/formats/gguf.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_tensors.h"

namespace lectern::test {

// The first failure of opening the file, reading the settings, and finding and dequantising all
// tensors. `path` names a file or the first of its parts.
inline absl::Status ReadWholeGguf(const std::string& path) {
  const auto file = GgufFile::Open(path);
  if (!file.ok()) return file.status();
  const auto config = ReadDecoderConfig(**file);
  if (!config.ok()) return config.status();
  const auto tensors = FindDecoderTensors(**file, *config, DecoderNaming::kGguf);
  if (!tensors.ok()) return tensors.status();
  std::vector<float> row;
  for (const std::string_view name : (*file)->Names()) {
    const TensorView& view = *(*file)->Find(name);
    row.resize(view.cols());
    for (int64_t i = 0; i < view.rows(); ++i) {
      const absl::Status status = Dequantize(view, i, 1, row.data());
      if (!status.ok()) return status;
    }
    (*file)->DontNeed(view);
  }
  return absl::OkStatus();
}

}  // namespace lectern::test
