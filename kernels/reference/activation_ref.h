// The activations of feed-forward layers in double precision. For tests only.
#pragma once

#include "kernels/ffn/ffn_activation.h"

namespace lectern::kernels {

double ReferenceActivation(FfnActivation activation, double z);

}  // namespace lectern::kernels
