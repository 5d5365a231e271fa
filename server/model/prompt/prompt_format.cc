#include "server/model/prompt/prompt_format.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace lectern {

PromptFrame FrameOf(const PromptFormat& format, std::optional<std::string_view> system,
                    std::string_view end_of_sequence) {
  const auto own = [&](std::string_view text) {
    return absl::StrReplaceAll(
        absl::string_view(text.data(), text.size()),
        {{absl::string_view(kEndOfSequence.data(), kEndOfSequence.size()),
          absl::string_view(end_of_sequence.data(), end_of_sequence.size())}});
  };
  std::string message;
  if (system) {
    message =
        absl::StrCat(own(format.system_begin), absl::string_view(system->data(), system->size()),
                     own(format.system_end));
  }
  PromptFrame frame;
  if (!system) {
    frame.before = own(format.no_system);
  } else if (format.system == SystemMessage::kOwnTurn) {
    frame.before = message;
  }
  frame.before += own(format.user_begin);
  if (format.system == SystemMessage::kInUserTurn) frame.before += message;
  frame.after = own(format.user_end) + own(format.answer_begin);
  return frame;
}

}  // namespace lectern
