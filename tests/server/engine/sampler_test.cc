#include "server/engine/answering/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace lectern {
namespace {

TEST(SamplerTest, GreedyTakesTheLowerOfEquals) {
  Sampler sampler({});
  EXPECT_EQ(sampler.Next(std::vector<float>{1, 3, 3, 2}), 1);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 0.5, 0.3, 0.2.
  const std::vector<float> logits{std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  std::map<int32_t, int> counts;
  Sampler sampler({.temperature = 1, .top_p = 0.7, .seed = 1});
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Next(logits)];
  EXPECT_EQ(counts.count(0), 0u);
  // 5/8 of the draws; five standard deviations of a binomial count.
  const double expected = kDraws * 5.0 / 8;
  EXPECT_NEAR(counts[1], expected, 5 * std::sqrt(expected * 3 / 8));
}

TEST(SamplerTest, WithoutTopPEveryTokenIsDrawnAsOftenAsItsProbabilitySays) {
  const std::vector<float> logits{std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  std::map<int32_t, int> counts;
  Sampler sampler({.temperature = 1, .top_p = 1, .seed = 2});
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Next(logits)];
  for (const auto& [id, probability] : std::map<int32_t, double>{{0, 0.2}, {1, 0.5}, {2, 0.3}}) {
    const double expected = kDraws * probability;
    EXPECT_NEAR(counts[id], expected, 5 * std::sqrt(expected * (1 - probability))) << id;
  }
}

// The nucleus by sorting everything, against the sampler's growing pieces.
TEST(SamplerTest, TheNucleusOfManyTokensIsThatOfAFullSort) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const float spread : {0.0f, 0.1f, 1.0f, 4.0f}) {
    std::vector<float> logits(5000);
    for (float& logit : logits) logit = spread * normal(random);
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    double total = 0;
    for (const float logit : logits) total += std::exp(logit);
    for (const float top_p : {0.05f, 0.5f, 0.9f}) {
      size_t count = 0;
      for (double reached = 0; reached < top_p * total; ++count) {
        reached += std::exp(logits[order[count]]);
      }
      // Sums of floats may end one token sooner or later.
      const std::set<int32_t> allowed(order.begin(), order.begin() + count + 1);
      Sampler sampler({.temperature = 1, .top_p = top_p, .seed = 4});
      std::set<int32_t> drawn;
      for (int i = 0; i < 500; ++i) drawn.insert(sampler.Next(logits));
      for (const int32_t id : drawn) {
        EXPECT_TRUE(allowed.contains(id)) << spread << " " << top_p << ": token " << id;
      }
      // Draws reach into the last quarter of the set, unless it has hardly any probability.
      if (spread <= 1 && count > 100) {
        const std::set<int32_t> last(order.begin() + 3 * count / 4, order.begin() + count);
        EXPECT_TRUE(
            std::any_of(drawn.begin(), drawn.end(), [&](int32_t id) { return last.contains(id); }));
      }
    }
  }
}

TEST(SamplerTest, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits(1000, 0.5f);
  Sampler a({.temperature = 0.7f, .top_p = 0.9f, .seed = 9});
  Sampler b({.temperature = 0.7f, .top_p = 0.9f, .seed = 9});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.Next(logits), b.Next(logits));
}

}  // namespace
}  // namespace lectern
