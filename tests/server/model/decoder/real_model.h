// The default model, when it is there: $LECTERN_DEPS_DIR/models.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "server/model/loading/model_loader.h"

namespace lectern::test {

inline std::string RealModelPath(const std::string& file = "SmolLM2-135M-Instruct.Q4_1.gguf") {
  const char* dir = std::getenv("LECTERN_DEPS_DIR");
  return (std::filesystem::path(dir != nullptr ? dir : ".") / "models" / file).string();
}

inline absl::StatusOr<std::shared_ptr<const Model>> LoadRealModel(
    ModelLoadOptions::Numerics numerics, kernels::Isa isa = kernels::DefaultIsa()) {
  return LoadModel(
      {.name = "smollm2", .path = RealModelPath(), .numerics = numerics, .threads = 2, .isa = isa});
}

}  // namespace lectern::test
