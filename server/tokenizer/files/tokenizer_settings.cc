#include "server/tokenizer/files/tokenizer_settings.h"

#include <utility>

#include "base/status_macros.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"

namespace lectern {
namespace {

using nlohmann::json;

// Copies a boolean of the settings, or null, to a key of a part of the tokenizer.
absl::Status Override(const json& settings, const char* key, const std::string& source, json& part,
                      const char* part_key) {
  const auto found = settings.find(key);
  if (found == settings.end()) return absl::OkStatus();
  if (!found->is_null() && !found->is_boolean()) {
    return InvalidKey(source, key, "is not a boolean");
  }
  if (found->is_null() && !part.contains(part_key)) return absl::OkStatus();
  part[part_key] = *found;
  return absl::OkStatus();
}

bool IsOfType(const json& tokenizer, const char* key, const char* type) {
  return TypeOf(Child(tokenizer, key)) == type;
}

// Replaces the post-processor by one that adds bos_token in front, or none.
absl::Status ApplyAddBos(const json& settings, const std::string& source, json& tokenizer) {
  const json* adds = Child(settings, "add_bos_token");
  if (adds == nullptr) return absl::OkStatus();
  if (!adds->is_boolean()) return InvalidKey(source, "add_bos_token", "is not a boolean");
  const std::string text = TokenText(settings, "bos_token", "");
  tokenizer["post_processor"] = nullptr;
  if (!adds->get<bool>() || text.empty()) return absl::OkStatus();
  const json* id = nullptr;
  if (const json* added = Child(tokenizer, "added_tokens"); added != nullptr && added->is_array()) {
    for (const json& token : *added) {
      if (Text(token, "content", "") == text) id = Child(token, "id");
    }
  }
  if (id == nullptr) {
    const json* model = Child(tokenizer, "model");
    const json* vocabulary = model == nullptr ? nullptr : Child(*model, "vocab");
    if (vocabulary != nullptr) id = Child(*vocabulary, text.c_str());
  }
  if (id == nullptr) return InvalidKey(source, "bos_token", "is not in the vocabulary");
  json begin = {{"id", text}};
  begin["ids"] = json::array({*id});
  json& post = tokenizer["post_processor"];
  post["type"] = "TemplateProcessing";
  post["single"] = json::array();
  post["single"].push_back({{"SpecialToken", begin}});
  post["special_tokens"][text] = std::move(begin);
  return absl::OkStatus();
}

}  // namespace

std::string TokenText(const json& settings, const char* key, const char* otherwise) {
  const json* value = Child(settings, key);
  if (value == nullptr) return otherwise;
  return value->is_object() ? Text(*value, "content", otherwise) : Text(settings, key, otherwise);
}

absl::Status ApplySettings(const json& settings, const std::string& source, json& tokenizer) {
  const std::string kind = Text(settings, "tokenizer_class", "");
  const bool plain = kind == "PreTrainedTokenizerFast" || kind == "TokenizersBackend";
  if (!plain && IsOfType(tokenizer, "normalizer", "BertNormalizer")) {
    json& normalizer = tokenizer["normalizer"];
    for (const auto& [key, part_key] : {std::pair{"do_lower_case", "lowercase"},
                                        {"strip_accents", "strip_accents"},
                                        {"tokenize_chinese_chars", "handle_chinese_chars"}}) {
      LECTERN_RETURN_IF_ERROR(Override(settings, key, source, normalizer, part_key));
    }
  }
  if (!plain && IsOfType(tokenizer, "pre_tokenizer", "ByteLevel")) {
    json& pre = tokenizer["pre_tokenizer"];
    LECTERN_RETURN_IF_ERROR(
        Override(settings, "add_prefix_space", source, pre, "add_prefix_space"));
  }
  return ApplyAddBos(settings, source, tokenizer);
}

}  // namespace lectern
