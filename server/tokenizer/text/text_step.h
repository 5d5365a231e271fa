// The steps by which a tokenizer.json normalises a text before it is divided into words.
#pragma once

#include <string>
#include <vector>

#include "server/tokenizer/text/aligned_text.h"

namespace lectern {

struct TextStep {
  enum class Kind {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStrip,          // white space at both ends, see `left` and `right`
    kReplace,        // each `text` becomes `by`
    kPrepend,        // `text` comes first
    kPrependUnless,  // `text` comes first unless the text begins with it
    // `text` comes first unless the text begins with it or is not the beginning of the input.
    kPrependToInput,
  };
  Kind kind;
  std::string text, by;
  bool left = true, right = true;
  friend bool operator==(const TextStep&, const TextStep&) = default;
};

// Applies the steps in order. An empty text stays empty.
AlignedText ApplySteps(AlignedText text, const std::vector<TextStep>& steps);

}  // namespace lectern
