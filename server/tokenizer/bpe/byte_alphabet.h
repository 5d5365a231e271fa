// GPT-2's printable alphabet: every byte is written as one Unicode character, printable ones as
// themselves, the other 68 as U+0100 onwards.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lectern {

// The UTF-8 text of each byte's character. Constant.
const std::array<std::string, 256>& ByteAlphabet();

// The bytes that a token's text represents; nullopt if it has characters outside the alphabet.
std::optional<std::string> BytesOfToken(std::string_view text);

}  // namespace lectern
