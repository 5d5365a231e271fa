// Finds the tokenizer of a model folder.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"
#include "server/formats/strict_json.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"
#include "server/tokenizer/files/tokenizer_settings.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > limit) {
    return InvalidFile({.file = path}, absl::StrCat(file.bytes().size(), " bytes, at most ", limit,
                                                    " are allowed"));
  }
  return std::string(file.bytes());
}

// The contents, or an empty string if there is no such file.
absl::StatusOr<std::string> ReadFileIfThere(const std::string& path, size_t limit) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::string();
  return ReadFile(path, limit);
}

// The settings of tokenizer_config.json.
absl::Status AddFromSettings(std::string_view contents, const std::string& source,
                             SpieceSettings& settings) {
  if (contents.empty()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const json root, ParseJsonObject(contents, source));
  settings.add_bos = Flag(root, "add_bos_token", true);
  settings.legacy = Flag(root, "legacy", true);
  return ReadAddedTokensDecoder(root, source, settings.added);
}

// added_tokens.json: {"<extra_id_0>": 32099, ...}
absl::Status AddFromList(std::string_view contents, const std::string& source,
                         std::vector<AddedToken>& added) {
  if (contents.empty()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const json tokens, ParseJsonObject(contents, source));
  for (const auto& [text, id] : tokens.items()) {
    if (!IsId(id) || text.empty()) return InvalidKey(source, text, "has no valid id");
    added.push_back({text, id.get<int32_t>(), true});
  }
  return absl::OkStatus();
}

// XLM-RoBERTa's SentencePiece model, whose ids are fairseq's.
constexpr char kFairseqSpiece[] = "sentencepiece.bpe.model";

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSpiece(const fs::path& folder, const char* name,
                                                      int32_t eos_id) {
  const std::string path = folder / name;
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMaxTokenizerFileBytes));
  const std::string settings_path = folder / "tokenizer_config.json";
  const std::string list_path = folder / "added_tokens.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string settings_json,
                           ReadFileIfThere(settings_path, kMaxConfigJsonBytes));
  LECTERN_ASSIGN_OR_RETURN(const std::string list, ReadFileIfThere(list_path, kMaxConfigJsonBytes));
  SpieceSettings settings;
  LECTERN_RETURN_IF_ERROR(AddFromSettings(settings_json, settings_path, settings));
  std::vector<AddedToken>& added = settings.added;
  if (added.empty()) LECTERN_RETURN_IF_ERROR(AddFromList(list, list_path, added));
  if (name == std::string_view(kFairseqSpiece)) {
    LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ParseFairseqSpieceModel(contents, path));
    config.added.insert(config.added.end(), added.begin(), added.end());
    if (eos_id >= 0) config.eos_id = eos_id;
    return NewUnigram(std::move(config));
  }
  return NewTokenizerFromSpiece(contents, path, std::move(settings), eos_id);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabTxt(const fs::path& folder, int32_t eos_id) {
  const std::string path = folder / "vocab.txt";
  const std::string settings_path = folder / "tokenizer_config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMaxTokenizerFileBytes));
  LECTERN_ASSIGN_OR_RETURN(const std::string settings,
                           ReadFileIfThere(settings_path, kMaxConfigJsonBytes));
  LECTERN_ASSIGN_OR_RETURN(WordPieceConfig config,
                           ParseVocabTxt(contents, path, settings, settings_path));
  config.eos_id = eos_id;
  return NewWordPiece(std::move(config));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabJson(const fs::path& folder, int32_t eos_id) {
  const std::string path = folder / "vocab.json";
  const std::string settings_path = folder / "tokenizer_config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMaxTokenizerFileBytes));
  LECTERN_ASSIGN_OR_RETURN(const std::string merges,
                           ReadFile(folder / "merges.txt", kMaxTokenizerFileBytes));
  LECTERN_ASSIGN_OR_RETURN(const std::string settings,
                           ReadFileIfThere(settings_path, kMaxConfigJsonBytes));
  LECTERN_ASSIGN_OR_RETURN(BpeConfig config,
                           ParseVocabJson(contents, path, merges, settings, settings_path));
  config.eos_id = eos_id;
  return NewBpe(std::move(config));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizer(const json& root, const std::string& source,
                                                        int32_t eos_id) {
  const json* model = Child(root, "model");
  const std::string type = TypeOf(model);
  if (type == "Unigram") {
    LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ReadUnigramJson(root, source, eos_id));
    return NewUnigram(std::move(config));
  }
  if (type == "WordPiece") {
    LECTERN_ASSIGN_OR_RETURN(WordPieceConfig config, ReadWordPieceJson(root, source, eos_id));
    return NewWordPiece(std::move(config));
  }
  // Older BPE files do not name their type; ReadBpeJson refuses anything else.
  LECTERN_ASSIGN_OR_RETURN(BpeConfig config, ReadBpeJson(root, source, eos_id));
  return NewBpe(std::move(config));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const fs::path& folder,
                                                             int32_t eos_id) {
  const std::string path = folder / "tokenizer.json";
  const std::string settings_path = folder / "tokenizer_config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMaxTokenizerFileBytes));
  LECTERN_ASSIGN_OR_RETURN(const std::string settings_json,
                           ReadFileIfThere(settings_path, kMaxTokenizerFileBytes));
  LECTERN_ASSIGN_OR_RETURN(json root, ParseJsonObject(contents, path));
  if (!settings_json.empty()) {
    LECTERN_ASSIGN_OR_RETURN(const json settings, ParseJsonObject(settings_json, settings_path));
    LECTERN_RETURN_IF_ERROR(ApplySettings(settings, settings_path, root));
  }
  return NewTokenizer(root, path, eos_id);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizerFromJson(std::string_view contents,
                                                                std::string source,
                                                                int32_t eos_id) {
  LECTERN_ASSIGN_OR_RETURN(const json root, ParseJsonObject(contents, source));
  return NewTokenizer(root, source, eos_id);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFolder(const std::string& folder,
                                                               int32_t eos_id) {
  const fs::path path = folder;
  std::error_code error;
  const auto holds = [&](std::string_view name) { return fs::exists(path / name, error); };
  if (holds("tokenizer.json")) return LoadTokenizerJson(path, eos_id);
  for (const char* name : {"spiece.model", "tokenizer.model", kFairseqSpiece}) {
    if (holds(name)) return LoadSpiece(path, name, eos_id);
  }
  if (holds("vocab.txt")) return LoadVocabTxt(path, eos_id);
  if (holds("vocab.json") && holds("merges.txt")) return LoadVocabJson(path, eos_id);
  return InvalidFile({.file = folder},
                     "holds no tokenizer.json, spiece.model, tokenizer.model, "
                     "sentencepiece.bpe.model, vocab.txt, or vocab.json with merges.txt");
}

}  // namespace lectern
