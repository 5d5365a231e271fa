#include "server/model/load_options.h"

namespace lectern {

std::vector<std::pair<std::string, ModelLoadOptions::Numerics>> NumericsWords() {
  using Numerics = ModelLoadOptions::Numerics;
  return {{"auto", Numerics::kAuto},
          {"blocks", Numerics::kBlocks},
          {"int8", Numerics::kInt8Rotated},
          {"f32", Numerics::kF32}};
}

}  // namespace lectern
