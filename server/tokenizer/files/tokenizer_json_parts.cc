#include "server/tokenizer/files/tokenizer_json_parts.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/formats/file_error.h"

namespace lectern {

using nlohmann::json;

const json* Child(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string TypeOf(const json* object) {
  return object == nullptr ? "none" : Text(*object, "type", "none");
}

bool Flag(const json& object, const char* key, bool otherwise) {
  const json* value = Child(object, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

std::string Text(const json& object, const char* key, std::string otherwise) {
  const json* value = Child(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : otherwise;
}

bool IsId(const json& id) {
  return id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < (int64_t{1} << 22);
}

absl::Status InvalidKey(std::string_view source, std::string_view key, std::string_view why) {
  return InvalidFile({source, "key", key}, why);
}

absl::Status UnsupportedKey(std::string_view source, std::string_view key, std::string_view why) {
  return UnsupportedFile({source, "key", key}, why);
}

absl::Status UnknownKind(std::string_view source, std::string_view key, const std::string& found) {
  return UnsupportedFile({source, "key", key},
                         absl::StrCat("'", Printable(found), "' is not supported"));
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const json& root, std::string_view source) {
  std::vector<AddedToken> tokens;
  const json* added = Child(root, "added_tokens");
  if (added == nullptr) return tokens;
  if (!added->is_array()) return InvalidKey(source, "added_tokens", "is not an array");
  for (const json& token : *added) {
    const json* content = Child(token, "content");
    const json* id = Child(token, "id");
    if (content == nullptr || !content->is_string() || id == nullptr || !IsId(*id)) {
      return InvalidKey(source, "added_tokens", "an entry lacks its content or a valid id");
    }
    tokens.push_back({.text = content->get<std::string>(),
                      .id = id->get<int32_t>(),
                      .special = Flag(token, "special", false),
                      .takes_space_before = Flag(token, "lstrip", false),
                      .takes_space_after = Flag(token, "rstrip", false),
                      .single_word = Flag(token, "single_word", false),
                      .normalized = Flag(token, "normalized", false)});
  }
  return tokens;
}

absl::Status ReadAddedTokensDecoder(const json& settings, std::string_view source,
                                    std::vector<AddedToken>& added) {
  const json* tokens = Child(settings, "added_tokens_decoder");
  if (tokens == nullptr) return absl::OkStatus();
  if (!tokens->is_object()) {
    return InvalidKey(source, "added_tokens_decoder", "is not an object");
  }
  for (const auto& [key, token] : tokens->items()) {
    AddedToken one;
    one.text = Text(token, "content", "");
    one.special = Flag(token, "special", false);
    one.takes_space_before = Flag(token, "lstrip", false);
    one.takes_space_after = Flag(token, "rstrip", false);
    one.single_word = Flag(token, "single_word", false);
    if (!absl::SimpleAtoi(key, &one.id) || one.id < 0 || one.text.empty()) {
      return InvalidKey(source, "added_tokens_decoder", "an entry lacks its content or a valid id");
    }
    added.push_back(std::move(one));
  }
  return absl::OkStatus();
}

}  // namespace lectern
