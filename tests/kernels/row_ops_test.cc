// Compares add_bias, add_scaled, rms_norm, layer_norm, rope, cap_rows and hadamard with double
// precision. u = 2^-24 is the unit roundoff of a float; every bound counts roundings.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "kernels/rows/add_bias.h"
#include "kernels/rows/add_scaled.h"
#include "kernels/rows/cap_rows.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/layer_norm.h"
#include "kernels/rows/rms_norm.h"
#include "kernels/rows/rope.h"
#include "tests/kernels/apply_rope.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

const double kUnit = std::ldexp(1.0, -24);

using RmsNormTest = IsaTest;
using CapRowsTest = IsaTest;
using LayerNormTest = IsaTest;
using RopeTest = IsaTest;
using HadamardTest = IsaTest;

TEST_P(RmsNormTest, MatchesDouble) {
  const float eps = 1e-5f;
  for (int64_t cols : {1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 576, 1001}) {
    const int64_t rows = 5;
    const std::vector<float> x = Normal(rows * cols, cols), weight = Normal(cols, 2);
    for (const float* g : {weight.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> y(rows * cols);
      ASSERT_EQ(RmsNorm(x.data(), rows, cols, g, eps, y.data(), Context(2)), LaunchStatus::kOk);
      for (int64_t i = 0; i < rows * cols; ++i) {
        double squares = 0.0;
        const float* row = x.data() + i / cols * cols;
        for (int64_t j = 0; j < cols; ++j) squares += static_cast<double>(row[j]) * row[j];
        const double exact =
            x[i] / std::sqrt(squares / cols + eps) * (g == nullptr ? 1.0 : g[i % cols]);
        // The sum of squares carries at most cols + 1 roundings, all of one sign; the root halves
        // them. Six more: division, eps, root, inverse and two products.
        const double bound = ((cols + 1) / 2.0 + 6) * kUnit * std::fabs(exact);
        ASSERT_NEAR(y[i], exact, bound) << cols << " columns, element " << i;
      }
    }
  }
}

TEST_P(RmsNormTest, AddsToRows) {
  const int64_t rows = 70, cols = 577;
  const std::vector<float> a = Normal(rows * cols, 9), weight = Normal(cols, 10);
  const std::vector<float> before = Normal(rows * cols, 11);
  const float factor = 0.3f, eps = 1e-5f;
  std::vector<float> normed(rows * cols);
  ASSERT_EQ(RmsNorm(a.data(), rows, cols, weight.data(), eps, normed.data(), Context()),
            LaunchStatus::kOk);
  for (const int threads : {1, 3}) {
    std::vector<float> x = before;
    ASSERT_EQ(
        RmsNormAdd(a.data(), rows, cols, weight.data(), eps, factor, x.data(), Context(threads)),
        LaunchStatus::kOk);
    for (int64_t i = 0; i < rows * cols; ++i) ASSERT_EQ(x[i], before[i] + factor * normed[i]) << i;
  }
  float x = 0;
  EXPECT_EQ(RmsNormAdd(a.data(), 1, 1, nullptr, eps, 1, &x, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(RmsNormAdd(a.data(), 1, 1, &x, -1, 1, &x, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(RmsNormAdd(a.data(), 1, 0, &x, eps, 1, &x, Context()), LaunchStatus::kBadShape);
}

TEST_P(RmsNormTest, InPlaceAndInvariantToBatchAndThreads) {
  const int64_t rows = 200, cols = 577;
  const std::vector<float> x = Normal(rows * cols, 3), weight = Normal(cols, 4);
  std::vector<float> together = x;
  ASSERT_EQ(RmsNorm(x.data(), rows, cols, weight.data(), 1e-6f, together.data(), Context()),
            LaunchStatus::kOk);
  std::vector<float> in_place = x;
  ASSERT_EQ(RmsNorm(in_place.data(), rows, cols, weight.data(), 1e-6f, in_place.data(), Context(4)),
            LaunchStatus::kOk);
  EXPECT_EQ(in_place, together);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<float> alone(cols);
    ASSERT_EQ(
        RmsNorm(x.data() + row * cols, 1, cols, weight.data(), 1e-6f, alone.data(), Context(2)),
        LaunchStatus::kOk);
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * cols));
  }
}

TEST_P(LayerNormTest, MatchesDouble) {
  const float eps = 1e-12f;
  for (int64_t cols : {2, 3, 7, 8, 15, 16, 17, 33, 768, 1001}) {
    const int64_t rows = 3;
    std::vector<float> x = Normal(rows * cols, cols);
    for (float& value : x) value += 3.0f;  // a mean that must go
    const std::vector<float> weight = Normal(cols, 2), bias = Normal(cols, 3);
    std::vector<float> y(rows * cols);
    ASSERT_EQ(
        LayerNorm(x.data(), rows, cols, weight.data(), bias.data(), eps, y.data(), Context(2)),
        LaunchStatus::kOk);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float* row = x.data() + i / cols * cols;
      double mean = 0, squares = 0, magnitude = 0;
      for (int64_t j = 0; j < cols; ++j) mean += row[j] / static_cast<double>(cols);
      for (int64_t j = 0; j < cols; ++j) {
        squares += (row[j] - mean) * (row[j] - mean);
        magnitude = std::max(magnitude, std::fabs(static_cast<double>(row[j])));
      }
      const double deviation = std::sqrt(squares / static_cast<double>(cols) + eps);
      const double exact = (row[i % cols] - mean) / deviation * weight[i % cols] + bias[i % cols];
      // The mean carries cols roundings of values up to the largest; the variance twice that and
      // cols more; six on the way out.
      const double unit = static_cast<double>(cols + 6) * kUnit;
      const double bound = (2 * unit * magnitude / deviation + unit * std::fabs(exact)) *
                               (1 + std::fabs(weight[i % cols]) + std::fabs(exact)) +
                           unit * std::fabs(bias[i % cols]);
      ASSERT_NEAR(y[i], exact, bound) << cols << " columns, element " << i;
    }
  }
}

TEST_P(LayerNormTest, InPlaceAndInvariantToBatchAndThreads) {
  const int64_t rows = 200, cols = 577;
  const std::vector<float> x = Normal(rows * cols, 3), weight = Normal(cols, 4),
                           bias = Normal(cols, 5);
  std::vector<float> together = x;
  ASSERT_EQ(LayerNorm(together.data(), rows, cols, weight.data(), bias.data(), 1e-6f,
                      together.data(), Context(4)),
            LaunchStatus::kOk);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<float> alone(cols);
    ASSERT_EQ(LayerNorm(x.data() + row * cols, 1, cols, weight.data(), bias.data(), 1e-6f,
                        alone.data(), Context()),
              LaunchStatus::kOk);
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + row * cols));
  }
  EXPECT_EQ(LayerNorm(x.data(), 1, cols, nullptr, bias.data(), 0, together.data(), Context()),
            LaunchStatus::kBadArgument);
}

TEST(AddScaledTest, AddsOnAnyNumberOfThreads) {
  const int64_t rows = 70, cols = 577;
  const std::vector<float> x = Normal(rows * cols, 7), before = Normal(rows * cols, 8);
  const float factor = 0.22f;
  for (const int threads : {1, 2, 3}) {
    std::vector<float> y = before;
    ExecutionContext context;
    context.num_threads = threads;
    ASSERT_EQ(AddScaled(x.data(), rows, cols, factor, y.data(), context), LaunchStatus::kOk);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const double exact = before[i] + static_cast<double>(factor) * x[i];
      // A product and a sum.
      const double bound = 2 * kUnit * (std::fabs(before[i]) + 2 * std::fabs(factor * x[i]));
      ASSERT_NEAR(y[i], exact, bound) << i;
    }
  }
  float y = 0;
  const ExecutionContext context;
  EXPECT_EQ(AddScaled(x.data(), 0, 1, factor, nullptr, context), LaunchStatus::kOk);
  EXPECT_EQ(AddScaled(nullptr, 1, 1, factor, &y, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(AddScaled(x.data(), 1, 1, factor, nullptr, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(AddScaled(x.data(), 1, 0, factor, &y, context), LaunchStatus::kBadShape);
}

TEST(AddBiasTest, AddsToEveryRowOnAnyNumberOfThreads) {
  const int64_t rows = 70, cols = 577;
  const std::vector<float> x = Normal(rows * cols, 5), bias = Normal(cols, 6);
  for (const int threads : {1, 2, 3}) {
    std::vector<float> y = x;
    ExecutionContext context;
    context.num_threads = threads;
    ASSERT_EQ(AddBias(bias.data(), rows, cols, y.data(), context), LaunchStatus::kOk);
    for (int64_t i = 0; i < rows * cols; ++i) ASSERT_EQ(y[i], x[i] + bias[i % cols]) << i;
  }
  float y = 0;
  const ExecutionContext context;
  EXPECT_EQ(AddBias(bias.data(), 0, 1, nullptr, context), LaunchStatus::kOk);
  EXPECT_EQ(AddBias(nullptr, 1, 1, &y, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(AddBias(bias.data(), 1, 1, nullptr, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(AddBias(bias.data(), 1, 0, &y, context), LaunchStatus::kBadShape);
}

TEST_P(RmsNormTest, BadArguments) {
  std::vector<float> x(8);
  const auto run = [&](const float* in, int64_t rows, int64_t cols, float eps, float* out) {
    return RmsNorm(in, rows, cols, nullptr, eps, out, Context());
  };
  EXPECT_EQ(run(x.data(), 0, 4, 0.0f, x.data()), LaunchStatus::kOk);
  EXPECT_EQ(run(x.data(), -1, 4, 0.0f, x.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 1, 0, 0.0f, x.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 1, 4, -1.0f, x.data()), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(x.data(), 1, 4, std::nanf(""), x.data()), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(nullptr, 1, 4, 0.0f, x.data()), LaunchStatus::kBadArgument);
  EXPECT_EQ(run(x.data(), 1, 4, 0.0f, nullptr), LaunchStatus::kBadArgument);
}

TEST_P(RopeTest, MatchesDouble) {
  const double theta = 100000.0;
  for (int head_dim : {2, 6, 8, 32, 34, 64, 80}) {
    const RopeTable table(head_dim, InverseFrequencies(head_dim, theta), 1, 9000);
    const int64_t rows = 3, position = 8995;
    const int heads = 3, half = head_dim / 2;
    const int64_t stride = heads * head_dim + 5;
    const std::vector<float> before = Normal(rows * stride, head_dim);
    std::vector<float> x = before;
    ApplyRope(x.data(), rows, heads, stride, table, position, GetParam());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t c = 0; c < stride; ++c) {
        const float* from = before.data() + row * stride;
        if (c >= heads * head_dim) {
          ASSERT_EQ(x[row * stride + c], from[c]);
          continue;
        }
        const int64_t head = c / head_dim * head_dim, i = c % head_dim % half;
        const double angle = (position + row) * std::pow(theta, -2.0 * i / head_dim);
        const double a = from[head + i], b = from[head + half + i];
        const double exact = c % head_dim < half ? a * std::cos(angle) - b * std::sin(angle)
                                                 : b * std::cos(angle) + a * std::sin(angle);
        // Each term: its table entry and its product; then the sum.
        ASSERT_NEAR(x[row * stride + c], exact, 3 * kUnit * (std::fabs(a) + std::fabs(b)));
      }
    }
  }
}

// Threads that ask for the same positions first get the same table.
TEST(RopeTableTest, IsComputedOnceForAllThreads) {
  const std::vector<double> inverse = InverseFrequencies(64, 10000.0);
  const RopeTable table(64, inverse, 1, int64_t{1} << 20);
  std::vector<const float*> seen(3);
  std::vector<std::thread> threads;
  for (const float*& row : seen) {
    threads.emplace_back([&] { row = table.sin(1'000'000); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_EQ(seen[0], seen[2]);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(seen[0][i], static_cast<float>(std::sin(1e6 * inverse[i])));
    EXPECT_EQ(table.cos((1 << 20) - 1)[i],
              static_cast<float>(std::cos(((1 << 20) - 1) * inverse[i])));
  }
}

// Channels after the rotated ones stay, and the factor is on cosine and sine.
TEST_P(RopeTest, RotatesAPartOfAHead) {
  const int head_dim = 24, rotated = 18, half = rotated / 2;
  const double factor = 1.25;
  const std::vector<double> inverse = InverseFrequencies(rotated, 500.0);
  const RopeTable table(head_dim, inverse, factor, 100);
  const std::vector<float> before = Normal(2 * head_dim, 21);
  std::vector<float> x = before;
  ApplyRope(x.data(), 1, 2, 2 * head_dim, table, 77, GetParam());
  for (int c = 0; c < 2 * head_dim; ++c) {
    const int head = c / head_dim * head_dim, channel = c % head_dim, i = channel % half;
    if (channel >= rotated) {
      ASSERT_EQ(x[c], before[c]);
      continue;
    }
    const double a = before[head + i], b = before[head + half + i];
    const double cos = factor * std::cos(77 * inverse[i]), sin = factor * std::sin(77 * inverse[i]);
    const double exact = channel < half ? a * cos - b * sin : b * cos + a * sin;
    ASSERT_NEAR(x[c], exact, 3 * factor * kUnit * (std::fabs(a) + std::fabs(b))) << c;
  }
}

TEST_P(CapRowsTest, MatchesDouble) {
  const int64_t rows = 3, cols = 1001;
  std::vector<float> before = Normal(rows * cols, 22);
  for (int64_t i = 0; i < rows * cols; ++i) before[i] *= std::pow(10.0f, i % 9 - 5);
  for (const float factor : {1.0f, 0.125f}) {
    for (const float cap : {0.0f, 3.0f, 30.0f}) {
      std::vector<float> x = before;
      ASSERT_EQ(CapRows(x.data(), rows, cols, factor, cap, Context(2)), LaunchStatus::kOk);
      for (int64_t i = 0; i < rows * cols; ++i) {
        const double scaled = static_cast<double>(factor) * before[i];
        const double exact = cap == 0 ? scaled : cap * std::tanh(scaled / cap);
        // Scaling rounds three times, tanh at most ten.
        ASSERT_NEAR(x[i], exact, 13 * kUnit * std::fabs(exact)) << before[i] << " cap " << cap;
      }
    }
  }
  float x[] = {1e38f, -1e38f};
  ASSERT_EQ(CapRows(x, 1, 2, 1, 30, Context()), LaunchStatus::kOk);
  EXPECT_EQ(x[0], 30.0f);
  EXPECT_EQ(x[1], -30.0f);
  EXPECT_EQ(CapRows(x, 1, 2, 1, -1, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(CapRows(nullptr, 1, 2, 1, 0, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(CapRows(x, 1, 0, 1, 0, Context()), LaunchStatus::kBadShape);
}

TEST_P(HadamardTest, MatchesDefinition) {
  for (int64_t block : {1, 2, 4, 8, 16, 32, 64, 512}) {
    const int64_t rows = 3, cols = 2 * block, stride = cols + 1;
    const std::vector<float> before = Normal(rows * stride, block);
    std::vector<float> x = before;
    ASSERT_EQ(BlockHadamard(x.data(), rows, cols, stride, block, Context(2)), LaunchStatus::kOk);
    const int stages = std::countr_zero(static_cast<uint64_t>(block));
    for (int64_t row = 0; row < rows; ++row) {
      ASSERT_EQ(x[row * stride + cols], before[row * stride + cols]);
      for (int64_t c = 0; c < cols; ++c) {
        double exact = 0.0, magnitude = 0.0;
        for (int64_t j = 0; j < block; ++j) {
          const double v = before[row * stride + c / block * block + j];
          exact += std::popcount(static_cast<uint64_t>(j & (c % block))) % 2 == 0 ? v : -v;
          magnitude += std::fabs(v);
        }
        const double scale = 1.0 / std::sqrt(static_cast<double>(block));
        // One rounding per stage, two for the scale.
        ASSERT_NEAR(x[row * stride + c], exact * scale, (stages + 2) * kUnit * magnitude * scale)
            << block << ", " << row << ", " << c;
      }
    }
  }
}

TEST_P(HadamardTest, IsItsOwnInverseAndIgnoresThreads) {
  const int64_t rows = 100, cols = 1536, block = 512;
  const std::vector<float> before = Normal(rows * cols, 9);
  std::vector<float> x = before, threaded = before;
  ASSERT_EQ(BlockHadamard(x.data(), rows, cols, cols, block, Context()), LaunchStatus::kOk);
  ASSERT_EQ(BlockHadamard(threaded.data(), rows, cols, cols, block, Context(3)), LaunchStatus::kOk);
  EXPECT_EQ(threaded, x);
  ASSERT_EQ(BlockHadamard(x.data(), rows, cols, cols, block, Context(2)), LaunchStatus::kOk);
  for (int64_t i = 0; i < rows * cols; ++i) {
    // Twice (9 stages + 2) roundings, each against a root mean square near 1 of 512 values.
    ASSERT_NEAR(x[i], before[i], 22 * kUnit * std::sqrt(512.0));
  }
}

TEST_P(HadamardTest, BadArguments) {
  std::vector<float> x(24);
  const auto run = [&](float* data, int64_t rows, int64_t cols, int64_t stride, int64_t block) {
    return BlockHadamard(data, rows, cols, stride, block, Context());
  };
  EXPECT_EQ(run(x.data(), 2, 12, 12, 4), LaunchStatus::kOk);
  EXPECT_EQ(run(x.data(), 2, 12, 12, 8), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 2, 12, 12, 3), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 2, 12, 12, 0), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), 2, 12, 11, 4), LaunchStatus::kBadShape);
  EXPECT_EQ(run(x.data(), -2, 12, 12, 4), LaunchStatus::kBadShape);
  EXPECT_EQ(run(nullptr, 2, 12, 12, 4), LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(Isa, LayerNormTest, testing::ValuesIn(AllIsas()), IsaName);
INSTANTIATE_TEST_SUITE_P(Isa, RmsNormTest, testing::ValuesIn(AllIsas()), IsaName);
INSTANTIATE_TEST_SUITE_P(Isa, CapRowsTest, testing::ValuesIn(AllIsas()), IsaName);
INSTANTIATE_TEST_SUITE_P(Isa, RopeTest, testing::ValuesIn(AllIsas()), IsaName);
INSTANTIATE_TEST_SUITE_P(Isa, HadamardTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
