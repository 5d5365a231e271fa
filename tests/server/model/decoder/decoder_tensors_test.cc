// FindDecoderTensors: how the folders of each family name their tensors, and what is refused.
#include "server/model/decoder/decoder_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "server/formats/safetensors.h"
#include "tests/testing/golden.h"
#include "tests/testing/safetensors_file.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr char kLlamaTied[] = "llama-bias-tied";
constexpr char kMistral[] = "mistral";
constexpr char kNested[] = "gemma3-nested";

using Change = std::function<void(TensorMap&)>;

// The tensors of a golden decoder after a change.
class DecoderTensorsTest : public ::testing::Test {
 protected:
  void SetUp() override { LECTERN_REQUIRE_FILE(fs::exists(Golden(kNested)), "decoders"); }

  static fs::path Golden(const std::string& name) { return FixtureDir() / "decoders" / name; }

  // Keeps the source open for the views.
  absl::StatusOr<DecoderTensors> Find(const std::string& name, const Change& change = nullptr) {
    const std::string config_json = FileContents(Golden(name) / "config.json");
    const auto config = ReadDecoderConfigJson(config_json, "config.json");
    if (!config.ok()) return config.status();
    config_ = *config;
    TensorMap tensors = ReadTensors(Golden(name) / "model.safetensors");
    if (change) change(tensors);
    const fs::path folder = folder_.path();
    fs::remove(folder / "model.safetensors");
    WriteTensors(folder / "model.safetensors", tensors);
    auto source = OpenSafetensors(folder.string(), /*ignore_other_types=*/true);
    if (!source.ok()) return source.status();
    source_ = *std::move(source);
    return FindDecoderTensors(*source_, config_, DecoderNaming::kHuggingFace);
  }

  void ExpectRefused(const std::string& name, const Change& change, absl::StatusCode code,
                     const std::string& tensor) {
    const absl::Status status = Find(name, change).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tensor '" + tensor));
  }

  DecoderConfig config_;

 private:
  const TemporaryFolder folder_;
  std::unique_ptr<TensorSource> source_;
};

// Renames every tensor whose name starts with `from`.
void Rename(TensorMap& tensors, const std::string& from, const std::string& to) {
  TensorMap renamed;
  for (auto& [name, tensor] : tensors) {
    renamed[name.starts_with(from) ? to + name.substr(from.size()) : name] = std::move(tensor);
  }
  tensors = std::move(renamed);
}

TEST_F(DecoderTensorsTest, TextModelsInsideOthers) {
  const auto published = Find(kNested);
  ASSERT_TRUE(published.ok()) << published.status();
  const auto newer = Find(kNested, [](TensorMap& tensors) {
    Rename(tensors, "language_model.model.", "model.language_model.");
    Rename(tensors, "vision_tower.", "model.vision_tower.");
    Rename(tensors, "multi_modal_projector.", "model.multi_modal_projector.");
  });
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_THAT(std::string(newer->token_embedding->name), EndsWith("embed_tokens.weight"));
  // A tower that nobody knows is not passed over.
  ExpectRefused(
      kNested, [](TensorMap& tensors) { Rename(tensors, "vision_tower.", "audio_tower."); },
      absl::StatusCode::kUnimplemented, "audio_tower.");
}

TEST_F(DecoderTensorsTest, OutputMatrixOfATiedFolder) {
  const auto with_head = [](const std::function<void(std::string&)>& change) {
    return [change](TensorMap& tensors) {
      tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
      change(tensors["lm_head.weight"].second);
    };
  };
  const auto same = Find(kLlamaTied, with_head([](std::string&) {}));
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->output, same->token_embedding);
  const auto other = Find(kLlamaTied, with_head([](std::string& bytes) { bytes.back() ^= 1; }));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->output->name, "lm_head.weight");
  const Change narrow = [](TensorMap& tensors) {
    tensors["lm_head.weight"] = tensors["model.norm.weight"];
  };
  ExpectRefused(kLlamaTied, narrow, absl::StatusCode::kInvalidArgument, "lm_head.weight");
}

TEST_F(DecoderTensorsTest, Biases) {
  constexpr char kBias[] = "model.layers.0.self_attn.v_proj.bias";
  const auto tensors = Find(kLlamaTied);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  const DecoderLayerTensors& layer = tensors->layers.at(0);
  for (const TensorView* bias : {layer.q_bias, layer.k_bias, layer.v_bias, layer.o_bias,
                                 layer.gate_bias, layer.up_bias, layer.down_bias}) {
    ASSERT_NE(bias, nullptr);
    EXPECT_THAT(std::string(bias->name), EndsWith(".bias"));
  }
  ExpectRefused(
      kLlamaTied, [&](TensorMap& map) { map.erase(kBias); }, absl::StatusCode::kInvalidArgument,
      kBias);
  ExpectRefused(
      kMistral, [&](TensorMap& map) { map[kBias] = map["model.norm.weight"]; },
      absl::StatusCode::kUnimplemented, kBias);
}

TEST_F(DecoderTensorsTest, FusedMatrices) {
  const auto tensors = Find("phi3");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  const DecoderLayerTensors& layer = tensors->layers.at(0);
  EXPECT_TRUE(layer.q == layer.k && layer.k == layer.v);
  EXPECT_EQ(layer.q_row, 0);
  EXPECT_EQ(layer.k_row, config_.heads * config_.head_dim);
  EXPECT_EQ(layer.v_row, (config_.heads + config_.kv_heads) * config_.head_dim);
  EXPECT_EQ(layer.gate, layer.up);
  EXPECT_EQ(layer.gate_row, 0);
  EXPECT_EQ(layer.up_row, config_.intermediate);
}

TEST_F(DecoderTensorsTest, NormsByTheirPlace) {
  const auto name = [](const TensorView* tensor) {
    return tensor == nullptr ? "none" : std::string(tensor->name.substr(sizeof("model.layers.")));
  };
  const auto llama = Find(kMistral);
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(name(llama->layers[0].attn_norm), ".input_layernorm.weight");
  EXPECT_EQ(name(llama->layers[0].ffn_norm), ".post_attention_layernorm.weight");
  EXPECT_EQ(name(llama->layers[0].attn_post_norm), "none");
  const auto gemma = Find("gemma2");
  ASSERT_TRUE(gemma.ok()) << gemma.status();
  EXPECT_EQ(name(gemma->layers[0].attn_post_norm), ".post_attention_layernorm.weight");
  EXPECT_EQ(name(gemma->layers[0].ffn_norm), ".pre_feedforward_layernorm.weight");
  EXPECT_EQ(name(gemma->layers[0].ffn_post_norm), ".post_feedforward_layernorm.weight");
  const auto olmo = Find("olmo2");
  ASSERT_TRUE(olmo.ok()) << olmo.status();
  EXPECT_EQ(name(olmo->layers[0].attn_norm), "none");
  EXPECT_EQ(name(olmo->layers[0].attn_post_norm), ".post_attention_layernorm.weight");
  EXPECT_EQ(name(olmo->layers[0].ffn_norm), "none");
}

TEST_F(DecoderTensorsTest, OlderFoldersCarryFrequencies) {
  const auto tensors = Find(kMistral, [](TensorMap& map) {
    map["model.layers.0.self_attn.rotary_emb.inv_freq"] = map["model.norm.weight"];
  });
  EXPECT_TRUE(tensors.ok()) << tensors.status();
}

}  // namespace
}  // namespace lectern::test
