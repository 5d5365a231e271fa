#include "server/model/bert/bert_model.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "kernels/kv/kv_pages.h"

namespace lectern {

void DescribeBert(const BertConfig& config, const LinearForm& form, ModelInfo& info) {
  info.family = std::string(config.family->model_type);
  info.kind = ModelKind::kExtractive;
  info.numerics = form.name();
  info.kv_cache = "none";
  info.context_length = config.context_length;
  info.vocabulary = config.vocab;
  info.layers = static_cast<int>(config.layers);
  info.page_tokens = kernels::kPageTokens;
  info.page_bytes = 64;  // nothing is kept
  info.default_policy = AttentionPolicy::Exact();
  info.ffn_units = config.intermediate;
}

BertModel::BertModel(BertParts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      cls_(parts.cls),
      sep_(parts.sep),
      execution_(parts.execution),
      info_(std::move(parts.info)) {
  DescribeBert(config_, weights_->form(), info_);
  info_.weight_bytes = weights_->bytes();
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
