// tokenizer.json of type WordPiece: BERT and its descendants.
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

using nlohmann::json;

// The number of unused ids, limited so that a hostile id cannot request much memory.
constexpr size_t kMaxGaps = 65'536;

class Reader {
 public:
  Reader(const json& root, const std::string& source) : root_(root), source_(source) {
    config_.source = source;
  }

  absl::StatusOr<WordPieceConfig> Read(int32_t eos_id) {
    config_.eos_id = eos_id;
    LECTERN_RETURN_IF_ERROR(ReadRules());
    LECTERN_RETURN_IF_ERROR(ReadVocabulary());
    LECTERN_ASSIGN_OR_RETURN(const std::vector<AddedToken> added, ReadAddedTokens(root_, source_));
    for (const AddedToken& token : added) {
      LECTERN_RETURN_IF_ERROR(SetToken("added_tokens", token.text, token.id));
      if (!token.special) {
        return UnsupportedKey(source_, "added_tokens",
                              "a token that is not special is not supported");
      }
      config_.special_ids.push_back(token.id);
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

  absl::Status ReadRules() {
    const json* normalizer = Child(root_, "normalizer");
    if (TypeOf(normalizer) != "BertNormalizer")
      return Unsupported("normalizer", TypeOf(normalizer));
    config_.rules.clean_text = Flag(*normalizer, "clean_text", true);
    config_.rules.handle_chinese_chars = Flag(*normalizer, "handle_chinese_chars", true);
    config_.rules.lowercase = Flag(*normalizer, "lowercase", true);
    config_.rules.strip_accents = Flag(*normalizer, "strip_accents", config_.rules.lowercase);
    const json* pre = Child(root_, "pre_tokenizer");
    if (TypeOf(pre) != "BertPreTokenizer") return Unsupported("pre_tokenizer", TypeOf(pre));
    const json* post = Child(root_, "post_processor");
    if (post != nullptr && TypeOf(post) != "TemplateProcessing" &&
        TypeOf(post) != "BertProcessing") {
      return Unsupported("post_processor", TypeOf(post));
    }
    const json* decoder = Child(root_, "decoder");
    if (decoder != nullptr) {
      if (TypeOf(decoder) != "WordPiece") return Unsupported("decoder", TypeOf(decoder));
      config_.cleanup = Flag(*decoder, "cleanup", true);
    }
    return absl::OkStatus();
  }

  absl::Status SetToken(std::string_view key, const std::string& text, int32_t id) {
    const size_t at = static_cast<size_t>(id);
    if (at >= vocabulary_size_ + kMaxGaps) return Invalid(key, "ids leave large gaps");
    if (at >= config_.tokens.size()) config_.tokens.resize(at + 1);
    if (!config_.tokens[at].empty() && config_.tokens[at] != text) {
      return Invalid(key, absl::StrCat("id ", at, " is given to two tokens"));
    }
    config_.tokens[at] = text;
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    const json* model = Child(root_, "model");
    if (model == nullptr) return Invalid("model", "is missing");
    const json* vocabulary = Child(*model, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_object()) {
      return Invalid("model.vocab", "is not an object");
    }
    vocabulary_size_ = vocabulary->size();
    if (vocabulary_size_ > kMaxPieces) {
      return Invalid("model.vocab", absl::StrCat(vocabulary_size_, " tokens, at most ", kMaxPieces,
                                                 " are allowed"));
    }
    const std::string unknown = Text(*model, "unk_token", "[UNK]");
    for (const auto& [text, id] : vocabulary->items()) {
      if (!IsId(id)) return Invalid("model.vocab", "a token's id is not an integer in range");
      LECTERN_RETURN_IF_ERROR(SetToken("model.vocab", text, id.get<int32_t>()));
      if (text == unknown) config_.unk_id = id.get<int32_t>();
    }
    if (config_.unk_id < 0) return Invalid("model.unk_token", "is not in the vocabulary");
    config_.prefix = Text(*model, "continuing_subword_prefix", "##");
    if (const json* chars = Child(*model, "max_input_chars_per_word")) {
      if (!IsId(*chars)) return Invalid("model.max_input_chars_per_word", "is not a valid number");
      config_.max_word_chars = chars->get<size_t>();
    }
    return absl::OkStatus();
  }

  const json& root_;
  const std::string& source_;
  size_t vocabulary_size_ = 0;
  WordPieceConfig config_;
};

}  // namespace

absl::StatusOr<WordPieceConfig> ReadWordPieceJson(const json& root, const std::string& source,
                                                  int32_t eos_id) {
  return Reader(root, source).Read(eos_id);
}

}  // namespace lectern
