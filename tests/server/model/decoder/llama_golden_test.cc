// The tiny random Llamas of tests/golden/llama_tiny against float64 results, in fp32: every way a
// model may be stored, hidden states, logits, top-k attention in prefill and generation.
#include <gtest/gtest.h>

#include <filesystem>

#include "server/model/decoder/decoder_model.h"
#include "server/model/loading/model_loader.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

std::shared_ptr<const Model> LoadF32(const std::string& path) {
  auto model = LoadModel(
      {.name = "tiny", .path = path, .numerics = ModelLoadOptions::Numerics::kF32, .threads = 2});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

// The paper's form: k keys in every layer, nothing for the rest; ff_k units by |silu(gate)|.
AttentionPolicy PaperPolicy(int64_t k, int64_t ff_k = 0) {
  return {.top_k = k,
          .layer_k = {},
          .tail = AttentionPolicy::Tail::kNone,
          .ffn_top_k = ff_k,
          .ffn_rank = AttentionPolicy::FfnRank::kGateAbs};
}

// Row `row` of a two-dimensional tensor of ids.
std::vector<int32_t> IdsOf(const GoldenTensor& tensor, int64_t row) {
  const int64_t cols = tensor.shape.at(1);
  return {tensor.i32.begin() + row * cols, tensor.i32.begin() + (row + 1) * cols};
}

// Values [row, ...] of a tensor whose first axis is the batch.
std::vector<double> RowOf(const GoldenTensor& tensor, int64_t row) {
  const int64_t size = tensor.size() / tensor.shape.at(0);
  return {tensor.f64.begin() + row * size, tensor.f64.begin() + (row + 1) * size};
}

void CheckLogits(const Model& model, const GoldenTensors& data, const std::string& name,
                 const AttentionPolicy& policy, const Tolerance& tolerance) {
  const GoldenTensor& ids = data["input_ids"];
  for (int64_t row = 0; row < ids.shape.at(0); ++row) {
    // Whole, and in slices that no page or tile divides.
    for (const int64_t slice : {512, 7}) {
      Sequence sequence(model, policy);
      const std::vector<float> got = AllLogits(model, sequence, IdsOf(ids, row), slice);
      EXPECT_EQ(CompareValues(got, RowOf(data[name], row), tolerance), "")
          << name << " row " << row << " in slices of " << slice;
    }
  }
}

void CheckGreedy(const Model& model, const GoldenTensors& data, const AttentionPolicy& policy) {
  const GoldenTensor& want = data["greedy_ids"];
  for (int64_t row = 0; row < want.shape.at(0); ++row) {
    Sequence sequence(model, policy);
    const auto got = Greedy(model, sequence, IdsOf(data["input_ids"], row), want.shape.at(1));
    EXPECT_EQ(got.ids, IdsOf(want, row)) << "row " << row;
  }
}

// Collects [stages, tokens, hidden].
class Collector : public ResidualObserver {
 public:
  void Observe(int stage, std::span<const float> stream) override {
    EXPECT_EQ(stage, stages_++);
    values.insert(values.end(), stream.begin(), stream.end());
  }
  std::vector<float> values;

 private:
  int stages_ = 0;
};

void CheckHidden(const Model& model, const GoldenTensors& data, const AttentionPolicy& policy,
                 const Tolerance& tolerance) {
  const GoldenTensor& want = data["hidden"];  // [stages, batch, tokens, hidden]
  const int64_t batch = want.shape.at(1);
  const int64_t size = want.shape.at(2) * want.shape.at(3);
  for (int64_t row = 0; row < batch; ++row) {
    Sequence sequence(model, policy);
    const std::vector<int32_t> ids = IdsOf(data["input_ids"], row);
    const ForwardSlice slice = sequence.Next(ids);
    Collector collector;
    const auto workspace = model.NewWorkspace();
    ObserveResidualStream(*workspace, &collector);
    ASSERT_TRUE(model.Forward({&slice, 1}, *workspace).ok());
    ASSERT_EQ(static_cast<int64_t>(collector.values.size()), want.shape.at(0) * size);
    std::vector<double> expected;
    for (int64_t stage = 0; stage < want.shape.at(0); ++stage) {
      const auto begin = want.f64.begin() + (stage * batch + row) * size;
      expected.insert(expected.end(), begin, begin + size);
    }
    EXPECT_EQ(CompareValues(collector.values, expected, tolerance), "") << "row " << row;
  }
}

// The folder of a case's model and those that hold the same weights stored otherwise
// ("untied", "untied_sharded").
std::vector<std::string> FoldersOf(const GoldenCase& c) {
  const std::string model = c.params.at("model");
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(c.folder)) {
    const std::string name = entry.path().filename();
    if (entry.is_directory() && (name == model || name.rfind(model + "_", 0) == 0)) {
      folders.push_back(entry.path());
    }
  }
  return folders;
}

void CheckFolderCase(const GoldenCase& c) {
  const GoldenTensors data = c.Load();
  AttentionPolicy policy = PaperPolicy(c.params.at("attention_topk"), c.params.value("ff_topk", 0));
  if (policy.ffn_top_k != 0 && c.params.at("ff_rule") == "product") {
    policy.ffn_rank = AttentionPolicy::FfnRank::kProduct;
  } else if (policy.ffn_top_k != 0) {
    ASSERT_EQ(c.params.at("ff_rule"), "gate_abs") << "a rule that the models do not offer";
  }
  const std::vector<std::string> folders = FoldersOf(c);
  ASSERT_FALSE(folders.empty());
  for (const std::string& folder : folders) {
    SCOPED_TRACE(folder);
    const auto model = LoadF32(folder);
    ASSERT_NE(model, nullptr);
    CheckLogits(*model, data, "logits", policy, c.ToleranceOf("logits"));
    CheckGreedy(*model, data, policy);
    if (data.Has("hidden")) CheckHidden(*model, data, policy, c.ToleranceOf("hidden"));
  }
}

void CheckGgufCase(const GoldenCase& c) {
  const GoldenTensors data = c.Load();
  const auto model = LoadF32(c.folder / c.params.at("model_file").get<std::string>());
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->info().quantization, c.params.at("quantisation"));
  for (const int64_t k : c.params.at("attention_topk").get<std::vector<int64_t>>()) {
    const std::string name = k == 0 ? "logits" : "logits.topk" + std::to_string(k);
    CheckLogits(*model, data, name, PaperPolicy(k), c.ToleranceOf(name));
  }
}

TEST(LlamaGoldenTest, MatchesFloat64) {
  const std::vector<GoldenCase> cases = GoldenCases("llama_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family llama_tiny");
  int checked = 0;
  for (const GoldenCase& c : cases) {
    SCOPED_TRACE(c.name);
    ++checked;
    if (c.params.contains("model_file")) {
      CheckGgufCase(c);
    } else {
      CheckFolderCase(c);
    }
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace lectern::test
