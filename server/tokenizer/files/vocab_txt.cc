// vocab.txt: one WordPiece token a line, the first is token 0.
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/strict_json.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"
#include "server/tokenizer/files/tokenizer_settings.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

using nlohmann::json;

absl::Status ReadSettings(const json& settings, const std::string& source,
                          WordPieceConfig& config) {
  for (const char* key : {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}) {
    const json* value = Child(settings, key);
    if (value != nullptr && !value->is_boolean())
      return InvalidKey(source, key, "is not a boolean");
  }
  if (!Flag(settings, "do_basic_tokenize", true)) {
    return UnknownKind(source, "do_basic_tokenize", "false");
  }
  std::string kind = Text(settings, "tokenizer_class", "BertTokenizer");
  if (kind.ends_with("Fast")) kind.resize(kind.size() - 4);
  if (kind != "BertTokenizer" && kind != "DistilBertTokenizer" && kind != "ElectraTokenizer" &&
      kind != "MobileBertTokenizer" && kind != "ConvBertTokenizer" &&
      kind != "SqueezeBertTokenizer") {
    return UnknownKind(source, "tokenizer_class", kind);
  }
  config.rules.lowercase = Flag(settings, "do_lower_case", true);
  config.rules.strip_accents = Flag(settings, "strip_accents", config.rules.lowercase);
  config.rules.handle_chinese_chars = Flag(settings, "tokenize_chinese_chars", true);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WordPieceConfig> ParseVocabTxt(std::string_view vocabulary, std::string source,
                                              std::string_view settings_json,
                                              std::string settings_source) {
  json settings = json::object();
  if (!settings_json.empty()) {
    LECTERN_ASSIGN_OR_RETURN(settings, ParseJsonObject(settings_json, settings_source));
  }
  WordPieceConfig config;
  config.source = source;
  LECTERN_RETURN_IF_ERROR(ReadSettings(settings, settings_source, config));
  while (!vocabulary.empty()) {
    const size_t end = std::min(vocabulary.find('\n'), vocabulary.size());
    std::string_view line = vocabulary.substr(0, end);
    vocabulary.remove_prefix(std::min(end + 1, vocabulary.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (config.tokens.size() >= kMaxPieces || line.size() > kMaxPieceBytes) {
      return InvalidFile({source, "line", std::to_string(config.tokens.size() + 1)},
                         absl::StrCat("more than ", kMaxPieces, " lines, or more than ",
                                      kMaxPieceBytes, " bytes in one"));
    }
    config.tokens.emplace_back(line);
  }
  while (!config.tokens.empty() && config.tokens.back().empty()) config.tokens.pop_back();

  const std::pair<const char*, const char*> names[] = {{"unk_token", "[UNK]"},
                                                       {"sep_token", "[SEP]"},
                                                       {"pad_token", "[PAD]"},
                                                       {"cls_token", "[CLS]"},
                                                       {"mask_token", "[MASK]"}};
  for (const auto& [key, otherwise] : names) {
    const std::string text = TokenText(settings, key, otherwise);
    for (size_t id = 0; id < config.tokens.size(); ++id) {
      if (text.empty() || config.tokens[id] != text) continue;
      config.special_ids.push_back(static_cast<int32_t>(id));
      if (key == names[0].first) config.unk_id = static_cast<int32_t>(id);
      break;
    }
  }
  if (config.unk_id < 0) return InvalidFile({.file = source}, "holds no token for unknown words");
  return config;
}

}  // namespace lectern
