// Pages of keys and values: rows are read back as they were written, however the writes were
// divided into calls; copies are independent.
#include "kernels/kv/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <tuple>

#include "kernels/attention/topk_attention.h"
#include "kernels/reference/kv_pages_ref.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/rms_norm.h"
#include "tests/kernels/apply_rope.h"
#include "tests/kernels/attention/paged_sequence.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/normal_values.h"

namespace lectern::kernels {
namespace {

constexpr int64_t kTokens = 3 * kPageTokens + 17;

class KvPagesTest : public testing::TestWithParam<std::tuple<KvType, int>> {
 protected:
  KvPagesTest() {
    const auto [type, dim] = GetParam();
    layout_ = {type, 2, 3, dim, dim + 5};
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    k_.resize(kTokens * 3 * layout_.head_dim);
    v_.resize(kTokens * 3 * layout_.value_dim);
    for (float& x : k_) x = normal(random);
    for (float& x : v_) x = normal(random);
  }
  const float* Key(int64_t token, int head = 0) const {
    return k_.data() + (token * 3 + head) * layout_.head_dim;
  }
  const float* Value(int64_t token, int head = 0) const {
    return v_.data() + (token * 3 + head) * layout_.value_dim;
  }
  // Half a quantisation step of the row, and its rounding in fp32; nothing for kF32.
  double Allowed(const float* row, int n) const {
    double largest = 0;
    for (int c = 0; c < n; ++c) largest = std::max<double>(largest, std::fabs(row[c]));
    return layout_.type == KvType::kF32 ? 0 : largest / 127 * 0.50001;
  }

  KvPageLayout layout_;
  std::vector<float> k_, v_;
};

TEST_P(KvPagesTest, ReadsBackWhatWasWritten) {
  PagedSequence pages(layout_, kTokens);
  for (const int layer : {1, 0}) {
    ASSERT_TRUE(Ok(pages.Append(layer, 0, kTokens, Key(0), Value(0))));
  }
  std::vector<float> key(layout_.head_dim), value(layout_.value_dim);
  for (int64_t token = 0; token < kTokens; ++token) {
    for (int head = 0; head < 3; ++head) {
      ASSERT_TRUE(
          Ok(ReadKv(layout_, pages.Table(kTokens), 1, head, token, key.data(), value.data())));
      const double key_error = Allowed(Key(token, head), layout_.head_dim);
      for (int c = 0; c < layout_.head_dim; ++c) {
        ASSERT_NEAR(key[c], Key(token, head)[c], key_error);
      }
      const double value_error = Allowed(Value(token, head), layout_.value_dim);
      for (int c = 0; c < layout_.value_dim; ++c) {
        ASSERT_NEAR(value[c], Value(token, head)[c], value_error);
      }
    }
  }
}

// The mean of all dropped values (and so the running sums that the pages hold) shows in attention
// with tail = mean over a query of zeros: every value weighs the same.
std::vector<float> MeanOfValues(const PagedSequence& pages, int64_t tokens) {
  const KvPageLayout& layout = pages.layout();
  std::vector<float> q(3 * layout.head_dim), out(3 * layout.value_dim);
  const AttentionArgs args{.q = q.data(),
                           .q_stride = 3 * layout.head_dim,
                           .rows = 1,
                           .num_q_heads = 3,
                           .q_offset = tokens - 1,
                           .layout = layout,
                           .table = pages.Table(tokens),
                           .out = out.data(),
                           .out_stride = 3 * layout.value_dim};
  EXPECT_TRUE(Ok(TopKAttention({&args, 1}, {.k = 2, .tail = Tail::kMean}, ExecutionContext{})));
  return out;
}

TEST_P(KvPagesTest, CuttingTheWritesDoesNotChangeABit) {
  PagedSequence whole(layout_, kTokens), pieces(layout_, kTokens);
  ASSERT_TRUE(Ok(whole.Append(0, 0, kTokens, Key(0), Value(0))));
  int64_t token = 0;
  for (const int64_t count :
       {int64_t{1}, int64_t{62}, int64_t{1}, int64_t{1}, int64_t{70}, kTokens - 135}) {
    ASSERT_TRUE(Ok(pieces.Append(0, token, count, Key(token), Value(token))));
    token += count;
  }
  ASSERT_EQ(token, kTokens);
  std::vector<float> a(layout_.head_dim), b(layout_.head_dim);
  std::vector<float> x(layout_.value_dim), y(layout_.value_dim);
  for (token = 0; token < kTokens; ++token) {
    ASSERT_TRUE(Ok(ReadKv(layout_, whole.Table(kTokens), 0, 2, token, a.data(), x.data())));
    ASSERT_TRUE(Ok(ReadKv(layout_, pieces.Table(kTokens), 0, 2, token, b.data(), y.data())));
    ASSERT_EQ(a, b);
    ASSERT_EQ(x, y);
  }
  EXPECT_EQ(MeanOfValues(whole, kTokens), MeanOfValues(pieces, kTokens));
}

TEST_P(KvPagesTest, HoldsTheMeanOfAllValues) {
  PagedSequence pages(layout_, kTokens);
  ASSERT_TRUE(Ok(pages.Append(0, 0, kTokens, Key(0), Value(0))));
  std::vector<float> key(layout_.head_dim), value(layout_.value_dim);
  for (const int64_t tokens : {int64_t{3}, int64_t{64}, int64_t{65}, int64_t{128}, kTokens}) {
    const std::vector<float> got = MeanOfValues(pages, tokens);
    std::vector<double> want(layout_.value_dim);
    double largest = 0;
    for (int64_t token = 0; token < tokens; ++token) {
      ASSERT_TRUE(Ok(ReadKv(layout_, pages.Table(tokens), 0, 1, token, key.data(), value.data())));
      for (int c = 0; c < layout_.value_dim; ++c) {
        want[c] += static_cast<double>(value[c]) / tokens;
        largest = std::max<double>(largest, std::fabs(value[c]));
      }
    }
    // A recursive fp32 sum of n terms is off by n units of the sum of magnitudes.
    for (int c = 0; c < layout_.value_dim; ++c) {
      ASSERT_NEAR(got[layout_.value_dim + c], want[c], 2.0 * tokens / (1 << 24) * largest);
    }
  }
}

TEST_P(KvPagesTest, ACopiedPageIsItsOwn) {
  PagedSequence document(layout_, kTokens), question(layout_, kTokens);
  const int64_t shared = kPageTokens + 10;
  ASSERT_TRUE(Ok(document.Append(0, 0, shared, Key(0), Value(0))));
  for (int page = 0; page < 2; ++page) {
    std::memcpy(question.pages()[page], document.pages()[page], layout_.PageBytes());
  }
  const std::vector<float> before = MeanOfValues(document, shared);
  ASSERT_TRUE(Ok(question.Append(0, shared, kTokens - shared, Key(shared), Value(shared))));
  EXPECT_EQ(MeanOfValues(document, shared), before);
  PagedSequence whole(layout_, kTokens);
  ASSERT_TRUE(Ok(whole.Append(0, 0, kTokens, Key(0), Value(0))));
  EXPECT_EQ(MeanOfValues(question, kTokens), MeanOfValues(whole, kTokens));
}

TEST_P(KvPagesTest, ZeroAndTinyRowsReadBackAsAlmostZero) {
  PagedSequence pages(layout_, 1);
  std::fill(k_.begin(), k_.end(), 0.0f);
  std::fill(v_.begin(), v_.end(), 1e-41f);
  ASSERT_TRUE(Ok(pages.Append(0, 0, 1, Key(0), Value(0))));
  std::vector<float> key(layout_.head_dim), value(layout_.value_dim);
  ASSERT_TRUE(Ok(ReadKv(layout_, pages.Table(1), 0, 0, 0, key.data(), value.data())));
  for (const float x : key) EXPECT_EQ(x, 0.0f);
  for (const float x : value) EXPECT_NEAR(x, 0.0f, 1e-40f);
}

TEST_P(KvPagesTest, PagesAreWholeCacheLines) {
  EXPECT_EQ(layout_.PageBytes() % 64, 0u);
  const size_t element = layout_.type == KvType::kF32 ? 4 : 1;
  const size_t least = element * kPageTokens * (layout_.head_dim + layout_.value_dim) * 3 * 2;
  EXPECT_GE(layout_.PageBytes(), least);
}

TEST_P(KvPagesTest, RefusesBadArguments) {
  PagedSequence pages(layout_, kTokens);
  const int64_t ks = 3 * layout_.head_dim, vs = 3 * layout_.value_dim;
  const auto write = [&](const KvPageLayout& layout, int layer, int64_t position, int64_t count,
                         const float* k, int64_t k_stride, int64_t v_stride) {
    return WriteKv(layout, pages.pages(), layer, position, count, k, k_stride, Value(0), v_stride,
                   ExecutionContext{});
  };
  KvPageLayout bad = layout_;
  bad.num_kv_heads = 0;
  EXPECT_EQ(write(bad, 0, 0, 1, Key(0), ks, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 2, 0, 1, Key(0), ks, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, -1, 0, 1, Key(0), ks, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 0, -1, 1, Key(0), ks, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 0, 0, -1, Key(0), ks, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 0, 0, 1, Key(0), ks - 1, vs), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 0, 0, 1, Key(0), ks, vs - 1), LaunchStatus::kBadShape);
  EXPECT_EQ(write(layout_, 0, 0, 1, nullptr, ks, vs), LaunchStatus::kBadArgument);
  EXPECT_EQ(write(layout_, 0, 0, 0, nullptr, ks, vs), LaunchStatus::kOk);
  EXPECT_EQ(write(layout_, 0, 0, 1, Key(0), ks, vs), LaunchStatus::kOk);
  std::vector<float> key(layout_.head_dim), value(layout_.value_dim);
  const KvPageTable table = pages.Table(1);
  EXPECT_EQ(ReadKv(layout_, table, 0, 3, 0, key.data(), value.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(ReadKv(layout_, table, 0, 0, 1, key.data(), value.data()), LaunchStatus::kBadShape);
  EXPECT_EQ(ReadKv(layout_, table, 0, 0, 0, nullptr, value.data()), LaunchStatus::kBadArgument);
}

// Rows of queries, keys and values, written in two calls whose border lies inside a page.
class RotateAndWriteTest : public IsaTest {
 protected:
  static constexpr int kQueryHeads = 6, kKvHeads = 2, kDim = 64;
  static constexpr int64_t kBefore = 41, kCount = 70, kStride = (kQueryHeads + 2 * kKvHeads) * kDim;

  RotateAndWriteTest()
      : rope_(kDim, InverseFrequencies(kDim, 10000.0), 1, 200), qkv_((kBefore + kCount) * kStride) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& x : qkv_) x = normal(random);
  }

  enum class Norm { kNone, kHead, kWidth };
  // The changes to queries and keys.
  struct Steps {
    int64_t hadamard = 1;
    bool rotate = true;
    Norm norm = Norm::kNone;
  };

  // Normalises `heads` heads of a row.
  void Normalise(Norm norm, const std::vector<float>& weight, int heads, float* x) const {
    const int64_t width = norm == Norm::kHead ? kDim : heads * kDim;
    EXPECT_TRUE(Ok(RmsNorm(x, heads * kDim / width, width, weight.data(), kEps, x, Context())));
  }

  // Runs the separate kernels one after the other.
  std::vector<float> Separately(PagedSequence& pages, const Steps& steps) {
    const int64_t hadamard = steps.hadamard;
    std::vector<float> qkv = qkv_;
    const int64_t rows = kBefore + kCount;
    for (int64_t row = 0; steps.norm != Norm::kNone && row < rows; ++row) {
      float* const x = qkv.data() + row * kStride;
      Normalise(steps.norm, q_norm_, kQueryHeads, x);
      Normalise(steps.norm, k_norm_, kKvHeads, x + kQueryHeads * kDim);
    }
    if (steps.rotate) {
      ApplyRope(qkv.data(), rows, kQueryHeads + kKvHeads, kStride, rope_, 0, GetParam());
    }
    EXPECT_TRUE(Ok(BlockHadamard(qkv.data(), rows, (kQueryHeads + kKvHeads) * kDim, kStride,
                                 hadamard, Context())));
    const float* k = qkv.data() + kQueryHeads * kDim;
    EXPECT_TRUE(Ok(WriteKv(pages.layout(), pages.pages(), 0, 0, rows, k, kStride,
                           k + kKvHeads * kDim, kStride, Context())));
    return qkv;
  }

  QkvRows Rows(float* qkv, const Steps& steps) const {
    const bool norms = steps.norm != Norm::kNone;
    return {.qkv = qkv,
            .stride = kStride,
            .num_q_heads = kQueryHeads,
            .q_norm = norms ? q_norm_.data() : nullptr,
            .k_norm = norms ? k_norm_.data() : nullptr,
            .qk_norm_eps = kEps,
            .qk_norm_per_head = steps.norm == Norm::kHead,
            .rope = steps.rotate ? &rope_ : nullptr,
            .hadamard = steps.hadamard};
  }

  static constexpr float kEps = 1e-5f;
  RopeTable rope_;
  const std::vector<float> q_norm_ = Normal(kQueryHeads * kDim, 4);
  const std::vector<float> k_norm_ = Normal(kKvHeads * kDim, 5);
  std::vector<float> qkv_;
};

TEST_P(RotateAndWriteTest, EqualsTheSeparateKernels) {
  const int64_t page_count = KvPageLayout::PagesFor(kBefore + kCount);
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    for (const Steps& steps :
         {Steps{}, Steps{.hadamard = 16}, Steps{.hadamard = 64, .rotate = false},
          Steps{.hadamard = 64, .norm = Norm::kHead}, Steps{.norm = Norm::kWidth}}) {
      const KvPageLayout layout{type, 1, kKvHeads, kDim, kDim};
      PagedSequence want(layout, kBefore + kCount), got(layout, kBefore + kCount);
      for (int64_t page = 0; page < page_count; ++page) {
        std::memset(want.pages()[page], 0, layout.PageBytes());
        std::memset(got.pages()[page], 0, layout.PageBytes());
      }
      const std::vector<float> rotated = Separately(want, steps);
      std::vector<float> qkv = qkv_;
      ASSERT_TRUE(Ok(RotateAndWriteKv(layout, got.pages(), 0, 0, kBefore, Rows(qkv.data(), steps),
                                      Context())));
      ASSERT_TRUE(Ok(RotateAndWriteKv(layout, got.pages(), 0, kBefore, kCount,
                                      Rows(qkv.data() + kBefore * kStride, steps), Context(3))));
      EXPECT_EQ(qkv, rotated);
      for (int64_t page = 0; page < page_count; ++page) {
        EXPECT_EQ(std::memcmp(got.pages()[page], want.pages()[page], layout.PageBytes()), 0);
      }
    }
  }
}

TEST_P(RotateAndWriteTest, RefusesBadArguments) {
  const KvPageLayout layout{KvType::kI8, 1, kKvHeads, kDim, kDim};
  PagedSequence pages(layout, 200);
  const auto run = [&](const KvPageLayout& shape, QkvRows rows, int64_t position, int64_t count) {
    return RotateAndWriteKv(shape, pages.pages(), 0, position, count, rows, Context());
  };
  const QkvRows good = Rows(qkv_.data(), {.hadamard = 64});
  EXPECT_EQ(run(layout, good, 0, 2), LaunchStatus::kOk);
  EXPECT_EQ(run(layout, good, 199, 1), LaunchStatus::kOk);
  EXPECT_EQ(run(layout, good, 199, 2), LaunchStatus::kBadArgument);
  EXPECT_EQ(run({KvType::kI8, 1, kKvHeads, kDim, 32}, good, 0, 2), LaunchStatus::kBadShape);
  QkvRows bad = good;
  bad.q_norm = q_norm_.data();
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadArgument);
  bad.k_norm = k_norm_.data();
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kOk);
  bad.qk_norm_eps = -1;
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadArgument);
  const std::vector<double> too_many(kDim / 2 + 1, 0.5);
  const RopeTable wide(kDim, too_many, 1, 200);
  bad = good;
  bad.rope = &wide;
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadShape);
  bad = good;
  bad.stride = kStride - 1;
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadShape);
  bad = good;
  bad.hadamard = 48;
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadShape);
  bad = good;
  bad.qkv = nullptr;
  EXPECT_EQ(run(layout, bad, 0, 2), LaunchStatus::kBadArgument);
}

INSTANTIATE_TEST_SUITE_P(Isa, RotateAndWriteTest, testing::ValuesIn(AllIsas()), IsaName);

INSTANTIATE_TEST_SUITE_P(All, KvPagesTest,
                         testing::Combine(testing::Values(KvType::kF32, KvType::kI8),
                                          testing::Values(1, 7, 64)));

}  // namespace
}  // namespace lectern::kernels
