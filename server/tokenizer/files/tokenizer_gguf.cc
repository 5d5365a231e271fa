#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/tokenizer/files/tokenizer_files.h"

namespace lectern {
namespace {

constexpr int64_t kControlToken = 3;  // tokenizer.ggml.token_type

template <typename T>
absl::StatusOr<std::vector<T>> GetArray(const GgufFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) {
    return InvalidFile({file.path(), "key", key}, "is missing");
  }
  const auto* array = std::get_if<std::vector<T>>(&found->second.value);
  if (array == nullptr) return InvalidFile({file.path(), "key", key}, "is of another type");
  return *array;
}

absl::StatusOr<PreTokenizer> PreTokenizerOf(const GgufFile& file) {
  const std::string key = "tokenizer.ggml.pre";
  LECTERN_ASSIGN_OR_RETURN(const std::string pre, file.GetString(key));
  if (pre == "smollm") return PreTokenizer::kSmolLm;
  if (pre == "gpt-2" || pre == "gpt2") return PreTokenizer::kGpt2;
  return UnsupportedFile({file.path(), "key", key},
                         absl::StrCat("pre-tokeniser '", Printable(pre),
                                      "' is not one that this build knows (smollm, gpt-2)"));
}

absl::StatusOr<int32_t> TokenId(const GgufFile& file, const std::string& key, size_t vocabulary) {
  if (!file.Has(key)) return -1;
  LECTERN_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id < 0 || id >= static_cast<int64_t>(vocabulary)) {
    return InvalidFile({file.path(), "key", key},
                       absl::StrCat(id, " is not a token; the vocabulary has ", vocabulary));
  }
  return static_cast<int32_t>(id);
}

}  // namespace

absl::StatusOr<ByteLevelBpeConfig> ReadGgufTokenizer(const GgufFile& file) {
  LECTERN_ASSIGN_OR_RETURN(const std::string model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return UnsupportedFile(
        {file.path(), "key", "tokenizer.ggml.model"},
        absl::StrCat("tokeniser '", Printable(model), "' is not one that this build knows (gpt2)"));
  }
  ByteLevelBpeConfig config;
  config.source = file.path();
  LECTERN_ASSIGN_OR_RETURN(config.pre_tokenizer, PreTokenizerOf(file));
  LECTERN_ASSIGN_OR_RETURN(config.tokens, GetArray<std::string>(file, "tokenizer.ggml.tokens"));
  // An empty array may be left out of the file: then every byte is a separate token.
  if (file.Has("tokenizer.ggml.merges")) {
    LECTERN_ASSIGN_OR_RETURN(config.merges, GetArray<std::string>(file, "tokenizer.ggml.merges"));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::vector<int64_t> types,
                           GetArray<int64_t>(file, "tokenizer.ggml.token_type"));
  if (types.size() != config.tokens.size()) {
    return InvalidFile(
        {file.path(), "key", "tokenizer.ggml.token_type"},
        absl::StrCat(types.size(), " entries for ", config.tokens.size(), " tokens"));
  }
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kControlToken) config.special_ids.push_back(static_cast<int32_t>(id));
  }
  LECTERN_ASSIGN_OR_RETURN(config.eos_id,
                           TokenId(file, "tokenizer.ggml.eos_token_id", config.tokens.size()));
  LECTERN_ASSIGN_OR_RETURN(config.bos_id,
                           TokenId(file, "tokenizer.ggml.bos_token_id", config.tokens.size()));
  const auto add_bos = file.metadata().find("tokenizer.ggml.add_bos_token");
  if (add_bos != file.metadata().end()) {
    const bool* value = std::get_if<bool>(&add_bos->second.value);
    if (value == nullptr) {
      return InvalidFile({file.path(), "key", "tokenizer.ggml.add_bos_token"},
                         "is of another type");
    }
    config.add_bos = *value;
  }
  return config;
}

}  // namespace lectern
