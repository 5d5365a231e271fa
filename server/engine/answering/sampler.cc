#include "server/engine/answering/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace lectern {
namespace {

constexpr size_t kBlock = 256;
constexpr size_t kFirstSorted = 256;
constexpr float kLeastExponent = -27;  // e^-27 of the best token's probability is never drawn

// Computes four values at a time in SIMD registers: GCC 12 leaves the loop over a vocabulary
// scalar, which then costs a twentieth of a step for each answer.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
constexpr size_t kFloats = 4;

// Returns e^x for x in [kLeastExponent, 0] with a relative error of 4e-6, and 0 below: 2^r, r in
// [-1/2, 1/2], by its Taylor series to r^5, times 2^n by the bits of the exponent.
inline Floats Exp(Floats x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Ints in_range = x >= kLeastExponent;
  const Floats y = (in_range ? x : Floats{}) * 1.44269504f;
  const Floats shifted = y + kRound;
  const Floats r = (y - (shifted - kRound)) * 0.69314718f;
  const Floats power =
      1 + r * (1 + r * (1 / 2.0f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f)))));
  Ints bits, exponent;
  std::memcpy(&bits, &power, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits = (bits + (exponent << 23)) & in_range;  // the low bits of `shifted` are n
  Floats result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Computes e^((logits - largest) * scale).
void WriteWeights(std::span<const float> logits, float largest, float scale, float* weights) {
  const size_t whole = logits.size() / kFloats * kFloats;
  Floats x{};
  for (size_t id = 0; id < whole; id += kFloats) {
    std::memcpy(&x, logits.data() + id, sizeof x);
    x = Exp((x - largest) * scale);
    std::memcpy(weights + id, &x, sizeof x);
  }
  for (size_t id = whole; id < logits.size(); ++id) {
    weights[id] = Exp(Floats{(logits[id] - largest) * scale})[0];
  }
}

// Sums lane by lane, which compilers turn into SIMD instructions.
float LargestOf(std::span<const float> x) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(x[0]);
  const size_t whole = x.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  for (size_t i = whole; i < x.size(); ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes.begin(), lanes.end());
}

double SumOf(std::span<const float> x) {
  std::array<double, 4> sums{};
  const size_t whole = x.size() / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) {
    for (size_t j = 0; j < 4; ++j) sums[j] += x[i + j];
  }
  for (size_t i = whole; i < x.size(); ++i) sums[0] += x[i];
  return sums[0] + sums[1] + sums[2] + sums[3];
}

}  // namespace

int32_t Sampler::Next(std::span<const float> logits) {
  const float largest = LargestOf(logits);
  if (options_.temperature <= 0) {
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  }
  const float scale = 1.0f / options_.temperature;
  const size_t count = logits.size();
  weights_.resize(count);
  WriteWeights(logits, largest, scale, weights_.data());
  double total = 0;
  block_sums_.clear();
  for (size_t begin = 0; begin < count; begin += kBlock) {
    block_sums_.push_back(
        SumOf(std::span(weights_).subspan(begin, std::min(kBlock, count - begin))));
    total += block_sums_.back();
  }
  const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
  return options_.top_p < 1 ? DrawFromNucleus(uniform, total) : Draw(uniform * total);
}

int32_t Sampler::Draw(double draw) const {
  size_t block = 0;
  while (block + 1 < block_sums_.size() && draw >= block_sums_[block]) draw -= block_sums_[block++];
  int32_t last = 0;  // the result if rounding puts the draw beyond the sum
  const size_t end = std::min(weights_.size(), (block + 1) * kBlock);
  for (size_t id = block * kBlock; id < end; ++id) {
    if (weights_[id] == 0) continue;
    last = static_cast<int32_t>(id);
    draw -= weights_[id];
    if (draw < 0) break;
  }
  return last;
}

// Sorting a whole vocabulary costs as much as half a decode step of a small model. Tokens below
// (1 - top_p) of an equal share are left out at once: together they have less probability than may
// stay outside the set. The others are sorted in growing pieces until enough are sorted.
int32_t Sampler::DrawFromNucleus(double uniform, double total) {
  const auto likelier = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  candidates_.clear();
  const double least = (1 - options_.top_p) * total / static_cast<double>(weights_.size());
  for (size_t id = 0; id < weights_.size(); ++id) {
    if (weights_[id] >= least) candidates_.emplace_back(weights_[id], static_cast<int32_t>(id));
  }
  const double wanted = options_.top_p * total;
  double reached = 0;
  size_t count = 0;
  for (size_t sorted = 0; count < candidates_.size() && (count == 0 || reached < wanted); ++count) {
    if (count == sorted) {
      const auto begin = candidates_.begin() + static_cast<int64_t>(sorted);
      sorted = std::min(candidates_.size(), std::max(kFirstSorted, 4 * sorted));
      const auto end = candidates_.begin() + static_cast<int64_t>(sorted);
      std::nth_element(begin, end - 1, candidates_.end(), likelier);
      std::sort(begin, end, likelier);
    }
    reached += candidates_[count].first;
  }
  double draw = uniform * reached;
  for (size_t i = 0; i < count; ++i) {
    draw -= candidates_[i].first;
    if (draw < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

}  // namespace lectern
