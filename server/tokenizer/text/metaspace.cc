#include "server/tokenizer/text/metaspace.h"

#include <algorithm>

namespace lectern {

std::string WithBlanks(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t at = std::min(text.find(kMetaspace), text.size());
    out += text.substr(0, at);
    text.remove_prefix(at);
    if (text.empty()) break;
    out += ' ';
    text.remove_prefix(kMetaspace.size());
  }
  return out;
}

}  // namespace lectern
