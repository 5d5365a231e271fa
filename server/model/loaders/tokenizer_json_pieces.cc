// tokenizer.json of the kinds Unigram and WordPiece.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/loaders/file_error.h"
#include "server/model/loaders/strict_json.h"
#include "server/model/loaders/tokenizer_files.h"

namespace lectern {
namespace {

using nlohmann::json;
using Piece = UnigramConfig::Piece;

// Added tokens beyond the vocabulary: T5 has 100.
constexpr int64_t kMaxAdded = 65'536;

const json& Null() {
  static const json null;
  return null;
}

const json& Child(const json& object, const char* key) {
  if (!object.is_object()) return Null();
  const auto found = object.find(key);
  return found == object.end() ? Null() : *found;
}

std::string TextAt(const json& object, const char* key) {
  const json& value = Child(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool Flag(const json& object, const char* key, bool otherwise) {
  const json& value = Child(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

// What the readers of both kinds share.
class Reader {
 public:
  Reader(const json& root, std::string source) : root_(root), source_(std::move(source)) {}

  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidFile({source_, "key", key}, why);
  }
  absl::Status Unsupported(std::string_view key, const std::string& found) const {
    return UnsupportedFile({source_, "key", key},
                           absl::StrCat("'", Printable(found), "' is not known to this build"));
  }

  absl::StatusOr<UnigramConfig> ReadUnigram(int32_t eos_id) {
    UnigramConfig config;
    config.source = source_;
    config.eos_id = eos_id;
    LECTERN_RETURN_IF_ERROR(ReadNormalizer(Child(root_, "normalizer"), config));
    LECTERN_RETURN_IF_ERROR(CheckSpaces(Child(root_, "pre_tokenizer")));
    const json& model = Child(root_, "model");
    config.byte_fallback = Flag(model, "byte_fallback", false);
    const json& vocabulary = Child(model, "vocab");
    if (!vocabulary.is_array()) return Invalid("model.vocab", "is not a list");
    for (const json& entry : vocabulary) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
          !entry[1].is_number()) {
        return Invalid("model.vocab", "has an entry that is not a piece and its score");
      }
      config.pieces.push_back({entry[0].get<std::string>(), entry[1].get<float>()});
    }
    const json& unknown = Child(model, "unk_id");
    if (!unknown.is_number_unsigned() || unknown.get<uint64_t>() >= config.pieces.size()) {
      return Invalid("model.unk_id", "is not one of the pieces");
    }
    config.unknown_id = unknown.get<int32_t>();
    config.pieces[config.unknown_id].type = Piece::Type::kUnknown;
    LECTERN_RETURN_IF_ERROR(AddTokens(config));
    if (config.byte_fallback) {
      for (Piece& piece : config.pieces) {
        const bool byte = piece.text.size() == 6 && piece.text.starts_with("<0x");
        if (byte && piece.text.back() == '>') piece.type = Piece::Type::kByte;
      }
    }
    return config;
  }

  absl::StatusOr<WordPieceConfig> ReadWordPiece() {
    WordPieceConfig config;
    config.source = source_;
    const json& normalizer = Child(root_, "normalizer");
    if (TextAt(normalizer, "type") != "BertNormalizer") {
      return Unsupported("normalizer", TextAt(normalizer, "type"));
    }
    config.lower_case = Flag(normalizer, "lowercase", true);
    config.strip_accents = Flag(normalizer, "strip_accents", config.lower_case);
    config.split_chinese = Flag(normalizer, "handle_chinese_chars", true);
    const std::string pre = TextAt(Child(root_, "pre_tokenizer"), "type");
    if (pre != "BertPreTokenizer") return Unsupported("pre_tokenizer", pre);
    const json& model = Child(root_, "model");
    const std::string inside = TextAt(model, "continuing_subword_prefix");
    if (inside != "##") return Unsupported("model.continuing_subword_prefix", inside);
    config.unknown = TextAt(model, "unk_token");
    const json& vocabulary = Child(model, "vocab");
    if (!vocabulary.is_object()) return Invalid("model.vocab", "is not an object");
    config.tokens.resize(vocabulary.size());
    for (const auto& [token, id] : vocabulary.items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= config.tokens.size()) {
        return Invalid("model.vocab", "has ids that are not 0, 1, 2, ...");
      }
      config.tokens[id.get<size_t>()] = token;
    }
    return config;
  }

 private:
  absl::Status ReadNormalizer(const json& normalizer, UnigramConfig& config) const {
    if (normalizer.is_null()) return absl::OkStatus();
    const std::string type = TextAt(normalizer, "type");
    if (type == "Precompiled") {
      const std::string encoded = TextAt(normalizer, "precompiled_charsmap");
      if (!absl::Base64Unescape(encoded, &config.char_map)) {
        return Invalid("normalizer.precompiled_charsmap", "is not base64");
      }
      return absl::OkStatus();
    }
    // What our own rules for white space do as well.
    if (type == "Strip") return absl::OkStatus();
    if (type == "Replace" && TextAt(Child(normalizer, "pattern"), "Regex") == " {2,}") {
      return absl::OkStatus();
    }
    const json& parts = Child(normalizer, "normalizers");
    if (type != "Sequence" || !parts.is_array()) return Unsupported("normalizer", type);
    for (const json& part : parts) {
      if (TextAt(part, "type") == "Sequence") return Unsupported("normalizer", "nested Sequence");
      LECTERN_RETURN_IF_ERROR(ReadNormalizer(part, config));
    }
    return absl::OkStatus();
  }

  // White space before every word, none twice: Metaspace, with or without WhitespaceSplit.
  absl::Status CheckSpaces(const json& pre) const {
    const std::string type = TextAt(pre, "type");
    if (type == "WhitespaceSplit") return absl::OkStatus();
    if (type == "Metaspace") {
      const std::string scheme = TextAt(pre, "prepend_scheme");
      const bool prefix = scheme.empty() ? Flag(pre, "add_prefix_space", true) : scheme == "always";
      if (!prefix) return Unsupported("pre_tokenizer.prepend_scheme", scheme);
      return absl::OkStatus();
    }
    const json& parts = Child(pre, "pretokenizers");
    if (type != "Sequence" || !parts.is_array()) return Unsupported("pre_tokenizer", type);
    for (const json& part : parts) {
      if (TextAt(part, "type") == "Sequence")
        return Unsupported("pre_tokenizer", "nested Sequence");
      LECTERN_RETURN_IF_ERROR(CheckSpaces(part));
    }
    return absl::OkStatus();
  }

  absl::Status AddTokens(UnigramConfig& config) const {
    const json& added = Child(root_, "added_tokens");
    if (added.is_null()) return absl::OkStatus();
    if (!added.is_array()) return Invalid("added_tokens", "is not a list");
    const auto limit = static_cast<int64_t>(config.pieces.size()) + kMaxAdded;
    for (const json& token : added) {
      const json& id = Child(token, "id");
      const std::string text = TextAt(token, "content");
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(limit) ||
          text.empty()) {
        return Invalid("added_tokens", "has an entry without text or with an id out of range");
      }
      const size_t at = id.get<size_t>();
      while (config.pieces.size() <= at) {
        // A gap that nothing fills never occurs in a text.
        config.pieces.push_back(
            {absl::StrCat("<unused_", config.pieces.size(), ">"), 0, Piece::Type::kUnused});
      }
      Piece& piece = config.pieces[at];
      if (piece.type == Piece::Type::kUnknown) continue;
      piece.text = text;
      if (Flag(token, "special", false)) piece.type = Piece::Type::kControl;
    }
    return absl::OkStatus();
  }

  const json& root_;
  const std::string source_;
};

}  // namespace

absl::StatusOr<UnigramConfig> ParseUnigramJson(const json& root, std::string source,
                                               int32_t eos_id) {
  return Reader(root, std::move(source)).ReadUnigram(eos_id);
}

absl::StatusOr<WordPieceConfig> ParseWordPieceJson(const json& root, std::string source) {
  return Reader(root, std::move(source)).ReadWordPiece();
}

}  // namespace lectern
