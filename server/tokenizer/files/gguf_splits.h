// The divisions of text that GGUF files name by tokenizer.ggml.pre.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/tokenizer/bpe/pre_tokenize.h"

namespace lectern {

struct GgufPreTokenizer {
  std::vector<SplitRule> splits;
  bool ignore_merges = false;  // BpeConfig::ignore_merges
  bool nfc = false;            // the family's tokenizer.json normalises to NFC
  bool add_bos = false;        // BpeConfig::add_bos of a file that does not say
};

// Null if the name is not known.
const GgufPreTokenizer* FindGgufPreTokenizer(std::string_view name);

// All names, for messages.
std::string GgufPreTokenizerNames();

}  // namespace lectern
