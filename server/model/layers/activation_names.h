// The names that config.json files use for activations.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "kernels/ffn/ffn_activation.h"

namespace lectern {

// nullopt for a name that this build does not compute.
std::optional<kernels::FfnActivation> ActivationNamed(std::string_view name);

// All names, for messages: "gelu, gelu_new, ...".
std::string ActivationNames();

}  // namespace lectern
