// The tiny random BERT and RoBERTa of tests/golden/bert_qa_tiny and roberta_qa_tiny against float64
// results, in fp32: scores of where answers begin and end, dense and with top-k attention, all
// windows of a case in one batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/formats/safetensors.h"
#include "server/model/bert/bert_model.h"
#include "server/model/loading/model_loader.h"
#include "server/model/model_files.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

BertConfig ConfigOf(const std::string& folder) {
  const auto json = ReadTextFile(folder + "/config.json");
  EXPECT_TRUE(json.ok()) << json.status();
  return *ReadBertConfig(*json, folder);
}

std::string FolderOf(const GoldenCase& c) {
  return c.folder / c.params.at("model").get<std::string>();
}

// Without its tokenizer, which these tests do not need.
std::unique_ptr<const Model> Load(const std::string& folder, ModelLoadOptions::Numerics numerics) {
  BertParts parts;
  parts.config = ConfigOf(folder);
  parts.weights =
      *BertWeights::Load(parts.config, *OpenSafetensors(folder), *LinearForm::Of(numerics, 2));
  parts.execution.num_threads = 2;
  return std::make_unique<const BertModel>(std::move(parts));
}

// A case's windows, without their padding.
struct Windows {
  std::vector<std::vector<int32_t>> ids;
  std::vector<size_t> document_begin;
};

Windows WindowsOf(const GoldenTensors& data) {
  Windows windows;
  const GoldenTensor& ids = data["input_ids"];
  const int64_t width = ids.shape.at(1);
  for (int64_t window = 0; window < ids.shape.at(0); ++window) {
    windows.ids.emplace_back();
    windows.document_begin.push_back(0);
    for (int64_t i = window * width; i < (window + 1) * width; ++i) {
      if (data["attention_mask"].u8[i] == 0) continue;
      windows.ids.back().push_back(ids.i32[i]);
      windows.document_begin.back() += data["token_type_ids"].i32[i] == 0 ? 1 : 0;
    }
  }
  return windows;
}

struct Scores {
  std::vector<std::vector<float>> begins, ends, encoded;
};

Scores ScoresOf(const Model& model, int64_t hidden, const Windows& windows, int64_t k,
                bool together) {
  AttentionPolicy policy = AttentionPolicy::Exact();
  policy.top_k = k;
  Scores scores;
  std::vector<ForwardSlice> slices;
  const size_t count = windows.ids.size();
  for (auto* values : {&scores.begins, &scores.ends, &scores.encoded}) values->resize(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t tokens = windows.ids[i].size();
    scores.begins[i].resize(tokens);
    scores.ends[i].resize(tokens);
    scores.encoded[i].resize(tokens * hidden);
    ForwardSlice slice;
    slice.tokens = windows.ids[i];
    slice.policy = &policy;
    slice.encode = true;
    slice.document_begin = windows.document_begin[i];
    slice.span_begins = scores.begins[i].data();
    slice.span_ends = scores.ends[i].data();
    slice.encoded = scores.encoded[i].data();
    slices.push_back(slice);
  }
  const auto workspace = model.NewWorkspace();
  if (together) {
    EXPECT_TRUE(model.Forward(slices, *workspace).ok());
  } else {
    for (const ForwardSlice& slice : slices) {
      EXPECT_TRUE(model.Forward({&slice, 1}, *workspace).ok());
    }
  }
  return scores;
}

// The values of a window that are not padding.
std::vector<double> Expected(const GoldenTensor& tensor, int64_t first, size_t count) {
  return {tensor.f64.begin() + first, tensor.f64.begin() + first + static_cast<int64_t>(count)};
}

class BertGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { LECTERN_REQUIRE_FILE(!GoldenCases(GetParam()).empty(), GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Families, BertGoldenTest,
                         testing::Values("bert_qa_tiny", "roberta_qa_tiny"));

TEST_P(BertGoldenTest, MatchesFloat64) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases(GetParam())) {
    if (!c.params.contains("attention_topk")) continue;
    SCOPED_TRACE(c.name);
    const GoldenTensors data = c.Load();
    const auto model = Load(FolderOf(c), ModelLoadOptions::Numerics::kF32);
    const int64_t hidden_size = ConfigOf(FolderOf(c)).hidden;
    const Windows windows = WindowsOf(data);
    const int64_t width = data["input_ids"].shape.at(1);
    for (const int64_t k : c.params.at("attention_topk").get<std::vector<int64_t>>()) {
      const std::string variant = k == 0 ? "dense" : "k" + std::to_string(k);
      const Scores scores = ScoresOf(*model, hidden_size, windows, k, /*together=*/true);
      for (size_t i = 0; i < windows.ids.size(); ++i) {
        const int64_t first = static_cast<int64_t>(i) * width;
        const size_t count = windows.ids[i].size();
        const std::string begins = "start_logits." + variant, ends = "end_logits." + variant;
        EXPECT_EQ(CompareValues(scores.begins[i], Expected(data[begins], first, count),
                                c.ToleranceOf(begins)),
                  "")
            << variant << " window " << i;
        EXPECT_EQ(
            CompareValues(scores.ends[i], Expected(data[ends], first, count), c.ToleranceOf(ends)),
            "")
            << variant << " window " << i;
        const std::string hidden = "hidden." + variant;
        if (!data.Has(hidden)) continue;
        // [stages, windows, width, hidden]; the last stage is the encoder's output.
        const auto& shape = data[hidden].shape;
        ASSERT_EQ(shape[3], hidden_size);
        const int64_t last = ((shape[0] - 1) * shape[1] * width + first) * shape[3];
        EXPECT_EQ(CompareValues(scores.encoded[i], Expected(data[hidden], last, count * shape[3]),
                                c.ToleranceOf(hidden)),
                  "")
            << variant << " window " << i;
      }
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

// The folder's tokenizer and prompt turn a question and a document into the golden windows.
TEST_P(BertGoldenTest, FolderGivesTheGoldenWindows) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases(GetParam())) {
    if (!c.params.contains("attention_topk")) continue;
    SCOPED_TRACE(c.name);
    const GoldenTensors data = c.Load();
    const Windows windows = WindowsOf(data);
    const auto model = LoadModel({.name = "tiny", .path = FolderOf(c)});
    ASSERT_TRUE(model.ok()) << model.status();
    const EncoderPrompt frame =
        (*model)->EncoderPromptOf(c.params.at("question").get<std::string>());
    const Encoding document =
        (*model)->tokenizer().Encode(c.params.at("context").get<std::string>(), false);
    for (size_t i = 0; i < windows.ids.size(); ++i) {
      const size_t part = windows.ids[i].size() - frame.size();
      const auto begin = document.ids.begin() + data["window_start"].i32[i];
      std::vector<int32_t> ids = frame.before;
      ids.insert(ids.end(), begin, begin + static_cast<int64_t>(part));
      ids.insert(ids.end(), frame.after.begin(), frame.after.end());
      EXPECT_EQ(ids, windows.ids[i]) << i;
      EXPECT_EQ(frame.before.size(), windows.document_begin[i]) << i;
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

TEST_P(BertGoldenTest, AWindowDoesNotDependOnItsBatch) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases(GetParam())) {
    if (!c.params.contains("attention_topk")) continue;
    const Windows windows = WindowsOf(c.Load());
    if (windows.ids.size() < 2) continue;
    SCOPED_TRACE(c.name);
    const int64_t hidden = ConfigOf(FolderOf(c)).hidden;
    ++checked;
    for (const auto numerics :
         {ModelLoadOptions::Numerics::kF32, ModelLoadOptions::Numerics::kInt8Rotated}) {
      const auto model = Load(FolderOf(c), numerics);
      for (const int64_t k : c.params.at("attention_topk").get<std::vector<int64_t>>()) {
        const Scores together = ScoresOf(*model, hidden, windows, k, /*together=*/true);
        const Scores alone = ScoresOf(*model, hidden, windows, k, /*together=*/false);
        EXPECT_EQ(together.begins, alone.begins);
        EXPECT_EQ(together.ends, alone.ends);
        EXPECT_EQ(together.encoded, alone.encoded);
      }
    }
  }
  EXPECT_GT(checked, 0) << "no case has two windows";
}

TEST(BertSlicesTest, RefusesBadSlices) {
  const auto model =
      Load(FixtureDir() / "bert_qa_tiny" / "model", ModelLoadOptions::Numerics::kInt8Rotated);
  const auto workspace = model->NewWorkspace();
  const AttentionPolicy policy = AttentionPolicy::Exact();
  const ModelInfo& info = model->info();
  const std::vector<int32_t> window = {2, 3, 3};
  const std::vector<int32_t> unknown = {2, static_cast<int32_t>(info.vocabulary)};
  const std::vector<int32_t> long_one(info.context_length + 1, 2);
  const auto refused = [&](const std::vector<int32_t>& tokens, bool encode, int64_t position) {
    ForwardSlice slice;
    slice.tokens = tokens;
    slice.policy = &policy;
    slice.encode = encode;
    slice.position = position;
    return std::string(model->Forward({&slice, 1}, *workspace).message());
  };
  EXPECT_THAT(refused(unknown, true, 0), testing::HasSubstr("slices[0].tokens"));
  EXPECT_THAT(refused(long_one, true, 0), testing::HasSubstr("slices[0].position"));
  EXPECT_THAT(refused(window, false, 0), testing::HasSubstr("slices[0].encode"));
  EXPECT_THAT(refused(window, true, 1), testing::HasSubstr("slices[0].encode"));
  EXPECT_EQ(refused(window, true, 0), "");
}

}  // namespace
}  // namespace lectern::test
