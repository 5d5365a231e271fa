// Checks of the arguments of Model::Forward that families share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "server/model/model.h"

namespace lectern {

// The limits of a model's slices.
struct SliceLimits {
  int64_t vocabulary = 0;
  int64_t context_length = 0;  // position plus tokens
  int layers = 0;              // of the policy
};

// INVALID_ARGUMENT with a field violation "slices[index].field".
absl::Status BadSlice(size_t index, const char* field, const std::string& description);

// Return BadSlice naming the limit.
absl::Status CheckSliceTokens(const SliceLimits& limits, size_t index, const ForwardSlice& slice);
absl::Status CheckSlicePolicy(const SliceLimits& limits, size_t index, const ForwardSlice& slice);
// `pages`, called `field` in the error, hold `tokens` tokens.
absl::Status CheckSlicePages(size_t index, const char* field, std::span<std::byte* const> pages,
                             int64_t tokens);

}  // namespace lectern
