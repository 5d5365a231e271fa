#include "server/model/decoder/families/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

using Type = RopeScaling::Type;

constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxOriginalContext = 1 << 20;

bool InRange(double value) { return value > 0 && value <= kMaxFactor; }  // false for NaN

double Llama3Frequency(double frequency, const RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_context);
  const double turns = original * frequency / (2 * std::numbers::pi);  // within the context
  if (turns > scaling.high_frequency_factor) return frequency;
  if (turns < scaling.low_frequency_factor) return frequency / scaling.factor;
  const double smooth = (turns - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

// The pair, as a real number, that turns `turns` times within the original context.
double YarnPair(double turns, double theta, int64_t rotated, const RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_context);
  return static_cast<double>(rotated) * std::log(original / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(theta));
}

void ScaleYarn(double theta, int64_t rotated, const RopeScaling& scaling,
               std::vector<double>& frequencies) {
  double low = YarnPair(scaling.beta_fast, theta, rotated, scaling);
  double high = YarnPair(scaling.beta_slow, theta, rotated, scaling);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotated - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= ramp / scaling.factor + (1 - ramp);
  }
}

double YarnFactor(const RopeScaling& scaling) {
  if (scaling.attention_factor > 0) return scaling.attention_factor;
  if (scaling.factor <= 1) return 1;
  const double log = std::log(scaling.factor);
  if (scaling.mscale > 0 && scaling.mscale_all_dim > 0) {
    return (0.1 * scaling.mscale * log + 1) / (0.1 * scaling.mscale_all_dim * log + 1);
  }
  return 0.1 * log + 1;
}

double LongropeFactor(const RopeScaling& scaling) {
  if (scaling.attention_factor > 0) return scaling.attention_factor;
  if (scaling.factor <= 1) return 1;
  return std::sqrt(1 + std::log(scaling.factor) /
                           std::log(static_cast<double>(scaling.original_context)));
}

void Divide(const std::vector<double>& divisors, std::vector<double>& frequencies) {
  for (size_t i = 0; i < divisors.size(); ++i) frequencies[i] /= divisors[i];
}

std::string FaultOfList(std::string_view name, const std::vector<double>& list, int64_t rotated) {
  if (static_cast<int64_t>(list.size()) != rotated / 2) {
    return absl::StrCat(std::string(name), " has ", list.size(), " values, not ", rotated / 2);
  }
  for (const double value : list) {
    if (!InRange(value)) return absl::StrCat(std::string(name), " holds ", value);
  }
  return "";
}

std::string FaultOfLlama3(const RopeScaling& scaling) {
  const double low = scaling.low_frequency_factor, high = scaling.high_frequency_factor;
  if (InRange(low) && InRange(high) && low < high) return "";
  return absl::StrCat("low_freq_factor ", low, " must be below high_freq_factor ", high);
}

std::string FaultOfYarn(const RopeScaling& scaling) {
  for (const double beta : {scaling.beta_fast, scaling.beta_slow}) {
    if (!InRange(beta)) return absl::StrCat("beta ", beta, " is out of range");
  }
  const bool named = scaling.mscale != 0 || scaling.mscale_all_dim != 0;
  if (named && !(scaling.mscale >= 0 && scaling.mscale <= kMaxFactor &&
                 scaling.mscale_all_dim >= 0 && scaling.mscale_all_dim <= kMaxFactor)) {
    return absl::StrCat("mscale ", scaling.mscale, " and mscale_all_dim ", scaling.mscale_all_dim,
                        " are out of range");
  }
  return "";
}

std::string FaultOfType(const RopeScaling& scaling, int64_t rotated) {
  switch (scaling.type) {
    case Type::kDefault:
    case Type::kLinear:
      return "";
    case Type::kLlama3:
      return FaultOfLlama3(scaling);
    case Type::kYarn:
      return FaultOfYarn(scaling);
    case Type::kLongrope: {
      const std::string fault = FaultOfList("short_factor", scaling.short_factors, rotated);
      return !fault.empty() ? fault : FaultOfList("long_factor", scaling.long_factors, rotated);
    }
  }
  return "";
}

}  // namespace

RopeScaling::Type RopeScalingType(std::string_view name, bool* known) {
  *known = true;
  if (name == "default" || name == "none") return Type::kDefault;
  if (name == "linear") return Type::kLinear;
  if (name == "llama3") return Type::kLlama3;
  if (name == "yarn") return Type::kYarn;
  if (name == "longrope") return Type::kLongrope;
  *known = false;
  return Type::kDefault;
}

std::string_view RopeScalingNames() { return "default, linear, llama3, yarn and longrope"; }

std::string RopeScalingFault(const RopeScaling& scaling, int64_t rotated) {
  if (!scaling.divisors.empty()) {
    const std::string fault = FaultOfList("rope_freqs.weight", scaling.divisors, rotated);
    if (!fault.empty()) return fault;
  }
  if (scaling.type == Type::kDefault) return "";
  if (!InRange(scaling.factor)) return absl::StrCat("factor ", scaling.factor, " is out of range");
  if (scaling.attention_factor != 0 && !InRange(scaling.attention_factor)) {
    return absl::StrCat("attention_factor ", scaling.attention_factor, " is out of range");
  }
  const bool needs_original = scaling.type != Type::kLinear;
  // Above 1, since longrope divides by its logarithm.
  if (needs_original &&
      (scaling.original_context < 2 || scaling.original_context > kMaxOriginalContext)) {
    return absl::StrCat("original context length ", scaling.original_context, " is not from 2 to ",
                        kMaxOriginalContext);
  }
  return FaultOfType(scaling, rotated);
}

int64_t ScaledContext(const RopeScaling& scaling) {
  const bool extends = scaling.type == Type::kLinear || scaling.type == Type::kYarn;
  if (!extends || scaling.original_context <= 0) return 0;
  const double reached = static_cast<double>(scaling.original_context) * scaling.factor;
  return std::llround(std::min(reached, static_cast<double>(kMaxOriginalContext)));
}

RopeConfig MakeRope(double theta, int64_t rotated, const RopeScaling& scaling,
                    int64_t context_length) {
  RopeConfig rope;
  std::vector<double>& frequencies = rope.inverse_frequencies;
  for (int64_t i = 0; i < rotated; i += 2) {
    frequencies.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(rotated)));
  }
  switch (scaling.type) {
    case Type::kDefault:
      break;
    case Type::kLinear:
      for (double& frequency : frequencies) frequency /= scaling.factor;
      break;
    case Type::kLlama3:
      for (double& frequency : frequencies) frequency = Llama3Frequency(frequency, scaling);
      break;
    case Type::kYarn:
      ScaleYarn(theta, rotated, scaling, frequencies);
      rope.factor = YarnFactor(scaling);
      break;
    case Type::kLongrope:
      Divide(
          context_length > scaling.original_context ? scaling.long_factors : scaling.short_factors,
          frequencies);
      rope.factor = LongropeFactor(scaling);
      break;
  }
  Divide(scaling.divisors, frequencies);
  return rope;
}

}  // namespace lectern
