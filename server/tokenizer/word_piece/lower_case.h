// A tokenizer that converts its text to lower case, for models trained on lower-cased text.
#pragma once

#include <memory>

#include "server/tokenizer/tokenizer.h"

namespace lectern {

// Behaves like `inner`, except for Encode(). Byte ranges refer to the original text: a character
// whose lower case has another number of bytes is left unchanged.
std::unique_ptr<Tokenizer> NewLowerCase(std::unique_ptr<Tokenizer> inner);

}  // namespace lectern
