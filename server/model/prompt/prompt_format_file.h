// Reads a prompt format that a user writes (docs/reference/prompt_formats.md).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/model/prompt/prompt_format.h"

namespace lectern {

// Reads a JSON object of texts: user_begin, user_end, answer_begin, end_of_turn, system_begin,
// system_end; and of booleans: bos, system_in_user_turn. user_begin and answer_begin are required.
// Without system_begin and system_end the system message goes in front of the user's text, with an
// empty line between them. The format's name is `file`, which also names it in errors.
// INVALID_ARGUMENT for other keys and types, and for files above 64 KiB.
absl::StatusOr<PromptFormat> ParsePromptFormat(std::string_view contents, const std::string& file);

// The format of that name, else that of the file of that name. INVALID_ARGUMENT, with the known
// names, if there is neither.
absl::StatusOr<PromptFormat> ReadPromptFormat(const std::string& name_or_file);

}  // namespace lectern
