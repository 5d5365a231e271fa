// Recognises chat templates. A model file contains a Jinja program that writes its turns; this
// server does not run programs from model files, but looks for the special tokens that the program
// writes and takes the format of the table (known_formats.h) that has them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/model/prompt/prompt_format.h"

namespace lectern {

// The template's text in one spelling: comments removed, code without white space, `x['content']`
// as x.content, each string literal with its escapes decoded and neighbours that are added joined.
// A literal, and text outside tags, is enclosed in two characters U+001E.
std::string TemplateText(std::string_view jinja);

// The format of a template, nullopt if it is unknown. `bos` is true if the template writes
// bos_token, and a system turn that the template adds when none is given becomes `no_system`.
std::optional<PromptFormat> RecogniseChatTemplate(std::string_view jinja);

}  // namespace lectern
