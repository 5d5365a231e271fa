// Compares top-k feed-forward with a sort and checks its rules for ties, NaN and bad arguments.
#include "kernels/ffn/topk_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/reference/activation_ref.h"
#include "tests/kernels/isa_test.h"

namespace lectern::kernels {
namespace {

// The units of a row that stay, by a stable sort of the ranks.
std::vector<bool> Kept(const std::vector<double>& ranks, int64_t k) {
  std::vector<size_t> order(ranks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranks[a] > ranks[b]; });
  std::vector<bool> kept(ranks.size(), false);
  for (int64_t i = 0; i < k; ++i) kept[order[i]] = true;
  return kept;
}

class TopKFfnTest : public IsaTest {};

TEST_P(TopKFfnTest, KeepsTheLargestOfEveryRow) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const FfnRank rank : {FfnRank::kProduct, FfnRank::kGateAbs, FfnRank::kPre}) {
    for (const int64_t cols : {1, 7, 160}) {
      for (const int64_t k : {int64_t{1}, (cols + 1) / 2, cols, cols + 5}) {
        const int64_t rows = 5, stride = cols + 3;
        std::vector<float> gate(rows * stride), values(rows * stride);
        for (float& x : gate) x = normal(random);
        for (float& x : values) x = normal(random);
        std::vector<float> got = values;
        ASSERT_TRUE(Ok(TopKFfn(gate.data(), stride, FfnActivation::kSilu, rank, k, rows, cols,
                               got.data(), stride, Context(2))));
        for (int64_t row = 0; row < rows; ++row) {
          std::vector<double> ranks(cols);
          for (int64_t c = 0; c < cols; ++c) {
            const float g = gate[row * stride + c];
            const double silu = std::fabs(ReferenceActivation(FfnActivation::kSilu, g));
            ranks[c] = rank == FfnRank::kPre       ? g
                       : rank == FfnRank::kGateAbs ? silu
                                                   : std::fabs(values[row * stride + c]);
          }
          const std::vector<bool> kept = Kept(ranks, std::min(k, cols));
          for (int64_t c = 0; c < stride; ++c) {
            const bool stays = c >= cols || kept[c];
            EXPECT_EQ(got[row * stride + c], stays ? values[row * stride + c] : 0.0f);
          }
        }
      }
    }
  }
}

TEST_P(TopKFfnTest, TiesKeepTheLowerUnitAndNanRanksLowest) {
  std::vector<float> values = {1, -2, 2, std::numeric_limits<float>::quiet_NaN(), 2};
  ASSERT_TRUE(Ok(TopKFfn(nullptr, 0, FfnActivation::kSilu, FfnRank::kProduct, 2, 1, 5,
                         values.data(), 5, Context())));
  EXPECT_EQ(values, (std::vector<float>{0, -2, 2, 0, 0}));
}

TEST_P(TopKFfnTest, MinusZeroTiesWithZero) {
  const std::vector<float> gate = {-0.0f, 0.0f, -1.0f, 0.0f};
  std::vector<float> values = {1, 2, 3, 4};
  ASSERT_TRUE(Ok(TopKFfn(gate.data(), 4, FfnActivation::kSilu, FfnRank::kPre, 2, 1, 4,
                         values.data(), 4, Context())));
  EXPECT_EQ(values, (std::vector<float>{1, 2, 0, 0}));
}

TEST_P(TopKFfnTest, RefusesBadArguments) {
  float x = 1;
  EXPECT_EQ(TopKFfn(nullptr, 0, FfnActivation::kSilu, FfnRank::kProduct, 0, 1, 1, &x, 1, Context()),
            LaunchStatus::kBadArgument);
  EXPECT_EQ(TopKFfn(nullptr, 0, FfnActivation::kSilu, FfnRank::kGateAbs, 1, 1, 2, &x, 2, Context()),
            LaunchStatus::kBadArgument);
  EXPECT_EQ(TopKFfn(nullptr, 0, FfnActivation::kSilu, FfnRank::kProduct, 1, 1, 2, &x, 1, Context()),
            LaunchStatus::kBadShape);
}

INSTANTIATE_TEST_SUITE_P(All, TopKFfnTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
