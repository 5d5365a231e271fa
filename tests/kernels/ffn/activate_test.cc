// Compares the activations with double precision.
#include "kernels/ffn/activate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/activation_ref.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

constexpr double kEps = 0x1p-24;  // half a unit in the last place
constexpr FfnActivation kAllActivations[] = {FfnActivation::kIdentity, FfnActivation::kRelu,
                                             FfnActivation::kGelu, FfnActivation::kGeluTanh,
                                             FfnActivation::kSilu};

class ActivateTest : public IsaTest {};

// Relative error of e^x: the reduction error |n| u ln2_low and two roundings of r (below 2 u), the
// last steps of the polynomial and the scaling (2 u), the truncated series (u / 10). Then 1 + e,
// the division and two products: 4 u. Ten units leave room for the inner steps of the polynomial.
TEST_P(ActivateTest, IsAccurateFarFromZero) {
  for (const FfnActivation activation : kAllActivations) {
    std::vector<float> z;
    for (float magnitude = 1e-30f; magnitude < 300; magnitude *= 1.02f) {
      z.insert(z.end(), {magnitude, -magnitude});
    }
    for (float x = -20; x < 20; x += 0.0071f) z.push_back(x);
    z.push_back(0);
    const auto cols = static_cast<int64_t>(z.size());
    std::vector<float> out(z.size());
    ASSERT_TRUE(
        Ok(Activate(activation, z.data(), cols, nullptr, 0, 1, cols, out.data(), cols, Context())));
    for (size_t i = 0; i < z.size(); ++i) {
      ASSERT_NEAR(out[i], ReferenceActivation(activation, z[i]), 10 * kEps * std::fabs(z[i]))
          << "at " << z[i] << " activation " << static_cast<int>(activation);
    }
  }
}

TEST_P(ActivateTest, SurvivesFarTails) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> z = {-1000.0f, -90.0f, -3e38f, 90.0f, 1000.0f, 3e38f, nan};
  for (const FfnActivation activation : kAllActivations) {
    if (activation == FfnActivation::kIdentity) continue;
    SCOPED_TRACE(static_cast<int>(activation));
    std::vector<float> out(z.size());
    ASSERT_TRUE(Ok(Activate(activation, z.data(), 7, nullptr, 0, 1, 7, out.data(), 7, Context())));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(out[i], 0.0f) << z[i];
    for (int i = 3; i < 6; ++i) EXPECT_EQ(out[i], z[i]) << z[i];
    EXPECT_TRUE(std::isnan(out[6]));
  }
}

// The bits of an element depend on nothing else.
TEST_P(ActivateTest, PlaceInTheRowDoesNotChangeABit) {
  const std::vector<float> z = Normal(61, 7), up = Normal(61, 8);
  for (const FfnActivation activation : kAllActivations) {
    std::vector<float> out(z.size());
    ASSERT_TRUE(
        Ok(Activate(activation, z.data(), 61, up.data(), 61, 1, 61, out.data(), 61, Context())));
    for (size_t i = 0; i < z.size(); ++i) {
      float alone = 0;
      ASSERT_TRUE(Ok(Activate(activation, &z[i], 1, &up[i], 1, 1, 1, &alone, 1, Context())));
      ASSERT_EQ(out[i], alone) << "element " << i;
    }
  }
}

TEST_P(ActivateTest, MultipliesInPlaceWithStridesOnAnyNumberOfThreads) {
  const int64_t rows = 40, cols = 1001, stride = 2 * cols + 3;
  std::vector<float> before(rows * stride);
  for (int64_t i = 0; i < rows * stride; ++i) before[i] = static_cast<float>(i % 37 - 18) * 0.25f;
  for (const FfnActivation activation : kAllActivations) {
    std::vector<float> plain(rows * cols), x = before;
    ASSERT_TRUE(Ok(Activate(activation, before.data(), stride, nullptr, 0, rows, cols, plain.data(),
                            cols, Context())));
    ASSERT_TRUE(Ok(Activate(activation, x.data(), stride, x.data() + cols, stride, rows, cols,
                            x.data(), stride, Context(3))));
    for (int64_t i = 0; i < rows * stride; ++i) {
      const int64_t row = i / stride, c = i % stride;
      const float want = c < cols ? plain[row * cols + c] * before[i + cols] : before[i];
      ASSERT_EQ(x[i], want) << "row " << row << " column " << c;
    }
  }
}

TEST_P(ActivateTest, RefusesBadArguments) {
  std::vector<float> x(8);
  const auto run = [&](const float* z, int64_t stride, int64_t rows, int64_t cols, float* out) {
    return Activate(FfnActivation::kRelu, z, stride, nullptr, 0, rows, cols, out, 4, Context());
  };
  EXPECT_EQ(run(x.data(), 4, 2, 4, x.data()), LaunchStatus::kOk);
  EXPECT_EQ(run(nullptr, 4, 0, 4, nullptr), LaunchStatus::kOk);
  EXPECT_EQ(run(x.data(), 3, 2, 4, x.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 4, -1, 4, x.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 4, 1, 0, x.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(nullptr, 4, 1, 4, x.data()), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(x.data(), 4, 1, 4, nullptr), LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(All, ActivateTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
