// tokenizer.ggml.* of a GGUF file.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/tokenizer/files/gguf_splits.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/text/metaspace.h"

namespace lectern {
namespace {

// Values of tokenizer.ggml.token_type.
enum TokenType : int64_t { kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

template <typename T>
absl::StatusOr<std::vector<T>> GetArray(const GgufFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) {
    return InvalidFile({file.path(), "key", key}, "is missing");
  }
  const auto* array = std::get_if<std::vector<T>>(&found->second.value);
  if (array == nullptr) return InvalidFile({file.path(), "key", key}, "has the wrong type");
  return *array;
}

absl::StatusOr<bool> GetBool(const GgufFile& file, const std::string& key, bool absent) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return absent;
  const bool* value = std::get_if<bool>(&found->second.value);
  if (value == nullptr) return InvalidFile({file.path(), "key", key}, "has the wrong type");
  return *value;
}

absl::StatusOr<const GgufPreTokenizer*> PreTokenizerOf(const GgufFile& file) {
  const std::string key = "tokenizer.ggml.pre";
  std::string pre = "default";
  if (file.Has(key)) {
    LECTERN_ASSIGN_OR_RETURN(pre, file.GetString(key));
  } else {
    LogWarning("the file does not name its pre-tokenizer; the one of older files is used",
               {{"file", file.path()}, {"key", key}});
  }
  const GgufPreTokenizer* const found = FindGgufPreTokenizer(pre);
  if (found != nullptr) return found;
  return UnsupportedFile(
      {file.path(), "key", key},
      absl::StrCat("pre-tokenizer '", Printable(pre), "' is not supported; supported are ",
                   GgufPreTokenizerNames()));
}

absl::StatusOr<int32_t> TokenId(const GgufFile& file, const std::string& key, size_t vocabulary) {
  if (!file.Has(key)) return -1;
  LECTERN_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id < 0 || id >= static_cast<int64_t>(vocabulary)) {
    return InvalidFile(
        {file.path(), "key", key},
        absl::StrCat(id, " is not a token; the vocabulary has ", vocabulary, " tokens"));
  }
  return static_cast<int32_t>(id);
}

absl::Status ReadByteLevel(const GgufFile& file, BpeConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(const GgufPreTokenizer* pre, PreTokenizerOf(file));
  config.splits = pre->splits;
  config.ignore_merges = pre->ignore_merges;
  config.add_bos = pre->add_bos;
  if (pre->nfc) config.steps = {{.kind = TextStep::Kind::kNfc}};
  // An empty array may be left out of the file: then every byte is a separate token.
  const std::string key = "tokenizer.ggml.merges";
  if (!file.Has(key)) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const std::vector<std::string> merges, GetArray<std::string>(file, key));
  config.merges.reserve(merges.size());
  for (const std::string& merge : merges) {
    // A token may begin with a space, but is never empty.
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) {
      return InvalidFile(
          {file.path(), "key", key},
          absl::StrCat("merge ", config.merges.size(), " is not two tokens separated by a space"));
    }
    config.merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(const GgufFile& file, const std::vector<int64_t>& types,
                               BpeConfig& config) {
  config.alphabet = BpeConfig::Alphabet::kCharacters;
  config.byte_fallback = true;
  config.fuse_unk = true;
  config.add_bos = true;
  LECTERN_ASSIGN_OR_RETURN(config.scores, GetArray<double>(file, "tokenizer.ggml.scores"));
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kUnknown || types[id] == kControl || types[id] == kUnused ||
        types[id] == kByte) {
      config.unmerged.push_back(static_cast<int32_t>(id));
    }
  }
  LECTERN_ASSIGN_OR_RETURN(config.unk_id,
                           TokenId(file, "tokenizer.ggml.unknown_token_id", config.tokens.size()));
  LECTERN_ASSIGN_OR_RETURN(const bool prefix,
                           GetBool(file, "tokenizer.ggml.add_space_prefix", true));
  if (prefix)
    config.steps.push_back({.kind = TextStep::Kind::kPrepend, .text = std::string(kMetaspace)});
  config.steps.push_back(
      {.kind = TextStep::Kind::kReplace, .text = " ", .by = std::string(kMetaspace)});
  config.strip_first_space = prefix;
  return absl::OkStatus();
}

// Phi-3's special tokens take the white space that follows. The file does not say so.
bool TakesSpaceAfter(const std::string& architecture, const std::string& token) {
  return architecture == "phi3" && token != "<unk>" && token != "<s>" && token != "<|endoftext|>";
}

}  // namespace

absl::StatusOr<BpeConfig> ReadGgufTokenizer(const GgufFile& file) {
  LECTERN_ASSIGN_OR_RETURN(const std::string model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2" && model != "llama") {
    return UnsupportedFile(
        {file.path(), "key", "tokenizer.ggml.model"},
        absl::StrCat("tokenizer '", Printable(model), "' is not supported; gpt2 and llama are"));
  }
  BpeConfig config;
  config.source = file.path();
  LECTERN_ASSIGN_OR_RETURN(config.tokens, GetArray<std::string>(file, "tokenizer.ggml.tokens"));
  LECTERN_ASSIGN_OR_RETURN(const std::vector<int64_t> types,
                           GetArray<int64_t>(file, "tokenizer.ggml.token_type"));
  if (types.size() != config.tokens.size()) {
    return InvalidFile(
        {file.path(), "key", "tokenizer.ggml.token_type"},
        absl::StrCat(types.size(), " entries for ", config.tokens.size(), " tokens"));
  }
  std::string architecture;
  if (file.Has("general.architecture")) {
    LECTERN_ASSIGN_OR_RETURN(architecture, file.GetString("general.architecture"));
  }
  const bool sentence_piece = model == "llama";
  for (size_t id = 0; id < types.size(); ++id) {
    const std::string& token = config.tokens[id];
    const bool special = types[id] == kControl || (sentence_piece && types[id] == kUnknown);
    if ((!special && types[id] != kUserDefined) || token.empty()) continue;
    config.added.push_back(
        {.text = token,
         .id = static_cast<int32_t>(id),
         .special = special,
         .takes_space_after = special && sentence_piece && TakesSpaceAfter(architecture, token)});
  }
  LECTERN_RETURN_IF_ERROR(sentence_piece ? ReadSentencePiece(file, types, config)
                                         : ReadByteLevel(file, config));
  LECTERN_ASSIGN_OR_RETURN(config.eos_id,
                           TokenId(file, "tokenizer.ggml.eos_token_id", config.tokens.size()));
  LECTERN_ASSIGN_OR_RETURN(config.bos_id,
                           TokenId(file, "tokenizer.ggml.bos_token_id", config.tokens.size()));
  LECTERN_ASSIGN_OR_RETURN(config.add_bos, GetBool(file, "tokenizer.ggml.add_bos_token",
                                                   config.add_bos && config.bos_id >= 0));
  return config;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerGguf(const GgufFile& file) {
  LECTERN_ASSIGN_OR_RETURN(BpeConfig config, ReadGgufTokenizer(file));
  return NewBpe(std::move(config));
}

}  // namespace lectern
