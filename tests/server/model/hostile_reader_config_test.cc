// Configurations of readers (BERT and its kin) and of T5, damaged in one place each.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "server/model/bert/bert_config.h"
#include "server/model/t5/t5_config.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
constexpr char kSource[] = "folder/config.json";

// A small config.json of a family of readers.
json ReaderConfigJson(const BertFamily& family) {
  const BertKeys& keys = family.keys;
  return {{"model_type", family.model_type},
          {"architectures", {std::string(family.architecture) + "ForQuestionAnswering"}},
          {std::string(keys.hidden), 64},
          {std::string(keys.layers), 2},
          {std::string(keys.heads), 4},
          {std::string(keys.intermediate), 128},
          {std::string(keys.activation), "gelu"},
          {"embedding_size", 16},
          {"vocab_size", 300},
          {"max_position_embeddings", 514},
          {"type_vocab_size", 1},
          {"pad_token_id", 1},
          {"layer_norm_eps", 1e-5}};
}

TEST(HostileReaderConfigTest, ReaderValues) {
  struct Case {
    std::string key;
    const char* value;
    const char* why;
    absl::StatusCode code = kInvalid;
  };
  for (const BertFamily& family : BertFamilies()) {
    const BertKeys& keys = family.keys;
    const std::string hidden(keys.hidden), layers(keys.layers), heads(keys.heads),
        intermediate(keys.intermediate), activation(keys.activation);
    std::vector<Case> table = {
        {hidden, "0", "0 is not in ["},
        {hidden, "131073", "131073 is not in ["},
        {hidden, "18446744073709551615", "below 2^63"},
        {hidden, "null", "is missing"},
        {layers, "-1", "-1 is not in ["},
        {layers, "1025", "1025 is not in ["},
        {heads, "5", "5 does not divide"},
        {heads, "true", "is not an integer"},
        {intermediate, "131073", "is not in ["},
        {activation, "\"tanh\"", "'tanh' is not supported", kUnsupported},
        {activation, "[]", "is not a string"},
        {"vocab_size", "4194305", "is not in ["},
        {"max_position_embeddings", "65537", "is not in ["},
        {"position_embedding_type", "\"relative_key\"", "'relative_key' is not supported",
         kUnsupported},
        {"is_decoder", "true", "is not supported", kUnsupported},
        {"architectures", "[\"BertForMaskedLM\"]", "is not supported", kUnsupported},
        {"layer_norm_eps", "-1", "is not in [0, 1)"},
        {"_name_or_path", "7", "is not a string"},
    };
    if (family.has_types) table.push_back({"type_vocab_size", "17", "17 is not in ["});
    if (family.projects_embedding) table.push_back({"embedding_size", "0", "0 is not in ["});
    if (family.positions_after_padding) {
      table.push_back({"pad_token_id", "510", "510 leaves no positions"});
    }
    for (const Case& one : table) {
      SCOPED_TRACE(std::string(family.model_type) + ": " + one.key + " = " + one.value);
      json config = ReaderConfigJson(family);
      config[one.key] = json::parse(one.value);
      test::ExpectRefused(ReadBertConfig(config.dump(), kSource).status(), one.code, kSource,
                          "key '" + one.key, one.why);
    }
  }
}

TEST(HostileReaderConfigTest, ReadersCutAtEveryByteAndRandomDamage) {
  std::mt19937 random(20261201);
  for (const BertFamily& family : BertFamilies()) {
    SCOPED_TRACE(family.model_type);
    const std::string text = ReaderConfigJson(family).dump();
    ASSERT_TRUE(ReadBertConfig(text, kSource).ok());
    for (size_t size = 0; size < text.size(); ++size) {
      test::ExpectRefused(ReadBertConfig(text.substr(0, size), kSource).status(), kInvalid, kSource,
                          "", "malformed");
    }
    for (int i = 0; i < 2000; ++i) {
      const auto config = ReadBertConfig(test::Damage(text, random, text.size()), kSource);
      ASSERT_TRUE(test::IsOkOrRefused(config.status())) << "iteration " << i << config.status();
      if (!config.ok()) continue;
      ASSERT_NE(config->family, nullptr);
      ASSERT_EQ(config->hidden % config->heads, 0);
      ASSERT_GT(config->embedding, 0);
      ASSERT_LE(config->intermediate, 1 << 17);
      ASSERT_GE(config->context_length, 1);
    }
  }
}

TEST(HostileReaderConfigTest, T5) {
  const json good = {{"model_type", "t5"},
                     {"architectures", {"T5ForConditionalGeneration"}},
                     {"feed_forward_proj", "gated-gelu"},
                     {"d_model", 64},
                     {"num_heads", 4},
                     {"d_kv", 16},
                     {"d_ff", 128},
                     {"num_layers", 2},
                     {"vocab_size", 300},
                     {"relative_attention_num_buckets", 32},
                     {"scale_decoder_outputs", false},
                     {"tie_word_embeddings", true},
                     {"eos_token_id", 1}};
  const auto read = ReadT5Config(good.dump(), kSource);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->tied && read->gated && !read->scales_head);
  const std::tuple<const char*, const char*, const char*, absl::StatusCode> table[] = {
      {"feed_forward_proj", "\"gated-tanh\"", "'gated-tanh' is not supported", kUnsupported},
      {"feed_forward_proj", "\"gated-\"", "'gated-' is not supported", kUnsupported},
      {"scale_decoder_outputs", "1", "is not a boolean", kInvalid},
      {"d_kv", "0", "is not in [", kInvalid},
      {"task_specific_params", R"({"lectern": {"lower_case": false}})", "give --lower_case=NAME",
       kUnsupported},
  };
  for (const auto& [key, value, why, code] : table) {
    SCOPED_TRACE(std::string(key) + " = " + value);
    json config = good;
    config[key] = json::parse(value);
    test::ExpectRefused(ReadT5Config(config.dump(), kSource).status(), code, kSource,
                        std::string("key '") + key, why);
  }
  std::mt19937 random(20261202);
  const std::string text = good.dump();
  for (int i = 0; i < 2000; ++i) {
    const auto config = ReadT5Config(test::Damage(text, random, text.size()), kSource);
    ASSERT_TRUE(test::IsOkOrRefused(config.status())) << "iteration " << i << config.status();
  }
}

}  // namespace
}  // namespace lectern
