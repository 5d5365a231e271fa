#include "server/model/load_options.h"

namespace lectern {

bool ParseNumerics(std::string_view word, ModelLoadOptions::Numerics& numerics) {
  using Numerics = ModelLoadOptions::Numerics;
  constexpr std::pair<std::string_view, Numerics> kWords[] = {{"auto", Numerics::kAuto},
                                                              {"blocks", Numerics::kBlocks},
                                                              {"int8", Numerics::kInt8Rotated},
                                                              {"f32", Numerics::kF32}};
  for (const auto& [known, meaning] : kWords) {
    if (word != known) continue;
    numerics = meaning;
    return true;
  }
  return false;
}

}  // namespace lectern
