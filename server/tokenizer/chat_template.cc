#include "server/tokenizer/chat_template.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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

// The template without the white space between its parts, which Jinja's trimming makes equal; a
// line break inside a string literal becomes the escape that others write.
std::string Squeeze(std::string_view jinja) {
  std::string out;
  bool quoted = false;
  char quote = 0;
  for (const char c : jinja) {
    if (quoted) {
      quoted = c != quote;
      if (c == '\n') {
        out += "\\n";
        continue;
      }
    } else if (c == '\'' || c == '"') {
      quoted = true;
      quote = c;
      out.push_back('\'');
      continue;
    } else if (c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '-') {
      continue;
    }
    out.push_back(quoted || c != quote ? c : '\'');
    if (!quoted && c == quote) quote = 0;
  }
  return out;
}

constexpr std::string_view kLoopStart = "{%formessageinmessages%}";
constexpr std::string_view kDefaultStart =
    "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\\n";
constexpr std::string_view kDefaultEnd = "<|im_end|>\\n'}}{%endif%}";
constexpr std::string_view kRest =
    "{{'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'+'\\n'}}{%endfor%}"
    "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}";

bool Take(std::string_view& text, std::string_view part) {
  if (text.substr(0, part.size()) != part) return false;
  text.remove_prefix(part.size());
  return true;
}

absl::Status Unknown(std::string_view jinja) {
  std::string first_line(jinja.substr(0, jinja.find('\n')));
  if (first_line.size() > 120) first_line = first_line.substr(0, 117) + "...";
  return absl::UnimplementedError(
      absl::StrCat("chat template is not one that this build knows (ChatML): ", first_line));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> RecogniseChatTemplate(std::string_view jinja) {
  const std::string squeezed = Squeeze(jinja);
  std::string_view rest = squeezed;
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
