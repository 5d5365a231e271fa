// A tokenizer that reads its text in lower case: what models trained on lower-cased text are given.
#pragma once

#include <memory>

#include "server/tokenizer/tokenizer.h"

namespace lectern {

// As `inner`, but for Encode(). Byte ranges are those of the text as it was: a character whose
// lower case takes another number of bytes stays as it is.
std::unique_ptr<Tokenizer> NewLowerCase(std::unique_ptr<Tokenizer> inner);

}  // namespace lectern
