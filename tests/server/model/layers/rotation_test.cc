// The rotation of the residual stream: orthogonal at every size, the same by rows and by columns.
#include "server/model/layers/rotation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace lectern {
namespace {

std::vector<float> Identity(int64_t n) {
  std::vector<float> x(n * n, 0.0f);
  for (int64_t i = 0; i < n; ++i) x[i * n + i] = 1.0f;
  return x;
}

class RotationTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(RotationTest, IsOrthogonal) {
  const int64_t n = GetParam();
  const Rotation rotation(n);
  ASSERT_EQ(rotation.size(), n);
  std::vector<float> q = Identity(n), scratch(n);
  rotation.ApplyToRows(q.data(), n, scratch.data());
  // Each entry is a sum of `odd` products and log2(power) additions of values of at most 1.
  const double tolerance = 1e-7 * (rotation.odd() + 16);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (int64_t c = 0; c < n; ++c) dot += static_cast<double>(q[i * n + c]) * q[j * n + c];
      ASSERT_NEAR(dot, i == j ? 1 : 0, tolerance) << i << ", " << j;
    }
  }
}

TEST_P(RotationTest, ColumnsAreTheTranspose) {
  const int64_t n = GetParam();
  const Rotation rotation(n);
  std::vector<float> q = Identity(n), qt = Identity(n), scratch(n * rotation.odd());
  rotation.ApplyToRows(q.data(), n, scratch.data());
  rotation.ApplyToColumns(qt.data(), n, scratch.data());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) ASSERT_NEAR(q[i * n + j], qt[j * n + i], 1e-6);
  }
}

TEST_P(RotationTest, SpreadsOutliersAndMeans) {
  const int64_t n = GetParam();
  if (n < 64) GTEST_SKIP() << "too narrow to spread over";
  const Rotation rotation(n);
  std::vector<float> scratch(n);
  // A single channel and a constant vector, both of norm 1.
  for (const bool constant : {false, true}) {
    std::vector<float> x(n, constant ? 1.0f / std::sqrt(static_cast<float>(n)) : 0.0f);
    if (!constant) x[n / 3] = 1.0f;
    rotation.ApplyToRows(x.data(), 1, scratch.data());
    for (const float value : x) EXPECT_LT(std::abs(value), 0.5f);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RotationTest, ::testing::Values(1, 2, 3, 6, 12, 64, 96, 576, 896));

TEST(PowerOfTwoFactorTest, Divides) {
  EXPECT_EQ(PowerOfTwoFactor(1), 1);
  EXPECT_EQ(PowerOfTwoFactor(576), 64);
  EXPECT_EQ(PowerOfTwoFactor(1536), 512);
  EXPECT_EQ(PowerOfTwoFactor(2048), 2048);
}

}  // namespace
}  // namespace lectern
