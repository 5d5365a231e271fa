#include "server/model/prompt/prompt_format_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/strict_json.h"
#include "server/model/model_files.h"

namespace lectern {
namespace {

constexpr size_t kMaxBytes = 64 << 10;

constexpr std::pair<const char*, std::string PromptFormat::*> kTexts[] = {
    {"system_begin", &PromptFormat::system_begin}, {"system_end", &PromptFormat::system_end},
    {"user_begin", &PromptFormat::user_begin},     {"user_end", &PromptFormat::user_end},
    {"answer_begin", &PromptFormat::answer_begin}, {"end_of_turn", &PromptFormat::end_of_turn},
};

// Sets the member that `key` names; an error says why not.
absl::Status SetMember(const std::string& key, const nlohmann::json& value, const std::string& file,
                       PromptFormat& format) {
  for (const auto& [name, member] : kTexts) {
    if (key != name) continue;
    if (!value.is_string()) return InvalidFile({file, "key", key}, "must be a string");
    format.*member = value.get<std::string>();
    return absl::OkStatus();
  }
  if (key != "bos" && key != "system_in_user_turn") {
    return InvalidFile({file, "key", key}, "is not a key of a prompt format");
  }
  if (!value.is_boolean()) return InvalidFile({file, "key", key}, "must be true or false");
  if (key == "bos") {
    format.bos = value.get<bool>();
  } else if (value.get<bool>()) {
    format.system = SystemMessage::kInUserTurn;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PromptFormat> ParsePromptFormat(std::string_view contents, const std::string& file) {
  if (contents.size() > kMaxBytes) {
    return InvalidFile({file}, absl::StrCat("has ", contents.size(), " bytes; a prompt format has ",
                                            kMaxBytes, " at most"));
  }
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json json, ParseConfigJson(contents, file));
  PromptFormat format{.name = file};
  for (const auto& [key, value] : json.items()) {
    LECTERN_RETURN_IF_ERROR(SetMember(key, value, file, format));
  }
  for (const char* key : {"user_begin", "answer_begin"}) {
    if (!json.contains(key)) return InvalidFile({file, "key", key}, "is missing");
  }
  if (!json.contains("system_begin") && !json.contains("system_end")) {
    format.system = SystemMessage::kInUserTurn;
    format.system_end = "\n\n";
  }
  return format;
}

absl::StatusOr<PromptFormat> ReadPromptFormat(const std::string& name_or_file) {
  if (const PromptFormat* known = FindPromptFormat(name_or_file)) return *known;
  std::error_code error;
  if (!std::filesystem::is_regular_file(name_or_file, error)) {
    return absl::InvalidArgumentError(absl::StrCat("'", Printable(name_or_file),
                                                   "' is neither a file nor a prompt format (",
                                                   absl::StrJoin(PromptFormatNames(), ", "), ")"));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadTextFile(name_or_file));
  return ParsePromptFormat(contents, name_or_file);
}

}  // namespace lectern
