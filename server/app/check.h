// lectern-server --check: says what models are and whether they would be served, without serving.
#pragma once

#include <iosfwd>

#include "server/app/options.h"

namespace lectern {

// Exit statuses of RunCheck.
inline constexpr int kCheckServed = 0;
inline constexpr int kCheckBadLine = 2;    // --encode: a line is not a JSON string
inline constexpr int kCheckNotServed = 3;  // a model would not be served

// Writes a description of each model to `out`: as text, or with --json one JSON object a line.
//
// With --encode, instead reads one JSON string a line from `in` and writes the token ids that the
// (only) model has for it as a document's text, without begin of sequence: one JSON array a line.
// The model may be a GGUF file that holds a vocabulary alone. Errors go to `errors`.
int RunCheck(const Options& options, std::istream& in, std::ostream& out, std::ostream& errors);

}  // namespace lectern
