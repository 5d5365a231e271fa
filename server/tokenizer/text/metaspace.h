// The character that vocabularies of SentencePiece write for a blank.
#pragma once

#include <string_view>

namespace lectern {

inline constexpr std::string_view kMetaspace = "\xe2\x96\x81";  // U+2581

}  // namespace lectern
