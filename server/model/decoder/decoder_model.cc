#include "server/model/decoder/decoder_model.h"

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"

namespace lectern {
namespace {

// Raised whenever the same tokens begin to give other pages: another arrangement inside a page,
// another rotation, another order of summation.
constexpr int kPageVersion = 3;

kernels::KvPageLayout LayoutOf(const DecoderConfig& config, const LinearForm& form) {
  return {.type = form.kv_type(),
          .num_layers = static_cast<int>(config.layers),
          .num_kv_heads = static_cast<int>(config.kv_heads),
          .head_dim = static_cast<int>(config.head_dim),
          .value_dim = static_cast<int>(config.head_dim)};
}

std::string_view BytesOf(std::span<const double> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::vector<kernels::RopeTable> TablesOf(const DecoderConfig& config) {
  std::vector<kernels::RopeTable> tables;
  for (const RopeConfig& rope : config.ropes) {
    tables.emplace_back(static_cast<int>(config.head_dim), rope.inverse_frequencies, rope.factor,
                        config.context_length);
  }
  return tables;
}

}  // namespace

void DescribeDecoder(const DecoderConfig& config, const LinearForm& form, ModelInfo& info) {
  info.family = config.family;
  info.numerics = form.name();
  info.kv_cache = form.kv_name();
  info.context_length = config.context_length;
  info.ffn_units = config.intermediate;
  info.vocabulary = config.vocab;
  info.layers = static_cast<int>(config.layers);
  info.page_tokens = kernels::kPageTokens;
  info.page_bytes = LayoutOf(config, form).PageBytes();
}

DecoderModel::DecoderModel(DecoderParts parts)
    : config_(std::move(parts.config)),
      weights_(std::move(parts.weights)),
      tokenizer_(std::move(parts.tokenizer)),
      prompt_(std::move(parts.prompt)),
      execution_(parts.execution),
      layout_(LayoutOf(config_, weights_->form())),
      ropes_(TablesOf(config_)),
      info_(std::move(parts.info)) {
  DescribeDecoder(config_, weights_->form(), info_);
  info_.weight_bytes = weights_->bytes();
  info_.fingerprint = Fingerprint(parts.weights_hash);
}

std::string DecoderModel::Fingerprint(const std::string& weights_hash) const {
  // The rotation may depend on the context length that the model was loaded with (longrope).
  std::string rotations;
  for (const RopeConfig& rope : config_.ropes) {
    absl::StrAppend(&rotations, Sha256Hex(BytesOf(rope.inverse_frequencies)), " ",
                    Sha256Hex(BytesOf({&rope.factor, 1})), "\n");
  }
  // Activations have 7 or 8 bits, by the instruction set (kernels/linear/int8_linear.h).
  return Sha256Hex(absl::StrCat(weights_hash, "\n", info_.numerics, "\n", info_.kv_cache, "\n",
                                kernels::ToString(execution_.isa), "\n", kPageVersion, "\n",
                                layout_.PageBytes(), "\n", rotations, prompt_.FixedText()));
}

std::vector<int32_t> DecoderModel::PromptPrefix() const { return prompt_.Prefix(*tokenizer_); }

QuestionSuffix DecoderModel::PromptSuffix(std::string_view question) const {
  return prompt_.Suffix(*tokenizer_, question);
}

}  // namespace lectern
