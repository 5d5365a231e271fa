#include "server/model/layers/slice_checks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "kernels/kv/kv_pages.h"

namespace lectern {
absl::Status BadSlice(size_t index, const char* field, const std::string& description) {
  const std::string path = absl::StrCat("slices[", index, "].", field);
  ErrorDetails details;
  details.reason = "INVALID_SLICE";
  details.field_violations = {{path, description}};
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(path, ": ", description),
                   details);
}

absl::Status CheckSliceTokens(const SliceLimits& limits, size_t index, const ForwardSlice& slice) {
  if (slice.tokens.empty()) return BadSlice(index, "tokens", "must hold at least one token");
  for (size_t i = 0; i < slice.tokens.size(); ++i) {
    if (slice.tokens[i] < 0 || slice.tokens[i] >= limits.vocabulary) {
      return BadSlice(index, "tokens",
                      absl::StrCat("token ", slice.tokens[i], " at ", i, " is not in [0, ",
                                   limits.vocabulary, ")"));
    }
  }
  const int64_t tokens = static_cast<int64_t>(slice.tokens.size());
  if (slice.position < 0 || tokens > limits.context_length ||
      slice.position > limits.context_length - tokens) {
    return BadSlice(index, "position",
                    absl::StrCat("position ", slice.position, " plus ", tokens,
                                 " tokens must lie in the window of ", limits.context_length));
  }
  return absl::OkStatus();
}

absl::Status CheckSlicePages(size_t index, const char* field, std::span<std::byte* const> pages,
                             int64_t tokens) {
  const int64_t needed = kernels::KvPageLayout::PagesFor(tokens);
  if (static_cast<int64_t>(pages.size()) < needed) {
    return BadSlice(index, field,
                    absl::StrCat(pages.size(), " pages, but ", needed, " are needed"));
  }
  for (int64_t page = 0; page < needed; ++page) {
    const auto address = reinterpret_cast<uintptr_t>(pages[page]);
    if (address == 0 || address % 64 != 0) {
      return BadSlice(index, field, absl::StrCat("page ", page, " must be 64-byte aligned memory"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSlicePolicy(const SliceLimits& limits, size_t index, const ForwardSlice& slice) {
  if (slice.policy == nullptr) return BadSlice(index, "policy", "is required");
  for (int layer = 0; layer < limits.layers; ++layer) {
    if (slice.policy->KForLayer(layer) < 0) {
      return BadSlice(index, "policy",
                      absl::StrCat("layer ", layer, " keeps ", slice.policy->KForLayer(layer),
                                   " keys; must be 0 (dense) or more"));
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern
