// A decoder of any family that DecoderConfig describes. Its forward pass is in forward_pass.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/rows/rope.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_weights.h"
#include "server/model/load_options.h"
#include "server/model/model.h"
#include "server/model/prompt/prompt.h"

namespace lectern {

// The parts of a DecoderModel; load_decoder.cc makes them from files.
struct DecoderParts {
  DecoderConfig config;
  std::unique_ptr<const DecoderWeights> weights;
  std::unique_ptr<Tokenizer> tokenizer;
  Prompt prompt;
  // name, format, quantization, parameters, default_policy, prompt format and end tokens; the rest
  // is filled in.
  ModelInfo info;
  std::string weights_hash;  // identifies the files' bytes
  kernels::ExecutionContext execution;
};

// Sees the residual stream of all stacked tokens, [tokens, hidden]: after the embedding (stage 0),
// after each layer (1 to layers) and after the final norm (layers + 1). While it is set no
// computation is left out. For tests.
class ResidualObserver {
 public:
  virtual ~ResidualObserver() = default;
  virtual void Observe(int stage, std::span<const float> stream) = 0;
};

// Shows `observer` (null: nobody) the residual stream of every later Forward call with this
// workspace, which a DecoderModel made.
void ObserveResidualStream(Workspace& workspace, ResidualObserver* observer);

// Const after construction, thread-safe.
class DecoderModel : public Model {
 public:
  explicit DecoderModel(DecoderParts parts);

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  std::vector<int32_t> PromptPrefix() const override;
  QuestionSuffix PromptSuffix(std::string_view question) const override;
  std::unique_ptr<Workspace> NewWorkspace() const override;
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const override;

 private:
  std::string Fingerprint(const std::string& weights_hash) const;

  const DecoderConfig config_;
  const std::unique_ptr<const DecoderWeights> weights_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const Prompt prompt_;
  const kernels::ExecutionContext execution_;
  const kernels::KvPageLayout layout_;
  const std::vector<kernels::RopeTable> ropes_;  // of DecoderConfig::ropes
  ModelInfo info_;
};

// Fills in what does not depend on the weights: all of ModelInfo but weight_bytes and fingerprint,
// and what the files say (InfoOfFiles, DescribePrompt).
void DescribeDecoder(const DecoderConfig& config, const LinearForm& form, ModelInfo& info);

}  // namespace lectern
