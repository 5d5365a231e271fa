#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/strict_json.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"
#include "server/tokenizer/text/metaspace.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr int64_t kMaxTokens = int64_t{1} << 22;

class Reader {
 public:
  Reader(const json& root, const std::string& source) : root_(root), source_(source) {}

  absl::StatusOr<BpeConfig> Read(int32_t eos_id) {
    config_.source = source_;
    config_.eos_id = eos_id;
    if (const json* normalizer = Child(root_, "normalizer")) {
      LECTERN_RETURN_IF_ERROR(ReadNormalizer(*normalizer, true));
    }
    config_.normalizer_steps = config_.steps.size();
    if (const json* pre = Child(root_, "pre_tokenizer")) {
      LECTERN_RETURN_IF_ERROR(ReadPreTokenizer(*pre, true));
    }
    LECTERN_RETURN_IF_ERROR(ReadPostProcessor(Child(root_, "post_processor")));
    LECTERN_RETURN_IF_ERROR(ReadDecoder(Child(root_, "decoder")));
    LECTERN_RETURN_IF_ERROR(ReadModel());
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

  // The members of a Sequence.
  absl::StatusOr<const json*> Parts(const json& sequence, const char* key,
                                    const char* member) const {
    const json* parts = Child(sequence, member);
    if (parts == nullptr || !parts->is_array()) {
      return Invalid(absl::StrCat(key, ".", member), "is not an array");
    }
    return parts;
  }

  absl::Status AddStep(TextStep step) {
    if (config_.steps.size() >= kMaxNormalizerSteps) {
      return Invalid("normalizer", absl::StrCat("more than ", kMaxNormalizerSteps, " steps"));
    }
    // A text grows by at most 10 (compatibility forms) or by the length of a replacement.
    if (step.kind == TextStep::Kind::kReplace) {
      growth_ *= std::max<size_t>(1, (step.by.size() + step.text.size() - 1) / step.text.size());
      if (growth_ > kMaxReplaceGrowth) {
        return Invalid("normalizer", "a replacement lengthens a text too much");
      }
    }
    if (step.kind == TextStep::Kind::kPrepend && step.text.size() > kMaxReplacementBytes) {
      return Invalid("normalizer.prepend", "is too long");
    }
    config_.steps.push_back(std::move(step));
    return absl::OkStatus();
  }

  absl::Status ReadNormalizer(const json& normalizer, bool may_be_sequence) {
    using Kind = TextStep::Kind;
    const std::string type = TypeOf(&normalizer);
    if (type == "Sequence" && may_be_sequence) {
      LECTERN_ASSIGN_OR_RETURN(const json* parts, Parts(normalizer, "normalizer", "normalizers"));
      for (const json& part : *parts) LECTERN_RETURN_IF_ERROR(ReadNormalizer(part, false));
      return absl::OkStatus();
    }
    if (type == "NFC") return AddStep({.kind = Kind::kNfc});
    if (type == "NFD") return AddStep({.kind = Kind::kNfd});
    if (type == "NFKC") return AddStep({.kind = Kind::kNfkc});
    if (type == "NFKD") return AddStep({.kind = Kind::kNfkd});
    if (type == "Lowercase") return AddStep({.kind = Kind::kLowercase});
    if (type == "Strip") {
      return AddStep({.kind = Kind::kStrip,
                      .left = Flag(normalizer, "strip_left", true),
                      .right = Flag(normalizer, "strip_right", true)});
    }
    if (type == "Prepend") {
      return AddStep({.kind = Kind::kPrepend, .text = Text(normalizer, "prepend", "")});
    }
    if (type == "Replace") {
      const json* pattern = Child(normalizer, "pattern");
      const std::string text = pattern == nullptr ? "" : Text(*pattern, "String", "");
      if (text.empty()) {
        return UnsupportedKey(source_, "normalizer.pattern", "is supported only as a String");
      }
      return AddStep({.kind = Kind::kReplace, .text = text, .by = Text(normalizer, "content", "")});
    }
    return Unsupported("normalizer", type);
  }

  absl::Status AddSplit(SplitRule rule) {
    if (config_.splits.size() >= kMaxSplitRules) {
      return Invalid("pre_tokenizer", absl::StrCat("more than ", kMaxSplitRules, " parts"));
    }
    config_.splits.push_back(std::move(rule));
    return absl::OkStatus();
  }

  absl::Status ReadPreTokenizer(const json& pre, bool may_be_sequence) {
    const std::string type = TypeOf(&pre);
    if (type == "Sequence" && may_be_sequence) {
      LECTERN_ASSIGN_OR_RETURN(const json* parts, Parts(pre, "pre_tokenizer", "pretokenizers"));
      for (const json& part : *parts) LECTERN_RETURN_IF_ERROR(ReadPreTokenizer(part, false));
      return absl::OkStatus();
    }
    if (type == "Split") return ReadSplit(pre);
    if (type == "Digits") {
      SplitRule rule = SingleDigits();
      if (!Flag(pre, "individual_digits", false)) {
        rule.behavior = SplitRule::Behavior::kContiguous;
      }
      return AddSplit(std::move(rule));
    }
    if (type == "Metaspace") return ReadMetaspace(pre);
    if (type != "ByteLevel") return Unsupported("pre_tokenizer", type);
    bytes_ = true;
    if (Flag(pre, "add_prefix_space", true)) {
      if (!config_.splits.empty()) {
        return UnsupportedKey(source_, "pre_tokenizer.add_prefix_space",
                              "true is supported only in the first part");
      }
      LECTERN_RETURN_IF_ERROR(AddStep({.kind = TextStep::Kind::kPrependUnless, .text = " "}));
    }
    return Flag(pre, "use_regex", true) ? AddSplit(Gpt2Words()) : absl::OkStatus();
  }

  absl::Status ReadSplit(const json& split) {
    using Behavior = SplitRule::Behavior;
    static constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
        {"Isolated", Behavior::kIsolated},
        {"Removed", Behavior::kRemoved},
        {"MergedWithPrevious", Behavior::kMergedWithPrevious},
        {"MergedWithNext", Behavior::kMergedWithNext},
        {"Contiguous", Behavior::kContiguous}};
    SplitRule rule{.invert = Flag(split, "invert", false)};
    const json* pattern = Child(split, "pattern");
    if (pattern == nullptr) return Invalid("pre_tokenizer.pattern", "is missing");
    rule.literal = Child(*pattern, "String") != nullptr;
    rule.pattern = Text(*pattern, rule.literal ? "String" : "Regex", "");
    if (rule.pattern.empty()) return Invalid("pre_tokenizer.pattern", "is empty");
    const std::string name = Text(split, "behavior", "Isolated");
    const auto* const behavior = std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                                              [&](const auto& one) { return one.first == name; });
    if (behavior == std::end(kBehaviors)) return Unsupported("pre_tokenizer.behavior", name);
    rule.behavior = behavior->second;
    return AddSplit(std::move(rule));
  }

  absl::Status ReadMetaspace(const json& entry) {
    using Kind = TextStep::Kind;
    const std::string blank = Text(entry, "replacement", std::string(kMetaspace));
    const std::string scheme =
        Text(entry, "prepend_scheme", Flag(entry, "add_prefix_space", true) ? "always" : "never");
    if (blank != kMetaspace) return Unsupported("pre_tokenizer.replacement", blank);
    if (!config_.splits.empty()) {
      return UnsupportedKey(source_, "pre_tokenizer",
                            "Metaspace is supported only as the first part");
    }
    LECTERN_RETURN_IF_ERROR(AddStep({.kind = Kind::kReplace, .text = " ", .by = blank}));
    if (scheme == "always" || scheme == "first") {
      LECTERN_RETURN_IF_ERROR(
          AddStep({.kind = scheme == "first" ? Kind::kPrependToInput : Kind::kPrependUnless,
                   .text = blank}));
    } else if (scheme != "never") {
      return Unsupported("pre_tokenizer.prepend_scheme", scheme);
    }
    if (!Flag(entry, "split", true)) return absl::OkStatus();
    return AddSplit(
        {.pattern = blank, .literal = true, .behavior = SplitRule::Behavior::kMergedWithNext});
  }

  // ByteLevel only trims offsets; the others add special tokens, of which the first may begin a
  // sequence.
  absl::Status ReadPostProcessor(const json* post) {
    const std::string type = TypeOf(post);
    if (type == "Sequence") {
      LECTERN_ASSIGN_OR_RETURN(const json* parts, Parts(*post, "post_processor", "processors"));
      for (const json& part : *parts) {
        if (TypeOf(&part) == "Sequence") {
          return UnsupportedKey(source_, "post_processor", "a nested Sequence is not supported");
        }
        LECTERN_RETURN_IF_ERROR(ReadPostProcessor(&part));
      }
      return absl::OkStatus();
    }
    if (type == "TemplateProcessing") ReadTemplate(*post);
    for (const char* known :
         {"none", "ByteLevel", "RobertaProcessing", "TemplateProcessing", "BertProcessing"}) {
      if (type == known) return absl::OkStatus();
    }
    return Unsupported("post_processor", type);
  }

  // {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}]}: the text of the begin token.
  void ReadTemplate(const json& post) {
    const json* single = Child(post, "single");
    if (single == nullptr || !single->is_array() || single->empty()) return;
    const json* token = Child((*single)[0], "SpecialToken");
    if (token != nullptr) begin_token_ = Text(*token, "id", "");
  }

  absl::Status ReadDecoder(const json* decoder) {
    const std::string type = TypeOf(decoder);
    if (type == "Sequence") {
      LECTERN_ASSIGN_OR_RETURN(const json* parts, Parts(*decoder, "decoder", "decoders"));
      for (const json& part : *parts) {
        if (TypeOf(&part) == "Sequence") {
          return UnsupportedKey(source_, "decoder", "a nested Sequence is not supported");
        }
        LECTERN_RETURN_IF_ERROR(ReadDecoder(&part));
      }
      return absl::OkStatus();
    }
    if (type == "ByteLevel") bytes_ = true;
    if (type == "Metaspace") {
      config_.strip_first_space =
          Text(*decoder, "prepend_scheme",
               Flag(*decoder, "add_prefix_space", true) ? "always" : "never") != "never";
    }
    if (type == "Strip") {
      const bool first_blank = Text(*decoder, "content", "") == " " && Number(*decoder, "start") &&
                               !Number(*decoder, "stop");
      if (!first_blank) {
        return UnsupportedKey(source_, "decoder",
                              "Strip is supported only for one space at the start");
      }
      config_.strip_first_space = true;
    }
    for (const char* known :
         {"none", "ByteLevel", "Metaspace", "Strip", "Replace", "ByteFallback", "Fuse"}) {
      if (type == known) return absl::OkStatus();
    }
    return Unsupported("decoder", type);
  }
  // True if the number is 1, false if it is 0 or absent.
  static bool Number(const json& object, const char* key) {
    const json* value = Child(object, key);
    return value != nullptr && *value == 1;
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

  absl::Status ReadModel() {
    const json* model = Child(root_, "model");
    if (model == nullptr) return Invalid("model", "is missing");
    const json* type = Child(*model, "type");
    if (type != nullptr && TypeOf(model) != "BPE") return Unsupported("model.type", TypeOf(model));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* affix = Child(*model, key);
      if (affix != nullptr && *affix != "") {
        return UnsupportedKey(source_, absl::StrCat("model.", key),
                              "is supported only if it is empty");
      }
    }
    const json* dropout = Child(*model, "dropout");
    if (dropout != nullptr && *dropout != 0) {
      return UnsupportedKey(source_, "model.dropout", "is supported only if it is 0");
    }
    config_.byte_fallback = Flag(*model, "byte_fallback", false);
    config_.ignore_merges = Flag(*model, "ignore_merges", false);
    config_.fuse_unk = Flag(*model, "fuse_unk", false);
    config_.alphabet = bytes_ ? BpeConfig::Alphabet::kBytes : BpeConfig::Alphabet::kCharacters;
    LECTERN_RETURN_IF_ERROR(ReadVocabulary(*model));
    const std::string unknown = Text(*model, "unk_token", "");
    if (unknown.empty()) return absl::OkStatus();
    const json* id = Child(*Child(*model, "vocab"), unknown.c_str());
    if (id == nullptr || !IsId(*id)) return Invalid("model.unk_token", "is not a token");
    config_.unk_id = id->get<int32_t>();
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary(const json& model) {
    const json* vocabulary = Child(model, "vocab");
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
    config_.merges.reserve(merges->size());
    for (const json& merge : *merges) {
      if (merge.is_string()) {
        const std::string& text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == std::string::npos) {
          return Invalid("model.merges", "an entry is not two tokens separated by a space");
        }
        config_.merges.push_back({text.substr(0, space), text.substr(space + 1)});
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        config_.merges.push_back({merge[0].get<std::string>(), merge[1].get<std::string>()});
      } else {
        return Invalid("model.merges", "an entry is neither 'left right' nor [left, right]");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadAdded() {
    LECTERN_ASSIGN_OR_RETURN(config_.added, ReadAddedTokens(root_, source_));
    std::vector<bool> in_vocabulary;
    for (const std::string& token : config_.tokens) in_vocabulary.push_back(!token.empty());
    for (AddedToken& token : config_.added) {
      if (token.id > static_cast<int64_t>(config_.tokens.size()) + 65'536) {
        return Invalid("added_tokens", "an entry lacks its content or a valid id");
      }
      LECTERN_RETURN_IF_ERROR(SetToken("added_tokens", token.text, token.id));
      const auto id = static_cast<size_t>(token.id);
      token.in_vocabulary = id < in_vocabulary.size() && in_vocabulary[id];
      if (token.text == begin_token_) config_.bos_id = token.id;
    }
    config_.add_bos = config_.bos_id >= 0;
    return absl::OkStatus();
  }

  const json& root_;
  const std::string& source_;
  bool bytes_ = false;  // tokens are written in the alphabet of bytes
  size_t growth_ = 1;
  std::string begin_token_;  // what every sequence begins with; empty: nothing
  BpeConfig config_;
};

}  // namespace

absl::StatusOr<BpeConfig> ReadBpeJson(const json& root, const std::string& source, int32_t eos_id) {
  return Reader(root, source).Read(eos_id);
}

absl::StatusOr<BpeConfig> ParseTokenizerJson(std::string_view contents, std::string source,
                                             int32_t eos_id) {
  LECTERN_ASSIGN_OR_RETURN(const json root, ParseJsonObject(contents, source));
  return ReadBpeJson(root, source, eos_id);
}

}  // namespace lectern
