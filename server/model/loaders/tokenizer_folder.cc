#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/model/loaders/config_reader.h"
#include "server/model/loaders/file_error.h"
#include "server/model/loaders/strict_json.h"
#include "server/model/loaders/tokenizer_files.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const std::string& path, int32_t eos_id) {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  LECTERN_ASSIGN_OR_RETURN(const json root, ParseJsonObject(file.bytes(), path));
  const auto model = root.find("model");
  const auto type =
      model == root.end() || !model->is_object() ? json() : model->value("type", json());
  if (type == "Unigram") {
    LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ParseUnigramJson(root, path, eos_id));
    return NewUnigram(std::move(config));
  }
  if (type == "WordPiece") {
    LECTERN_ASSIGN_OR_RETURN(WordPieceConfig config, ParseWordPieceJson(root, path));
    return NewWordPiece(std::move(config));
  }
  LECTERN_ASSIGN_OR_RETURN(ByteLevelBpeConfig config,
                           ParseTokenizerJson(file.bytes(), path, eos_id));
  return NewByteLevelBpe(std::move(config));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromSpiece(const std::string& path, int32_t eos_id) {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ParseSpieceModel(file.bytes(), path));
  if (eos_id >= 0) config.eos_id = eos_id;
  return NewUnigram(std::move(config));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromVocabulary(const fs::path& folder) {
  const std::string path = folder / "vocab.txt";
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  LECTERN_ASSIGN_OR_RETURN(WordPieceConfig config, ParseVocabTxt(file.bytes(), path));
  const std::string settings_path = folder / "tokenizer_config.json";
  if (fs::exists(settings_path)) {
    LECTERN_ASSIGN_OR_RETURN(const MappedFile settings, MappedFile::Open(settings_path));
    LECTERN_ASSIGN_OR_RETURN(const json root, ParseConfigJson(settings.bytes(), settings_path));
    const ConfigReader reader(root, settings_path);
    LECTERN_ASSIGN_OR_RETURN(config.lower_case, reader.Bool("do_lower_case", true));
    LECTERN_ASSIGN_OR_RETURN(config.strip_accents, reader.Bool("strip_accents", config.lower_case));
    LECTERN_ASSIGN_OR_RETURN(config.split_chinese, reader.Bool("tokenize_chinese_chars", true));
  }
  return NewWordPiece(std::move(config));
}

}  // namespace

absl::StatusOr<WordPieceConfig> ParseVocabTxt(std::string_view text, std::string source) {
  constexpr size_t kMaxTokens = size_t{1} << 22;
  WordPieceConfig config;
  config.source = std::move(source);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (config.tokens.size() == kMaxTokens) {
      return InvalidFile({.file = config.source}, "has more than 2^22 lines");
    }
    config.tokens.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return config;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFolder(const std::string& folder,
                                                               int32_t eos_id) {
  const fs::path path = folder;
  // spiece.model first: it is what the others were made from.
  if (fs::exists(path / "spiece.model")) return FromSpiece(path / "spiece.model", eos_id);
  if (fs::exists(path / "tokenizer.json")) return FromJson(path / "tokenizer.json", eos_id);
  if (fs::exists(path / "vocab.txt")) return FromVocabulary(path);
  return absl::NotFoundError(
      absl::StrCat(folder, ": has none of spiece.model, tokenizer.json and vocab.txt"));
}

}  // namespace lectern
