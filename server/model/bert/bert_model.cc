#include "server/model/bert/bert_model.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "kernels/kv/kv_pages.h"

namespace lectern {

BertModel::BertModel(BertParts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      cls_(parts.cls),
      sep_(parts.sep),
      execution_(parts.execution),
      info_(std::move(parts.info)) {
  info_.family = std::string(config_.family->model_type);
  info_.kind = ModelKind::kExtractive;
  info_.numerics = weights_->form().name();
  info_.kv_cache = "none";
  info_.weight_bytes = weights_->bytes();
  info_.context_length = config_.context_length;
  info_.vocabulary = config_.vocab;
  info_.layers = static_cast<int>(config_.layers);
  info_.page_tokens = kernels::kPageTokens;
  info_.page_bytes = 64;  // nothing is kept
  info_.default_policy = AttentionPolicy::Exact();
  info_.ffn_units = config_.intermediate;
  info_.fingerprint = Sha256Hex(absl::StrCat(parts.weights_hash, "\n", info_.numerics, "\n",
                                             kernels::ToString(execution_.isa)));
}

EncoderPrompt BertModel::EncoderPromptOf(std::string_view question) const {
  EncoderPrompt prompt;
  prompt.before = {cls_};
  const Encoding words = tokenizer_->Encode(question, /*parse_special=*/false);
  prompt.before.insert(prompt.before.end(), words.ids.begin(), words.ids.end());
  prompt.before.insert(prompt.before.end(), config_.family->question_separators, sep_);
  prompt.after = {sep_};
  return prompt;
}

}  // namespace lectern
