#include "server/model/bert/bert_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/strict_json.h"

namespace lectern {
namespace {

absl::Status CheckFeatures(const ConfigReader& reader, BertConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(config.type, reader.Text("model_type"));
  if (!config.is_roberta()) LECTERN_RETURN_IF_ERROR(reader.CheckText("model_type", "bert"));
  const std::string name = config.is_roberta() ? "Roberta" : "Bert";
  const nlohmann::json* names = reader.Find("architectures");
  const bool is_encoder =
      names != nullptr && names->is_array() && names->size() == 1 && (*names)[0] == name + "Model";
  config.reads_spans = !is_encoder;
  if (!is_encoder) {
    LECTERN_RETURN_IF_ERROR(reader.CheckArchitecture(name + "ForQuestionAnswering"));
  }
  if (reader.Find("hidden_act") != nullptr) {
    LECTERN_RETURN_IF_ERROR(reader.CheckText("hidden_act", "gelu"));
  }
  if (reader.Find("position_embedding_type") != nullptr) {
    LECTERN_RETURN_IF_ERROR(reader.CheckText("position_embedding_type", "absolute"));
  }
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    LECTERN_ASSIGN_OR_RETURN(const bool set, reader.Bool(key));
    if (set) return reader.Unsupported(key, "is not supported");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BertConfig> ReadBertConfig(std::string_view contents, std::string_view source) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseConfigJson(contents, source));
  const ConfigReader reader(object, source);
  constexpr int64_t kMaxWidth = 1 << 17;
  BertConfig config;
  LECTERN_RETURN_IF_ERROR(CheckFeatures(reader, config));
  LECTERN_ASSIGN_OR_RETURN(config.hidden, reader.IntIn("hidden_size", 1, kMaxWidth));
  LECTERN_ASSIGN_OR_RETURN(config.layers, reader.IntIn("num_hidden_layers", 1, 1024));
  LECTERN_ASSIGN_OR_RETURN(config.heads, reader.IntIn("num_attention_heads", 1, 1024));
  if (config.hidden % config.heads != 0 || config.head_dim() > 4096) {
    return reader.Invalid("num_attention_heads",
                          absl::StrCat(config.heads, " does not divide hidden_size ", config.hidden,
                                       " into heads of at most 4096"));
  }
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, reader.IntIn("intermediate_size", 1, kMaxWidth));
  LECTERN_ASSIGN_OR_RETURN(config.vocab, reader.IntIn("vocab_size", 1, 1 << 22));
  LECTERN_ASSIGN_OR_RETURN(config.positions, reader.IntIn("max_position_embeddings", 8, 1 << 16));
  if (config.is_roberta()) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t padding, reader.Int("pad_token_id", 1));
    if (padding < 0 || padding > config.positions - 8) {
      return reader.Invalid("pad_token_id", absl::StrCat(padding, " leaves no positions after it"));
    }
    config.first_position = padding + 1;
  }
  config.context_length = config.positions - config.first_position;
  LECTERN_ASSIGN_OR_RETURN(config.types, reader.IntIn("type_vocab_size", 1, 16));
  LECTERN_ASSIGN_OR_RETURN(config.norm_eps, reader.Number("layer_norm_eps", 1e-12));
  if (!(config.norm_eps >= 0 && config.norm_eps < 1)) {
    return reader.Invalid("layer_norm_eps", "is not in [0, 1)");
  }
  return config;
}

}  // namespace lectern
