#include "server/model/t5/t5_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"

namespace lectern {
namespace {

// Raised whenever the same tokens begin to give other pages.
constexpr int kPageVersion = 2;

kernels::KvPageLayout LayoutOf(const T5Config& config, const LinearForm& form) {
  return {.type = form.kv_type(),
          .num_layers = static_cast<int>(config.decoder_layers),
          .num_kv_heads = static_cast<int>(config.heads),
          .head_dim = static_cast<int>(config.head_dim),
          .value_dim = static_cast<int>(config.head_dim)};
}

}  // namespace

void DescribeT5(const T5Config& config, const LinearForm& form, const Tokenizer* tokenizer,
                ModelInfo& info) {
  info.family = "t5";
  info.kind = ModelKind::kSeq2Seq;
  info.numerics = form.name();
  info.kv_cache = form.kv_name();
  info.context_length = config.context_length;
  info.vocabulary = config.vocab;
  info.layers = static_cast<int>(config.encoder_layers + 2 * config.decoder_layers);
  info.page_tokens = kernels::kPageTokens;
  info.page_bytes = LayoutOf(config, form).PageBytes();
  info.default_policy = AttentionPolicy::Exact();
  info.ffn_units = config.intermediate;
  // Tests of the forward pass have no tokenizer.
  if (tokenizer != nullptr && tokenizer->eos_id() >= 0) info.end_ids = {tokenizer->eos_id()};
}

T5Model::T5Model(T5Parts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      execution_(parts.execution),
      layout_(LayoutOf(config_, weights_->form())),
      info_(std::move(parts.info)) {
  DescribeT5(config_, weights_->form(), tokenizer_.get(), info_);
  info_.weight_bytes = weights_->bytes();
  info_.fingerprint = Sha256Hex(absl::StrCat(
      parts.weights_hash, "\n", info_.numerics, "\n", kernels::ToString(execution_.isa), "\n",
      parts.lower_case ? "lower case" : "as written", "\n", kPageVersion));
}

EncoderPrompt T5Model::EncoderPromptOf(std::string_view question) const {
  // UnifiedQA was trained with a backslash and an n, not with a line break.
  const std::string asked(question);
  const std::string text = config_.is_unified_qa() ? absl::StrCat(asked, " \\n")
                                                   : absl::StrCat("question: ", asked, " context:");
  EncoderPrompt prompt;
  prompt.before = tokenizer_->Encode(text, /*parse_special=*/false).ids;
  if (config_.eos >= 0) prompt.after = {config_.eos};
  return prompt;
}

}  // namespace lectern
