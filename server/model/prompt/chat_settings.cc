#include "server/model/prompt/chat_settings.h"

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/strict_json.h"
#include "server/model/model_files.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

// The JSON object of a file, null if the folder does not hold it.
absl::StatusOr<nlohmann::json> ReadObject(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return nlohmann::json();
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadTextFile(path));
  return ParseJsonObject(contents, path.string());
}

absl::Status WrongType(const fs::path& path, std::string_view key, const nlohmann::json& value) {
  return InvalidFile({path.string(), "key", key},
                     absl::StrCat(ShowJson(value), " has the wrong type"));
}

// A token's text: a string, or an object whose "content" is one. Empty when absent or null.
absl::StatusOr<std::string> TokenText(const nlohmann::json& object, const std::string& key,
                                      const fs::path& path) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) {
    const auto content = found->find("content");
    if (content != found->end() && content->is_string()) return content->get<std::string>();
  }
  return WrongType(path, key, *found);
}

// The text of the template named "default", or of the first one if there is none.
absl::StatusOr<std::string> NamedTemplate(const nlohmann::json& list, const fs::path& path) {
  std::string chosen;
  bool first = true;
  for (const nlohmann::json& item : list) {
    const auto name = item.is_object() ? item.find("name") : item.end();
    const auto text = item.is_object() ? item.find("template") : item.end();
    if (!item.is_object() || name == item.end() || text == item.end() || !name->is_string() ||
        !text->is_string()) {
      return WrongType(path, "chat_template", item);
    }
    if (first || *name == "default") chosen = text->get<std::string>();
    if (*name == "default") break;
    first = false;
  }
  return chosen;
}

absl::Status ReadTemplate(const fs::path& folder, const nlohmann::json& tokenizer,
                          ChatSettings& settings) {
  std::error_code error;
  const fs::path own_file = folder / "chat_template.jinja";
  if (fs::exists(own_file, error)) {
    LECTERN_ASSIGN_OR_RETURN(settings.chat_template, ReadTextFile(own_file));
    settings.template_source = "chat_template.jinja";
    if (!settings.chat_template.empty()) return absl::OkStatus();
  }
  const auto found = tokenizer.find("chat_template");
  if (found == tokenizer.end() || found->is_null()) return absl::OkStatus();
  const fs::path path = folder / "tokenizer_config.json";
  settings.template_source = "tokenizer_config.json";
  if (found->is_string()) {
    settings.chat_template = found->get<std::string>();
  } else if (found->is_array()) {
    LECTERN_ASSIGN_OR_RETURN(settings.chat_template, NamedTemplate(*found, path));
  } else {
    return WrongType(path, "chat_template", *found);
  }
  return absl::OkStatus();
}

absl::Status AddEndId(const nlohmann::json& value, const fs::path& path, int64_t vocabulary,
                      ChatSettings& settings) {
  if (!value.is_number_integer()) return WrongType(path, "eos_token_id", value);
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() < static_cast<uint64_t>(vocabulary)
                        : value.get<int64_t>() >= 0 && value.get<int64_t>() < vocabulary;
  if (!fits) {
    return InvalidFile({path.string(), "key", "eos_token_id"},
                       absl::StrCat(ShowJson(value), " is not a token; the vocabulary has ",
                                    vocabulary, " tokens"));
  }
  settings.end_ids.push_back(value.get<int32_t>());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatSettings> ReadChatSettings(const fs::path& folder, int64_t vocabulary) {
  ChatSettings settings;
  const fs::path tokenizer_path = folder / "tokenizer_config.json";
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json tokenizer, ReadObject(tokenizer_path));
  LECTERN_RETURN_IF_ERROR(ReadTemplate(folder, tokenizer, settings));
  LECTERN_ASSIGN_OR_RETURN(settings.bos_token, TokenText(tokenizer, "bos_token", tokenizer_path));
  LECTERN_ASSIGN_OR_RETURN(settings.eos_token, TokenText(tokenizer, "eos_token", tokenizer_path));

  const fs::path generation_path = folder / "generation_config.json";
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json generation, ReadObject(generation_path));
  const auto ids = generation.find("eos_token_id");
  if (ids == generation.end() || ids->is_null()) return settings;
  if (!ids->is_array()) {
    LECTERN_RETURN_IF_ERROR(AddEndId(*ids, generation_path, vocabulary, settings));
    return settings;
  }
  for (const nlohmann::json& id : *ids) {
    LECTERN_RETURN_IF_ERROR(AddEndId(id, generation_path, vocabulary, settings));
  }
  return settings;
}

absl::StatusOr<ChatSettings> ReadChatSettings(const GgufFile& file, int64_t vocabulary) {
  ChatSettings settings{.end_tokens_by_text = true};
  const std::string key = "tokenizer.chat_template";
  if (file.Has(key)) {
    LECTERN_ASSIGN_OR_RETURN(settings.chat_template, file.GetString(key));
    settings.template_source = key;
  }
  const auto token = [&](const std::string& name) -> absl::StatusOr<int32_t> {
    if (!file.Has(name)) return -1;
    LECTERN_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(name));
    if (id < 0 || id >= vocabulary) {
      return InvalidFile(
          {file.path(), "key", name},
          absl::StrCat(id, " is not a token; the vocabulary has ", vocabulary, " tokens"));
    }
    return static_cast<int32_t>(id);
  };
  LECTERN_ASSIGN_OR_RETURN(settings.bos_id, token("tokenizer.ggml.bos_token_id"));
  for (const char* name : {"eos", "eot", "eom"}) {
    LECTERN_ASSIGN_OR_RETURN(const int32_t id,
                             token(absl::StrCat("tokenizer.ggml.", name, "_token_id")));
    if (id >= 0) settings.end_ids.push_back(id);
  }
  return settings;
}

}  // namespace lectern
