#include "server/model/prompt/chat_template.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/model/prompt/known_formats.h"

namespace lectern {
namespace {

constexpr std::string_view kSpace = " \t\n\v\f\r";
constexpr char kEdge = '\x1e';  // around literals and text

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Writes a template in the spelling of TemplateText(). Takes any bytes: what is not closed ends
// with the template.
class Normaliser {
 public:
  explicit Normaliser(std::string_view jinja) : jinja_(jinja) {}

  std::string Run() {
    while (at_ < jinja_.size()) {
      const std::string_view start = jinja_.substr(at_, 2);
      if (start == "{#") {
        const size_t end = jinja_.find("#}", at_ + 2);
        at_ = end == std::string_view::npos ? jinja_.size() : end + 2;
      } else if (start == "{%" || start == "{{") {
        at_ += 2;
        Code(start == "{%" ? "%}" : "}}");
      } else {
        Text();
      }
    }
    return std::move(out_);
  }

 private:
  void Text() {
    size_t end = at_ + 1;
    while (end < jinja_.size() &&
           !(jinja_[end] == '{' && end + 1 < jinja_.size() &&
             std::string_view("{%#").find(jinja_[end + 1]) != std::string_view::npos)) {
      ++end;
    }
    const std::string_view text = jinja_.substr(at_, end - at_);
    if (text.find_first_not_of(kSpace) != std::string_view::npos) {
      out_.push_back(kEdge);
      out_ += text;
      out_.push_back(kEdge);
    }
    at_ = end;
  }

  void Code(std::string_view close) {
    out_.push_back(' ');  // between two tags
    bool after_literal = false;
    std::string plain;  // code since the last literal
    while (at_ < jinja_.size() && jinja_.substr(at_, 2) != close) {
      const char c = jinja_[at_];
      if (c != '\'' && c != '"') {
        if (kSpace.find(c) == std::string_view::npos) plain.push_back(c);
        ++at_;
        continue;
      }
      if (after_literal && (plain == "+" || plain == "~")) {
        out_.pop_back();
      } else {
        out_ += plain;
        out_.push_back(kEdge);
      }
      plain.clear();
      Literal();
      out_.push_back(kEdge);
      after_literal = true;
    }
    out_ += plain;
    at_ = std::min(at_ + close.size(), jinja_.size());
  }

  // From the opening quote to one past the closing one.
  void Literal() {
    const char quote = jinja_[at_++];
    for (; at_ < jinja_.size() && jinja_[at_] != quote; ++at_) {
      if (jinja_[at_] != '\\' || at_ + 1 == jinja_.size()) {
        out_.push_back(jinja_[at_]);
        continue;
      }
      const char escaped = jinja_[++at_];
      out_.push_back(escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped);
    }
    if (at_ < jinja_.size()) ++at_;
  }

  const std::string_view jinja_;
  size_t at_ = 0;
  std::string out_;
};

// The system turn that the template writes when the conversation has none: a literal that holds a
// whole turn, as in ChatML. Empty if there is none.
std::string DefaultSystemTurn(const PromptFormat& format, std::string_view text) {
  if (format.system != SystemMessage::kOwnTurn || format.system_begin.empty()) return "";
  size_t begin = text.find(format.system_begin);
  while (begin != std::string_view::npos) {
    const size_t from = begin + format.system_begin.size();
    const std::string_view rest = text.substr(from, text.find(kEdge, from) - from);
    const size_t end = rest.find(format.system_end);
    if (end != std::string_view::npos) {
      return format.system_begin + std::string(rest.substr(0, end)) + format.system_end;
    }
    begin = text.find(format.system_begin, from + rest.size());
  }
  return "";
}

bool Matches(const KnownFormat& known, std::string_view text) {
  return !known.with.empty() &&
         std::ranges::all_of(known.with, [&](auto part) { return Contains(text, part); }) &&
         std::ranges::none_of(known.without, [&](auto part) { return Contains(text, part); });
}

}  // namespace

std::string TemplateText(std::string_view jinja) {
  return absl::StrReplaceAll(Normaliser(jinja).Run(), {{"[\x1e"
                                                        "content\x1e]",
                                                        ".content"},
                                                       {"[\x1e"
                                                        "role\x1e]",
                                                        ".role"}});
}

std::optional<PromptFormat> RecogniseChatTemplate(std::string_view jinja) {
  const std::string text = TemplateText(jinja);
  for (const KnownFormat& known : KnownFormats()) {
    if (!Matches(known, text)) continue;
    PromptFormat format = known.format;
    format.bos = Contains(text, "bos_token");
    if (format.no_system.empty()) format.no_system = DefaultSystemTurn(format, text);
    return format;
  }
  return std::nullopt;
}

}  // namespace lectern
