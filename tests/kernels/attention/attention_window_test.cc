// Sliding windows at the end of long documents: neither the work nor a bit of the results depends
// on the keys before the window.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "kernels/attention/attention_plan.h"
#include "kernels/attention/topk_attention.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/kernels/isa_test.h"

namespace lectern::kernels {
namespace {

using internal::kSpanTokens;

class AttentionWindowTest : public IsaTest {
 protected:
  // The last rows of a long document. The windows of some rows begin in another span than that of
  // the first row.
  static Problem LongDocument(KvType type, int64_t rows, int64_t window, unsigned seed) {
    Problem p =
        Problem::Causal(type, 6, 2, 16, rows, 9 * kSpanTokens + 5 + window % kSpanTokens, seed);
    p.window = window;
    return p;
  }

  // Drops the first `count` keys, a multiple of a span; rows and other keys stay as they are.
  static Problem WithoutFirstKeys(const Problem& p, int64_t count) {
    Problem rest = p;
    rest.keys -= count;
    rest.q_offset -= count;
    rest.k.erase(rest.k.begin(),
                 rest.k.begin() + count * p.layout.num_kv_heads * p.layout.head_dim);
    rest.v.erase(rest.v.begin(),
                 rest.v.begin() + count * p.layout.num_kv_heads * p.layout.value_dim);
    rest.Write();
    return rest;
  }
};

constexpr int64_t kWindows[] = {1, 100, kSpanTokens, 2500};

TEST_P(AttentionWindowTest, ThreadsDoNotChangeABit) {
  unsigned seed = 0;
  for (const int64_t window : kWindows) {
    for (const int64_t rows : {1, 9}) {
      const Problem p = LongDocument(seed % 2 ? KvType::kI8 : KvType::kF32, rows, window, seed);
      ++seed;
      for (const int64_t k : {0, 1, 64}) {
        SCOPED_TRACE(testing::Message() << "window " << window << " rows " << rows << " k " << k);
        const Result one = p.Run(k, Tail::kMean, Context(1), {rows}, false);
        for (const int threads : {2, 3, 4}) {
          EXPECT_EQ(p.Run(k, Tail::kMean, Context(threads), {rows}, false), one);
        }
        const std::vector<int64_t> cuts(rows, 1);
        EXPECT_EQ(p.Run(k, Tail::kMean, Context(4), cuts, false), one);
        EXPECT_EQ(p.Run(k, Tail::kMean, Context(1), cuts, false), one);
      }
    }
  }
}

TEST_P(AttentionWindowTest, KeysBeforeTheWindowDoNotChangeABit) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    for (const int64_t window : kWindows) {
      const Problem p = LongDocument(type, 4, window, 21);
      const int64_t unseen = (p.q_offset - window + 1) / kSpanTokens * kSpanTokens;
      ASSERT_GT(unseen, 0);
      for (const int64_t k : {0, 64}) {
        SCOPED_TRACE(testing::Message() << "window " << window << " k " << k);
        Result whole = p.Run(k, Tail::kMean, Context(4));
        const Result rest = WithoutFirstKeys(p, unseen).Run(k, Tail::kMean, Context(1));
        EXPECT_EQ(std::vector<float>(unseen),
                  std::vector<float>(whole.key_mass.begin(), whole.key_mass.begin() + unseen));
        whole.key_mass.erase(whole.key_mass.begin(), whole.key_mass.begin() + unseen);
        for (int32_t& key : whole.index) key -= key < 0 ? 0 : static_cast<int32_t>(unseen);
        EXPECT_EQ(whole, rest);
      }
    }
  }
}

// Pages that lie before the window of every row need not be there.
TEST_P(AttentionWindowTest, ReadsNoPageOutsideTheWindow) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    for (const int64_t window : {1, 64, 150}) {
      Problem p = Problem::Causal(type, 4, 2, 16, 40, 2500, 16);
      p.window = window;
      for (const int64_t k : {0, 9}) {
        Result want = p.Blank(0), got = p.Blank(0);
        AttentionArgs args = p.Args(&want);
        ASSERT_TRUE(Ok(TopKAttention({&args, 1}, {.k = k, .tail = Tail::kMean}, Context(2))));
        std::vector<const std::byte*> pages(args.table.pages,
                                            args.table.pages + KvPageLayout::PagesFor(p.keys));
        std::fill_n(pages.begin(), (p.q_offset - window + 1) / kPageTokens, nullptr);
        args = p.Args(&got);
        args.table.pages = pages.data();
        ASSERT_TRUE(Ok(TopKAttention({&args, 1}, {.k = k, .tail = Tail::kMean}, Context(2))));
        EXPECT_EQ(got, want);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionWindowTest, testing::ValuesIn(AllIsas()), IsaName);

// The costs of a plan.
struct PlanCost {
  int64_t scores = 0;  // plan.work
  int64_t spans = 0;   // scanned by all tasks
  int64_t pages = 0;   // whose values a row sums under Tail::kMean, of all rows
  std::vector<int64_t> part_spans;

  bool operator==(const PlanCost&) const = default;
};

PlanCost CostOf(const AttentionArgs& args, int threads, int queries) {
  const internal::AttentionPlan plan =
      internal::PlanAttention({&args, 1}, threads, queries, internal::kChunkPages);
  PlanCost cost{.scores = plan.work};
  for (const auto& chain : plan.chains) {
    for (const internal::AttentionBlock& block : chain) {
      const internal::PageRange seen =
          internal::VisiblePages(args, block.task.first_row, block.task.rows);
      int64_t next = block.task.first_span;
      for (int64_t part = 0; part < block.parts; ++part) {
        const internal::AttentionTask task = internal::PartOf(block, part);
        EXPECT_EQ(task.first_span, next);
        if (seen.first < seen.end) {
          EXPECT_LT(task.first_span * internal::kSpanPages, seen.end);
          EXPECT_GT(task.end_span * internal::kSpanPages, seen.first);
        }
        next = task.end_span;
        cost.spans += internal::SpansOf(task);
        cost.part_spans.push_back(internal::SpansOf(task));
      }
      EXPECT_EQ(next, block.task.end_span);
    }
  }
  for (int64_t row = 0; row < args.rows; ++row) {
    const internal::PageRange seen = internal::VisiblePages(args, row, 1);
    cost.pages += seen.end - seen.first;
  }
  return cost;
}

TEST(AttentionPlanTest, AWindowCostsTheSameAtTheEndOfEveryDocument) {
  constexpr int kHeads = 8, kKvHeads = 2;
  for (const int64_t window : {int64_t{1}, int64_t{500}, 3 * kSpanTokens}) {
    for (const int64_t rows : {1, 50}) {
      for (const int queries : {internal::kTopKQueriesInFlight, internal::kDenseQueriesInFlight}) {
        for (const int threads : {1, 2, 3, 4}) {
          SCOPED_TRACE(testing::Message() << "window " << window << " rows " << rows << " queries "
                                          << queries << " threads " << threads);
          const auto cost = [&](int64_t tokens) {
            AttentionArgs args{.rows = rows, .num_q_heads = kHeads, .window = window};
            args.layout = {KvType::kI8, 1, kKvHeads, 64, 64};
            args.table.num_tokens = tokens;
            args.q_offset = tokens - rows;
            return CostOf(args, threads, queries);
          };
          const PlanCost shorter = cost(4 * kSpanTokens);
          EXPECT_EQ(cost(1000 * kSpanTokens), shorter);
          EXPECT_GE(shorter.scores, kHeads * rows * window);
          EXPECT_LE(shorter.scores, kHeads * rows * (window + queries));
          EXPECT_LE(shorter.pages, rows * (window / kPageTokens + 2));
        }
      }
    }
  }
}

// The parts of one decoded row have equal shares of the window.
TEST(AttentionPlanTest, PartsDivideTheWindow) {
  AttentionArgs args{.rows = 1, .num_q_heads = 4, .window = 8 * kSpanTokens};
  args.layout = {KvType::kI8, 1, 1, 64, 64};
  args.table.num_tokens = 100 * kSpanTokens;
  args.q_offset = args.table.num_tokens - 1;
  EXPECT_EQ(CostOf(args, 2, 12).part_spans, (std::vector<int64_t>{2, 2, 2, 2}));
  EXPECT_EQ(CostOf(args, 4, 12).part_spans, std::vector<int64_t>(8, 1));
}

// A row past the end of the keys sees none through its window.
TEST(AttentionPlanTest, AWindowAfterTheLastKeyIsEmpty) {
  AttentionArgs args{.rows = 3, .num_q_heads = 1, .window = 10};
  args.layout = {KvType::kI8, 1, 1, 64, 64};
  args.causal = false;
  args.table.num_tokens = 2 * kSpanTokens;
  args.q_offset = 50 * kSpanTokens;
  EXPECT_EQ(CostOf(args, 4, 12).scores, 0);
}

}  // namespace
}  // namespace lectern::kernels
