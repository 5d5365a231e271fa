// RoPE scalings against values that another implementation of their formulas gave, and against
// what the formulas imply at their limits.
#include "server/model/decoder/families/rope_scaling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lectern {
namespace {

using ::testing::HasSubstr;
using Type = RopeScaling::Type;

void ExpectFrequencies(const RopeConfig& rope, const std::vector<double>& want) {
  ASSERT_EQ(rope.inverse_frequencies.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(rope.inverse_frequencies[i], want[i], 1e-13 * want[i]) << "pair " << i;
  }
}

TEST(RopeScalingTest, Default) {
  const RopeConfig rope = MakeRope(10'000, 8, {}, 512);
  ExpectFrequencies(rope, {1, 0.1, 0.01, 0.001});
  EXPECT_EQ(rope.factor, 1);
}

TEST(RopeScalingTest, PartOfAHead) {
  // Exponents follow from the rotated channels, not from the head.
  ExpectFrequencies(MakeRope(10'000, 4, {}, 512), {1, 0.01});
}

TEST(RopeScalingTest, Linear) {
  const RopeConfig rope = MakeRope(10'000, 8, {.type = Type::kLinear, .factor = 8}, 512);
  ExpectFrequencies(rope, {0.125, 0.0125, 0.00125, 0.000125});
  EXPECT_EQ(rope.factor, 1);
}

TEST(RopeScalingTest, DivisorsOfTheFile) {
  const RopeConfig rope = MakeRope(10'000, 8, {.divisors = {1, 2, 4, 8}}, 512);
  ExpectFrequencies(rope, {1, 0.05, 0.0025, 0.000125});
}

TEST(RopeScalingTest, Llama3) {
  const RopeScaling scaling = {.type = Type::kLlama3,
                               .factor = 8,
                               .original_context = 8192,
                               .low_frequency_factor = 1,
                               .high_frequency_factor = 4};
  const RopeConfig rope = MakeRope(500'000, 16, scaling, 131'072);
  ExpectFrequencies(
      rope, {1, 0.193922744748686, 0.0376060309308639, 0.00729266473721711, 0.000524846160992955,
             3.42810219595259e-05, 6.64786987118124e-06, 1.28917317215156e-06});
  EXPECT_EQ(rope.factor, 1);
}

TEST(RopeScalingTest, Yarn) {
  const RopeScaling scaling = {.type = Type::kYarn, .factor = 4, .original_context = 32'768};
  const RopeConfig rope = MakeRope(1'000'000, 16, scaling, 131'072);
  ExpectFrequencies(rope, {1, 0.177827941003892, 0.0316227766016838, 0.00421755993892762, 0.0005,
                           4.44569852509731e-05, 7.90569415042095e-06, 1.40585331297587e-06});
  EXPECT_NEAR(rope.factor, 1.138629436111989, 1e-15);
}

TEST(RopeScalingTest, YarnWithItsOwnRamp) {
  RopeScaling scaling = {.type = Type::kYarn,
                         .factor = 8,
                         .original_context = 2048,
                         .beta_fast = 24,
                         .beta_slow = 2,
                         .truncate = false};
  ExpectFrequencies(MakeRope(10'000, 16, scaling, 16'384),
                    {1, 0.316227766016838, 0.1, 0.0222114229440048, 0.00296986937251033,
                     0.000395284707521047, 0.000125, 3.95284707521047e-05});
  scaling.attention_factor = 1.05;
  EXPECT_EQ(MakeRope(10'000, 16, scaling, 16'384).factor, 1.05);
}

TEST(RopeScalingTest, YarnFactorOfMscale) {
  const RopeScaling scaling = {.type = Type::kYarn,
                               .factor = 40,
                               .original_context = 4096,
                               .mscale = 0.707,
                               .mscale_all_dim = 1};
  EXPECT_NEAR(MakeRope(10'000, 16, scaling, 163'840).factor, 0.9210423553163399, 1e-15);
}

TEST(RopeScalingTest, YarnThatDoesNotExtendChangesNothing) {
  const RopeScaling scaling = {.type = Type::kYarn, .factor = 1, .original_context = 4096};
  const RopeConfig rope = MakeRope(10'000, 16, scaling, 4096);
  EXPECT_EQ(rope.factor, 1);
  ExpectFrequencies(rope, MakeRope(10'000, 16, {}, 4096).inverse_frequencies);
}

RopeScaling Longrope() {
  return {.type = Type::kLongrope,
          .factor = 32,
          .original_context = 4096,
          .short_factors = {1, 1.25, 2, 4},
          .long_factors = {2, 5, 10, 20}};
}

TEST(RopeScalingTest, LongropeTakesItsFactorsByTheContextLength) {
  const RopeConfig at_original = MakeRope(10'000, 8, Longrope(), 4096);
  ExpectFrequencies(at_original, {1, 0.08, 0.005, 0.00025});
  const RopeConfig beyond = MakeRope(10'000, 8, Longrope(), 4097);
  ExpectFrequencies(beyond, {0.5, 0.02, 0.001, 0.00005});
  for (const RopeConfig& rope : {at_original, beyond}) {
    EXPECT_NEAR(rope.factor, 1.1902380714238083, 1e-15);
  }
}

TEST(RopeScalingTest, LongropeFactorOfTheFile) {
  RopeScaling scaling = Longrope();
  scaling.attention_factor = 1.25;
  EXPECT_EQ(MakeRope(10'000, 8, scaling, 4096).factor, 1.25);
  scaling.attention_factor = 0;
  scaling.factor = 0.5;
  EXPECT_EQ(MakeRope(10'000, 8, scaling, 4096).factor, 1);
}

TEST(RopeScalingTest, ScaledContext) {
  EXPECT_EQ(ScaledContext({.type = Type::kYarn, .factor = 4, .original_context = 32'768}), 131'072);
  EXPECT_EQ(ScaledContext({.type = Type::kLinear, .factor = 2.5, .original_context = 4096}),
            10'240);
  EXPECT_EQ(ScaledContext({.type = Type::kLinear, .factor = 4}), 0);
  // Llama 3.2: 8192 * 32 is more than the model was trained for.
  EXPECT_EQ(ScaledContext({.type = Type::kLlama3, .factor = 32, .original_context = 8192}), 0);
  EXPECT_EQ(ScaledContext({.type = Type::kYarn, .factor = 1e6, .original_context = 1 << 20}),
            1 << 20);
}

TEST(RopeScalingTest, Faults) {
  struct Case {
    RopeScaling scaling;
    const char* why;
  };
  RopeScaling few = Longrope();
  few.long_factors.pop_back();
  RopeScaling negative = Longrope();
  negative.short_factors[1] = -1;
  RopeScaling without_original = Longrope();
  without_original.original_context = 1;
  const Case table[] = {
      {{.type = Type::kLinear, .factor = 0}, "factor 0 is out of range"},
      {{.type = Type::kLinear, .factor = std::nan("")}, "factor nan is out of range"},
      {{.type = Type::kLinear, .factor = 1e300}, "factor 1e+300 is out of range"},
      {{.type = Type::kYarn, .factor = 2}, "original context length 0 is not from 2"},
      {{.type = Type::kYarn, .factor = 2, .original_context = 64, .beta_fast = -1}, "beta -1"},
      {{.type = Type::kYarn, .factor = 2, .original_context = 64, .mscale = -1}, "mscale -1"},
      {{.type = Type::kYarn, .factor = 2, .original_context = 64, .attention_factor = -1},
       "attention_factor -1"},
      {{.type = Type::kLlama3, .factor = 2, .original_context = 64, .low_frequency_factor = 8},
       "low_freq_factor 8 must be below high_freq_factor 4"},
      {few, "long_factor has 3 values, not 4"},
      {negative, "short_factor holds -1"},
      {without_original, "original context length 1 is not from 2"},
      {{.divisors = {1, 2}}, "rope_freqs.weight has 2 values, not 4"},
      {{.divisors = {1, 2, 0, 1}}, "rope_freqs.weight holds 0"},
  };
  for (const Case& one : table) {
    EXPECT_THAT(RopeScalingFault(one.scaling, 8), HasSubstr(one.why));
  }
  EXPECT_EQ(RopeScalingFault(Longrope(), 8), "");
  EXPECT_EQ(RopeScalingFault({}, 8), "");
}

TEST(RopeScalingTest, Names) {
  const std::pair<const char*, Type> table[] = {
      {"default", Type::kDefault}, {"none", Type::kDefault}, {"linear", Type::kLinear},
      {"llama3", Type::kLlama3},   {"yarn", Type::kYarn},    {"longrope", Type::kLongrope}};
  bool known;
  for (const auto& [name, type] : table) {
    EXPECT_EQ(RopeScalingType(name, &known), type) << name;
    EXPECT_TRUE(known) << name;
  }
  RopeScalingType("dynamic", &known);
  EXPECT_FALSE(known);
}

}  // namespace
}  // namespace lectern
