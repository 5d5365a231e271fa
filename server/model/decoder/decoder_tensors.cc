#include "server/model/decoder/decoder_tensors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/tensor_finder.h"

namespace lectern {
namespace {

// Tensor names of one format; a layer's names follow prefix + number and precede ".weight".
struct Names {
  const char* token_embedding;
  const char* final_norm;
  const char* output;
  const char* layer_prefix;
  const char* attn_norm;
  const char* q;
  const char* k;
  const char* v;
  const char* o;
  const char* ffn_norm;
  const char* gate;
  const char* up;
  const char* down;
};

constexpr Names kGgufNames = {
    .token_embedding = "token_embd.weight",
    .final_norm = "output_norm.weight",
    .output = "output.weight",
    .layer_prefix = "blk.",
    .attn_norm = "attn_norm",
    .q = "attn_q",
    .k = "attn_k",
    .v = "attn_v",
    .o = "attn_output",
    .ffn_norm = "ffn_norm",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .down = "ffn_down",
};

constexpr Names kHuggingFaceNames = {
    .token_embedding = "model.embed_tokens.weight",
    .final_norm = "model.norm.weight",
    .output = "lm_head.weight",
    .layer_prefix = "model.layers.",
    .attn_norm = "input_layernorm",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .o = "self_attn.o_proj",
    .ffn_norm = "post_attention_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
};

absl::Status FindLayer(TensorFinder& finder, const DecoderConfig& config, const Names& names,
                       int64_t index, DecoderLayerTensors* layer) {
  const int64_t hidden = config.hidden;
  const int64_t q_rows = config.heads * config.head_dim;
  const int64_t kv_rows = config.kv_heads * config.head_dim;
  struct Wanted {
    const char* name;
    std::vector<int64_t> shape;
    const TensorView** tensor;
  };
  const Wanted wanted[] = {
      {names.attn_norm, {hidden}, &layer->attn_norm},
      {names.q, {q_rows, hidden}, &layer->q},
      {names.k, {kv_rows, hidden}, &layer->k},
      {names.v, {kv_rows, hidden}, &layer->v},
      {names.o, {hidden, q_rows}, &layer->o},
      {names.ffn_norm, {hidden}, &layer->ffn_norm},
      {names.gate, {config.intermediate, hidden}, &layer->gate},
      {names.up, {config.intermediate, hidden}, &layer->up},
      {names.down, {hidden, config.intermediate}, &layer->down},
  };
  for (const Wanted& one : wanted) {
    LECTERN_RETURN_IF_ERROR(finder.Find(
        absl::StrCat(names.layer_prefix, index, ".", one.name, ".weight"), one.shape, one.tensor));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecoderTensors> FindDecoderTensors(const TensorSource& source,
                                                  const DecoderConfig& config,
                                                  DecoderNaming naming) {
  const Names& names = naming == DecoderNaming::kGguf ? kGgufNames : kHuggingFaceNames;
  TensorFinder finder(source);
  DecoderTensors tensors;
  tensors.qk_interleaved = naming == DecoderNaming::kGguf;
  LECTERN_RETURN_IF_ERROR(
      finder.Find(names.token_embedding, {config.vocab, config.hidden}, &tensors.token_embedding));
  for (int64_t i = 0; i < config.layers; ++i) {
    DecoderLayerTensors& layer = tensors.layers.emplace_back();
    LECTERN_RETURN_IF_ERROR(FindLayer(finder, config, names, i, &layer));
  }
  LECTERN_RETURN_IF_ERROR(finder.Find(names.final_norm, {config.hidden}, &tensors.final_norm));
  if (config.tied) {
    tensors.output = tensors.token_embedding;
  } else {
    LECTERN_RETURN_IF_ERROR(
        finder.Find(names.output, {config.vocab, config.hidden}, &tensors.output));
  }
  // Some tied checkpoints store the same matrix a second time; older ones carry the inverse
  // frequencies of RoPE, which follow from the configuration.
  LECTERN_RETURN_IF_ERROR(finder.RefuseUnused("Llama", {names.output, "*.rotary_emb.inv_freq"}));
  return tensors;
}

std::vector<int64_t> HalfSplitRows(int64_t heads, int64_t head_dim, int64_t rotated) {
  std::vector<int64_t> rows;
  rows.reserve(heads * head_dim);
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first = head * head_dim;
    for (int64_t part = 0; part < 2; ++part) {
      for (int64_t i = 0; i < rotated / 2; ++i) rows.push_back(first + 2 * i + part);
    }
    for (int64_t i = rotated; i < head_dim; ++i) rows.push_back(first + i);
  }
  return rows;
}

}  // namespace lectern
