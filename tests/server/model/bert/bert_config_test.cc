// config.json of BERT and RoBERTa: what is read, and what is refused.
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

json Config(const std::string& type) {
  return {{"model_type", type},
          {"architectures",
           {type == "bert" ? "BertForQuestionAnswering" : "RobertaForQuestionAnswering"}},
          {"hidden_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"intermediate_size", 128},
          {"vocab_size", 300},
          {"max_position_embeddings", 514},
          {"type_vocab_size", 1},
          {"layer_norm_eps", 1e-5}};
}

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

TEST(BertConfigTest, Refusals) {
  struct Case {
    const char* key;
    json value;
    const char* why;
    absl::StatusCode code = kInvalid;
  };
  const Case table[] = {
      {"model_type", "electra", "electra", kUnsupported},
      {"architectures", {"BertForQuestionAnswering"}, "RobertaForQuestionAnswering", kUnsupported},
      {"architectures", {"BertModel"}, "RobertaForQuestionAnswering", kUnsupported},
      {"hidden_act", "relu", "relu", kUnsupported},
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
