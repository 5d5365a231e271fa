// Configurations of decoders, as config.json and as GGUF metadata, damaged in one place each.
#include <gtest/gtest.h>

#include <cmath>

#include "server/formats/format_limits.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/families/decoder_family.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
constexpr char kSource[] = "folder/config.json";

TEST(HostileConfigTest, Values) {
  struct Case {
    const char* key;
    const char* value;
    const char* why;
    absl::StatusCode code = kInvalid;
  };
  const Case table[] = {
      {"hidden_size", "0", "0 is not from 1 to 1048576"},
      {"hidden_size", "-1", "-1 is not from 1"},
      {"hidden_size", "1048577", "1048577 is not from 1"},
      {"hidden_size", "32.5", "32.5 is not an integer"},
      {"hidden_size", "\"32\"", "is not an integer"},
      {"hidden_size", "null", "is missing"},
      {"hidden_size", "[32]", "is not an integer"},
      {"hidden_size", "18446744073709551615", "below 2^63"},
      {"hidden_size", "18446744073709551616", "is not an integer"},
      {"num_hidden_layers", "0", "0 is not from 1 to 1024"},
      {"num_hidden_layers", "1025", "1025 is not from 1 to 1024"},
      {"num_hidden_layers", "true", "is not an integer"},
      {"num_attention_heads", "0", "0 is not from 1"},
      {"num_attention_heads", "9223372036854775807", "is not from 1"},
      {"num_attention_heads", "null", "is missing"},
      {"num_key_value_heads", "0", "0 is not from 1 to 2"},
      {"num_key_value_heads", "3", "3 is not from 1 to 2"},
      {"num_key_value_heads", "-1", "-1 is not from 1 to 2"},
      {"head_dim", "7", "head size 7 is odd"},
      {"head_dim", "0", "0 is not from 1"},
      {"head_dim", "1048576", "is not from 1 to 524288"},
      {"intermediate_size", "0", "0 is not from 1"},
      {"intermediate_size", "{}", "is not an integer"},
      {"vocab_size", "0", "0 is not from 1"},
      {"vocab_size", "4194305", "4194305 is not from 1 to 4194304"},
      {"vocab_size", "null", "is missing"},
      {"max_position_embeddings", "0", "0 is not from 1"},
      {"max_position_embeddings", "99999999999", "is not from 1"},
      {"rms_norm_eps", "0", "0 is not above 0"},
      {"rms_norm_eps", "-1e-5", "is not above 0"},
      {"rms_norm_eps", "2", "2 is not above 0 and at most 1"},
      {"rms_norm_eps", "\"1e-5\"", "is not a number"},
      {"rope_theta", "0", "0 is not above 1"},
      {"rope_theta", "1e300", "is not above 1"},
      {"rope_theta", "[]", "is not a number"},
      {"tie_word_embeddings", "1", "is not a boolean"},
      {"bos_token_id", "8", "8 is outside the vocabulary of 8"},
      {"bos_token_id", "-1", "-1 is not a token id"},
      {"eos_token_id", "4294967298", "4294967298 is outside the vocabulary of 8"},
      {"eos_token_id", "18446744073709551615", "is outside the vocabulary of 8"},
      {"eos_token_id", "\"2\"", "is not a token id"},
      {"eos_token_id", "[1, 8]", "8 is outside the vocabulary of 8"},
      {"eos_token_id", "[1, -2]", "is not a token id"},
      {"eos_token_id", "[[1]]", "is not a token id"},
      {"model_type", "\"mixtral\"",
       "'mixtral' is not supported; supported are gemma2, gemma3, gemma3_text, granite, llama",
       kUnsupported},
      {"model_type", "null", "is not supported", kUnsupported},
      {"model_type", "5", "is not a string"},
      {"architectures", "[\"LlamaForSequenceClassification\"]", "is not supported", kUnsupported},
      {"architectures", "[]", "is not supported", kUnsupported},
      {"architectures", "\"LlamaForCausalLM\"", "is not supported", kUnsupported},
      {"hidden_act", "\"gelu\"", "'gelu' is not supported; silu is", kUnsupported},
      {"hidden_act", "1", "is not a string"},
      {"attention_bias", "\"no\"", "is not a boolean"},
      {"mlp_bias", "1", "is not a boolean"},
      {"rope_scaling", R"({"rope_type": "llama3", "factor": 8.0})", "low_freq_factor 0"},
      {"rope_scaling",
       R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4, "high_freq_factor": 4})",
       "low_freq_factor 4 must be below high_freq_factor 4"},
      {"rope_scaling", R"({"type": "linear"})", "factor: is missing"},
      {"rope_scaling", R"({"type": "linear", "factor": 0})", "factor 0 is out of range"},
      {"rope_scaling", R"({"type": "linear", "factor": "2"})", "is not a number"},
      {"rope_scaling", R"({"factor": 2})", "has a factor, but no rope_type"},
      {"rope_scaling", R"({"type": 2})", "2 is not a string"},
      {"rope_scaling", R"({"type": "dynamic", "factor": 2})",
       "'dynamic' is not supported (its frequencies change", kUnsupported},
      {"rope_scaling", R"({"type": "mrope", "mrope_section": [1]})", "mrope", kUnsupported},
      {"rope_scaling", R"({"type": "abc"})",
       "'abc' is not supported; default, linear, llama3, yarn and longrope are", kUnsupported},
      {"rope_scaling", R"({"full_attention": {}})", "for each layer type", kUnsupported},
      {"rope_scaling", "2", "is not an object"},
      {"rope_scaling", R"({"type": "yarn", "factor": -1})", "factor -1 is out of range"},
      {"rope_scaling", R"({"type": "yarn", "factor": 2, "truncate": 1})", "is not a boolean"},
      {"rope_scaling", R"({"type": "yarn", "factor": 2, "beta_fast": -1})", "beta -1"},
      {"rope_scaling",
       R"({"type": "yarn", "factor": 2, "original_max_position_embeddings": 1e300})",
       "original_max_position_embeddings: is out of range"},
      {"rope_scaling", R"({"type": "longrope"})", "short_factor: is not a list"},
      {"rope_scaling", R"({"type": "longrope", "short_factor": [1], "long_factor": [1]})",
       "short_factor has 1 values, not 8"},
      {"rope_scaling", R"({"type": "longrope", "short_factor": ["a"], "long_factor": [1]})",
       "is not a number"},
      {"sliding_window", "4096", "4096 is not supported", kUnsupported},
      {"num_local_experts", "8", "8 is not supported", kUnsupported},
      {"partial_rotary_factor", "0.5", "0.5 is not supported; 1 is", kUnsupported},
      {"kv_lora_rank", "512", "512 is not supported", kUnsupported},
      {"logits_scaling", "8", "8 is not supported", kUnsupported},
      {"quantization_config", R"({"quant_method": "gptq"})", "is not supported", kUnsupported},
      {"_name_or_path", "7", "is not a string"},
  };
  for (const Case& one : table) {
    SCOPED_TRACE(std::string(one.key) + " = " + one.value);
    json config = test::LlamaConfigJson();
    config[one.key] = json::parse(one.value);
    test::ExpectRefused(ReadDecoderConfigJson(config.dump(), kSource).status(), one.code, kSource,
                        std::string("key '") + one.key, one.why);
  }
}

// The guarantees of DecoderConfig.
void ExpectGuarantees(const DecoderConfig& config) {
  ASSERT_GT(config.hidden, 0);
  ASSERT_GT(config.heads, 0);
  ASSERT_GT(config.kv_heads, 0);
  ASSERT_EQ(config.heads % config.kv_heads, 0);
  ASSERT_GT(config.head_dim, 0);
  ASSERT_EQ(config.head_dim % 2, 0);
  ASSERT_LE(config.heads * config.head_dim, 1 << 20);
  ASSERT_TRUE(config.vocab > 0 && config.vocab <= 1 << 22);
  ASSERT_TRUE(config.context_length > 0 && config.context_length <= 1 << 20);
  ASSERT_EQ(static_cast<int64_t>(config.layer.size()), config.layers);
  for (const DecoderLayer& layer : config.layer) {
    ASSERT_TRUE(layer.rope >= -1 && layer.rope < static_cast<int>(config.ropes.size()));
    ASSERT_TRUE(layer.window >= 0 && layer.window < config.context_length) << layer.window;
    ASSERT_TRUE(layer.scale > 0 && std::isfinite(layer.scale)) << layer.scale;
    ASSERT_TRUE(layer.score_cap >= 0 && std::isfinite(layer.score_cap)) << layer.score_cap;
  }
  for (const RopeConfig& rope : config.ropes) {
    ASSERT_TRUE(rope.factor > 0 && std::isfinite(rope.factor)) << rope.factor;
    ASSERT_FALSE(rope.inverse_frequencies.empty());
    ASSERT_LE(static_cast<int64_t>(rope.inverse_frequencies.size()), config.head_dim / 2);
    for (const double frequency : rope.inverse_frequencies) ASSERT_TRUE(std::isfinite(frequency));
  }
  for (const int32_t id : config.end_ids) ASSERT_TRUE(id >= 0 && id < config.vocab) << id;
  ASSERT_TRUE(config.eos >= -1 && config.eos < config.vocab);
  ASSERT_TRUE(config.bos >= -1 && config.bos < config.vocab);
}

// A config.json with every key that a family reads.
json EveryKey(const std::string& model_type) {
  json config = json::parse(R"({
    "hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 64, "head_dim": 16,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 8,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "tie_word_embeddings": true,
    "bos_token_id": 1, "eos_token_id": [2, 3], "attention_bias": false, "mlp_bias": false,
    "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 10000.0,
    "rope_local_base_freq": 5000.0, "rope_scaling": null, "rope_parameters": null,
    "partial_rotary_factor": 1.0, "original_max_position_embeddings": 64,
    "sliding_window": null, "use_sliding_window": false, "max_window_layers": 2,
    "sliding_window_pattern": 2, "_sliding_window_pattern": 2, "layer_types": null,
    "no_rope_layers": null, "no_rope_layer_interval": 4, "query_pre_attn_scalar": 16,
    "attn_logit_softcapping": null, "final_logit_softcapping": null,
    "attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
    "logits_scaling": 1.0, "quantization_config": null, "num_experts": 0})");
  config["model_type"] = model_type;
  if (model_type == "gemma3") config = {{"model_type", model_type}, {"text_config", config}};
  return config;
}

const std::vector<json>& HostileValues() {
  static const auto& values = *new std::vector<json>{
      nullptr,
      true,
      false,
      0,
      1,
      -1,
      2,
      3,
      5,
      7,
      16,
      64,
      127,
      128,
      1025,
      1 << 20,
      INT64_MAX,
      INT64_MIN,
      UINT64_MAX,
      0.5,
      -0.5,
      1e-300,
      1e300,
      "",
      "silu",
      "none",
      json::array(),
      json::object(),
      {1, 0, 1, 1},
      {true, false, true, true},
      {-1, 2, 3, 4},
      {1.5},
      {nullptr},
      json::parse(R"(["full_attention", "sliding_attention", "full_attention", "x"])"),
      json::parse(R"(["full_attention", "sliding_attention", "full_attention",
                      "sliding_attention"])"),
      json::parse(R"({"type": "linear", "factor": 1e300})"),
      json::parse(R"({"type": "linear", "factor": 1e-300})"),
      json::parse(R"({"type": "yarn", "factor": 1e6, "original_max_position_embeddings": 1e300})"),
      json::parse(R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 2,
                      "beta_fast": 1e6, "beta_slow": 1e-300})"),
      json::parse(R"({"type": "yarn", "factor": 1e-300})"),
      json::parse(R"({"type": "yarn", "factor": null, "mscale": 1e6, "mscale_all_dim": 1e-9})"),
      json::parse(R"({"type": "llama3", "factor": 1e6, "low_freq_factor": 1e-300,
                      "high_freq_factor": 1e6})"),
      json::parse(R"({"type": "longrope", "short_factor": [1e-300], "long_factor": []})"),
      json::parse(R"({"type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1],
                      "long_factor": [1, 1, 1, 1, 1, 1, 1, 1e6], "factor": 1e6})"),
      json::parse(R"({"full_attention": 1, "sliding_attention": {"rope_type": "yarn"}})"),
      json::parse(R"({"full_attention": {"rope_type": "linear", "factor": 4},
                      "sliding_attention": null})")};
  return values;
}

TEST(HostileConfigTest, EveryKeyOfEveryFamily) {
  for (const std::string& type : DecoderModelTypes()) {
    const json valid = EveryKey(type);
    const auto usual = ReadDecoderConfigJson(valid.dump(), kSource);
    ASSERT_TRUE(usual.ok()) << type << usual.status();
    ExpectGuarantees(*usual);
    const bool nested = valid.contains("text_config");
    int refused = 0;
    for (const auto& [key, value] : (nested ? valid["text_config"] : valid).items()) {
      for (const json& hostile : HostileValues()) {
        SCOPED_TRACE(type + ": " + key + " = " + hostile.dump());
        json config = valid;
        (nested ? config["text_config"] : config)[key] = hostile;
        const auto read = ReadDecoderConfigJson(config.dump(), kSource);
        ASSERT_TRUE(test::IsOkOrRefused(read.status())) << read.status();
        refused += !read.ok();
        if (read.ok()) ExpectGuarantees(*read);
        if (HasFatalFailure()) return;
      }
    }
    EXPECT_GT(refused, 300) << type;
  }
}

TEST(HostileConfigTest, EveryFamilyWithRandomDamage) {
  std::mt19937 random(20261201);
  for (const std::string& type : DecoderModelTypes()) {
    const json valid = EveryKey(type);
    const std::string text = valid.dump();
    for (int i = 0; i < 1000; ++i) {
      const auto read = ReadDecoderConfigJson(test::Damage(text, random, text.size()), kSource);
      ASSERT_TRUE(test::IsOkOrRefused(read.status())) << type << i << read.status();
      if (read.ok()) ExpectGuarantees(*read);
      if (HasFatalFailure()) return;
    }
  }
}

// A GGUF value of each kind, and some at the edges.
std::vector<std::string> HostileGgufValues() {
  using namespace test;  // NOLINT: the names of GGUF types
  const std::string yes = Le<uint32_t>(7) + std::string(1, '\1');
  std::vector<std::string> values = {
      yes,
      Text(""),
      Text("linear"),
      Text("yarn"),
      Text("longrope"),
      Text("dynamic"),
      ArrayOf(4, 0, ""),
      ArrayOf(4, 1, Le<uint32_t>(4)),
      ArrayOf(5, 4, Le<int32_t>(1) + Le<int32_t>(-1) + Le<int32_t>(7) + Le<int32_t>(0)),
      ArrayOf(7, 4, std::string("\1\0\1\0", 4)),
      ArrayOf(6, 1, Le(1.0f)),
      ArrayOf(8, 1, GgufText("x"))};
  for (const uint64_t number : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{7}, uint64_t{16},
                                uint64_t{1} << 20, ~uint64_t{0}, ~uint64_t{0} >> 1}) {
    values.push_back(U64(number));
    values.push_back(I32(-static_cast<int32_t>(number)));
  }
  for (const float number : {0.0f, 1.0f, -1.0f, 4.0f, 0.5f, 1e-38f, 3e38f, NAN, INFINITY}) {
    values.push_back(F32(number));
  }
  return values;
}

TEST(HostileConfigTest, EveryGgufKeyOfEveryFamily) {
  const test::TempFolder folder;
  const char* optional_keys[] = {"attention.key_length",
                                 "attention.value_length",
                                 "attention.sliding_window",
                                 "attention.sliding_window_pattern",
                                 "attention.scale",
                                 "attn_logit_softcapping",
                                 "final_logit_softcapping",
                                 "embedding_scale",
                                 "residual_scale",
                                 "logit_scale",
                                 "rope.freq_base_swa",
                                 "rope.scaling.type",
                                 "rope.scaling.factor",
                                 "rope.scale_linear",
                                 "rope.scaling.original_context_length",
                                 "rope.scaling.attn_factor",
                                 "rope.scaling.yarn_attn_factor",
                                 "rope.scaling.yarn_beta_fast",
                                 "rope.scaling.yarn_beta_slow",
                                 "rope.scaling.finetuned",
                                 "rope.dimension_sections",
                                 "expert_count"};
  for (const std::string& architecture : DecoderArchitectures()) {
    test::GgufParts valid = test::LlamaGguf();
    for (auto& [key, value] : valid.keys) {
      if (key.starts_with("llama.")) key = architecture + key.substr(5);
    }
    valid.Set("general.architecture", test::Text(architecture));
    std::vector<std::string> keys;
    for (const auto& [key, value] : valid.keys) keys.push_back(key);
    for (const char* key : optional_keys) keys.push_back(architecture + "." + key);
    int refused = 0;
    for (const std::string& key : keys) {
      for (const std::string& value : HostileGgufValues()) {
        test::GgufParts parts = valid;
        parts.Set(key, value);
        const auto file = GgufFile::Open(folder.Write("a.gguf", parts.Encode()));
        ASSERT_TRUE(file.ok()) << file.status();
        const auto read = ReadDecoderConfig(**file);
        ASSERT_TRUE(test::IsOkOrRefused(read.status())) << key << read.status();
        refused += !read.ok();
        if (read.ok()) ExpectGuarantees(*read);
        if (HasFatalFailure()) FAIL() << architecture << " " << key;
      }
    }
    EXPECT_GT(refused, 300) << architecture;
  }
}

TEST(HostileConfigTest, Texts) {
  const std::string deep = R"({"a":)" + std::string(100000, '[');
  const std::string large = "{\"a\":\"" + std::string(kMaxConfigJsonBytes, 'x') + "\"}";
  const std::pair<std::string, const char*> table[] = {
      {"", "malformed"},
      {"null", "not an object"},
      {"[1]", "not an object"},
      {"{\"a\": 1,}", "malformed"},
      {"{\"a\": NaN}", "malformed"},
      {"{\"a\": \"\xc3\"}", "malformed"},
      {R"({"hidden_size": 1, "hidden_size": 2})", "key 'hidden_size' occurs twice"},
      {deep, "nested deeper than 8"},
      {large, "at most 1048576"},
  };
  for (const auto& [text, why] : table) {
    SCOPED_TRACE(text.substr(0, 40));
    test::ExpectRefused(ReadDecoderConfigJson(text, kSource).status(), kInvalid, kSource, "", why);
  }
}

TEST(HostileConfigTest, CutAtEveryByteAndRandomDamage) {
  const std::string text = test::LlamaConfigJson().dump();
  for (size_t size = 0; size < text.size(); ++size) {
    test::ExpectRefused(ReadDecoderConfigJson(text.substr(0, size), kSource).status(), kInvalid,
                        kSource, "", "malformed");
  }
  std::mt19937 random(20240603);
  for (int i = 0; i < 5000; ++i) {
    const auto config = ReadDecoderConfigJson(test::Damage(text, random, text.size()), kSource);
    ASSERT_TRUE(test::IsOkOrRefused(config.status())) << "iteration " << i << config.status();
    if (config.ok()) ExpectGuarantees(*config);
  }
}

}  // namespace
}  // namespace lectern
