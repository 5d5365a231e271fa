// Checks what each family makes of config.json and of GGUF metadata: the values that files leave
// out, and their older and newer spellings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/model/decoder/decoder_config.h"
#include "tests/server/formats/model_files.h"

namespace lectern {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Sizes that every family accepts, with 8 layers.
json Sizes(const std::string& model_type) {
  return {{"model_type", model_type}, {"hidden_size", 32},
          {"num_hidden_layers", 8},   {"intermediate_size", 64},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"vocab_size", 100},        {"max_position_embeddings", 8192}};
}

DecoderConfig Read(const json& config, int64_t context_length = 0) {
  auto read = ReadDecoderConfigJson(config.dump(), "config.json", context_length);
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *std::move(read) : DecoderConfig();
}

absl::Status Refusal(const json& config, int64_t context_length = 0) {
  return ReadDecoderConfigJson(config.dump(), "config.json", context_length).status();
}

// `change` of a family's sizes.
json With(const std::string& model_type, const json& change) {
  json config = Sizes(model_type);
  config.update(change);
  return config;
}

std::vector<int64_t> Windows(const DecoderConfig& config) {
  std::vector<int64_t> windows;
  for (const DecoderLayer& layer : config.layer) windows.push_back(layer.window);
  return windows;
}

std::vector<int> Ropes(const DecoderConfig& config) {
  std::vector<int> ropes;
  for (const DecoderLayer& layer : config.layer) ropes.push_back(layer.rope);
  return ropes;
}

// A GGUF file of `architecture`, whose keys are LlamaGguf's under its name.
test::GgufParts Gguf(const std::string& architecture, int layers) {
  test::GgufParts parts = test::LlamaGguf();
  for (auto& [key, value] : parts.keys) {
    if (key.starts_with("llama.")) key = architecture + key.substr(5);
  }
  parts.Set("general.architecture", test::Text(architecture));
  parts.Set(architecture + ".block_count", test::U32(layers));
  return parts;
}

DecoderConfig Read(const test::GgufParts& parts, int64_t context_length = 0) {
  const test::TempFolder folder;
  const auto file = GgufFile::Open(folder.Write("a.gguf", parts.Encode()));
  EXPECT_TRUE(file.ok()) << file.status();
  auto read = ReadDecoderConfig(**file, context_length);
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *std::move(read) : DecoderConfig();
}

TEST(DecoderSettingsTest, MistralWindow) {
  EXPECT_EQ(Windows(Read(Sizes("mistral"))), std::vector<int64_t>(8, 4096));
  EXPECT_EQ(Windows(Read(With("mistral", {{"sliding_window", nullptr}}))),
            std::vector<int64_t>(8, 0));
  // Mistral does not read layer_types; Ministral does.
  const json change = {{"sliding_window", 64},
                       {"layer_types", std::vector<std::string>(8, "full_attention")}};
  EXPECT_EQ(Windows(Read(With("mistral", change))), std::vector<int64_t>(8, 64));
  EXPECT_EQ(Windows(Read(With("ministral", change))), std::vector<int64_t>(8, 0));
  EXPECT_EQ(Windows(Read(With("ministral", {{"sliding_window", 64}}))),
            std::vector<int64_t>(8, 64));
}

TEST(DecoderSettingsTest, WindowOfTheWholeContextIsNone) {
  EXPECT_EQ(Windows(Read(With("mistral", {{"sliding_window", 8192}}))), std::vector<int64_t>(8, 0));
  EXPECT_EQ(Windows(Read(With("mistral", {{"sliding_window", 8191}}))),
            std::vector<int64_t>(8, 8191));
  // A shorter context has fewer windows.
  EXPECT_EQ(Windows(Read(With("mistral", {{"sliding_window", 64}}), 64)),
            std::vector<int64_t>(8, 0));
}

TEST(DecoderSettingsTest, QwenWindowsAreSwitchedOn) {
  json change = {{"sliding_window", 64}, {"max_window_layers", 6}, {"use_sliding_window", false}};
  for (const char* type : {"qwen2", "qwen3"}) {
    change["use_sliding_window"] = false;
    EXPECT_EQ(Windows(Read(With(type, change))), std::vector<int64_t>(8, 0));
    change["use_sliding_window"] = true;
    EXPECT_THAT(Windows(Read(With(type, change))), ElementsAre(0, 0, 0, 0, 0, 0, 64, 64));
  }
}

TEST(DecoderSettingsTest, QwenBiasesAndNorms) {
  const DecoderConfig qwen2 = Read(Sizes("qwen2"));
  EXPECT_TRUE(qwen2.tensors.qkv_bias);
  EXPECT_FALSE(qwen2.tensors.o_bias);
  EXPECT_EQ(qwen2.layer[0].qk_norm, QkNorm::kNone);
  EXPECT_EQ(qwen2.head_dim, 8);
  const DecoderConfig qwen3 = Read(Sizes("qwen3"));
  EXPECT_FALSE(qwen3.tensors.qkv_bias);
  EXPECT_EQ(qwen3.layer[0].qk_norm, QkNorm::kHead);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_DOUBLE_EQ(qwen3.layer[0].scale, 1 / std::sqrt(128.0));
  const DecoderConfig biased = Read(With("qwen3", {{"attention_bias", true}}));
  EXPECT_TRUE(biased.tensors.qkv_bias && biased.tensors.o_bias);
}

TEST(DecoderSettingsTest, GemmaDefaults) {
  const DecoderConfig gemma2 = Read(Sizes("gemma2"));
  EXPECT_THAT(Windows(gemma2), ElementsAre(4096, 0, 4096, 0, 4096, 0, 4096, 0));
  EXPECT_EQ(gemma2.head_dim, 256);
  EXPECT_TRUE(gemma2.tied);
  EXPECT_TRUE(gemma2.norms_store_offset);
  EXPECT_EQ(gemma2.layer[0].scale, 1.0 / 16);
  EXPECT_EQ(gemma2.layer[0].score_cap, 50);
  EXPECT_EQ(gemma2.logit_cap, 30);
  EXPECT_DOUBLE_EQ(gemma2.embedding_factor, std::sqrt(32.0));
  const DecoderConfig uncapped = Read(
      With("gemma2", {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}}));
  EXPECT_EQ(uncapped.layer[0].score_cap, 0);
  EXPECT_EQ(uncapped.logit_cap, 0);
}

// The text_config of a published 4B model has seven keys.
TEST(DecoderSettingsTest, Gemma3LeavesMostOut) {
  const json text = {{"hidden_size", 2560},
                     {"intermediate_size", 10'240},
                     {"model_type", "gemma3_text"},
                     {"num_hidden_layers", 34},
                     {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                     {"sliding_window", 1024}};
  const DecoderConfig config =
      Read({{"architectures", {"Gemma3ForConditionalGeneration"}},
            {"eos_token_id", {1, 106}},
            {"model_type", "gemma3"},
            {"text_config", text},
            {"vision_config", {{"hidden_size", 1152}, {"num_hidden_layers", 27}}}});
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab, 262'208);
  EXPECT_EQ(config.context_length, 131'072);
  EXPECT_THAT(config.end_ids, ElementsAre(1, 106));
  EXPECT_EQ(config.eos, 1);
  EXPECT_EQ(config.layer[4].window, 1024);
  EXPECT_EQ(config.layer[5].window, 0);
  const auto& sliding = config.ropes.at(config.layer[4].rope).inverse_frequencies;
  const auto& full = config.ropes.at(config.layer[5].rope).inverse_frequencies;
  EXPECT_DOUBLE_EQ(full[0], 1.0 / 8);
  EXPECT_DOUBLE_EQ(full[64], std::pow(1e6, -0.5) / 8);
  EXPECT_DOUBLE_EQ(sliding[0], 1);
  EXPECT_DOUBLE_EQ(sliding[64], std::pow(1e4, -0.5));
}

TEST(DecoderSettingsTest, Gemma3InBothSpellings) {
  const json older = {{"rope_theta", 500'000.0},
                      {"rope_local_base_freq", 20'000.0},
                      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}},
                      {"sliding_window_pattern", 3},
                      {"sliding_window", 64}};
  std::vector<std::string> types;
  for (int i = 0; i < 8; ++i) types.push_back(i % 3 == 2 ? "full_attention" : "sliding_attention");
  const json newer = {
      {"rope_parameters",
       {{"full_attention", {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 500'000.0}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 20'000.0}}}}},
      {"layer_types", types},
      {"sliding_window", 64}};
  const DecoderConfig a = Read(With("gemma3_text", older)), b = Read(With("gemma3_text", newer));
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_EQ(a.ropes, b.ropes);
  EXPECT_THAT(Ropes(a), ElementsAre(1, 1, 0, 1, 1, 0, 1, 1));
}

TEST(DecoderSettingsTest, SmolLm3LayersWithoutRope) {
  EXPECT_THAT(Ropes(Read(Sizes("smollm3"))), ElementsAre(0, 0, 0, -1, 0, 0, 0, -1));
  EXPECT_THAT(Ropes(Read(With("smollm3", {{"no_rope_layer_interval", 3}}))),
              ElementsAre(0, 0, -1, 0, 0, -1, 0, 0));
  const json list = {{"no_rope_layers", {0, 1, 1, 1, 1, 1, 1, 0}},
                     {"use_sliding_window", true},
                     {"sliding_window", 64}};
  const DecoderConfig listed = Read(With("smollm3", list));
  EXPECT_THAT(Ropes(listed), ElementsAre(-1, 0, 0, 0, 0, 0, 0, -1));
  EXPECT_THAT(Windows(listed), ElementsAre(64, 0, 0, 0, 0, 0, 0, 64));
  EXPECT_THAT(Refusal(With("smollm3", {{"no_rope_layers", {1}}})).message(),
              HasSubstr("has 1 values for 8 layers"));
}

TEST(DecoderSettingsTest, GraniteMultipliers) {
  const DecoderConfig plain = Read(Sizes("granite"));
  EXPECT_EQ(plain.layer[0].scale, 1);  // not head_dim^-0.5
  EXPECT_EQ(plain.logit_factor, 1);
  const DecoderConfig config = Read(With("granite", {{"attention_multiplier", 0.125},
                                                     {"embedding_multiplier", 12},
                                                     {"residual_multiplier", 0.25},
                                                     {"logits_scaling", 8}}));
  EXPECT_EQ(config.layer[0].scale, 0.125);
  EXPECT_EQ(config.embedding_factor, 12);
  EXPECT_EQ(config.residual_factor, 0.25);
  EXPECT_EQ(config.logit_factor, 0.125);
}

TEST(DecoderSettingsTest, Olmo3ScalesFullLayersAlone) {
  const json scaling = {
      {"rope_theta", 250'000.0},
      {"rope_scaling",
       {{"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 1024}}},
      {"sliding_window", 64}};
  const DecoderConfig config = Read(With("olmo3", scaling));
  EXPECT_THAT(Windows(config), ElementsAre(64, 64, 64, 0, 64, 64, 64, 0));
  const RopeConfig& full = config.ropes.at(config.layer[3].rope);
  const RopeConfig& sliding = config.ropes.at(config.layer[0].rope);
  EXPECT_NEAR(full.factor, 0.1 * std::log(8) + 1, 1e-12);
  EXPECT_EQ(sliding.factor, 1);
  // The theta of an older config.json is for the full layers.
  EXPECT_DOUBLE_EQ(sliding.inverse_frequencies[1], std::pow(5e5, -0.25));
  EXPECT_EQ(config.rope_theta, 250'000);
}

TEST(DecoderSettingsTest, PhiNamesOfLongrope) {
  json scaling = {{"type", "su"}, {"short_factor", {1, 1, 1, 2}}, {"long_factor", {4, 4, 4, 8}}};
  for (const char* type : {"su", "yarn", "longrope"}) {
    scaling["type"] = type;
    const json change = {{"rope_scaling", scaling}, {"original_max_position_embeddings", 4096}};
    const DecoderConfig config = Read(With("phi3", change));
    EXPECT_EQ(config.ropes.at(0).inverse_frequencies[0], 0.25);
    EXPECT_NEAR(config.ropes[0].factor, std::sqrt(1 + std::log(2) / std::log(4096)), 1e-12);
    EXPECT_EQ(Read(With("phi3", change), 4096).ropes.at(0).inverse_frequencies[0], 1);
    EXPECT_EQ(Read(With("phi3", change), 4097).ropes.at(0).inverse_frequencies[0], 0.25);
  }
}

TEST(DecoderSettingsTest, PhiRotatesAPart) {
  const DecoderConfig older = Read(With("phi3", {{"partial_rotary_factor", 0.5}}));
  EXPECT_EQ(older.ropes.at(0).inverse_frequencies.size(), 2u);
  const json newer = {
      {"rope_parameters",
       {{"rope_type", "default"}, {"rope_theta", 10'000.0}, {"partial_rotary_factor", 0.5}}}};
  EXPECT_EQ(Read(With("phi3", newer)).ropes, older.ropes);
  EXPECT_THAT(Refusal(With("phi3", {{"partial_rotary_factor", 0.4}})).message(),
              HasSubstr("rotates 3 channels of 8"));
  EXPECT_EQ(Refusal(With("llama", newer)).code(), absl::StatusCode::kUnimplemented);
}

TEST(DecoderSettingsTest, ContextLengthHonoursScaling) {
  // Qwen's instructions leave the trained context in max_position_embeddings.
  const json yarn = {
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8192}}}};
  EXPECT_EQ(Read(With("qwen2", yarn)).context_length, 32'768);
  EXPECT_EQ(Read(With("qwen2", yarn), 30'000).context_length, 30'000);
  // Llama 3.2 counts it in max_position_embeddings.
  const json llama3 = {{"rope_scaling",
                        {{"rope_type", "llama3"},
                         {"factor", 32.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 1024}}}};
  EXPECT_EQ(Read(With("llama", llama3)).context_length, 8192);
}

TEST(DecoderSettingsTest, ContextLengthIsLimited) {
  EXPECT_EQ(Read(Sizes("llama"), 100).context_length, 100);
  EXPECT_EQ(Read(Sizes("llama"), 8192).context_length, 8192);
  for (const int64_t wrong : {int64_t{8193}, int64_t{-1}, INT64_MAX}) {
    const absl::Status status = Refusal(Sizes("llama"), wrong);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(std::to_string(wrong)));
    EXPECT_THAT(status.message(), HasSubstr("8192"));
  }
}

TEST(DecoderSettingsTest, EndIds) {
  EXPECT_THAT(Read(Sizes("llama")).end_ids, IsEmpty());
  EXPECT_THAT(Read(With("llama", {{"eos_token_id", 7}})).end_ids, ElementsAre(7));
  const DecoderConfig config = Read(With("llama", {{"eos_token_id", {9, 7, 8}}}));
  EXPECT_THAT(config.end_ids, ElementsAre(9, 7, 8));
  EXPECT_EQ(config.eos, 9);
}

TEST(DecoderSettingsTest, UnknownLayerTypes) {
  std::vector<std::string> types(8, "full_attention");
  types[3] = "chunked_attention";
  const absl::Status status = Refusal(With("olmo3", {{"layer_types", types}}));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("'chunked_attention' is not supported"));
  types.pop_back();
  EXPECT_THAT(Refusal(With("olmo3", {{"layer_types", types}})).message(),
              HasSubstr("has 7 values for 8 layers"));
}

TEST(DecoderSettingsTest, SettingsThatAreNotComputed) {
  const std::pair<const char*, json> table[] = {
      {"mistral", {{"attention_bias", true}}},
      {"phi3", {{"attention_bias", true}}},
      {"qwen3", {{"mlp_bias", true}}},
      {"qwen2", {{"num_experts", 8}}},
      {"llama", {{"n_routed_experts", 64}}},
      {"llama", {{"kv_lora_rank", 512}}},
      {"llama", {{"sliding_window", 64}}},
      {"llama", {{"residual_multiplier", 0.5}}},
      {"granite", {{"final_logit_softcapping", 30.0}}},
      {"gemma3_text", {{"attn_logit_softcapping", 50.0}}},
      {"gemma3_text", {{"use_bidirectional_attention", true}}},
      {"gemma2", {{"hidden_activation", "gelu"}}},
      {"qwen3", {{"hidden_act", "gelu"}}},
      {"qwen2", {{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, 1, 2}}}}}},
      {"qwen2", {{"quantization_config", {{"quant_method", "awq"}}}}},
      {"ministral3", json::object()},
  };
  for (const auto& [type, change] : table) {
    const absl::Status status = Refusal(With(type, change));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << type << change << status;
    const std::string key = change.empty() ? "model_type" : change.begin().key();
    EXPECT_THAT(status.message(), HasSubstr("key '" + key)) << type;
  }
}

TEST(GgufSettingsTest, EqualNumbersForEachLayer) {
  test::GgufParts parts = Gguf("llama", 2);
  parts.Set("llama.attention.head_count_kv",
            test::ArrayOf(4, 2, test::Le<uint32_t>(1) + test::Le<uint32_t>(1)));
  EXPECT_EQ(Read(parts).kv_heads, 1);
}

TEST(GgufSettingsTest, RopeScaling) {
  const double second = std::pow(1e4, -0.125);
  const auto frequency = [](const test::GgufParts& parts) {
    return Read(parts).ropes.at(0).inverse_frequencies.at(1);
  };
  test::GgufParts typed = Gguf("llama", 1);
  typed.Set("llama.rope.scaling.type", test::Text("linear"));
  EXPECT_DOUBLE_EQ(frequency(typed), second);  // without a factor
  typed.Set("llama.rope.scaling.factor", test::F32(1));
  EXPECT_DOUBLE_EQ(frequency(typed), second);
  typed.Set("llama.rope.scaling.factor", test::F32(4));
  EXPECT_DOUBLE_EQ(frequency(typed), second / 4);
  typed.Set("llama.rope.scaling.type", test::Text("none"));
  EXPECT_DOUBLE_EQ(frequency(typed), second);
  typed.Drop("llama.rope.scaling.type");
  EXPECT_DOUBLE_EQ(frequency(typed), second / 4);
  test::GgufParts older = Gguf("llama", 1);
  older.Set("llama.rope.scale_linear", test::F32(4));
  EXPECT_DOUBLE_EQ(frequency(older), second / 4);
}

TEST(GgufSettingsTest, YarnExtendsTheContext) {
  test::GgufParts parts = Gguf("qwen2", 1);
  parts.Set("qwen2.rope.scaling.type", test::Text("yarn"));
  parts.Set("qwen2.rope.scaling.factor", test::F32(4));
  parts.Set("qwen2.rope.scaling.original_context_length", test::U32(128));
  EXPECT_EQ(Read(parts).context_length, 512);
  EXPECT_NEAR(Read(parts).ropes.at(0).factor, 0.1 * std::log(4) + 1, 1e-12);
  parts.Set("qwen2.rope.scaling.yarn_attn_factor", test::F32(1.5));
  EXPECT_EQ(Read(parts).ropes.at(0).factor, 1.5);
}

TEST(GgufSettingsTest, WindowPatterns) {
  test::GgufParts parts = Gguf("gemma3", 4);
  parts.Set("gemma3.attention.sliding_window", test::U32(16));
  EXPECT_THAT(Windows(Read(parts)), ElementsAre(16, 16, 16, 16));  // the sixth would be full
  parts.Set("gemma3.attention.sliding_window_pattern", test::U32(2));
  EXPECT_THAT(Windows(Read(parts)), ElementsAre(16, 0, 16, 0));
  parts.Set("gemma3.attention.sliding_window_pattern",
            test::ArrayOf(7, 4, std::string("\1\0\0\1", 4)));
  EXPECT_THAT(Windows(Read(parts)), ElementsAre(16, 0, 0, 16));
}

TEST(GgufSettingsTest, Olmo3IsOlmo2WithWindows) {
  test::GgufParts parts = Gguf("olmo2", 4);
  EXPECT_THAT(Windows(Read(parts)), ElementsAre(0, 0, 0, 0));
  parts.Set("olmo2.attention.sliding_window", test::U32(16));
  parts.Set("olmo2.rope.scaling.type", test::Text("yarn"));
  parts.Set("olmo2.rope.scaling.factor", test::F32(4));
  parts.Set("olmo2.rope.scaling.original_context_length", test::U32(32));
  const DecoderConfig config = Read(parts);
  EXPECT_THAT(Windows(config), ElementsAre(16, 16, 16, 0));
  EXPECT_EQ(config.ropes.at(config.layer[0].rope).factor, 1);
  EXPECT_NE(config.ropes.at(config.layer[3].rope).factor, 1);
}

TEST(GgufSettingsTest, ScaleOfLargeGemma) {
  // hidden 32 and 2 heads: 16 is both the head size and hidden / heads, so the head size changes.
  for (const auto& [architecture, layers] : {std::pair("gemma2", 46), {"gemma3", 62}}) {
    test::GgufParts parts = Gguf(architecture, layers);
    parts.Set(std::string(architecture) + ".attention.key_length", test::U32(8));
    parts.Drop(std::string(architecture) + ".rope.dimension_count");
    EXPECT_EQ(Read(parts).layer.at(0).scale, 0.25);
    parts.Set(std::string(architecture) + ".block_count", test::U32(layers - 1));
    EXPECT_DOUBLE_EQ(Read(parts).layer.at(0).scale, 1 / std::sqrt(8.0));
  }
}

TEST(GgufSettingsTest, GraniteWithoutRope) {
  test::GgufParts parts = Gguf("granite", 1);
  EXPECT_THAT(Ropes(Read(parts)), ElementsAre(0));
  EXPECT_DOUBLE_EQ(Read(parts).layer.at(0).scale, 0.25);
  parts.Set("granite.rope.scaling.finetuned", test::Le<uint32_t>(7) + std::string(1, '\0'));
  EXPECT_THAT(Ropes(Read(parts)), ElementsAre(-1));
}

TEST(GgufSettingsTest, InterleavedRows) {
  for (const char* architecture : {"llama", "granite", "smollm3"}) {
    EXPECT_TRUE(Read(Gguf(architecture, 1)).tensors.qk_interleaved) << architecture;
  }
  for (const char* architecture : {"qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"}) {
    EXPECT_FALSE(Read(Gguf(architecture, 1)).tensors.qk_interleaved) << architecture;
  }
}

}  // namespace
}  // namespace lectern
