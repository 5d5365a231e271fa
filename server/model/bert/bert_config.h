// The hyper-parameters of a span reader of BERT's kin (bert_family.h), from a Hugging Face
// config.json. Every value is range-checked here, so that later code can multiply without checking.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/ffn/ffn_activation.h"
#include "server/model/bert/bert_family.h"

namespace lectern {

// Guarantees: `family` is set; all sizes are positive except types, hidden is a multiple of heads;
// hidden, embedding and intermediate are at most 2^17, vocab at most 2^22, layers at most 1024,
// positions at most 2^16, types 0 to 16.
struct BertConfig {
  const BertFamily* family = nullptr;
  int64_t hidden = 0;
  int64_t embedding = 0;  // width of the embeddings; a projection follows if it is not `hidden`
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t positions = 0;       // rows of the position table: max_position_embeddings
  int64_t first_position = 0;  // row of a window's first token; RoBERTa's follows the padding's
  int64_t context_length = 0;  // tokens of a window: the rows from first_position on
  int64_t types = 0;           // of tokens: question, document; 0: no table
  double norm_eps = 0;
  kernels::FfnActivation activation = kernels::FfnActivation::kGelu;
  std::string trained_from;  // _name_or_path, which may be empty
  bool reads_spans = false;  // ...ForQuestionAnswering; else the encoder alone (...Model)

  int64_t head_dim() const { return hidden / heads; }
};

// INVALID_ARGUMENT naming file and key for a value that is absent, of another type or out of range.
// UNIMPLEMENTED for an architecture or a feature that this build does not compute: other
// activations than those of activation_names.h, positions other than absolute, decoders.
absl::StatusOr<BertConfig> ReadBertConfig(std::string_view contents, std::string_view source);

}  // namespace lectern
