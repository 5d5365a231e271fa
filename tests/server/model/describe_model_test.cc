// DescribeModel says of a model without loading it what loading it gives: the memory of its
// weights, and the error of a damaged file.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "server/model/loading/model_loader.h"
#include "tests/testing/golden.h"
#include "tests/testing/safetensors_file.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using Numerics = ModelLoadOptions::Numerics;

// Every folder of safetensors and every GGUF file of the golden data that may be a model.
std::vector<fs::path> Models() {
  std::vector<fs::path> models;
  for (const fs::path& root : {GoldenDir(), FixtureDir()}) {
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(root, error)) {
      const bool is_folder = fs::exists(entry.path() / "config.json") &&
                             (fs::exists(entry.path() / "model.safetensors") ||
                              fs::exists(entry.path() / "model.safetensors.index.json"));
      if (is_folder || entry.path().extension() == ".gguf") models.push_back(entry.path());
    }
    if (GoldenDir() == FixtureDir()) break;
  }
  return models;
}

TEST(DescribeModelTest, TheMemoryOfWeightsIsWhatLoadingTakes) {
  int decoders = 0, readers = 0, t5 = 0, in_blocks = 0;
  for (const fs::path& path : Models()) {
    for (const Numerics numerics :
         {Numerics::kAuto, Numerics::kInt8Rotated, Numerics::kF32, Numerics::kBlocks}) {
      SCOPED_TRACE(testing::Message() << path << ", numerics " << static_cast<int>(numerics));
      const ModelLoadOptions options = {
          .name = "model", .path = path, .numerics = numerics, .threads = 1};
      const auto description = DescribeModel(options);
      const auto model = LoadModel(options);
      ASSERT_EQ(description.ok(), model.ok()) << description.status() << ", " << model.status();
      if (!model.ok()) {
        EXPECT_EQ(description.status(), model.status());
        continue;
      }
      const ModelInfo& info = (*model)->info();
      EXPECT_EQ(description->info.weight_bytes, info.weight_bytes);
      EXPECT_EQ(description->info.numerics, info.numerics);
      decoders += info.kind == ModelKind::kGenerative ? 1 : 0;
      readers += info.kind == ModelKind::kExtractive ? 1 : 0;
      t5 += info.kind == ModelKind::kSeq2Seq ? 1 : 0;
      in_blocks += info.numerics == "blocks" ? 1 : 0;
    }
  }
  LECTERN_REQUIRE_FILE(decoders > 0 && readers > 0 && t5 > 0 && in_blocks > 0, GoldenDir());
}

// Loads and describes a copy of the folder whose tensors `damage` has changed, and expects one
// error that names `tensor`.
void ExpectSameError(const fs::path& from, const std::string& tensor,
                     const std::function<void(TensorMap&)>& damage) {
  SCOPED_TRACE(testing::Message() << from << ", " << tensor);
  const TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path file = entry.path();
    if (file.extension() == ".json" || file.extension() == ".model") {
      fs::copy(file, folder.path() / file.filename());
    }
  }
  TensorMap tensors = ReadTensors(from / "model.safetensors");
  damage(tensors);
  WriteTensors(folder.path() + "/model.safetensors", tensors);
  const ModelLoadOptions options = {.name = "model", .path = folder.path(), .threads = 1};
  const absl::Status described = DescribeModel(options).status();
  EXPECT_FALSE(described.ok());
  EXPECT_TRUE(absl::StrContains(described.message(), tensor)) << described;
  EXPECT_EQ(described, LoadModel(options).status());
}

TEST(DescribeModelTest, DamagedTensorsAreFoundAsLoadingFindsThem) {
  struct Case {
    fs::path folder;
    std::string tensor;
  };
  const fs::path decoders = GoldenDir() / "decoders";
  const std::vector<Case> cases = {
      {FixtureDir() / "t5_tiny" / "v1_1", "decoder.block.0.layer.1.EncDecAttention.k.weight"},
      {FixtureDir() / "t5_tiny" / "v1_0", "encoder.final_layer_norm.weight"},
      {decoders / "bert-gamma-beta", "bert.encoder.layer.0.output.dense.weight"},
      {decoders / "distilbert", "distilbert.transformer.layer.0.ffn.lin1.bias"},
      {decoders / "electra", "electra.encoder.layer.1.attention.self.key.weight"},
      {decoders / "xlm-roberta", "qa_outputs.weight"},
      {decoders / "llama-plain", "model.layers.0.mlp.down_proj.weight"}};
  for (const auto& [folder, tensor] : cases) {
    LECTERN_REQUIRE_FILE(fs::exists(folder), folder);
    const std::string& name = tensor;
    ExpectSameError(folder, name, [&](TensorMap& tensors) { ASSERT_EQ(tensors.erase(name), 1u); });
    ExpectSameError(folder, name, [&](TensorMap& tensors) {
      auto& [entry, bytes] = tensors.at(name);
      bytes += bytes;
      entry["shape"][0] = 2 * entry["shape"][0].get<int64_t>();
    });
    ExpectSameError(folder, name, [&](TensorMap& tensors) {
      auto& [entry, bytes] = tensors.at(name);
      int64_t values = 1;
      for (const auto& size : entry["shape"]) values *= size.get<int64_t>();
      entry["dtype"] = "F64";
      bytes.resize(8 * values);
    });
    ExpectSameError(folder, "another.weight",
                    [&](TensorMap& tensors) { tensors["another.weight"] = tensors.at(name); });
  }
}

}  // namespace
}  // namespace lectern::test
