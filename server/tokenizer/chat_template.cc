#include "server/tokenizer/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/error_details.h"

namespace lectern {
namespace {

// <|im_start|>role\ncontent<|im_end|>\n for each message (OpenAI's ChatML), and a system message
// that the template adds when the first message is not one.
class ChatMl : public ChatTemplate {
 public:
  explicit ChatMl(std::string default_system) : default_system_(std::move(default_system)) {}

  std::string Render(const std::vector<ChatMessage>& messages,
                     bool add_generation_prompt) const override {
    std::string text;
    if (!default_system_.empty() && !messages.empty() && messages[0].role != "system") {
      Append(text, "system", default_system_);
    }
    for (const ChatMessage& message : messages) Append(text, message.role, message.content);
    if (add_generation_prompt) absl::StrAppend(&text, "<|im_start|>assistant\n");
    return text;
  }

 private:
  static void Append(std::string& text, const std::string& role, const std::string& content) {
    absl::StrAppend(&text, "<|im_start|>", role, "\n", content, "<|im_end|>\n");
  }
  const std::string default_system_;
};

constexpr std::string_view kSpace = " \t\n\v\f\r";

// One `{% %}` or `{{ }}` of a template; `-` trims the text next to it, `+` keeps the text
// that the options below would remove.
struct Tag {
  size_t begin = 0;  // of its first brace
  size_t end = 0;    // one past its last brace
  bool statement = false;
  char left = 0;   // '-', '+' or 0
  char right = 0;  // '-', '+' or 0
  std::string_view code;
};

// The tag that begins at `begin`; nullopt if it is not closed, or is a comment.
std::optional<Tag> ReadTag(std::string_view jinja, size_t begin) {
  Tag tag{.begin = begin, .statement = jinja.substr(begin, 2) == "{%"};
  if (!tag.statement && jinja.substr(begin, 2) != "{{") return std::nullopt;
  const std::string_view close = tag.statement ? "%}" : "}}";
  size_t at = begin + 2;
  if (at < jinja.size() && (jinja[at] == '-' || jinja[at] == '+')) tag.left = jinja[at++];
  const size_t code = at;
  char quote = 0;
  for (; at < jinja.size(); ++at) {
    if (quote != 0) {
      if (jinja[at] == '\\')
        ++at;
      else if (jinja[at] == quote)
        quote = 0;
    } else if (jinja[at] == '\'' || jinja[at] == '"') {
      quote = jinja[at];
    } else if (jinja.substr(at, 2) == close) {
      tag.end = at + 2;
      const char last = at > code ? jinja[at - 1] : 0;
      // Jinja has no `+}}`.
      if (last == '-' || (last == '+' && tag.statement)) tag.right = last;
      tag.code = jinja.substr(code, at - code - (tag.right != 0 ? 1 : 0));
      return tag;
    }
  }
  return std::nullopt;
}

// True if the text between two tags (null: no tag on that side) prints nothing when Jinja trims it
// with the options trim_blocks and lstrip_blocks, under which chat templates are written.
bool PrintsNothing(std::string_view text, const Tag* before, const Tag* after) {
  if (text.find_first_not_of(kSpace) != std::string_view::npos) return false;
  if (text.empty() || (before != nullptr && before->right == '-')) return true;
  if (after != nullptr && after->left == '-') return true;
  bool line_start = before == nullptr;
  // trim_blocks removes the line break after a statement.
  if (before != nullptr && before->statement && before->right == 0 && text.front() == '\n') {
    text.remove_prefix(1);
    line_start = true;
  }
  // Jinja ignores one line break at the end of a template.
  if (after == nullptr) return text.empty() || text == "\n";
  // lstrip_blocks removes the indentation of a statement.
  if (text.find('\n') != std::string_view::npos) return false;
  return text.empty() || (line_start && after->statement && after->left == 0);
}

// Appends code in one spelling: no white space outside string literals, single quotes, line breaks
// as \n, neighbouring literals joined, subscripts for attributes. False for an open literal.
bool AppendCode(std::string_view code, std::string& out) {
  std::string plain;  // code since the last literal
  const auto flush = [&] {
    out += absl::StrReplaceAll(plain, {{"message.role", "message['role']"},
                                       {"message.content", "message['content']"},
                                       {"messages[0].role", "messages[0]['role']"}});
    plain.clear();
  };
  bool after_literal = false;
  for (size_t at = 0; at < code.size(); ++at) {
    if (kSpace.find(code[at]) != std::string_view::npos) continue;
    if (code[at] != '\'' && code[at] != '"') {
      plain.push_back(code[at]);
      continue;
    }
    const bool join = after_literal && plain == "+";
    if (join) {
      plain.clear();
      out.pop_back();
    }
    flush();
    if (!join) out.push_back('\'');
    const char quote = code[at++];
    for (; at < code.size() && code[at] != quote; ++at) {
      if (code[at] == '\\' && at + 1 < code.size()) out.push_back(code[at++]);
      if (code[at] == '\n')
        out += "\\n";
      else if (code[at] == '\'')
        out += "\\'";
      else
        out.push_back(code[at]);
    }
    if (at >= code.size()) return false;
    out.push_back('\'');
    after_literal = true;
  }
  flush();
  return true;
}

// The template's tags in one spelling; nullopt if text between them would be printed.
std::optional<std::string> Normalise(std::string_view jinja) {
  std::string out;
  std::optional<Tag> before;
  while (true) {
    const size_t from = before ? before->end : 0;
    // A single brace is text and is refused below.
    const size_t begin = std::min(jinja.find('{', from), jinja.size());
    const std::optional<Tag> tag = begin < jinja.size() ? ReadTag(jinja, begin) : std::nullopt;
    if (begin < jinja.size() && !tag) return std::nullopt;
    if (!PrintsNothing(jinja.substr(from, begin - from), before ? &*before : nullptr,
                       tag ? &*tag : nullptr)) {
      return std::nullopt;
    }
    if (!tag) return out;
    absl::StrAppend(&out, tag->statement ? "{%" : "{{");
    if (!AppendCode(tag->code, out)) return std::nullopt;
    absl::StrAppend(&out, tag->statement ? "%}" : "}}");
    before = tag;
  }
}

// The parts of a ChatML template in that spelling.
constexpr std::string_view kPromptDefault =
    "{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}{%endif%}";
constexpr std::string_view kLoopStart = "{%formessageinmessages%}";
constexpr std::string_view kDefaultStart =
    "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\\n";
constexpr std::string_view kDefaultEnd = "<|im_end|>\\n'}}{%endif%}";
constexpr std::string_view kRest =
    "{{'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'}}{%endfor%}"
    "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}";

bool Take(std::string_view& text, std::string_view part) {
  if (text.substr(0, part.size()) != part) return false;
  text.remove_prefix(part.size());
  return true;
}

absl::Status Unknown(std::string_view jinja) {
  constexpr size_t kShown = 120;
  std::string_view line = jinja.substr(std::min(jinja.find_first_not_of(kSpace), jinja.size()));
  line = line.substr(0, line.find('\n'));
  const std::string_view shown = line.substr(0, kShown);
  return MakeError(absl::StatusCode::kUnimplemented,
                   absl::StrCat("chat template is not one that this build knows (ChatML): ",
                                absl::CHexEscape(absl::string_view(shown.data(), shown.size())),
                                line.size() > kShown ? "..." : ""),
                   {.reason = "MODEL_UNSUPPORTED"});
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> RecogniseChatTemplate(std::string_view jinja) {
  const std::optional<std::string> normal = Normalise(jinja);
  if (!normal) return Unknown(jinja);
  std::string_view rest = *normal;
  Take(rest, kPromptDefault);
  if (!Take(rest, kLoopStart)) return Unknown(jinja);
  std::string default_system;
  if (Take(rest, kDefaultStart)) {
    const size_t end = rest.find(kDefaultEnd);
    if (end == std::string_view::npos) return Unknown(jinja);
    default_system = std::string(rest.substr(0, end));
    // An escape or the end of the string literal inside would need an interpreter.
    if (default_system.find_first_of("'\\{}") != std::string::npos) return Unknown(jinja);
    rest.remove_prefix(end + kDefaultEnd.size());
  }
  if (rest != kRest) return Unknown(jinja);
  return std::make_unique<ChatMl>(std::move(default_system));
}

}  // namespace lectern
