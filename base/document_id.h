// The names of documents.
#pragma once

#include <string>
#include <string_view>

namespace lectern {

// "doc-" and 32 hexadecimal digits of SHA-256 over the model's fingerprint and the text's digest
// (both hexadecimal): the same text read by the same model has the same id everywhere.
std::string DocumentIdOf(std::string_view model_fingerprint, std::string_view text_sha256);

}  // namespace lectern
