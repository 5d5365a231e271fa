#include "server/model/bert/bert_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/strict_json.h"
#include "server/model/layers/activation_names.h"

namespace lectern {
namespace {

using kernels::FfnActivation;

constexpr int64_t kMaxWidth = 1 << 17;
// Absent keys mean what the library that writes these files means by them.
constexpr int64_t kElectraEmbedding = 128;

absl::StatusOr<const BertFamily*> ReadFamily(const ConfigReader& reader) {
  LECTERN_ASSIGN_OR_RETURN(const std::string type, reader.Text("model_type"));
  if (const BertFamily* family = FindBertFamily(type)) return family;
  std::string known;
  for (const BertFamily& family : BertFamilies()) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(family.model_type));
  }
  return reader.Unsupported(
      "model_type",
      absl::StrCat("'", Printable(type), "' is not a supported reader; ", known, " are"));
}

// Whether the file holds the question-answering head.
absl::StatusOr<bool> ReadsSpans(const ConfigReader& reader, const BertFamily& family) {
  const std::string name(family.architecture);
  const nlohmann::json* names = reader.Find("architectures");
  const bool is_encoder =
      names != nullptr && names->is_array() && names->size() == 1 && (*names)[0] == name + "Model";
  if (is_encoder) return false;
  LECTERN_RETURN_IF_ERROR(reader.CheckArchitecture(name + "ForQuestionAnswering"));
  return true;
}

absl::StatusOr<FfnActivation> ReadActivation(const ConfigReader& reader, const std::string& key) {
  LECTERN_ASSIGN_OR_RETURN(const std::string name, reader.Text(key));
  if (name.empty()) return FfnActivation::kGelu;
  if (const auto activation = ActivationNamed(name)) return *activation;
  return reader.Unsupported(
      key, absl::StrCat("'", Printable(name), "' is not supported; ", ActivationNames(), " are"));
}

absl::Status CheckFeatures(const ConfigReader& reader) {
  if (reader.Find("position_embedding_type") != nullptr) {
    LECTERN_RETURN_IF_ERROR(reader.CheckText("position_embedding_type", "absolute"));
  }
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    LECTERN_ASSIGN_OR_RETURN(const bool set, reader.Bool(key));
    if (set) return reader.Unsupported(key, "is not supported");
  }
  return absl::OkStatus();
}

absl::Status ReadPositions(const ConfigReader& reader, BertConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(config.positions, reader.IntIn("max_position_embeddings", 8, 1 << 16));
  if (config.family->positions_after_padding) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t padding, reader.Int("pad_token_id", 1));
    if (padding < 0 || padding > config.positions - 8) {
      return reader.Invalid("pad_token_id", absl::StrCat(padding, " leaves no positions after it"));
    }
    config.first_position = padding + 1;
  }
  config.context_length = config.positions - config.first_position;
  return absl::OkStatus();
}

absl::Status ReadEmbeddings(const ConfigReader& reader, BertConfig& config) {
  config.embedding = config.hidden;
  if (config.family->projects_embedding) {
    config.embedding = kElectraEmbedding;
    if (reader.Find("embedding_size") != nullptr) {
      LECTERN_ASSIGN_OR_RETURN(config.embedding, reader.IntIn("embedding_size", 1, kMaxWidth));
    }
  }
  LECTERN_ASSIGN_OR_RETURN(config.vocab, reader.IntIn("vocab_size", 1, 1 << 22));
  LECTERN_RETURN_IF_ERROR(ReadPositions(reader, config));
  if (!config.family->has_types) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(config.types, reader.IntIn("type_vocab_size", 1, 16));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BertConfig> ReadBertConfig(std::string_view contents, std::string_view source) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseConfigJson(contents, source));
  const ConfigReader reader(object, source);
  BertConfig config;
  LECTERN_ASSIGN_OR_RETURN(config.family, ReadFamily(reader));
  LECTERN_ASSIGN_OR_RETURN(config.reads_spans, ReadsSpans(reader, *config.family));
  const BertKeys& keys = config.family->keys;
  LECTERN_ASSIGN_OR_RETURN(config.activation, ReadActivation(reader, std::string(keys.activation)));
  LECTERN_RETURN_IF_ERROR(CheckFeatures(reader));
  const std::string hidden(keys.hidden), layers(keys.layers), heads(keys.heads),
      intermediate(keys.intermediate);
  LECTERN_ASSIGN_OR_RETURN(config.hidden, reader.IntIn(hidden, 1, kMaxWidth));
  LECTERN_ASSIGN_OR_RETURN(config.layers, reader.IntIn(layers, 1, 1024));
  LECTERN_ASSIGN_OR_RETURN(config.heads, reader.IntIn(heads, 1, 1024));
  if (config.hidden % config.heads != 0 || config.head_dim() > 4096) {
    return reader.Invalid(heads, absl::StrCat(config.heads, " does not divide ", hidden, " ",
                                              config.hidden, " into heads of at most 4096"));
  }
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, reader.IntIn(intermediate, 1, kMaxWidth));
  LECTERN_RETURN_IF_ERROR(ReadEmbeddings(reader, config));
  LECTERN_ASSIGN_OR_RETURN(config.norm_eps, reader.Number("layer_norm_eps", 1e-12));
  if (!(config.norm_eps >= 0 && config.norm_eps < 1)) {
    return reader.Invalid("layer_norm_eps", "is not in [0, 1)");
  }
  LECTERN_ASSIGN_OR_RETURN(config.trained_from, reader.Text("_name_or_path"));
  return config;
}

}  // namespace lectern
