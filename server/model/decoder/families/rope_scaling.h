// Frequencies of rotary position embedding (RoPE) and the ways in which models are extended to
// longer contexts. With rotated channels r and theta, the unscaled frequency of pair i is
// theta^(-2i/r). The formulas are those of Hugging Face's modeling_rope_utils.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/model/decoder/decoder_config.h"

namespace lectern {

// How frequencies are scaled; every type reads only the fields named with it.
struct RopeScaling {
  enum class Type {
    kDefault,   // not scaled
    kLinear,    // divided by `factor`
    kLlama3,    // long wavelengths divided by `factor`, short ones kept (Llama 3.1)
    kYarn,      // likewise along a ramp over the pairs (Peng et al. 2023, arXiv 2309.00071)
    kLongrope,  // divided by one factor for each pair (Ding et al. 2024, arXiv 2402.13753)
  };
  Type type = Type::kDefault;
  double factor = 1;                 // linear, llama3, yarn, longrope
  int64_t original_context = 0;      // before it was extended: llama3, yarn, longrope; 0: not named
  double low_frequency_factor = 1;   // llama3
  double high_frequency_factor = 4;  // llama3
  double beta_fast = 32;             // yarn: turns within the original context at the ramp's start
  double beta_slow = 1;              // and at its end
  bool truncate = true;              // yarn: the ramp starts and ends at whole pairs
  double mscale = 0;                 // yarn, with mscale_all_dim; 0: not named
  double mscale_all_dim = 0;
  double attention_factor = 0;  // yarn, longrope: on cosine and sine; 0: follows from `factor`
  std::vector<double> short_factors;  // [r / 2], longrope up to original_context
  std::vector<double> long_factors;   // [r / 2], longrope beyond
  std::vector<double>
      divisors;  // [r / 2] for every type, after scaling (GGUF rope_freqs); or empty
};

// Reads a type by its name in model files ("none" is another name of "default"); `known` is set to
// false for other names.
RopeScaling::Type RopeScalingType(std::string_view name, bool* known);
// The names, for messages: "default, linear, ...".
std::string_view RopeScalingNames();

// The reason, in words, why the fields are out of range or do not fit `rotated` channels; "" if
// they do. `rotated` is even and positive.
std::string RopeScalingFault(const RopeScaling& scaling, int64_t rotated);

// The context that linear scaling or yarn reaches from `original_context`; 0 if that is not named.
// Files with another type already count it in their context length.
int64_t ScaledContext(const RopeScaling& scaling);

// The table of RoPE over the first `rotated` channels of a head. A model that reads at most
// `context_length` positions takes longrope's short or long factors once for all of them, because
// keys are kept rotated. `scaling` has no fault, theta is above 1.
RopeConfig MakeRope(double theta, int64_t rotated, const RopeScaling& scaling,
                    int64_t context_length);

}  // namespace lectern
