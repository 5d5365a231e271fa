// Words of a text: the units of lexical search and of question coverage.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// Splits UTF-8 text into words, in the text's order and in lower case. A word is a maximal run of
// ASCII letters, ASCII digits and characters beyond ASCII that are neither punctuation nor white
// space. Apostrophes and hyphens separate words ("V-12" is "v" and "12"). Lower case covers ASCII
// and Latin-1. The text need not be valid UTF-8; bytes of ill-formed sequences separate words.
// Thread-safe.
std::vector<std::string> Words(std::string_view text);

}  // namespace lectern
