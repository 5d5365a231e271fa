// T5 folders in the forms in which checkpoints come, through the real loader: spiece.model alone,
// weights in several files, a separate head or one tied to the embedding table.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"
#include "tests/testing/safetensors_file.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::shared_ptr<const Model> Load(const fs::path& folder) {
  auto model = LoadModel({.name = "t5", .path = folder.string(), .threads = 2});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

// Logits of the first token after an encoded window.
std::vector<float> LogitsOf(const Model& model) {
  const AttentionPolicy policy = AttentionPolicy::Exact();
  const auto workspace = model.NewWorkspace();
  const std::vector<int32_t> window = {5, 17, 200, 33, 1}, start = {model.decoder_start()};
  Sequence memory(model, policy), answer(model, policy);
  ForwardSlice read = memory.Next(window);
  read.encode = true;
  EXPECT_TRUE(model.Forward({&read, 1}, *workspace).ok());
  std::vector<float> logits(model.info().vocabulary);
  ForwardSlice write = answer.Next(start);
  write.memory = memory.pages();
  write.memory_tokens = memory.position();
  write.logits = logits.data();
  EXPECT_TRUE(model.Forward({&write, 1}, *workspace).ok());
  return logits;
}

// Copies a fixture whose folder has only config.json and spiece.model besides its weights.
void CopyWithoutWeights(const fs::path& from, const fs::path& to) {
  for (const char* name : {"config.json", "spiece.model"}) fs::copy(from / name, to / name);
}

TEST(T5FolderTest, WeightsInSeveralFiles) {
  for (const char* version : {"v1_0", "v1_1"}) {  // tied, and with a separate head
    SCOPED_TRACE(version);
    const fs::path whole = FixtureDir() / "t5_tiny" / version;
    const TemporaryFolder folder;
    CopyWithoutWeights(whole, folder.path());
    TensorMap shards[2];
    json index;
    size_t number = 0;
    for (const auto& [name, tensor] : ReadTensors(whole / "model.safetensors")) {
      const size_t shard = number++ % 2;
      shards[shard][name] = tensor;
      index["weight_map"][name] =
          shard == 0 ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
    }
    WriteTensors(folder.path() + "/model-00001-of-00002.safetensors", shards[0]);
    WriteTensors(folder.path() + "/model-00002-of-00002.safetensors", shards[1]);
    WriteFile(folder.path() + "/model.safetensors.index.json", index.dump());
    const auto one = Load(whole), two = Load(folder.path());
    ASSERT_TRUE(one != nullptr && two != nullptr);
    EXPECT_EQ(two->info().parameters, one->info().parameters);
    EXPECT_EQ(LogitsOf(*two), LogitsOf(*one));
  }
}

// Some files hold the table under each of its names; a tied head is computed from the table.
TEST(T5FolderTest, TableUnderSeveralNames) {
  const fs::path plain = FixtureDir() / "t5_tiny" / "v1_0";
  const TemporaryFolder folder;
  CopyWithoutWeights(plain, folder.path());
  auto tensors = ReadTensors(plain / "model.safetensors");
  for (const char* name :
       {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}) {
    tensors[name] = tensors.at("shared.weight");
  }
  WriteTensors(folder.path() + "/model.safetensors", tensors);
  const auto one = Load(plain), two = Load(folder.path());
  ASSERT_TRUE(one != nullptr && two != nullptr);
  EXPECT_EQ(LogitsOf(*two), LogitsOf(*one));
}

TEST(T5FolderTest, MissingHeadIsNamed) {
  const fs::path whole = FixtureDir() / "t5_tiny" / "v1_1";
  const TemporaryFolder folder;
  CopyWithoutWeights(whole, folder.path());
  auto tensors = ReadTensors(whole / "model.safetensors");
  ASSERT_EQ(tensors.erase("lm_head.weight"), 1u);
  WriteTensors(folder.path() + "/model.safetensors", tensors);
  const auto model = LoadModel({.name = "t5", .path = folder.path()});
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(model.status().message().find("lm_head.weight"), std::string::npos) << model.status();
}

}  // namespace
}  // namespace lectern::test
