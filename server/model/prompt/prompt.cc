#include "server/model/prompt/prompt.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

constexpr char kSystem[] =
    "You are a helpful assistant. Answer the question using only the document.";
constexpr char kBeforeDocument[] = "Document:\n";
constexpr char kBeforeQuestion[] = "\n\nQuestion: ";
constexpr char kMark[] = "\x1d";  // between the texts of a fingerprint

// Collects the tokens of a prompt: special tokens of the format, and runs of ordinary text between
// them.
class PartEncoder {
 public:
  PartEncoder(const Tokenizer& tokenizer, bool continues)
      : tokenizer_(tokenizer), continues_(continues) {}

  void Add(const PromptPart& part) {
    if (!part.parse_special) {
      run_ += part.text;
      return;
    }
    const Encoding found = tokenizer_.Encode(part.text, /*parse_special=*/true);
    size_t done = 0;
    for (size_t i = 0; i < found.ids.size(); ++i) {
      if (!tokenizer_.IsSpecial(found.ids[i])) continue;
      run_ += part.text.substr(done, found.begin[i] - done);
      FinishRun();
      Emit(found.ids[i], 0, found.end[i] - found.begin[i]);
      base_ += found.end[i] - found.begin[i];
      done = found.end[i];
    }
    run_ += part.text.substr(done);
  }

  Encoding Finish() {
    FinishRun();
    return std::move(out_);
  }

 private:
  void FinishRun() {
    if (!run_.empty()) {
      const Encoding encoded = tokenizer_.Encode(run_, /*parse_special=*/false);
      bool head = true;
      for (size_t i = 0; i < encoded.ids.size(); ++i) {
        head = head && encoded.begin[i] == encoded.end[i];
        if (head && continues_) continue;
        Emit(encoded.ids[i], encoded.begin[i], encoded.end[i]);
      }
      base_ += run_.size();
      run_.clear();
    }
    continues_ = false;
  }

  void Emit(int32_t id, size_t begin, size_t end) {
    out_.ids.push_back(id);
    out_.begin.push_back(static_cast<uint32_t>(base_ + begin));
    out_.end.push_back(static_cast<uint32_t>(base_ + end));
  }

  const Tokenizer& tokenizer_;
  bool continues_;
  std::string run_;  // ordinary text that is not tokenised yet
  size_t base_ = 0;  // bytes before it
  Encoding out_;
};

}  // namespace

Encoding EncodeParts(const Tokenizer& tokenizer, std::span<const PromptPart> parts,
                     bool continues) {
  PartEncoder encoder(tokenizer, continues);
  for (const PromptPart& part : parts) encoder.Add(part);
  return encoder.Finish();
}

std::vector<int32_t> WithBos(std::vector<int32_t> ids, int32_t bos) {
  if (bos >= 0 && (ids.empty() || ids[0] != bos)) ids.insert(ids.begin(), bos);
  return ids;
}

Prompt::Prompt(const PromptFormat& format, std::string_view end_of_sequence, int32_t bos)
    : before_question_(kBeforeQuestion), bos_(bos) {
  PromptFrame frame = FrameOf(format, kSystem, end_of_sequence);
  before_document_ = absl::StrCat(frame.before, kBeforeDocument);
  after_question_ = std::move(frame.after);
}

std::vector<int32_t> Prompt::Prefix(const Tokenizer& tokenizer) const {
  const PromptPart part = {before_document_, /*parse_special=*/true};
  return WithBos(EncodeParts(tokenizer, {&part, 1}).ids, bos_);
}

QuestionSuffix Prompt::Suffix(const Tokenizer& tokenizer, std::string_view question) const {
  const PromptPart parts[] = {
      {before_question_}, {question}, {after_question_, /*parse_special=*/true}};
  Encoding encoded = EncodeParts(tokenizer, parts, /*continues=*/true);
  const size_t begin = before_question_.size();
  const size_t end = begin + question.size();
  QuestionSuffix suffix;
  while (suffix.question_begin < encoded.ids.size() &&
         encoded.end[suffix.question_begin] <= begin) {
    ++suffix.question_begin;
  }
  suffix.question_end = suffix.question_begin;
  while (suffix.question_end < encoded.ids.size() && encoded.begin[suffix.question_end] < end) {
    ++suffix.question_end;
  }
  suffix.ids = std::move(encoded.ids);
  return suffix;
}

std::string Prompt::FixedText() const {
  std::string text =
      absl::StrCat(before_document_, kMark, before_question_, kMark, after_question_);
  if (bos_ >= 0) absl::StrAppend(&text, kMark, bos_);
  return text;
}

}  // namespace lectern
