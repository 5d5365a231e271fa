// A model of the T5 family. Questions have the form of UnifiedQA (Khashabi et al. 2020, arXiv
// 2005.00700), "question \\n context" in lower case. Its forward pass is in forward_pass.cc.
#pragma once

#include <memory>
#include <string>

#include "kernels/kv/kv_pages.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/t5/t5_config.h"
#include "server/model/t5/t5_weights.h"

namespace lectern {

// The parts of a T5Model; load_t5.cc makes them from files.
struct T5Parts {
  T5Config config;
  std::unique_ptr<const T5Weights> weights;
  std::unique_ptr<Tokenizer> tokenizer;
  bool lower_case = false;  // the tokenizer puts its text into lower case
  ModelInfo info;           // name, format, quantization, parameters; the rest is filled in
  std::string weights_hash;
  kernels::ExecutionContext execution;
};

// Const after construction, thread-safe.
class T5Model : public Model {
 public:
  explicit T5Model(T5Parts parts);

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  // UnifiedQA's form: question \n part of the document </s>; for models that are not UnifiedQA, the
  // form in which T5 was trained on SQuAD: question: ... context: part of the document </s>
  EncoderPrompt EncoderPromptOf(std::string_view question) const override;
  int32_t decoder_start() const override { return config_.start; }
  std::unique_ptr<Workspace> NewWorkspace() const override;
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const override;

 private:
  const T5Config config_;
  const std::unique_ptr<const T5Weights> weights_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const kernels::ExecutionContext execution_;
  const kernels::KvPageLayout layout_;
  ModelInfo info_;
};

// Fills in what does not depend on the weights: all of ModelInfo but weight_bytes and fingerprint,
// and what the files say (InfoOfFiles, DescribePrompt).
void DescribeT5(const T5Config& config, const LinearForm& form, const Tokenizer* tokenizer,
                ModelInfo& info);

}  // namespace lectern
