// The function between the two matrices of a feed-forward layer.
#pragma once

namespace lectern::kernels {

enum class FfnActivation {
  kIdentity,
  kRelu,      // max(z, 0)
  kGelu,      // z Phi(z) with the normal distribution function Phi (BERT)
  kGeluTanh,  // z / 2 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) (T5 v1.1)
  kSilu,      // z / (1 + e^-z) (Llama)
};

}  // namespace lectern::kernels
