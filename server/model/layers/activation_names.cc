#include "server/model/layers/activation_names.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

using kernels::FfnActivation;

// Several names mean the same function; gelu_fast differs from gelu_new in the order of its
// products only.
constexpr std::pair<std::string_view, FfnActivation> kNames[] = {
    {"gelu", FfnActivation::kGelu},          {"gelu_python", FfnActivation::kGelu},
    {"gelu_new", FfnActivation::kGeluTanh},  {"gelu_pytorch_tanh", FfnActivation::kGeluTanh},
    {"gelu_fast", FfnActivation::kGeluTanh}, {"relu", FfnActivation::kRelu},
    {"silu", FfnActivation::kSilu},          {"swish", FfnActivation::kSilu},
};

}  // namespace

std::optional<FfnActivation> ActivationNamed(std::string_view name) {
  for (const auto& [known, activation] : kNames) {
    if (name == known) return activation;
  }
  return std::nullopt;
}

std::string ActivationNames() {
  std::string names;
  for (const auto& [name, activation] : kNames) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(name));
  }
  return names;
}

}  // namespace lectern
