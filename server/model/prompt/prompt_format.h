// Prompt formats: the text that a model expects around a system message and a user message. A
// format is data; known_formats.cc is the table of those that published models use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// Where a format puts the system message.
enum class SystemMessage {
  kOwnTurn,     // before the user's turn
  kInUserTurn,  // in front of the user's text
  kLeftOut,     // the format has no place for instructions (base models)
};

// The texts are the format's own and may contain special tokens. kEndOfSequence in any of them
// stands for the model's end-of-sequence token.
struct PromptFormat {
  std::string name;
  SystemMessage system = SystemMessage::kOwnTurn;
  std::string system_begin;  // before and after the system message
  std::string system_end;
  std::string user_begin;  // before and after the user's text
  std::string user_end;
  std::string answer_begin;  // opens the assistant's turn
  std::string end_of_turn;   // an answer is complete where the model writes this; empty: not known
  std::string no_system;     // replaces the system turn of a prompt without a system message
  bool bos = false;          // the prompt begins with the begin-of-sequence token
  friend bool operator==(const PromptFormat&, const PromptFormat&) = default;
};

inline constexpr std::string_view kEndOfSequence = "{eos}";

// A prompt's text before and after the user's text.
struct PromptFrame {
  std::string before;
  std::string after;
};

// The frame of a user's text, with a system message in front if there is one. Begin of sequence is
// not part of it. `end_of_sequence` replaces kEndOfSequence.
PromptFrame FrameOf(const PromptFormat& format, std::optional<std::string_view> system,
                    std::string_view end_of_sequence);

// Null for an unknown name.
const PromptFormat* FindPromptFormat(std::string_view name);
std::vector<std::string> PromptFormatNames();

// The format of models that were not trained on turns: text that an answer would continue.
const PromptFormat& CompletionFormat();

}  // namespace lectern
