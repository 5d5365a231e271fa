// Tests that skipping pages by their bounds loses no kept key, and that a budget reads no more
// pages than it allows.
#include <gtest/gtest.h>

#include <set>

#include "kernels/kv/kv_layout.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/kernels/isa_test.h"

namespace lectern::kernels {
namespace {

constexpr int kHeads = 6, kKvHeads = 2, kDim = 64;
constexpr int64_t kKeys = 6000 + 17;
constexpr int64_t kFullPages = kKeys / kPageTokens;

class PageBoundsTest : public IsaTest {
 protected:
  // Keys of a page lie close together, far from those of others, as they do while a text keeps to
  // its subject.
  static Problem Clustered(KvType type, int64_t rows) {
    Problem p = Problem::Causal(type, kHeads, kKvHeads, kDim, rows, kKeys, 11);
    std::mt19937 random(12);
    std::normal_distribution<float> normal;
    std::vector<float> centre(kKvHeads * kDim);
    for (int64_t token = 0; token < kKeys; ++token) {
      if (token % kPageTokens == 0) {
        for (float& x : centre) x = 2 * normal(random);
      }
      float* key = p.k.data() + token * kKvHeads * kDim;
      for (int c = 0; c < kKvHeads * kDim; ++c) key[c] = centre[c] + 0.05f * normal(random);
    }
    p.Write();
    return p;
  }

  // Without sums over all keys, so that pages may be skipped.
  Result Run(const Problem& p, const TopKParams& wanted, int threads = 1) const {
    Result r = p.Blank(wanted.k);
    AttentionArgs args = p.Args(&r);
    args.kept_mass = nullptr;
    args.key_mass = nullptr;
    TopKParams params = wanted;
    params.kept_index = r.index.data();
    params.kept_weight = r.weight.data();
    EXPECT_TRUE(Ok(TopKAttention({&args, 1}, params, Context(threads))));
    return r;
  }

  // Reads every page, because sums are asked for.
  Result RunOverAllPages(const Problem& p, int64_t k) const {
    Result r = p.Run(k, Tail::kNone, Context());
    std::fill(r.mass.begin(), r.mass.end(), 0.0f);
    std::fill(r.key_mass.begin(), r.key_mass.end(), 0.0f);
    return r;
  }

  static std::set<int64_t> KeptPages(const Result& r, int64_t k, int64_t row, int first_head,
                                     int heads) {
    std::set<int64_t> pages;
    const int32_t* kept = r.index.data() + (row * kHeads + first_head) * k;
    for (int64_t i = 0; i < heads * k; ++i) pages.insert(kept[i] / kPageTokens);
    return pages;
  }
};

TEST_P(PageBoundsTest, SkippingLosesNothing) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    const Problem clustered = Clustered(type, 1);
    const Problem plain = Problem::Causal(type, kHeads, kKvHeads, kDim, 1, kKeys, 13);
    Problem capped = clustered;
    capped.score_cap = 2;
    for (const Problem* p : std::initializer_list<const Problem*>{&clustered, &plain, &capped}) {
      for (const int64_t k : {1, 64, 200}) {
        const Result want = RunOverAllPages(*p, k);
        EXPECT_EQ(Run(*p, {.k = k}), want) << "k " << k;
        EXPECT_EQ(Run(*p, {.k = k}, 2), want) << "two threads, k " << k;
      }
    }
  }
}

// Corrupted keys in most pages change nothing, because those pages are not read.
TEST_P(PageBoundsTest, SkippedPagesAreNotRead) {
  const int64_t k = 64;
  const Problem p = Clustered(KvType::kI8, 1);
  const Result want = Run(p, {.k = k});
  std::set<int64_t> needed;
  for (int head = 0; head < kHeads; ++head) needed.merge(KeptPages(want, k, 0, head, 1));
  const auto head_layout = internal::HeadLayout(p.layout);
  int64_t unread = 0;
  for (int64_t page = 0; page < kFullPages; ++page) {
    if (needed.count(page) != 0) continue;
    std::vector<std::byte> saved(p.layout.PageBytes());
    std::byte* memory = p.sequence->pages()[page];
    std::memcpy(saved.data(), memory, saved.size());
    for (int head = 0; head < kKvHeads; ++head) {
      std::memset(
          memory + internal::HeadOffset(p.layout, head_layout, 0, head) + head_layout.key_start,
          0x40, sizeof(int32_t) * kPageTokens);  // scores far above all others
    }
    unread += Run(p, {.k = k}) == want ? 1 : 0;
    std::memcpy(memory, saved.data(), saved.size());
  }
  EXPECT_GT(unread, kFullPages / 2);
}

TEST_P(PageBoundsTest, ABudgetOfAllPagesChangesNothing) {
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    const Problem p = Clustered(type, 5);
    for (const Tail tail : {Tail::kNone, Tail::kMean}) {
      const Result want = Run(p, {.k = 100, .tail = tail});
      EXPECT_EQ(Run(p, {.k = 100, .tail = tail, .page_budget = kFullPages}), want);
      EXPECT_EQ(Run(p, {.k = 100, .tail = tail, .page_budget = 1 << 20}), want);
    }
  }
}

TEST_P(PageBoundsTest, ABudgetReadsNoMorePagesAndTheBestOnes) {
  const int64_t k = 128, budget = 6;
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    const Problem p = Clustered(type, 3);
    const Result got = Run(p, {.k = k, .page_budget = budget});
    const Result all = Run(p, {.k = 1});
    for (int64_t row = 0; row < p.rows; ++row) {
      for (int kv = 0; kv < kKvHeads; ++kv) {
        const int group = kHeads / kKvHeads;
        const auto pages = KeptPages(got, k, row, kv * group, group);
        // The budget, the first page, and the one that is not full.
        EXPECT_LE(pages.size(), static_cast<size_t>(budget + 2));
        // Clusters are tight: the page of every head's best key is among those of highest bound.
        for (int h = kv * group; h < (kv + 1) * group; ++h) {
          EXPECT_EQ(pages.count(all.index[row * kHeads + h] / kPageTokens), 1u);
        }
      }
    }
  }
}

// Under a window, the budget divides the pages that the row sees.
TEST_P(PageBoundsTest, ABudgetKeepsToTheWindow) {
  const int64_t k = 128, budget = 5;
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    for (const int64_t window : {640, 2003}) {
      SCOPED_TRACE(window);
      Problem p = Clustered(type, 2);
      p.window = window;
      const Result got = Run(p, {.k = k, .page_budget = budget});
      const Result best = Run(p, {.k = 1});
      for (int64_t row = 0; row < p.rows; ++row) {
        const int64_t last = p.q_offset + row, first = last - window + 1;
        const bool first_whole = first % kPageTokens == 0;
        for (int kv = 0; kv < kKvHeads; ++kv) {
          const int group = kHeads / kKvHeads;
          const auto pages = KeptPages(got, k, row, kv * group, group);
          // The budget, and the two pages that are not seen whole.
          EXPECT_LE(pages.size(), static_cast<size_t>(budget + (first_whole ? 1 : 2)));
          EXPECT_GE(*pages.begin(), first / kPageTokens);
          for (int h = kv * group; h < (kv + 1) * group; ++h) {
            EXPECT_EQ(pages.count(best.index[row * kHeads + h] / kPageTokens), 1u);
          }
        }
      }
      for (const Tail tail : {Tail::kNone, Tail::kMean}) {
        const Result all = Run(p, {.k = k, .tail = tail});
        EXPECT_EQ(Run(p, {.k = k, .tail = tail, .page_budget = window / kPageTokens}), all);
        EXPECT_FALSE(Run(p, {.k = k, .tail = tail, .page_budget = budget}) == all);
      }
    }
  }
}

// The newest page is read whatever its bound, also when it has just been filled, and so is the
// first of the document, but not the first of a window.
TEST_P(PageBoundsTest, ABudgetKeepsTheNewestPage) {
  const int64_t filled = kFullPages * kPageTokens;
  for (const KvType type : {KvType::kF32, KvType::kI8}) {
    for (const int64_t window : {0, 20 * kPageTokens}) {
      SCOPED_TRACE(window);
      Problem p = Clustered(type, 1);
      p.keys = filled;
      p.q_offset = filled - 1;
      p.window = window;
      // The first two, and the last, pages lie opposite to the queries.
      const int group = kHeads / kKvHeads;
      const int64_t first = window == 0 ? 0 : kFullPages - window / kPageTokens;
      for (const int64_t page : {first, first + 1, kFullPages - 1}) {
        for (int64_t i = 0; i < kPageTokens * kKvHeads * kDim; ++i) {
          const int64_t kv = i / kDim % kKvHeads, c = i % kDim;
          float sum = 0;
          for (int h = 0; h < group; ++h) sum += p.q[(kv * group + h) * kDim + c];
          p.k[page * kPageTokens * kKvHeads * kDim + i] = -10 * sum;
        }
      }
      p.Write();
      // Every key of the pages that are read is kept.
      const int64_t read = window == 0 ? 4 : 3, k = read * kPageTokens;
      const Result got = Run(p, {.k = k, .page_budget = 2});
      for (int kv = 0; kv < kKvHeads; ++kv) {
        const auto pages = KeptPages(got, k, 0, kv * group, group);
        EXPECT_EQ(pages.size(), static_cast<size_t>(read));
        EXPECT_EQ(pages.count(kFullPages - 1), 1u);
        EXPECT_EQ(pages.count(first), window == 0 ? 1u : 0u);
        EXPECT_EQ(pages.count(first + 1), 0u);
      }
    }
  }
}

TEST_P(PageBoundsTest, ABudgetDependsOnTheRowAlone) {
  const Problem p = Clustered(KvType::kI8, 9);
  const TopKParams params{.k = 64, .tail = Tail::kMean, .page_budget = 7};
  const Result together = Run(p, params);
  EXPECT_EQ(Run(p, params, 3), together);
  for (int64_t row = 0; row < p.rows; ++row) {
    Result alone = p.Blank(64);
    AttentionArgs args = p.Args(&alone);
    args.kept_mass = nullptr;
    args.key_mass = nullptr;
    args.q += row * args.q_stride;
    args.q_offset += row;
    args.rows = 1;
    ASSERT_TRUE(Ok(TopKAttention({&args, 1}, params, Context(2))));
    EXPECT_EQ(std::memcmp(alone.out.data(), together.out.data() + row * kHeads * kDim,
                          sizeof(float) * kHeads * kDim),
              0);
  }
}

TEST_P(PageBoundsTest, RefusesWhatItCannotBound) {
  const Problem p = Clustered(KvType::kI8, 1);
  Result r = p.Blank(4);
  AttentionArgs args = p.Args(&r);
  EXPECT_EQ(TopKAttention({&args, 1}, {.k = 4, .page_budget = -1}, Context()),
            LaunchStatus::kBadArgument);
  const std::vector<uint8_t> padding(kKeys);
  args.key_padding = padding.data();
  EXPECT_EQ(TopKAttention({&args, 1}, {.k = 4, .page_budget = 4}, Context()),
            LaunchStatus::kUnsupported);
}

INSTANTIATE_TEST_SUITE_P(Isa, PageBoundsTest, testing::ValuesIn(AllIsas()), IsaName);

}  // namespace
}  // namespace lectern::kernels
