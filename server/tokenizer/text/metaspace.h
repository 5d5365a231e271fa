// The character that vocabularies of SentencePiece write for a blank.
#pragma once

#include <string>
#include <string_view>

namespace lectern {

inline constexpr std::string_view kMetaspace = "\xe2\x96\x81";  // U+2581

// `text` with a blank for each U+2581.
std::string WithBlanks(std::string_view text);

}  // namespace lectern
