#include "server/model/bert/bert_model.h"

#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "kernels/kv/kv_pages.h"
#include "server/model/bert/forward_pass.h"

namespace lectern {

BertModel::BertModel(BertParts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      cls_(parts.cls),
      sep_(parts.sep),
      execution_(parts.execution),
      kv_type_(parts.numerics == ModelLoadOptions::Numerics::kF32 ? kernels::KvType::kF32
                                                                  : kernels::KvType::kI8),
      info_(std::move(parts.info)) {
  const bool f32 = kv_type_ == kernels::KvType::kF32;
  info_.family = config_.type;
  info_.kind = ModelKind::kExtractive;
  info_.numerics = f32 ? "f32" : "int8-rotated";
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
  EncoderPrompt frame;
  frame.before = {cls_};
  const Encoding words = tokenizer_->Encode(question, /*parse_special=*/false);
  frame.before.insert(frame.before.end(), words.ids.begin(), words.ids.end());
  frame.before.insert(frame.before.end(), config_.is_roberta() ? 2 : 1, sep_);
  frame.after = {sep_};
  return frame;
}

std::unique_ptr<Workspace> BertModel::NewWorkspace() const { return NewBertWorkspace(); }

absl::Status BertModel::Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const {
  try {
    return RunBertForward({config_, *weights_, kv_type_, execution_}, slices, workspace);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
