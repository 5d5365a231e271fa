// Ids of documents, which client and server derive alike.
#pragma once

#include <string>
#include <string_view>

namespace lectern {

// Returns "doc-" and 32 hexadecimal digits of SHA-256 over the model's fingerprint and the digest
// of the text (both hexadecimal), so that a text read by a model has one id on every server.
std::string DocumentIdOf(std::string_view model_fingerprint, std::string_view text_sha256);

}  // namespace lectern
