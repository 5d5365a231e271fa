// Properties of characters that tokenizers need (Unicode 15, by utf8proc).
#pragma once

#include <string>
#include <string_view>

namespace lectern {

// White_Space.
bool IsSpace(char32_t c);
// Categories Cc, Cf, Cs and Co. Unassigned characters (Cn) are not included: they change with
// every version of Unicode.
bool IsControl(char32_t c);
// Categories M*.
bool IsMark(char32_t c);
// Category Mn.
bool IsNonspacingMark(char32_t c);
// Categories P*.
bool IsPunctuation(char32_t c);
// \w of regular expressions (UTS #18): alphabetic characters, marks, decimal digits, connectors
// such as the underscore, and joiners; not fractions or superscripts.
bool IsWord(char32_t c);
// Lower case without context: one character, except that U+0130 becomes two.
std::u32string Lower(char32_t c);
// Canonical decomposition of one character, not reordered.
std::u32string Decompose(char32_t c);

}  // namespace lectern
