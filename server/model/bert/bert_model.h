// A span reader of BERT's kin (bert_family.h): it finds spans of the document that answer a
// question. Its forward pass is in forward_pass.cc.
#pragma once

#include <memory>
#include <string>

#include "kernels/runtime/execution_context.h"
#include "server/model/bert/bert_config.h"
#include "server/model/bert/bert_weights.h"
#include "server/model/load_options.h"
#include "server/model/model.h"

namespace lectern {

// The parts of a BertModel; load_bert.cc makes them from files.
struct BertParts {
  BertConfig config;
  std::unique_ptr<const BertWeights> weights;
  std::unique_ptr<Tokenizer> tokenizer;
  int32_t cls = 0;  // begins a window
  int32_t sep = 0;  // ends the question, and ends the part of the document
  // name, format, quantization, parameters, no_answer_threshold; the rest is filled in
  ModelInfo info;
  std::string weights_hash;
  kernels::ExecutionContext execution;
};

// Const after construction, thread-safe.
class BertModel : public Model {
 public:
  explicit BertModel(BertParts parts);

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  // [CLS] question [SEP] part of the document [SEP], or with RoBERTa's tokens
  // <s> question </s></s> part </s>.
  EncoderPrompt EncoderPromptOf(std::string_view question) const override;
  std::unique_ptr<Workspace> NewWorkspace() const override;
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const override;

 private:
  const BertConfig config_;
  const std::unique_ptr<const BertWeights> weights_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const int32_t cls_;
  const int32_t sep_;
  const kernels::ExecutionContext execution_;
  ModelInfo info_;
};

// Fills in what does not depend on the weights: all of ModelInfo but weight_bytes and fingerprint,
// and what the files say (InfoOfFiles, DescribePrompt).
void DescribeBert(const BertConfig& config, const LinearForm& form, ModelInfo& info);

}  // namespace lectern
