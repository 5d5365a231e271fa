// tokenizer.json of type Unigram: T5 and its descendants.
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"
#include "server/tokenizer/text/byte_piece.h"
#include "server/tokenizer/tokenizer_limits.h"
#include "server/tokenizer/unigram/unigram_text.h"

namespace lectern {
namespace {

using nlohmann::json;
using Step = MetaspaceRules::Step;

class Reader {
 public:
  Reader(const json& root, const std::string& source) : root_(root), source_(source) {
    config_.source = source;
    config_.metaspace.emplace();
  }

  absl::StatusOr<UnigramConfig> Read(int32_t eos_id) {
    if (const json* normalizer = Child(root_, "normalizer")) {
      LECTERN_RETURN_IF_ERROR(ReadNormalizer(*normalizer, true));
    }
    LECTERN_RETURN_IF_ERROR(ReadPreTokenizer());
    LECTERN_RETURN_IF_ERROR(CheckRest());
    LECTERN_RETURN_IF_ERROR(ReadVocabulary());
    LECTERN_ASSIGN_OR_RETURN(config_.added, ReadAddedTokens(root_, source_));
    config_.eos_id = eos_id;
    for (const AddedToken& token : config_.added) {
      if (eos_id < 0 && token.special && token.text == "</s>") config_.eos_id = token.id;
    }
    return std::move(config_);
  }

 private:
  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidKey(source_, key, why);
  }
  absl::Status Unsupported(std::string_view key, const std::string& found) const {
    return UnknownKind(source_, key, found);
  }

  absl::Status ReadNormalizer(const json& normalizer, bool may_be_sequence) {
    const std::string type = TypeOf(&normalizer);
    std::vector<Step>& steps = config_.metaspace->steps;
    if (steps.size() >= kMaxNormalizerSteps) {
      return Invalid("normalizer", absl::StrCat("more than ", kMaxNormalizerSteps, " steps"));
    }
    if (type == "Sequence" && may_be_sequence) {
      const json* parts = Child(normalizer, "normalizers");
      if (parts == nullptr || !parts->is_array()) {
        return Invalid("normalizer.normalizers", "is not an array");
      }
      for (const json& part : *parts) LECTERN_RETURN_IF_ERROR(ReadNormalizer(part, false));
      return absl::OkStatus();
    }
    if (type == "Precompiled") return ReadCharsmap(normalizer);
    if (type == "Replace") return ReadReplace(normalizer);
    if (type == "Lowercase") {
      steps.push_back({.kind = Step::kLowercase});
      return absl::OkStatus();
    }
    if (type == "Strip") {
      steps.push_back({.kind = Step::kStrip,
                       .left = Flag(normalizer, "strip_left", true),
                       .right = Flag(normalizer, "strip_right", true)});
      return absl::OkStatus();
    }
    return Unsupported("normalizer", type);
  }

  absl::Status ReadCharsmap(const json& normalizer) {
    const json* encoded = Child(normalizer, "precompiled_charsmap");
    constexpr char kKey[] = "normalizer.precompiled_charsmap";
    if (encoded == nullptr || !encoded->is_string()) return Invalid(kKey, "is not a string");
    const std::string& base64 = encoded->get_ref<const std::string&>();
    if (base64.size() > kMaxCharsmapBytes / 3 * 4 + 4) {
      return Invalid(kKey, absl::StrCat("is longer than ", kMaxCharsmapBytes, " bytes"));
    }
    if (!config_.charsmap.empty()) {
      return UnsupportedKey(source_, "normalizer", "Precompiled is supported only once");
    }
    if (!absl::Base64Unescape(base64, &config_.charsmap)) return Invalid(kKey, "is not base64");
    config_.metaspace->steps.push_back({.kind = Step::kCharsmap});
    return absl::OkStatus();
  }

  absl::Status ReadReplace(const json& normalizer) {
    const json* pattern = Child(normalizer, "pattern");
    const json* content = Child(normalizer, "content");
    if (pattern == nullptr || content == nullptr || !content->is_string()) {
      return Invalid("normalizer.pattern", "a Replace lacks its pattern or content");
    }
    const std::string by = content->get<std::string>();
    if (const json* text = Child(*pattern, "String"); text != nullptr && text->is_string()) {
      config_.metaspace->steps.push_back(
          {.kind = Step::kReplace, .pattern = text->get<std::string>(), .by = by});
      return absl::OkStatus();
    }
    const std::string regex = Text(*pattern, "Regex", "none");
    if (regex != " {2,}") return Unsupported("normalizer.pattern", regex);
    config_.metaspace->steps.push_back({.kind = Step::kReplaceBlanks, .by = by});
    return absl::OkStatus();
  }

  absl::Status ReadPreTokenizer() {
    const json* pre = Child(root_, "pre_tokenizer");
    if (TypeOf(pre) != "Sequence") return ReadMetaspace(pre);
    const json* parts = Child(*pre, "pretokenizers");
    if (parts == nullptr || !parts->is_array() || parts->size() != 2 ||
        TypeOf(&(*parts)[0]) != "WhitespaceSplit") {
      return UnsupportedKey(source_, "pre_tokenizer",
                            "a Sequence is supported only if it is WhitespaceSplit, Metaspace");
    }
    config_.metaspace->split_at_spaces = true;
    return ReadMetaspace(&(*parts)[1]);
  }

  absl::Status ReadMetaspace(const json* entry) {
    if (TypeOf(entry) != "Metaspace") return Unsupported("pre_tokenizer", TypeOf(entry));
    const std::string replacement = Text(*entry, "replacement", std::string(kMetaspace));
    if (replacement != kMetaspace) return Unsupported("pre_tokenizer.replacement", replacement);
    const std::string scheme =
        Text(*entry, "prepend_scheme", Flag(*entry, "add_prefix_space", true) ? "always" : "never");
    if (scheme == "always") {
      config_.metaspace->prefix = MetaspaceRules::Prefix::kAlways;
    } else if (scheme == "first") {
      config_.metaspace->prefix = MetaspaceRules::Prefix::kFirst;
    } else if (scheme == "never") {
      config_.metaspace->prefix = MetaspaceRules::Prefix::kNever;
    } else {
      return Unsupported("pre_tokenizer.prepend_scheme", scheme);
    }
    config_.metaspace->split_at_prefix = Flag(*entry, "split", true);
    return absl::OkStatus();
  }

  // A TemplateProcessing only adds begin and end tokens, which Encode leaves to its callers.
  absl::Status CheckRest() const {
    const json* post = Child(root_, "post_processor");
    if (post != nullptr && TypeOf(post) != "TemplateProcessing") {
      return Unsupported("post_processor", TypeOf(post));
    }
    const json* decoder = Child(root_, "decoder");
    if (decoder != nullptr && TypeOf(decoder) != "Metaspace") {
      return Unsupported("decoder", TypeOf(decoder));
    }
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    const json* model = Child(root_, "model");
    if (model == nullptr) return Invalid("model", "is missing");
    const json* vocabulary = Child(*model, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_array()) {
      return Invalid("model.vocab", "is not an array");
    }
    if (vocabulary->empty() || vocabulary->size() > kMaxPieces) {
      return Invalid("model.vocab", absl::StrCat(vocabulary->size(), " pieces; 1 to ", kMaxPieces,
                                                 " are allowed"));
    }
    const json* unknown = Child(*model, "unk_id");
    if (unknown == nullptr || !IsId(*unknown) || unknown->get<size_t>() >= vocabulary->size()) {
      return Invalid("model.unk_id", "is missing or is not the id of a piece");
    }
    config_.unk_id = unknown->get<int32_t>();
    config_.byte_fallback = Flag(*model, "byte_fallback", false);
    config_.pieces.reserve(vocabulary->size());
    for (const json& entry : *vocabulary) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
          !entry[1].is_number()) {
        return Invalid("model.vocab", absl::StrCat("entry ", config_.pieces.size(),
                                                   " is not a piece and its score"));
      }
      UnigramPiece piece{.text = entry[0].get<std::string>(), .score = entry[1].get<double>()};
      if (config_.byte_fallback && ByteOfPiece(piece.text) >= 0) piece.type = PieceType::kByte;
      config_.pieces.push_back(std::move(piece));
    }
    config_.pieces[config_.unk_id].type = PieceType::kUnknown;
    return absl::OkStatus();
  }

  const json& root_;
  const std::string& source_;
  UnigramConfig config_;
};

}  // namespace

absl::StatusOr<UnigramConfig> ReadUnigramJson(const json& root, const std::string& source,
                                              int32_t eos_id) {
  return Reader(root, source).Read(eos_id);
}

}  // namespace lectern
