#include "server/tokenizer/unigram/unigram_decoder.h"

#include "server/tokenizer/text/byte_piece.h"
#include "server/tokenizer/text/metaspace.h"
#include "server/tokenizer/unigram/unigram_text.h"

namespace lectern {

std::string UnigramDecoder::Append(int32_t id) {
  if (id < 0 || id >= static_cast<int32_t>(pieces_.pieces.size())) return "";
  const UnigramPiece& piece = pieces_.pieces[id];
  std::string out;
  if (piece.type == PieceType::kByte) {
    const char byte = static_cast<char>(ByteOfPiece(piece.text));
    out = bytes_.Append({&byte, 1});
  } else {
    if (piece.type == PieceType::kControl && skip_special_) return "";
    out = bytes_.Finish();
    if (took_space_ || has_text_ || !out.empty()) at_start_ = false;
    took_space_ = false;
    out += TextOf(piece);
  }
  has_text_ = has_text_ || !out.empty();
  return out;
}

std::string UnigramDecoder::TextOf(const UnigramPiece& piece) {
  if (piece.type == PieceType::kControl) return piece.text;
  if (piece.type == PieceType::kUnknown) return pieces_.unk_surface;
  std::string_view text = piece.text;
  if (at_start_ && (pieces_.adds_prefix || pieces_.removes_spaces) &&
      text.starts_with(kMetaspace)) {
    text.remove_prefix(kMetaspace.size());
    took_space_ = !pieces_.removes_spaces;
  }
  return WithBlanks(text);
}

}  // namespace lectern
