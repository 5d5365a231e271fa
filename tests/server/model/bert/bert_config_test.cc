// config.json of span readers: what is read, and what is refused.
#include "server/model/bert/bert_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/server/formats/expect_refused.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
constexpr char kSource[] = "folder/config.json";

json Config(const std::string& type, const std::string& architecture) {
  return {{"model_type", type},       {"architectures", {architecture + "ForQuestionAnswering"}},
          {"hidden_size", 64},        {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"intermediate_size", 128},
          {"vocab_size", 300},        {"max_position_embeddings", 514},
          {"type_vocab_size", 1},     {"layer_norm_eps", 1e-5}};
}

json Config(const std::string& type) { return Config(type, type == "bert" ? "Bert" : "Roberta"); }

TEST(BertConfigTest, PositionsBeginAfterRobertasPadding) {
  const auto bert = ReadBertConfig(Config("bert").dump(), kSource);
  ASSERT_TRUE(bert.ok()) << bert.status();
  EXPECT_EQ(bert->context_length, 514);
  EXPECT_EQ(bert->first_position, 0);
  EXPECT_TRUE(bert->reads_spans);
  json object = Config("roberta");
  const auto roberta = ReadBertConfig(object.dump(), kSource);
  ASSERT_TRUE(roberta.ok()) << roberta.status();
  EXPECT_EQ(roberta->positions, 514);
  EXPECT_EQ(roberta->first_position, 2);
  EXPECT_EQ(roberta->context_length, 512);
  object["pad_token_id"] = 0;
  EXPECT_EQ(ReadBertConfig(object.dump(), kSource)->context_length, 513);
  object["architectures"] = {"RobertaModel"};
  EXPECT_FALSE(ReadBertConfig(object.dump(), kSource)->reads_spans);
}

TEST(BertConfigTest, DistilBertHasOtherKeysAndNoTypes) {
  json object = {{"model_type", "distilbert"},
                 {"architectures", {"DistilBertForQuestionAnswering"}},
                 {"dim", 96},
                 {"n_layers", 3},
                 {"n_heads", 6},
                 {"hidden_dim", 160},
                 {"activation", "gelu"},
                 {"vocab_size", 300},
                 {"max_position_embeddings", 128}};
  const auto config = ReadBertConfig(object.dump(), kSource);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden, 96);
  EXPECT_EQ(config->embedding, 96);
  EXPECT_EQ(config->layers, 3);
  EXPECT_EQ(config->heads, 6);
  EXPECT_EQ(config->intermediate, 160);
  EXPECT_EQ(config->types, 0);
  EXPECT_EQ(config->norm_eps, 1e-12);
  object["n_heads"] = 5;
  test::ExpectRefused(ReadBertConfig(object.dump(), kSource).status(), kInvalid, kSource, "n_heads",
                      "5 does not divide dim 96");
}

TEST(BertConfigTest, ElectrasEmbeddingsMayBeNarrower) {
  json object = Config("electra", "Electra");
  object["embedding_size"] = 16;
  EXPECT_EQ(ReadBertConfig(object.dump(), kSource)->embedding, 16);
  object.erase("embedding_size");
  EXPECT_EQ(ReadBertConfig(object.dump(), kSource)->embedding, 128);
  // No other family has the key.
  json bert = Config("bert");
  bert["embedding_size"] = 16;
  EXPECT_EQ(ReadBertConfig(bert.dump(), kSource)->embedding, 64);
}

TEST(BertConfigTest, ActivationsUnderTheirNames) {
  using kernels::FfnActivation;
  const std::pair<const char*, FfnActivation> table[] = {
      {"gelu", FfnActivation::kGelu},          {"gelu_new", FfnActivation::kGeluTanh},
      {"gelu_fast", FfnActivation::kGeluTanh}, {"gelu_pytorch_tanh", FfnActivation::kGeluTanh},
      {"relu", FfnActivation::kRelu},
  };
  for (const auto& [name, activation] : table) {
    json object = Config("bert");
    object["hidden_act"] = name;
    const auto config = ReadBertConfig(object.dump(), kSource);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->activation, activation) << name;
  }
}

TEST(BertConfigTest, Refusals) {
  struct Case {
    const char* key;
    json value;
    const char* why;
    absl::StatusCode code = kInvalid;
  };
  const Case table[] = {
      {"model_type", "deberta-v2", "'deberta-v2' is not a supported reader", kUnsupported},
      {"architectures", {"BertForQuestionAnswering"}, "RobertaForQuestionAnswering", kUnsupported},
      {"architectures", {"BertModel"}, "RobertaForQuestionAnswering", kUnsupported},
      {"hidden_act", "quick_gelu", "'quick_gelu' is not supported; gelu", kUnsupported},
      {"position_embedding_type", "relative_key", "relative_key", kUnsupported},
      {"is_decoder", true, "is not supported", kUnsupported},
      {"pad_token_id", -1, "leaves no positions"},
      {"pad_token_id", 507, "leaves no positions"},
      {"pad_token_id", "1", "is not an integer"},
      {"max_position_embeddings", 0, "is not in ["},
      {"num_attention_heads", 5, "does not divide"},
      {"hidden_size", 131'073, "is not in ["},
      {"type_vocab_size", 0, "is not in ["},
      {"layer_norm_eps", 1, "is not in [0, 1)"},
  };
  for (const Case& one : table) {
    json object = Config("roberta");
    object[one.key] = one.value;
    SCOPED_TRACE(std::string(one.key) + ": " + one.value.dump());
    test::ExpectRefused(ReadBertConfig(object.dump(), kSource).status(), one.code, kSource, one.key,
                        one.why);
  }
}

}  // namespace
}  // namespace lectern
