// Properties of the attention kernels, on every instruction set of this machine: agreement with the
// double-precision reference on random problems, ties, extremes and masks, and equal bits however
// the work is divided.
//
// Tolerances: an fp32 dot product of d terms is off by at most d * 2^-24 * sum |q_c k_c| (Higham
// 2002, eq. 3.5), and a score error of e moves softmax weights by a factor within e^(2e), so
// outputs by at most 2 e * 2 max |v|.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/attention/dense_attention.h"
#include "kernels/reference/attention_ref.h"
#include "kernels/reference/kv_pages_ref.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/kernels/isa_test.h"

namespace lectern::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kUnit = 1.0 / (1 << 24);  // rounding unit of fp32

class AttentionTest : public IsaTest {
 protected:
  // The keys that the pages hold, [num_kv_heads, keys, head_dim].
  static std::vector<float> StoredKeys(const Problem& p) {
    const int d = p.layout.head_dim;
    std::vector<float> keys(p.layout.num_kv_heads * p.keys * d), value(p.layout.value_dim);
    float* key = keys.data();
    for (int kv_head = 0; kv_head < p.layout.num_kv_heads; ++kv_head) {
      for (int64_t j = 0; j < p.keys; ++j, key += d) {
        EXPECT_TRUE(
            Ok(ReadKv(p.layout, p.sequence->Table(p.keys), 0, kv_head, j, key, value.data())));
      }
    }
    return keys;
  }

  // Largest score error of one query against the stored keys: fp32 rounding, and on int8 pages the
  // rounding of the query (half a step per channel, attention_args.h).
  static double ScoreError(const Problem& p, const std::vector<float>& stored_keys, int64_t row,
                           int head) {
    const int d = p.layout.head_dim;
    const float* q = p.q.data() + (row * p.num_q_heads + head) * d;
    const int kv_head = head / (p.num_q_heads / p.layout.num_kv_heads);
    double q_max = 0, products = 0, key_sum = 0;
    for (int c = 0; c < d; ++c) q_max = std::max<double>(q_max, std::fabs(q[c]));
    double step = q_max / 127;
    for (int c = 0; c < d && GetParam() == Isa::kAvx2; c += c % 8 == 2 ? 6 : 2) {
      double above = 0, below = 0;
      for (const int at : {c, c + 1, c + 4, c + 5}) {
        if (at < d) (q[at] > 0 ? above : below) += std::fabs(q[at]);
      }
      step = std::max(step, std::max(above, below) / 126);
    }
    const float* key = stored_keys.data() + kv_head * p.keys * d;
    for (int64_t j = 0; j < p.keys; ++j, key += d) {
      double dot = 0, sum = 0;
      for (int c = 0; c < d; ++c) {
        dot += std::fabs(static_cast<double>(q[c]) * key[c]);
        sum += std::fabs(key[c]);
      }
      products = std::max(products, dot);
      key_sum = std::max(key_sum, sum);
    }
    const double rounding = (d + 8) * kUnit * products;
    const double quantised = p.layout.type == KvType::kI8 ? 0.5001 * step * key_sum : 0;
    // A cap's slope is at most 1; its exponential, division and products round eight times.
    return p.scale * (rounding + quantised) + 8 * kUnit * (p.largest_bias + p.score_cap);
  }

  // Compares every row and head of `got` with the reference. The kept set may differ from the
  // reference's only in keys whose scores the kernel cannot tell apart; the outputs are then
  // computed for the kernel's own set.
  void ExpectMatches(const Problem& p, int64_t k, Tail tail, const Result& got) {
    const std::vector<float> stored_keys = StoredKeys(p);
    for (int64_t row = 0; row < p.rows; ++row) {
      for (int head = 0; head < p.num_q_heads; ++head) {
        SCOPED_TRACE("row " + std::to_string(row) + " head " + std::to_string(head));
        const ReferenceRow want = ReferenceAttention(p.Args(), k, tail, row, head);
        const double error = ScoreError(p, stored_keys, row, head);
        if (k > 0) ExpectLegalSet(p, k, want, error, got, row, head);
        if (k > 0 && want.margin < 2 * error) continue;  // another set is legal
        const int64_t at = row * p.num_q_heads + head;
        const double weights = std::expm1(2 * error) + 64 * kUnit;
        const double sums = static_cast<double>(p.keys) * kUnit;  // of values and exponentials
        EXPECT_NEAR(got.mass[at], want.kept_mass, 2 * (weights + sums));
        for (int c = 0; c < p.layout.value_dim; ++c) {
          ASSERT_NEAR(got.out[at * p.layout.value_dim + c], want.out[c],
                      4 * (weights + sums) * p.LargestValue() + 1e-30);
        }
      }
    }
  }

  static void ExpectLegalSet(const Problem& p, int64_t k, const ReferenceRow& want, double error,
                             const Result& got, int64_t row, int head) {
    const int32_t* kept = got.index.data() + (row * p.num_q_heads + head) * k;
    std::vector<bool> seen(p.keys);
    for (int64_t i = 0; i < k; ++i) {
      if (i >= static_cast<int64_t>(want.kept.size())) {
        ASSERT_EQ(kept[i], -1);
        continue;
      }
      ASSERT_GE(kept[i], 0);
      ASSERT_LT(kept[i], p.keys);
      ASSERT_FALSE(seen[kept[i]]) << "twice: " << kept[i];
      seen[kept[i]] = true;
      ASSERT_GE(want.score[kept[i]], want.score[want.kept.back()] - 2 * error);
    }
  }

  void Check(const Problem& p, int64_t k, Tail tail, int threads = 1) {
    ExpectMatches(p, k, tail, p.Run(k, tail, Context(threads)));
  }
};

TEST_P(AttentionTest, AgreesWithTheReferenceOnRandomProblems) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Problem p = Problem::Random(seed);
    std::mt19937 random(seed + 1000);
    for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t(random() % 40 + 2), p.keys / 2 + 1}) {
      Check(p, k, random() % 2 == 0 ? Tail::kNone : Tail::kMean, 1 + random() % 2);
    }
  }
}

TEST_P(AttentionTest, ModelShapeOverManySpans) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    const Problem p = Problem::Causal(type, 9, 3, 64, 1, 2500, 5);
    Check(p, 128, Tail::kMean, 2);
    Check(p, 128, Tail::kNone);
    Check(p, 0, Tail::kNone, 2);
  }
}

TEST_P(AttentionTest, KeepsTheLowerIndexAmongTies) {
  // Small integers: scores are exact in any order of summation, and tie often.
  for (unsigned seed = 0; seed < 8; ++seed) {
    Problem p = Problem::Causal(KvType::kF32, 4, 2, 8, 5, 700, seed);
    std::mt19937 random(seed);
    for (float& x : p.q) x = static_cast<float>(random() % 3) - 1;
    for (float& x : p.k) x = static_cast<float>(random() % 3) - 1;
    p.scale = 1;
    p.Write();
    for (const int64_t k : {1, 7, 64, 300}) {
      const Result got = p.Run(k, Tail::kNone, Context(2));
      for (int64_t row = 0; row < p.rows; ++row) {
        for (int head = 0; head < p.num_q_heads; ++head) {
          const ReferenceRow want = ReferenceAttention(p.Args(), k, Tail::kNone, row, head);
          const int32_t* kept = got.index.data() + (row * p.num_q_heads + head) * k;
          ASSERT_EQ(std::vector<int64_t>(kept, kept + k), want.kept) << "k " << k;
        }
      }
    }
  }
}

TEST_P(AttentionTest, SurvivesHugeScoresAndValues) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    Problem p = Problem::Causal(type, 2, 1, 16, 2, 300, 3);
    for (float& x : p.q) x *= 1e18f;
    for (float& x : p.k) x *= 1e19f;
    for (float& x : p.v) x *= 1e30f;
    p.Write();
    for (const float cap : {0.0f, 50.0f}) {
      p.score_cap = cap;
      for (const int64_t k : {0, 4, 100}) {
        for (const float x : p.Run(k, Tail::kMean, Context()).out) ASSERT_TRUE(std::isfinite(x));
      }
    }
  }
}

// Keys of the largest integers, with the signs of the query in more and more channels: the sums of
// four products that AVX2 holds in 16 bits reach their limit and do not exceed it.
TEST_P(AttentionTest, LargestProductsStayExact) {
  for (int pattern = 0; pattern < 5; ++pattern) {
    SCOPED_TRACE(pattern);
    Problem p = Problem::Causal(KvType::kI8, 3, 1, 64, 4, 65 * 2, 8);
    for (size_t i = 0; i < p.q.size(); ++i) {
      const size_t c = i % 64;
      const float magnitude = pattern == 3 && c != 21 ? 0.01f : pattern == 4 && c % 8 > 1 ? 0 : 1;
      p.q[i] =
          (pattern == 1 && c % 2 == 1) || (pattern == 2 && c % 8 >= 4) ? -magnitude : magnitude;
    }
    for (int64_t j = 0; j < p.keys; ++j) {
      for (int64_t c = 0; c < 64; ++c) {
        const float sign = std::copysign(1.0f, p.q[c]);
        p.k[j * 64 + c] = c < j % 65 ? sign : -sign;
      }
    }
    p.scale = 0.1f;
    p.Write();
    for (const int64_t k : {0, 20}) Check(p, k, Tail::kMean);
  }
}

TEST_P(AttentionTest, NeverPrefersANaNScore) {
  Problem p = Problem::Causal(KvType::kF32, 1, 1, 8, 1, 200, 4);
  for (const int bad : {0, 63, 64, 199}) p.k[bad * 8 + 3] = std::nanf("");
  p.Write();
  const Result some = p.Run(196, Tail::kMean, Context());
  for (const int bad : {0, 63, 64, 199}) {
    EXPECT_EQ(std::count(some.index.begin(), some.index.end(), bad), 0) << bad;
  }
  for (const float x : some.out) EXPECT_TRUE(std::isfinite(x));
  // They fill the places that no other key can.
  const Result most = p.Run(198, Tail::kMean, Context());
  EXPECT_EQ(std::vector<int32_t>(most.index.end() - 2, most.index.end()),
            (std::vector<int32_t>{0, 63}));
}

// A cap far above the scores changes little, one far below makes them equal.
TEST_P(AttentionTest, CapsScores) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    Problem p = Problem::Causal(type, 4, 2, 24, 7, 1300, 15);
    p.scale = 1;
    for (const float cap : {0.01f, 1.0f, 5.0f, 50.0f, 1e4f}) {
      p.score_cap = cap;
      for (const int64_t k : {0, 30}) Check(p, k, Tail::kMean, 2);
    }
  }
}

TEST_P(AttentionTest, RowsThatSeeNothingGiveZeros) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    Problem p = Problem::Causal(type, 4, 2, 8, 3, 130, 6);
    p.padding.assign(p.keys, 1);
    for (const int64_t k : {0, 5}) {
      const Result got = p.Run(k, Tail::kMean, Context(2));
      EXPECT_EQ(got.out, std::vector<float>(got.out.size(), 0.0f));
      EXPECT_EQ(got.mass, std::vector<float>(got.mass.size(), 0.0f));
      EXPECT_EQ(got.index, std::vector<int32_t>(got.index.size(), -1));
    }
  }
}

TEST_P(AttentionTest, ThreadsDoNotChangeABit) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    const Problem p = seed < 4 ? Problem::Causal(seed % 2 ? KvType::kI8 : KvType::kF32, 9, 3, 64,
                                                 seed < 2 ? 1 : 20, 4300, seed)
                               : Problem::Random(seed);
    for (const int64_t k : {0, 1, 128}) {
      const Result one = p.Run(k, Tail::kMean, Context(1));
      for (const int threads : {2, 3, 7}) {
        ASSERT_TRUE(one == p.Run(k, Tail::kMean, Context(threads)))
            << "seed " << seed << " k " << k;
      }
    }
  }
}

TEST_P(AttentionTest, CuttingRowsIntoCallsDoesNotChangeABit) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    const Problem p =
        seed < 4 ? Problem::Causal(seed % 2 ? KvType::kI8 : KvType::kF32, 9, 3, 64, 21, 1500, seed)
                 : Problem::Random(seed);
    for (const int64_t k : {0, 1, 128}) {
      const Result whole = p.Run(k, Tail::kMean, Context(2), {p.rows}, false);
      std::vector<int64_t> cuts(p.rows, 1);
      ASSERT_TRUE(whole == p.Run(k, Tail::kMean, Context(2), cuts, false))
          << "one by one, " << seed;
      if (p.rows > 2) {
        cuts = {2, p.rows - 2};
        ASSERT_TRUE(whole == p.Run(k, Tail::kMean, Context(2), cuts, false))
            << "2 + rest, " << seed;
      }
    }
  }
}

TEST_P(AttentionTest, ABatchEqualsItsSequences) {
  const Problem a = Problem::Causal(KvType::kI8, 6, 2, 32, 3, 900, 1);
  const Problem b = Problem::Causal(KvType::kI8, 6, 2, 32, 1, 77, 2);
  const Result alone_a = a.Run(20, Tail::kMean, Context()),
               alone_b = b.Run(20, Tail::kMean, Context());
  Result got_a = a.Blank(20), got_b = b.Blank(20);
  const std::vector<AttentionArgs> batch = {a.Args(&got_a), b.Args(&got_b)};
  ASSERT_TRUE(Ok(TopKAttention(batch, {.k = 20, .tail = Tail::kMean}, Context(2))));
  EXPECT_EQ(got_a.out, alone_a.out);
  EXPECT_EQ(got_b.out, alone_b.out);
  EXPECT_EQ(got_b.key_mass, alone_b.key_mass);
}

TEST_P(AttentionTest, KeepingEverythingIsDense) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    const Problem p = Problem::Causal(type, 4, 2, 64, 4, 1300, 9);
    const Result dense = p.Run(0, Tail::kNone, Context());
    for (const Tail tail : {Tail::kNone, Tail::kMean}) {
      const Result all = p.Run(p.keys, tail, Context());
      for (size_t i = 0; i < all.out.size(); ++i) {
        ASSERT_NEAR(all.out[i], dense.out[i], 4 * p.keys * kUnit * p.LargestValue());
      }
    }
  }
}

TEST_P(AttentionTest, KeyMassIsTheKeptDenseShares) {
  const Problem p = Problem::Causal(KvType::kF32, 4, 2, 16, 6, 600, 10);
  for (const int64_t k : {0, 9}) {
    const Result got = p.Run(k, Tail::kNone, Context(2));
    std::vector<double> want(p.keys);
    double error = 0;
    for (int64_t row = 0; row < p.rows; ++row) {
      for (int head = 0; head < p.num_q_heads; ++head) {
        const ReferenceRow r = ReferenceAttention(p.Args(), k, Tail::kNone, row, head);
        for (size_t i = 0; i < r.kept.size(); ++i) {
          want[r.kept[i]] += r.weight[i] * r.kept_mass;
        }
        error += std::expm1(2 * ScoreError(p, StoredKeys(p), row, head)) + (p.keys + 64) * kUnit;
      }
    }
    for (int64_t j = 0; j < p.keys; ++j) EXPECT_NEAR(got.key_mass[j], want[j], error);
  }
}

TEST_P(AttentionTest, AHugeKNeedsNoHugeScratch) {
  const Problem p = Problem::Causal(KvType::kI8, 2, 1, 8, 1, 100, 11);
  Result got = p.Blank(0);
  const AttentionArgs args = p.Args(&got);
  ASSERT_TRUE(Ok(TopKAttention({&args, 1}, {.k = int64_t{1} << 60}, Context())));
  EXPECT_EQ(got.out, p.Run(100, Tail::kNone, Context()).out);
}

TEST_P(AttentionTest, RefusesBadArguments) {
  const Problem p = Problem::Causal(KvType::kF32, 4, 2, 8, 2, 70, 12);
  Result result = p.Blank(4);
  const auto status = [&](auto damage) {
    AttentionArgs args = p.Args(&result);
    damage(args);
    const LaunchStatus top = TopKAttention({&args, 1}, {.k = 4}, Context());
    EXPECT_EQ(top, DenseAttention({&args, 1}, Context()));
    return top;
  };
  using A = AttentionArgs;
  EXPECT_EQ(status([](A&) {}), LaunchStatus::kOk);
  EXPECT_EQ(status([](A& a) { a.rows = 0; }), LaunchStatus::kOk);
  EXPECT_EQ(status([](A& a) { a.rows = -1; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.num_q_heads = 3; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.layer = 1; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.q_offset = -1; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.q_stride = 31; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.out_stride = 31; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.table.num_tokens = -1; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.layout.head_dim = 0; }), LaunchStatus::kBadShape);
  EXPECT_EQ(status([](A& a) { a.q = nullptr; }), LaunchStatus::kBadArgument);
  EXPECT_EQ(status([](A& a) { a.out = nullptr; }), LaunchStatus::kBadArgument);
  EXPECT_EQ(status([](A& a) { a.table.pages = nullptr; }), LaunchStatus::kBadArgument);
  for (const float scale : {0.0f, -1.0f, kInf, std::nanf("")}) {
    EXPECT_EQ(status([&](A& a) { a.scale = scale; }), LaunchStatus::kBadArgument) << scale;
  }
  for (const float cap : {-1.0f, kInf, std::nanf("")}) {
    EXPECT_EQ(status([&](A& a) { a.score_cap = cap; }), LaunchStatus::kBadArgument) << cap;
  }
  const std::vector<float> bias(p.num_q_heads * p.rows * p.keys);
  EXPECT_EQ(status([&](A& a) {
              a.score_cap = 1;
              a.bias = bias.data();
            }),
            LaunchStatus::kUnsupported);
  const AttentionArgs args = p.Args(&result);
  ExecutionContext context = Context(0);
  EXPECT_EQ(TopKAttention({&args, 1}, {.k = 4}, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(DenseAttention({&args, 1}, context), LaunchStatus::kBadArgument);
  EXPECT_EQ(TopKAttention({&args, 1}, {.k = 0, .kept_index = result.index.data()}, Context()),
            LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
