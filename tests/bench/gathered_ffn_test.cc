// Compares the gathered feed-forward layer with double precision and checks its contract: ties,
// NaN, ReLU, rows that depend on themselves alone, bad arguments.
#include "bench/gathered_ffn/gathered_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/reference/activation_ref.h"
#include "tests/kernels/isa_test.h"

namespace lectern::bench {
namespace {

using kernels::AllIsas;
using kernels::ExecutionContext;
using kernels::FfnActivation;
using kernels::IsaName;
using kernels::IsaTest;
using kernels::LaunchStatus;
using kernels::Ok;
using kernels::ReferenceActivation;

constexpr double kEps = 0x1p-24;  // half a unit in the last place
constexpr UnitRank kAllRanks[] = {UnitRank::kPre, UnitRank::kGateAbs, UnitRank::kProduct,
                                  UnitRank::kNorm};
constexpr FfnActivation kAllActivations[] = {FfnActivation::kIdentity, FfnActivation::kRelu,
                                             FfnActivation::kGelu, FfnActivation::kGeluTanh,
                                             FfnActivation::kSilu};

struct Problem {
  std::vector<float> x, gate, up, down;
  int64_t rows;
  FeedForwardWeights weights;

  Problem(int64_t rows, int64_t width, int64_t units, int64_t out_width, bool gated,
          FfnActivation activation, int seed = 1)
      : rows(rows) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, int64_t count, double scale) {
      v.resize(count);
      for (float& value : v) value = static_cast<float>(normal(random) * scale);
    };
    fill(x, rows * width, 1.5);
    fill(gate, units * width, 1 / std::sqrt(width));
    if (gated) fill(up, units * width, 1 / std::sqrt(width));
    fill(down, units * out_width, 1 / std::sqrt(units));
    weights = {width,       units,     out_width, gate.data(), gated ? up.data() : nullptr,
               down.data(), activation};
  }
};

std::vector<float> Forward(const Problem& p, const UnitSelection& selection,
                           const ExecutionContext& context) {
  std::vector<float> y(p.rows * p.weights.out_width, -99);
  EXPECT_TRUE(Ok(TopKFeedForward(p.x.data(), p.rows, p.weights, selection, y.data(), context)));
  return y;
}

// A value and a bound of its error in fp32.
struct Bounded {
  double value = 0;
  double error = 0;
};

// A sum of n products in any order: |error| <= n eps sum |a b| (Higham, Accuracy and Stability of
// Numerical Algorithms, section 3.1; one more for the second order).
Bounded Dot(const float* a, const float* b, int64_t n) {
  Bounded sum;
  for (int64_t i = 0; i < n; ++i) {
    const double product = static_cast<double>(a[i]) * b[i];
    sum.value += product;
    sum.error += std::fabs(product);
  }
  sum.error *= (n + 1) * kEps;
  return sum;
}

// The activations are 1.13-Lipschitz; evaluating one costs about 10 roundings of z, and its value
// at -87 and below is taken for 0.
Bounded Activate(FfnActivation activation, const Bounded& z) {
  return {ReferenceActivation(activation, z.value),
          1.13 * z.error + 10 * kEps * std::fabs(z.value)};
}

Bounded Times(const Bounded& a, const Bounded& b) {
  return {a.value * b.value, std::fabs(a.value) * b.error + std::fabs(b.value) * a.error +
                                 a.error * b.error + 2 * kEps * std::fabs(a.value * b.value)};
}

double NormOf(const float* row, int64_t n) {
  return std::sqrt(std::inner_product(row, row + n, row, 0.0, std::plus<>(),
                                      [](double a, double b) { return a * b; }));
}

struct Unit {
  Bounded hidden, rank;
};

std::vector<Unit> Units(const Problem& p, int64_t row, UnitRank rank) {
  const FeedForwardWeights& w = p.weights;
  std::vector<Unit> units(w.units);
  for (int64_t u = 0; u < w.units; ++u) {
    const float* x = p.x.data() + row * w.width;
    const Bounded z = Dot(x, w.gate + u * w.width, w.width);
    const Bounded f = Activate(w.activation, z);
    const Bounded up = w.up == nullptr ? Bounded{1, 0} : Dot(x, w.up + u * w.width, w.width);
    units[u].hidden = Times(f, up);
    Bounded r = rank == UnitRank::kPre ? z : rank == UnitRank::kGateAbs ? f : units[u].hidden;
    if (rank != UnitRank::kPre) r.value = std::fabs(r.value);
    double norm = 1;
    if (rank == UnitRank::kNorm) norm = NormOf(w.down + u * w.out_width, w.out_width);
    units[u].rank = Times(r, {norm, kEps * norm});
  }
  return units;
}

// Expects that the kept units rank highest, within the precision of fp32, and that y is the sum
// over them.
void ExpectRow(const Problem& p, int64_t row, const std::vector<Unit>& units,
               const std::vector<bool>& kept, const float* y) {
  double lowest_kept = INFINITY, highest_dropped = -INFINITY;
  for (size_t u = 0; u < units.size(); ++u) {
    const Bounded& r = units[u].rank;
    if (kept[u]) lowest_kept = std::min(lowest_kept, r.value + r.error);
    if (!kept[u]) highest_dropped = std::max(highest_dropped, r.value - r.error);
  }
  EXPECT_GE(lowest_kept, highest_dropped) << "row " << row;
  const int64_t count = std::count(kept.begin(), kept.end(), true);
  for (int64_t c = 0; c < p.weights.out_width; ++c) {
    double want = 0, error = 0;
    for (size_t u = 0; u < units.size(); ++u) {
      if (!kept[u]) continue;
      const double v = p.weights.down[u * p.weights.out_width + c];
      want += units[u].hidden.value * v;
      error += std::fabs(v) *
               (units[u].hidden.error + (count + 1) * kEps * std::fabs(units[u].hidden.value));
    }
    ASSERT_NEAR(y[c], want, error) << "row " << row << " column " << c;
  }
}

class GatheredFfnTest : public IsaTest {};

TEST_P(GatheredFfnTest, AgreesWithDoublePrecision) {
  const int64_t shapes[][4] = {{1, 5, 3, 1}, {3, 64, 160, 48}, {29, 33, 75, 70}, {2, 17, 131, 129}};
  for (const auto& [rows, width, count, out_width] : shapes) {
    for (const FfnActivation activation : kAllActivations) {
      for (const bool gated : {false, true}) {
        const Problem p(rows, width, count, out_width, gated, activation);
        for (const UnitRank rank : kAllRanks) {
          for (const int64_t k : {int64_t{0}, int64_t{1}, count / 8, count / 2, count - 1, count}) {
            SCOPED_TRACE(testing::Message() << "rows " << rows << " gated " << gated << " rank "
                                            << static_cast<int>(rank) << " k " << k
                                            << " activation " << static_cast<int>(activation));
            const bool dense = k == 0 || k == count;
            std::vector<int32_t> units(rows * k);
            const std::vector<float> y =
                Forward(p, {.k = k, .rank = rank, .kept_units = units.data()}, Context(2));
            for (int64_t row = 0; row < rows; ++row) {
              const std::vector<Unit> want = Units(p, row, rank);
              std::vector<bool> kept(count, dense);
              for (int64_t i = row * k; !dense && i < (row + 1) * k; ++i) {
                if (units[i] >= 0) kept[units[i]] = true;
              }
              const int64_t live = std::count(kept.begin(), kept.end(), true);
              if (!dense && activation != FfnActivation::kRelu) {
                EXPECT_EQ(live, k);
              }
              ExpectRow(p, row, want, kept, y.data() + row * out_width);
              if (HasFatalFailure()) return;
            }
          }
        }
      }
    }
  }
}

TEST_P(GatheredFfnTest, RowsDependOnThemselvesAlone) {
  for (const FfnActivation activation : {FfnActivation::kSilu, FfnActivation::kRelu}) {
    for (const UnitRank rank : kAllRanks) {
      for (const int64_t k : {0, 9, 60, 100}) {
        const Problem p(53, 40, 130, 84, true, activation);
        const UnitSelection selection{.k = k, .rank = rank};
        const std::vector<float> together = Forward(p, selection, Context(1));
        EXPECT_EQ(Forward(p, selection, Context(2)), together);
        EXPECT_EQ(Forward(p, selection, Context(5)), together);
        for (const int64_t rows : {1, 2, 7, 25}) {
          for (int64_t row = 0; row + rows <= p.rows; row += rows) {
            std::vector<float> y(rows * 84);
            ASSERT_TRUE(Ok(TopKFeedForward(p.x.data() + row * 40, rows, p.weights, selection,
                                           y.data(), Context(3))));
            ASSERT_TRUE(std::equal(y.begin(), y.end(), together.begin() + row * 84))
                << "rows " << row << " to " << row + rows << " rank " << static_cast<int>(rank);
          }
        }
      }
    }
  }
}

TEST_P(GatheredFfnTest, TiesKeepTheLowerUnit) {
  for (const bool gated : {false, true}) {
    for (const int64_t rows : {1, 4}) {
      Problem p(rows, 8, 70, 8, gated, FfnActivation::kSilu);
      for (int64_t i = 8; i < 70 * 8; ++i) p.gate[i] = p.gate[i % 8];
      for (const int64_t k : {1, 16, 17, 69}) {
        std::vector<int32_t> units(rows * k), want(k);
        std::iota(want.begin(), want.end(), 0);
        Forward(p, {.k = k, .rank = UnitRank::kGateAbs, .kept_units = units.data()}, Context());
        for (int64_t row = 0; row < rows; ++row) {
          EXPECT_TRUE(std::equal(want.begin(), want.end(), units.begin() + row * k));
        }
      }
    }
  }
}

TEST_P(GatheredFfnTest, ReluIsExactOnceAllLiveUnitsFit) {
  for (const bool gated : {false, true}) {
    const Problem p(5, 32, 200, 40, gated, FfnActivation::kRelu);
    const std::vector<float> dense = Forward(p, {}, Context());
    for (const UnitRank rank : kAllRanks) {
      std::vector<int32_t> units(5 * 150);
      const UnitSelection selection{.k = 150, .rank = rank, .kept_units = units.data()};
      EXPECT_EQ(Forward(p, selection, Context()), dense);
      EXPECT_EQ(units[149], -1) << "a unit that contributes nothing is listed";
    }
  }
}

// NaN in one row stays there; in one unit it is avoided while others can be kept.
TEST_P(GatheredFfnTest, NanRanksLowestAndStaysInItsRow) {
  Problem p(4, 16, 50, 20, true, FfnActivation::kSilu);
  const std::vector<float> before = Forward(p, {.k = 10}, Context());
  p.x[2 * 16 + 3] = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t k : {0, 10, 40}) {
    const std::vector<float> y = Forward(p, {.k = k}, Context());
    for (int64_t i = 0; i < 4 * 20; ++i) {
      EXPECT_EQ(std::isnan(y[i]), i / 20 == 2);
      if (k == 10 && i / 20 != 2) {
        EXPECT_EQ(y[i], before[i]);
      }
    }
  }
  Problem q(1, 16, 50, 20, true, FfnActivation::kSilu);
  q.x.assign(16, 1.0f);
  q.gate[7 * 16] = std::numeric_limits<float>::infinity();
  q.gate[7 * 16 + 1] = -std::numeric_limits<float>::infinity();
  for (const auto& [k, nan] : {std::pair<int64_t, bool>{49, false}, {0, true}}) {
    const std::vector<float> y = Forward(q, {.k = k}, Context());
    EXPECT_EQ(std::isnan(y[0]), nan) << "k = " << k;
  }
}

TEST_P(GatheredFfnTest, RefusesBadArguments) {
  const Problem p(1, 4, 4, 4, true, FfnActivation::kSilu);
  float y[4];
  const auto call = [&](const FeedForwardWeights& w, int64_t rows = 1) {
    return TopKFeedForward(p.x.data(), rows, w, {}, y, Context());
  };
  FeedForwardWeights w = p.weights;
  EXPECT_EQ(call(w, 0), LaunchStatus::kOk);
  EXPECT_EQ(call(w, -1), LaunchStatus::kBadShape);
  w.units = 0;
  EXPECT_EQ(call(w), LaunchStatus::kBadShape);
  w = p.weights;
  w.units = int64_t{1} << 31;
  EXPECT_EQ(call(w), LaunchStatus::kBadShape);
  w = p.weights;
  w.down = nullptr;
  EXPECT_EQ(call(w), LaunchStatus::kBadArgument);
  EXPECT_EQ(TopKFeedForward(nullptr, 1, p.weights, {}, y, Context()), LaunchStatus::kBadArgument);
  EXPECT_EQ(TopKFeedForward(p.x.data(), 1, p.weights, {}, y, Context(0)),
            LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(All, GatheredFfnTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::bench
