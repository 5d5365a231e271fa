// Folders of span readers in the forms in which checkpoints come, made from one golden reader whose
// norms are called gamma and beta: other names for the same tensors give the same scores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "server/model/loading/model_loader.h"
#include "tests/testing/golden.h"
#include "tests/testing/safetensors_file.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class ReaderFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    LECTERN_REQUIRE_FILE(fs::exists(golden_), golden_.string());
    config_ = json::parse(FileContents(golden_ / "config.json"));
    tensors_ = ReadTensors(golden_ / "model.safetensors");
    fs::copy(golden_ / "tokenizer.json", folder_.path() + "/tokenizer.json");
  }

  // Renames a part of every tensor that has it.
  void Rename(const std::string& part, const std::string& by) {
    TensorMap renamed;
    int changed = 0;
    for (auto& [name, tensor] : tensors_) {
      changed += absl::StrContains(name, part) ? 1 : 0;
      renamed[absl::StrReplaceAll(name, {{part, by}})] = std::move(tensor);
    }
    EXPECT_GT(changed, 0) << part;
    tensors_ = std::move(renamed);
  }

  void MakeElectra() {
    Rename("bert.", "electra.");
    config_["model_type"] = "electra";
    config_["architectures"] = {"ElectraForQuestionAnswering"};
    config_["embedding_size"] = config_["hidden_size"];
  }

  absl::StatusOr<std::shared_ptr<const Model>> LoadFolder() {
    WriteFile(folder_.path() + "/config.json", config_.dump());
    WriteTensors(folder_.path() + "/model.safetensors", tensors_);
    return LoadModel({.name = "reader", .path = folder_.path()});
  }

  // The scores of one window.
  static std::vector<float> ScoresOf(const absl::StatusOr<std::shared_ptr<const Model>>& model) {
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return {};
    const std::vector<int32_t> ids = {2, 17, 40, 3, 33, 21, 99, 3};
    std::vector<float> scores(2 * ids.size());
    const AttentionPolicy policy = AttentionPolicy::Exact();
    ForwardSlice slice;
    slice.tokens = ids;
    slice.policy = &policy;
    slice.encode = true;
    slice.document_begin = 4;
    slice.span_begins = scores.data();
    slice.span_ends = scores.data() + ids.size();
    EXPECT_TRUE((*model)->Forward({&slice, 1}, *(*model)->NewWorkspace()).ok());
    return scores;
  }

  std::vector<float> GoldenScores() const {
    return ScoresOf(LoadModel({.name = "reader", .path = golden_.string()}));
  }

  const fs::path golden_ = FixtureDir() / "decoders" / "bert-gamma-beta";
  const TemporaryFolder folder_;
  json config_;
  TensorMap tensors_;
};

TEST_F(ReaderFolderTest, GammaAndBetaAreWeightAndBias) {
  Rename(".gamma", ".weight");
  Rename(".beta", ".bias");
  EXPECT_EQ(ScoresOf(LoadFolder()), GoldenScores());
}

TEST_F(ReaderFolderTest, ElectraAsWideAsItsEmbeddingsIsBert) {
  MakeElectra();
  const auto model = LoadFolder();
  EXPECT_EQ(ScoresOf(model), GoldenScores());
  EXPECT_EQ((*model)->info().family, "electra");
}

TEST_F(ReaderFolderTest, NarrowEmbeddingsNeedTheirProjection) {
  MakeElectra();
  config_["embedding_size"] = config_["hidden_size"].get<int>() / 2;
  EXPECT_THAT(std::string(LoadFolder().status().message()), HasSubstr("word_embeddings"));
}

TEST_F(ReaderFolderTest, ThePoolerIsPassedOverAndOtherTensorsAreNot) {
  tensors_["bert.pooler.dense.bias"] = tensors_.at("qa_outputs.bias");
  EXPECT_EQ(ScoresOf(LoadFolder()), GoldenScores());
  tensors_["bert.adapter.bias"] = tensors_.at("qa_outputs.bias");
  const absl::Status refused = LoadFolder().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("bert.adapter.bias"));
}

// A token was added, but the embedding table not resized: only a window that needs it is refused.
TEST_F(ReaderFolderTest, MoreTokensThanRows) {
  const fs::path file = folder_.path() + "/tokenizer.json";
  json tokenizer = json::parse(FileContents(file));
  json added = tokenizer["added_tokens"][0];
  const int32_t rows = config_["vocab_size"];
  added["id"] = rows;
  added["content"] = "[ADDED]";
  tokenizer["added_tokens"].push_back(added);
  fs::remove(file);
  WriteFile(file, tokenizer.dump());
  const auto model = LoadFolder();
  EXPECT_EQ(ScoresOf(model), GoldenScores());
  EXPECT_EQ((*model)->tokenizer().Encode("[ADDED]", /*parse_special=*/true).ids[0], rows);
  const std::vector<int32_t> ids = {2, rows, 3};
  const AttentionPolicy policy = AttentionPolicy::Exact();
  ForwardSlice slice;
  slice.tokens = ids;
  slice.policy = &policy;
  slice.encode = true;
  const absl::Status refused = (*model)->Forward({&slice, 1}, *(*model)->NewWorkspace());
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("slices[0].tokens"));
  // But a reader needs the tokens around a window.
  tokenizer["added_tokens"][2]["id"] = rows + 1;
  tokenizer["model"]["vocab"]["[CLS]"] = rows + 1;
  WriteFile(file, tokenizer.dump());
  EXPECT_THAT(std::string(LoadFolder().status().message()),
              HasSubstr("token '[CLS]': has no row in the embedding table"));
}

TEST_F(ReaderFolderTest, TheActivationIsComputedAsNamed) {
  const std::vector<float> gelu = GoldenScores();
  config_["hidden_act"] = "gelu_new";  // an approximation of gelu
  const std::vector<float> tanh = ScoresOf(LoadFolder());
  config_["hidden_act"] = "relu";
  const std::vector<float> relu = ScoresOf(LoadFolder());
  ASSERT_EQ(tanh.size(), gelu.size());
  double near = 0, far = 0;
  for (size_t i = 0; i < gelu.size(); ++i) {
    near += std::abs(tanh[i] - gelu[i]);
    far += std::abs(relu[i] - gelu[i]);
  }
  EXPECT_GT(near, 0);
  EXPECT_GT(far, 10 * near);
}

}  // namespace
}  // namespace lectern::test
