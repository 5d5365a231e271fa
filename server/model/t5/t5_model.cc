#include "server/model/t5/t5_model.h"

#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "server/model/t5/forward_pass.h"

namespace lectern {
namespace {

// Raised whenever the same tokens begin to give other pages.
constexpr int kPageVersion = 1;

kernels::KvPageLayout LayoutOf(const T5Config& config, bool f32) {
  return {.type = f32 ? kernels::KvType::kF32 : kernels::KvType::kI8,
          .num_layers = static_cast<int>(config.decoder_layers),
          .num_kv_heads = static_cast<int>(config.heads),
          .head_dim = static_cast<int>(config.head_dim),
          .value_dim = static_cast<int>(config.head_dim)};
}

}  // namespace

T5Model::T5Model(T5Parts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      execution_(parts.execution),
      layout_(LayoutOf(config_, parts.numerics == ModelLoadOptions::Numerics::kF32)),
      info_(std::move(parts.info)) {
  const bool f32 = parts.numerics == ModelLoadOptions::Numerics::kF32;
  info_.family = "t5";
  info_.kind = ModelKind::kSeq2Seq;
  info_.numerics = f32 ? "f32" : "int8-rotated";
  info_.kv_cache = f32 ? "f32" : "int8";
  info_.weight_bytes = weights_->bytes();
  info_.context_length = config_.context_length;
  info_.vocabulary = config_.vocab;
  info_.layers = static_cast<int>(config_.encoder_layers + 2 * config_.decoder_layers);
  info_.page_tokens = kernels::kPageTokens;
  info_.page_bytes = layout_.PageBytes();
  info_.default_policy = AttentionPolicy::Exact();
  info_.ffn_units = config_.intermediate;
  info_.fingerprint =
      Sha256Hex(absl::StrCat(parts.weights_hash, "\n", info_.numerics, "\n",
                             kernels::ToString(execution_.isa), "\n", kPageVersion));
}

EncoderPrompt T5Model::EncoderPromptOf(std::string_view question) const {
  // The two characters, not a line break: so UnifiedQA was trained.
  const std::string text = absl::StrCat(std::string(question), " \\n");
  EncoderPrompt frame;
  frame.before = tokenizer_->Encode(text, /*parse_special=*/false).ids;
  if (config_.eos >= 0) frame.after = {config_.eos};
  return frame;
}

std::unique_ptr<Workspace> T5Model::NewWorkspace() const { return NewT5Workspace(); }

absl::Status T5Model::Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const {
  try {
    return RunT5Forward({config_, *weights_, layout_, execution_}, slices, workspace);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
