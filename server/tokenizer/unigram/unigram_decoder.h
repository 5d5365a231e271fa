// Converts unigram pieces back to text.
#pragma once

#include <string>
#include <vector>

#include "server/tokenizer/text/whole_characters.h"
#include "server/tokenizer/tokenizer.h"
#include "server/tokenizer/unigram/unigram.h"

namespace lectern {

// Decodes as SentencePiece does: U+2581 becomes a blank, but none at the beginning where encoding
// added or removed it.
class UnigramDecoder : public StreamDecoder {
 public:
  // The parts of a vocabulary that decoding needs.
  struct Pieces {
    std::vector<UnigramPiece> pieces;
    bool adds_prefix = true;     // encoding adds a blank at the beginning
    bool removes_spaces = true;  // encoding removes blanks at the beginning
    std::string unk_surface;
  };
  // `pieces` must outlive it.
  UnigramDecoder(const Pieces* pieces, bool skip_special)
      : pieces_(*pieces), skip_special_(skip_special) {}

  std::string Append(int32_t id) override;
  std::string Finish() override { return bytes_.Finish(); }

 private:
  std::string TextOf(const UnigramPiece& piece);

  const Pieces& pieces_;
  const bool skip_special_;
  WholeCharacters bytes_;
  bool at_start_ = true;     // a blank would be the first character of the text
  bool took_space_ = false;  // the last piece's blank, at the start
  bool has_text_ = false;
};

}  // namespace lectern
