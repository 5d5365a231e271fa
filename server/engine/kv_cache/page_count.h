// How many pages a sequence takes.
#pragma once

#include <cstdint>

#include "server/model/model.h"

namespace lectern {

// Pages that hold the keys and values of `tokens` tokens; the last one may be partly filled.
inline uint64_t PagesFor(uint64_t tokens, const ModelInfo& model) {
  const auto page_tokens = static_cast<uint64_t>(model.page_tokens);
  return (tokens + page_tokens - 1) / page_tokens;
}

}  // namespace lectern
