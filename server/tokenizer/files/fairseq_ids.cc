// sentencepiece.bpe.model of XLM-RoBERTa: a SentencePiece model of type unigram whose pieces have
// other ids than in the file, those of fairseq, with which the models were trained.
#include <iterator>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/tokenizer/files/tokenizer_files.h"

namespace lectern {
namespace {

constexpr std::string_view kFirstInFile[] = {"<unk>", "<s>", "</s>"};

}  // namespace

absl::StatusOr<UnigramConfig> ParseFairseqSpieceModel(std::string_view contents,
                                                      std::string source) {
  LECTERN_ASSIGN_OR_RETURN(UnigramConfig config, ParseSpieceModel(contents, source));
  std::vector<UnigramPiece>& in_file = config.pieces;
  for (size_t i = 0; i < std::size(kFirstInFile); ++i) {
    if (i < in_file.size() && in_file[i].text == kFirstInFile[i]) continue;
    return UnsupportedFile({source, "key", "pieces"}, "do not begin with <unk>, <s>, </s>");
  }
  std::vector<UnigramPiece> pieces = {{.text = "<s>", .type = PieceType::kControl},
                                      {.text = "<pad>", .type = PieceType::kControl},
                                      {.text = "</s>", .type = PieceType::kControl},
                                      {.text = "<unk>", .type = PieceType::kUnknown}};
  pieces.reserve(in_file.size() + 2);
  for (size_t i = std::size(kFirstInFile); i < in_file.size(); ++i) {
    pieces.push_back(std::move(in_file[i]));
  }
  pieces.push_back({.text = "<mask>", .type = PieceType::kControl});
  config.pieces = std::move(pieces);
  config.pad_id = 1;
  config.eos_id = 2;
  config.unk_id = 3;
  return config;
}

}  // namespace lectern
