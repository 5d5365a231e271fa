// The bits of an answer do not depend on how it was computed: cut into other slices, batched with
// other sequences, after cached pages or from scratch, on one thread or two. Compared with memcmp,
// on a tiny model with a longer context; smollm2_invariance_test does less of it on the real model.
// ctest runs this program once for every class of CPU instructions (LECTERN_FORCE_ISA).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/invariance.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using Numerics = ModelLoadOptions::Numerics;
using Tail = AttentionPolicy::Tail;

struct NamedPolicy {
  const char* name;
  AttentionPolicy policy;
};
void PrintTo(const NamedPolicy& policy, std::ostream* out) { *out << policy.name; }

// The tiny model has two layers and 160 feed-forward units.
const NamedPolicy kPolicies[] = {
    {"Dense", AttentionPolicy::Exact()},
    {"TopKTailNone", {.top_k = 5, .layer_k = {}, .tail = Tail::kNone}},
    {"TopKTailMean", {.top_k = 70, .layer_k = {9, 70}, .tail = Tail::kMean}},
    {"DenseUpTo",
     {.top_k = 24, .layer_k = {}, .tail = Tail::kMean, .page_budget = 0, .dense_up_to = 150}},
    {"PageBudget", {.top_k = 24, .layer_k = {}, .tail = Tail::kMean, .page_budget = 4}},
    {"PageBudgetLastLayerDense",
     {.top_k = 100, .layer_k = {100, 0}, .tail = Tail::kNone, .page_budget = 9}},
    {"FfnTopK", {.top_k = 0, .layer_k = {}, .tail = Tail::kNone, .ffn_top_k = 40}},
    {"BothTopK",
     {.top_k = 16,
      .layer_k = {0},
      .tail = Tail::kMean,
      .ffn_top_k = 24,
      .ffn_rank = AttentionPolicy::FfnRank::kGateAbs}},
};

std::vector<int32_t> SomeTokens(int64_t count, uint32_t state, int32_t vocabulary = 256) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(vocabulary));
  }
  return tokens;
}

// The tiny model of tests/golden with a window of 4,096 positions, by numerics and threads.
class TinyModels {
 public:
  static std::shared_ptr<const Model> Get(Numerics numerics, int threads) {
    std::shared_ptr<const Model>& model = models_[{numerics, threads}];
    if (model == nullptr) model = Load(numerics, threads);
    return model;
  }

 private:
  static std::shared_ptr<const Model> Load(Numerics numerics, int threads) {
    const fs::path folder =
        fs::path(::testing::TempDir()) / ("llama_invariance_test_" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::copy(FixtureDir() / "llama_tiny" / "untied", folder);
    std::ostringstream config;
    config << std::ifstream(folder / "config.json").rdbuf();
    auto json = nlohmann::json::parse(config.str());
    json["max_position_embeddings"] = 4096;
    fs::remove(folder / "config.json");
    std::ofstream(folder / "config.json") << json;
    auto model =
        LoadModel({.name = "tiny", .path = folder, .numerics = numerics, .threads = threads});
    EXPECT_TRUE(model.ok()) << model.status();
    fs::remove_all(folder);
    return model.ok() ? *model : nullptr;
  }

  static inline std::map<std::pair<Numerics, int>, std::shared_ptr<const Model>> models_;
};

class LlamaInvarianceTest : public ::testing::TestWithParam<std::tuple<Numerics, NamedPolicy>> {
 protected:
  void SetUp() override {
    const auto path = FixtureDir() / "llama_tiny" / "untied" / "config.json";
    LECTERN_REQUIRE_FILE(fs::exists(path), path.string());
    model_ = TinyModels::Get(numerics(), 2);
    ASSERT_NE(model_, nullptr);
    workspace_ = model_->NewWorkspace();
  }

  Numerics numerics() const { return std::get<0>(GetParam()); }
  const AttentionPolicy& policy() const { return std::get<1>(GetParam()).policy; }

  void Forward(std::span<const ForwardSlice> slices) {
    const absl::Status status = model_->Forward(slices, *workspace_);
    EXPECT_TRUE(status.ok()) << status;
  }

  // The logits of all tokens, and the statistics.
  Outputs FeedAll(Sequence& sequence, std::span<const int32_t> tokens, int64_t slice_tokens) {
    const size_t vocabulary = model_->info().vocabulary;
    Outputs outputs;
    outputs.logits.resize(tokens.size() * vocabulary);
    for (size_t first = 0; first < tokens.size(); first += slice_tokens) {
      const size_t count = std::min<size_t>(slice_tokens, tokens.size() - first);
      ForwardSlice slice = sequence.Next(tokens.subspan(first, count));
      slice.all_logits = outputs.logits.data() + first * vocabulary;
      slice.kept_mass = &outputs.kept_mass;
      Forward({&slice, 1});
    }
    return outputs;
  }

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Workspace> workspace_;
};

// Longer than a span of the attention kernels (1,024 keys), and not a multiple of a page.
constexpr int64_t kLong = 1100;

TEST_P(LlamaInvarianceTest, SlicesOfAnySize) {
  const auto tokens = SomeTokens(kLong, 1);
  Sequence whole(*model_, policy());
  const Outputs want = FeedAll(whole, tokens, kLong);
  for (const int64_t slice : {1, 65}) {
    SCOPED_TRACE("slices of " + std::to_string(slice));
    Sequence cut(*model_, policy());
    ExpectSame(FeedAll(cut, tokens, slice), want);
    ExpectSamePages(*model_, cut, whole);
  }
  // Pages may be skipped where no statistics are asked for.
  Sequence silent(*model_, policy());
  EXPECT_EQ(Difference(AllLogits(*model_, silent, tokens, 512), want.logits), "");
}

TEST_P(LlamaInvarianceTest, WithOtherSequences) {
  // Some from scratch, some after earlier tokens; the second crosses a span.
  const std::pair<int64_t, int64_t> lengths[] = {{0, 3}, {1000, 70}, {130, 64}, {0, 65}, {63, 1}};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<Sequence> alone, together;
  std::vector<Outputs> want(std::size(lengths)), got(std::size(lengths));
  std::vector<ForwardSlice> batch;
  for (const auto& [before, length] : lengths) {
    const size_t i = tokens.size();
    // Every other sequence has a different policy.
    const AttentionPolicy& own = i % 2 == 0 ? policy() : kPolicies[i].policy;
    tokens.push_back(SomeTokens(before + length, static_cast<uint32_t>(i)));
    alone.emplace_back(*model_, own);
    together.emplace_back(*model_, own);
    const std::span<const int32_t> all(tokens[i]);
    Feed(*model_, alone[i], all.first(before));
    Feed(*model_, together[i], all.first(before));
    want[i] = Feed(*model_, alone[i], all.subspan(before));
  }
  for (size_t i = 0; i < std::size(lengths); ++i) {
    const std::span<const int32_t> all(tokens[i]);
    batch.push_back(got[i].Slice(*model_, together[i], all.subspan(lengths[i].first)));
  }
  Forward(batch);
  for (size_t i = 0; i < std::size(lengths); ++i) {
    SCOPED_TRACE("sequence " + std::to_string(i));
    ExpectSame(got[i], want[i]);
    ExpectSamePages(*model_, together[i], alone[i]);
  }
}

TEST_P(LlamaInvarianceTest, DecodingInABatch) {
  constexpr int kSteps = 6;
  const int64_t depths[] = {1, 60, 64, 127, 1020, 1200};
  std::vector<Sequence> alone, together;
  for (const int64_t depth : depths) {
    alone.emplace_back(*model_, policy());
    Feed(*model_, alone.back(), SomeTokens(depth, static_cast<uint32_t>(depth)));
    together.push_back(alone.back().Copy());
  }
  for (int step = 0; step < kSteps; ++step) {
    std::vector<Outputs> got(std::size(depths));
    std::vector<ForwardSlice> batch;
    const auto tokens = SomeTokens(std::size(depths), 100 + step);
    for (size_t i = 0; i < std::size(depths); ++i) {
      batch.push_back(got[i].Slice(*model_, together[i], {&tokens[i], 1}));
    }
    Forward(batch);
    for (size_t i = 0; i < std::size(depths); ++i) {
      SCOPED_TRACE("step " + std::to_string(step) + ", sequence " + std::to_string(i));
      ExpectSame(got[i], Feed(*model_, alone[i], {&tokens[i], 1}));
    }
  }
}

TEST_P(LlamaInvarianceTest, AfterCachedPages) {
  // Documents that end inside a page, at its end, one token after it, and after a span.
  for (const int64_t length : {37, 64, 65, 1061}) {
    SCOPED_TRACE("document of " + std::to_string(length));
    const auto text = SomeTokens(length, 5);
    Sequence document(*model_, policy());
    Feed(*model_, document, text);
    Sequence before = document.Copy();
    // Two questions about it at the same time.
    const std::vector<int32_t> questions[] = {SomeTokens(40, 6), SomeTokens(90, 7)};
    Continuing sequences[] = {{*model_, document}, {*model_, document}};
    Outputs got[2];
    const ForwardSlice batch[] = {sequences[0].Next(got[0], *model_, questions[0]),
                                  sequences[1].Next(got[1], *model_, questions[1])};
    Forward(batch);
    for (int i = 0; i < 2; ++i) {
      Sequence recomputed(*model_, policy());
      std::vector<int32_t> all = text;
      all.insert(all.end(), questions[i].begin(), questions[i].end());
      EXPECT_EQ(Difference(got[i].logits, Feed(*model_, recomputed, all).logits), "");
      for (const int32_t token : SomeTokens(4, 8)) {
        Outputs next;
        const ForwardSlice slice = sequences[i].Next(next, *model_, {&token, 1});
        Forward({&slice, 1});
        ExpectSame(next, Feed(*model_, recomputed, {&token, 1}));
      }
    }
    ExpectSamePages(*model_, document, before);
  }
}

TEST_P(LlamaInvarianceTest, OneThreadOrTwo) {
  const auto single = TinyModels::Get(numerics(), 1);
  ASSERT_NE(single, nullptr);
  const auto tokens = SomeTokens(kLong, 9);
  Sequence one(*single, policy()), two(*model_, policy());
  EXPECT_EQ(Difference(AllLogits(*single, one, tokens), AllLogits(*model_, two, tokens)), "");
  ExpectSamePages(*model_, one, two);
  for (const int32_t token : SomeTokens(8, 10)) {
    ExpectSame(Feed(*single, one, {&token, 1}), Feed(*model_, two, {&token, 1}));
  }
}

INSTANTIATE_TEST_SUITE_P(All, LlamaInvarianceTest,
                         ::testing::Combine(::testing::Values(Numerics::kF32,
                                                              Numerics::kInt8Rotated),
                                            ::testing::ValuesIn(kPolicies)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) == Numerics::kF32 ? "F32"
                                                                                        : "Int8") +
                                  std::get<1>(info.param).name;
                         });

}  // namespace
}  // namespace lectern::test
