// Pieces that represent one byte of text, where a vocabulary falls back to bytes.
#pragma once

#include <string_view>

namespace lectern {

// The byte that a piece "<0x41>" represents, or -1.
int ByteOfPiece(std::string_view text);

}  // namespace lectern
