// The hyper-parameters of a BERT model (Devlin et al. 2019, arXiv 1810.04805) or a RoBERTa model
// (Liu et al. 2019, arXiv 1907.11692), from a Hugging Face config.json. Every value is
// range-checked here, so that later code can multiply without checking.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lectern {

// Guarantees: all sizes are positive, hidden is a multiple of heads; hidden and intermediate are at
// most 2^17, vocab at most 2^22, layers at most 1024, positions at most 2^16, types 1 to 16.
struct BertConfig {
  std::string type;  // model_type: "bert" or "roberta"
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t positions = 0;       // rows of the position table: max_position_embeddings
  int64_t first_position = 0;  // row of a window's first token; RoBERTa's follows the padding's
  int64_t context_length = 0;  // tokens of a window: the rows from first_position on
  int64_t types = 0;           // of tokens: question, document
  double norm_eps = 0;
  bool reads_spans = false;  // ...ForQuestionAnswering; else the encoder alone (...Model)

  bool is_roberta() const { return type == "roberta"; }
  int64_t head_dim() const { return hidden / heads; }
};

// INVALID_ARGUMENT naming file and key for a value that is absent, of another type or out of range.
// UNIMPLEMENTED for an architecture or a feature that this build does not compute: activations
// other than gelu, positions other than absolute, decoders.
absl::StatusOr<BertConfig> ReadBertConfig(std::string_view contents, std::string_view source);

}  // namespace lectern
