// The Llama family behind the Model interface.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/rows/rope.h"
#include "server/model/llama/forward_pass.h"
#include "server/model/llama/llama_reader.h"
#include "server/model/llama/llama_weights.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/prompt.h"

namespace lectern {

// What a LlamaModel is made of; how files become these parts is model_loader.cc.
struct LlamaParts {
  LlamaConfig config;
  std::unique_ptr<LlamaWeights> weights;
  std::unique_ptr<Tokenizer> tokenizer;
  Prompt prompt;
  // name, format, quantization, parameters and default_policy; the rest is filled in.
  ModelInfo info;
  std::string weights_hash;  // identifies the files' bytes
  kernels::ExecutionContext execution;
};

// Const after construction, thread-safe.
class LlamaModel : public Model {
 public:
  explicit LlamaModel(LlamaParts parts);

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  std::vector<int32_t> PromptPrefix() const override;
  QuestionSuffix PromptSuffix(std::string_view question) const override;
  std::unique_ptr<Workspace> NewWorkspace() const override;
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const override;

  // Forward that shows the residual stream to `observer` (tests).
  absl::Status ForwardObserved(std::span<const ForwardSlice> slices, Workspace& workspace,
                               ResidualObserver* observer) const;

 private:
  std::string Fingerprint(const std::string& weights_hash) const;

  const LlamaConfig config_;
  const std::unique_ptr<LlamaWeights> weights_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const Prompt prompt_;
  const kernels::ExecutionContext execution_;
  const kernels::KvPageLayout layout_;
  const kernels::RopeTable rope_;
  ModelInfo info_;
};

}  // namespace lectern
