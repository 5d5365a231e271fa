#include "kernels/reference/activation_ref.h"

#include <algorithm>
#include <cmath>

namespace lectern::kernels {

double ReferenceActivation(FfnActivation activation, double z) {
  switch (activation) {
    case FfnActivation::kIdentity:
      return z;
    case FfnActivation::kRelu:
      return std::max(z, 0.0);
    case FfnActivation::kGelu:
      return 0.5 * z * std::erfc(-z / std::sqrt(2.0));
    case FfnActivation::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
    case FfnActivation::kSilu:
      return z / (1 + std::exp(-z));
  }
  return 0;
}

}  // namespace lectern::kernels
