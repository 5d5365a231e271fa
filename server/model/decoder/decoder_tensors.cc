#include "server/model/decoder/decoder_tensors.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/tensor_finder.h"

namespace lectern {
namespace {

// Tensor names of one format; a layer's names follow its prefix and number and precede ".weight" or
// ".bias".
struct Names {
  const char* token_embedding;
  const char* final_norm;
  const char* layer;  // followed by the layer's number and a dot
  const char* attn_norm;
  const char* attn_post_norm;
  const char* q;
  const char* k;
  const char* v;
  const char* qkv;
  const char* q_norm;
  const char* k_norm;
  const char* o;
  const char* ffn_norm;
  const char* ffn_norm_of_four;  // where the layer has a norm after attention as well
  const char* ffn_post_norm;
  const char* gate;
  const char* up;
  const char* gate_up;
  const char* down;
};

constexpr Names kGgufNames = {
    .token_embedding = "token_embd.weight",
    .final_norm = "output_norm.weight",
    .layer = "blk.",
    .attn_norm = "attn_norm",
    .attn_post_norm = "post_attention_norm",
    .q = "attn_q",
    .k = "attn_k",
    .v = "attn_v",
    .qkv = "attn_qkv",
    .q_norm = "attn_q_norm",
    .k_norm = "attn_k_norm",
    .o = "attn_output",
    .ffn_norm = "ffn_norm",
    .ffn_norm_of_four = "ffn_norm",
    .ffn_post_norm = "post_ffw_norm",
    .gate = "ffn_gate",
    .up = "ffn_up",
    .gate_up = "ffn_up",
    .down = "ffn_down",
};

// Without the prefix, usually "model.".
constexpr Names kHuggingFaceNames = {
    .token_embedding = "embed_tokens.weight",
    .final_norm = "norm.weight",
    .layer = "layers.",
    .attn_norm = "input_layernorm",
    .attn_post_norm = "post_attention_layernorm",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .qkv = "self_attn.qkv_proj",
    .q_norm = "self_attn.q_norm",
    .k_norm = "self_attn.k_norm",
    .o = "self_attn.o_proj",
    .ffn_norm = "post_attention_layernorm",
    .ffn_norm_of_four = "pre_feedforward_layernorm",
    .ffn_post_norm = "post_feedforward_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .gate_up = "mlp.gate_up_proj",
    .down = "mlp.down_proj",
};

// Finds the tensors of one layer.
class LayerFinder {
 public:
  LayerFinder(TensorFinder& finder, const DecoderConfig& config, const Names& names,
              std::string prefix, int64_t index, DecoderLayerTensors* tensors)
      : finder_(finder),
        config_(config),
        layout_(config.tensors),
        names_(names),
        prefix_(std::move(prefix)),
        layer_(config.layer[index]),
        tensors_(*tensors),
        q_rows_(config.heads * config.head_dim),
        kv_rows_(config.kv_heads * config.head_dim) {}

  absl::Status Find() {
    LECTERN_RETURN_IF_ERROR(FindNorms());
    LECTERN_RETURN_IF_ERROR(layout_.fused ? FindFused() : FindApart());
    LECTERN_RETURN_IF_ERROR(
        Matrix(names_.o, config_.hidden, q_rows_, layout_.o_bias, &tensors_.o, &tensors_.o_bias));
    return Matrix(names_.down, config_.hidden, config_.intermediate, layout_.ffn_bias,
                  &tensors_.down, &tensors_.down_bias);
  }

 private:
  // Skips the tensor if it is not `wanted`.
  absl::Status Vector(bool wanted, const char* name, int64_t size, const TensorView** tensor,
                      const char* suffix = ".weight") {
    if (!wanted) return absl::OkStatus();
    return finder_.Find(absl::StrCat(prefix_, name, suffix), {size}, tensor);
  }

  absl::Status Matrix(const char* name, int64_t rows, int64_t cols, bool has_bias,
                      const TensorView** weight, const TensorView** bias) {
    LECTERN_RETURN_IF_ERROR(
        finder_.Find(absl::StrCat(prefix_, name, ".weight"), {rows, cols}, weight));
    return Vector(has_bias, name, rows, bias, ".bias");
  }

  absl::Status FindNorms() {
    const int64_t hidden = config_.hidden;
    const bool of_four = layer_.ffn_norm && layer_.attention_post_norm;
    const char* ffn_norm = of_four ? names_.ffn_norm_of_four : names_.ffn_norm;
    LECTERN_RETURN_IF_ERROR(
        Vector(layer_.attention_norm, names_.attn_norm, hidden, &tensors_.attn_norm));
    LECTERN_RETURN_IF_ERROR(Vector(layer_.attention_post_norm, names_.attn_post_norm, hidden,
                                   &tensors_.attn_post_norm));
    LECTERN_RETURN_IF_ERROR(Vector(layer_.ffn_norm, ffn_norm, hidden, &tensors_.ffn_norm));
    LECTERN_RETURN_IF_ERROR(
        Vector(layer_.ffn_post_norm, names_.ffn_post_norm, hidden, &tensors_.ffn_post_norm));
    const bool has_qk_norm = layer_.qk_norm != QkNorm::kNone;
    const bool is_wide = layer_.qk_norm == QkNorm::kWidth;
    LECTERN_RETURN_IF_ERROR(
        Vector(has_qk_norm, names_.q_norm, is_wide ? q_rows_ : config_.head_dim, &tensors_.q_norm));
    return Vector(has_qk_norm, names_.k_norm, is_wide ? kv_rows_ : config_.head_dim,
                  &tensors_.k_norm);
  }

  absl::Status FindApart() {
    DecoderLayerTensors& t = tensors_;
    const int64_t hidden = config_.hidden;
    const bool bias = layout_.qkv_bias;
    LECTERN_RETURN_IF_ERROR(Matrix(names_.q, q_rows_, hidden, bias, &t.q, &t.q_bias));
    LECTERN_RETURN_IF_ERROR(Matrix(names_.k, kv_rows_, hidden, bias, &t.k, &t.k_bias));
    LECTERN_RETURN_IF_ERROR(Matrix(names_.v, kv_rows_, hidden, bias, &t.v, &t.v_bias));
    LECTERN_RETURN_IF_ERROR(
        Matrix(names_.gate, config_.intermediate, hidden, layout_.ffn_bias, &t.gate, &t.gate_bias));
    return Matrix(names_.up, config_.intermediate, hidden, layout_.ffn_bias, &t.up, &t.up_bias);
  }

  // Fused tensors have no biases.
  absl::Status FindFused() {
    DecoderLayerTensors& t = tensors_;
    LECTERN_RETURN_IF_ERROR(Matrix(names_.qkv, q_rows_ + 2 * kv_rows_, config_.hidden,
                                   /*has_bias=*/false, &t.q, nullptr));
    t.k = t.v = t.q;
    t.k_row = q_rows_;
    t.v_row = q_rows_ + kv_rows_;
    LECTERN_RETURN_IF_ERROR(Matrix(names_.gate_up, 2 * config_.intermediate, config_.hidden,
                                   /*has_bias=*/false, &t.gate, nullptr));
    t.up = t.gate;
    t.up_row = config_.intermediate;
    return absl::OkStatus();
  }

  TensorFinder& finder_;
  const DecoderConfig& config_;
  const DecoderTensorLayout& layout_;
  const Names& names_;
  const std::string prefix_;
  const DecoderLayer& layer_;
  DecoderLayerTensors& tensors_;
  const int64_t q_rows_;
  const int64_t kv_rows_;
};

// The first prefix under which the folder has an embedding table, or the first of all.
std::string FindPrefix(const TensorSource& source, const DecoderConfig& config) {
  for (const std::string& prefix : config.tensors.prefixes) {
    if (source.Find(prefix + kHuggingFaceNames.token_embedding) != nullptr) return prefix;
  }
  return config.tensors.prefixes.front();
}

// The output matrix of a folder, if it has one. With the prefix "language_model.model." it is
// "language_model.lm_head.weight".
const TensorView* FindFolderOutput(const TensorSource& source, const std::string& prefix) {
  constexpr std::string_view kModel = "model.";
  if (prefix.ends_with(kModel)) {
    const std::string outer = prefix.substr(0, prefix.size() - kModel.size());
    const TensorView* output = source.Find(outer + "lm_head.weight");
    if (output != nullptr) return output;
  }
  return source.Find("lm_head.weight");
}

// Sets `output`. A folder that says its tables are tied may have an output matrix all the same:
// often the same one again, but where it differs, transformers uses it (since version 5).
absl::Status FindOutput(const TensorSource& source, TensorFinder& finder,
                        const DecoderConfig& config, const TensorView* stored,
                        const std::string& usual_name, DecoderTensors* tensors) {
  tensors->output = tensors->token_embedding;
  if (config.tied && stored == nullptr) return absl::OkStatus();
  const std::string name(stored == nullptr ? usual_name : std::string(stored->name));
  const TensorView* output;
  LECTERN_RETURN_IF_ERROR(finder.Find(name, {config.vocab, config.hidden}, &output));
  if (config.tied && HoldSameValues(source, *output, *tensors->token_embedding)) {
    return absl::OkStatus();
  }
  tensors->output = output;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecoderTensors> FindDecoderTensors(const TensorSource& source,
                                                  const DecoderConfig& config,
                                                  DecoderNaming naming) {
  const bool is_gguf = naming == DecoderNaming::kGguf;
  const Names& names = is_gguf ? kGgufNames : kHuggingFaceNames;
  const std::string prefix = is_gguf ? "" : FindPrefix(source, config);
  TensorFinder finder(source);
  DecoderTensors tensors;
  tensors.qk_interleaved = config.tensors.qk_interleaved;
  LECTERN_RETURN_IF_ERROR(finder.Find(prefix + names.token_embedding, {config.vocab, config.hidden},
                                      &tensors.token_embedding));
  for (int64_t i = 0; i < config.layers; ++i) {
    DecoderLayerTensors& layer = tensors.layers.emplace_back();
    LayerFinder of_layer(finder, config, names, absl::StrCat(prefix, names.layer, i, "."), i,
                         &layer);
    LECTERN_RETURN_IF_ERROR(of_layer.Find());
  }
  LECTERN_RETURN_IF_ERROR(
      finder.Find(prefix + names.final_norm, {config.hidden}, &tensors.final_norm));
  const std::string output = is_gguf ? "output.weight" : "lm_head.weight";
  LECTERN_RETURN_IF_ERROR(FindOutput(
      source, finder, config, is_gguf ? source.Find(output) : FindFolderOutput(source, prefix),
      output, &tensors));
  // The factors of RoPE are read with the configuration; older folders carry the frequencies that
  // follow from it.
  std::vector<std::string_view> spare = {"*.rotary_emb.inv_freq", "rope_freqs.weight",
                                         "rope_factors_long.weight", "rope_factors_short.weight"};
  spare.insert(spare.end(), config.tensors.passed_over.begin(), config.tensors.passed_over.end());
  LECTERN_RETURN_IF_ERROR(finder.RefuseUnused(config.family, spare));
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
