#include "server/model/llama/forward_checks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"
#include "server/base/status_macros.h"

namespace lectern {
namespace {

absl::Status Bad(size_t slice, const char* field, const std::string& description) {
  const std::string path = absl::StrCat("slices[", slice, "].", field);
  ErrorDetails details;
  details.reason = "INVALID_SLICE";
  details.field_violations = {{path, description}};
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(path, ": ", description),
                   details);
}

absl::Status CheckTokens(const LlamaConfig& config, size_t index, const ForwardSlice& slice) {
  if (slice.tokens.empty()) return Bad(index, "tokens", "must hold at least one token");
  for (size_t i = 0; i < slice.tokens.size(); ++i) {
    if (slice.tokens[i] < 0 || slice.tokens[i] >= config.vocab) {
      return Bad(
          index, "tokens",
          absl::StrCat("token ", slice.tokens[i], " at ", i, " is not in [0, ", config.vocab, ")"));
    }
  }
  const int64_t tokens = static_cast<int64_t>(slice.tokens.size());
  if (slice.position < 0 || tokens > config.window || slice.position > config.window - tokens) {
    return Bad(index, "position",
               absl::StrCat("position ", slice.position, " plus ", tokens,
                            " tokens must lie in the window of ", config.window));
  }
  return absl::OkStatus();
}

absl::Status CheckPages(size_t index, const ForwardSlice& slice) {
  const int64_t needed =
      kernels::KvPageLayout::PagesFor(slice.position + static_cast<int64_t>(slice.tokens.size()));
  if (static_cast<int64_t>(slice.pages.size()) < needed) {
    return Bad(index, "pages",
               absl::StrCat(slice.pages.size(), " pages, but ", needed, " are needed"));
  }
  for (int64_t page = 0; page < needed; ++page) {
    const auto address = reinterpret_cast<uintptr_t>(slice.pages[page]);
    if (address == 0 || address % 64 != 0) {
      return Bad(index, "pages", absl::StrCat("page ", page, " must be 64-byte aligned memory"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPolicy(const LlamaConfig& config, size_t index, const ForwardSlice& slice) {
  if (slice.policy == nullptr) return Bad(index, "policy", "is required");
  for (int layer = 0; layer < config.layers; ++layer) {
    if (slice.policy->KForLayer(layer) < 0) {
      return Bad(index, "policy",
                 absl::StrCat("layer ", layer, " keeps ", slice.policy->KForLayer(layer),
                              " keys; must be 0 (dense) or more"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSlices(const LlamaConfig& config, std::span<const ForwardSlice> slices) {
  for (size_t i = 0; i < slices.size(); ++i) {
    LECTERN_RETURN_IF_ERROR(CheckTokens(config, i, slices[i]));
    LECTERN_RETURN_IF_ERROR(CheckPages(i, slices[i]));
    LECTERN_RETURN_IF_ERROR(CheckPolicy(config, i, slices[i]));
  }
  return absl::OkStatus();
}

}  // namespace lectern
