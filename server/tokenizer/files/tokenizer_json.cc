#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/strict_json.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr int64_t kMaxTokens = int64_t{1} << 22;

class Reader {
 public:
  Reader(const json& root, const std::string& source) : root_(root), source_(source) {}

  absl::StatusOr<ByteLevelBpeConfig> Read(int32_t eos_id) {
    config_.source = source_;
    config_.eos_id = eos_id;
    LECTERN_RETURN_IF_ERROR(ReadPreTokenizer());
    LECTERN_RETURN_IF_ERROR(CheckPostProcessor());
    LECTERN_RETURN_IF_ERROR(ReadVocabulary());
    LECTERN_RETURN_IF_ERROR(ReadMerges());
    LECTERN_RETURN_IF_ERROR(ReadAdded());
    return std::move(config_);
  }

 private:
  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidKey(source_, key, why);
  }
  absl::Status Unsupported(std::string_view key, const std::string& found) const {
    return UnknownKind(source_, key, found);
  }

  // Whether a ByteLevel entry divides text into GPT-2's pieces.
  absl::Status CheckByteLevel(const json& entry, bool* use_regex) const {
    if (TypeOf(&entry) != "ByteLevel") return Unsupported("pre_tokenizer", TypeOf(&entry));
    if (Flag(entry, "add_prefix_space", true)) {
      return Unsupported("pre_tokenizer.add_prefix_space", "true");
    }
    *use_regex = Flag(entry, "use_regex", true);
    return absl::OkStatus();
  }

  absl::Status ReadPreTokenizer() {
    if (const json* normalizer = Child(root_, "normalizer")) {
      return Unsupported("normalizer", TypeOf(normalizer));
    }
    const json* pre = Child(root_, "pre_tokenizer");
    if (pre == nullptr) return Unsupported("pre_tokenizer", "none");
    bool use_regex = true;
    if (TypeOf(pre) != "Sequence") {
      LECTERN_RETURN_IF_ERROR(CheckByteLevel(*pre, &use_regex));
      config_.pre_tokenizer = use_regex ? PreTokenizer::kGpt2 : PreTokenizer::kNone;
      return absl::OkStatus();
    }
    const json* parts = Child(*pre, "pretokenizers");
    const bool pair = parts != nullptr && parts->is_array() && parts->size() == 2;
    if (!pair || TypeOf(&(*parts)[0]) != "Digits" ||
        !Flag((*parts)[0], "individual_digits", false)) {
      return Unsupported("pre_tokenizer", "Sequence of other parts than Digits, ByteLevel");
    }
    LECTERN_RETURN_IF_ERROR(CheckByteLevel((*parts)[1], &use_regex));
    if (!use_regex) return Unsupported("pre_tokenizer", "ByteLevel without its pattern");
    config_.pre_tokenizer = PreTokenizer::kSmolLm;
    return absl::OkStatus();
  }

  // ByteLevel only trims offsets, RobertaProcessing adds the special tokens that such a model adds
  // anyway; any other may add tokens to every text.
  absl::Status CheckPostProcessor() const {
    const json* post = Child(root_, "post_processor");
    if (post == nullptr || TypeOf(post) == "ByteLevel" || TypeOf(post) == "RobertaProcessing")
      return absl::OkStatus();
    return Unsupported("post_processor", TypeOf(post));
  }

  // Options with which other kinds of BPE change words before or during merging.
  absl::Status CheckPlainModel(const json& model) const {
    for (const char* key : {"byte_fallback", "ignore_merges"}) {
      if (Flag(model, key, false)) return Unsupported(absl::StrCat("model.", key), "true");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* affix = Child(model, key);
      if (affix != nullptr && *affix != "") {
        return Unsupported(absl::StrCat("model.", key), "other than empty");
      }
    }
    const json* dropout = Child(model, "dropout");
    if (dropout != nullptr && *dropout != 0) return Unsupported("model.dropout", "other than 0");
    return absl::OkStatus();
  }

  absl::Status SetToken(std::string_view key, const std::string& text, const json& id) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxTokens) {
      return Invalid(key, "a token's id is not an integer in range");
    }
    const size_t at = id.get<size_t>();
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
    const json* type = Child(*model, "type");
    if (type != nullptr && TypeOf(model) != "BPE") return Unsupported("model.type", TypeOf(model));
    LECTERN_RETURN_IF_ERROR(CheckPlainModel(*model));
    const json* vocabulary = Child(*model, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_object()) {
      return Invalid("model.vocab", "is not an object");
    }
    // Ids must be dense, so that a hostile id cannot request much memory.
    const int64_t limit = static_cast<int64_t>(vocabulary->size()) + 65'536;
    for (const auto& [text, id] : vocabulary->items()) {
      if (id.is_number_integer() && id.get<int64_t>() >= limit) {
        return Invalid("model.vocab", "ids leave large gaps");
      }
      LECTERN_RETURN_IF_ERROR(SetToken("model.vocab", text, id));
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    const json* merges = Child(*Child(root_, "model"), "merges");
    if (merges == nullptr || !merges->is_array()) return Invalid("model.merges", "is not an array");
    for (const json& merge : *merges) {
      if (merge.is_string()) {
        config_.merges.push_back(merge.get<std::string>());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        config_.merges.push_back(
            absl::StrCat(merge[0].get<std::string>(), " ", merge[1].get<std::string>()));
      } else {
        return Invalid("model.merges", "an entry is neither 'left right' nor [left, right]");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadAdded() {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<AddedToken> added, ReadAddedTokens(root_, source_));
    for (const AddedToken& token : added) {
      if (token.id > static_cast<int64_t>(config_.tokens.size()) + 65'536) {
        return Invalid("added_tokens", "an entry lacks its content or a sensible id");
      }
      LECTERN_RETURN_IF_ERROR(SetToken("added_tokens", token.text, token.id));
      if (token.special) config_.special_ids.push_back(token.id);
    }
    return FillGaps();
  }

  // An unused id gets a text to which nothing encodes.
  absl::Status FillGaps() {
    for (size_t id = 0; id < config_.tokens.size(); ++id) {
      if (config_.tokens[id].empty()) config_.tokens[id] = absl::StrCat("\x01unused ", id);
    }
    return absl::OkStatus();
  }

  const json& root_;
  const std::string& source_;
  ByteLevelBpeConfig config_;
};

}  // namespace

absl::StatusOr<ByteLevelBpeConfig> ReadBpeJson(const json& root, const std::string& source,
                                               int32_t eos_id) {
  return Reader(root, source).Read(eos_id);
}

absl::StatusOr<ByteLevelBpeConfig> ParseTokenizerJson(std::string_view contents, std::string source,
                                                      int32_t eos_id) {
  LECTERN_ASSIGN_OR_RETURN(const json root, ParseJsonObject(contents, source));
  return ReadBpeJson(root, source, eos_id);
}

}  // namespace lectern
