// Describes a decoder as data: sizes, constants, and one description for each layer. A family
// (Llama, Qwen, Gemma, ...) is the code that fills this in from GGUF metadata or a Hugging Face
// config.json; the forward pass (forward_pass.cc) reads nothing else.
//
// A layer computes, with x the residual stream, every norm optional and r = residual_factor:
//   a = attention(norm(x));     x += r * norm(a)
//   f = feed_forward(norm(x));  x += r * norm(f)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ffn/ffn_activation.h"
#include "server/formats/gguf.h"

namespace lectern {

// RMSNorm of queries and keys, before RoPE.
enum class QkNorm {
  kNone,
  kHead,   // over the head_dim channels of each head (Qwen3, Gemma 3): weight [head_dim]
  kWidth,  // over all heads (OLMo 2): weights [heads * head_dim] and [kv_heads * head_dim]
};

// Rotary position embedding of one kind of layer (Su et al. 2021, arXiv 2104.09864), scaling
// included: channel pair (i, i + r/2) of the first r = 2 * inverse_frequencies.size() channels of a
// head is rotated by position * inverse_frequencies[i]; the other channels pass.
struct RopeConfig {
  std::vector<double> inverse_frequencies;
  double factor = 1;  // on cosine and sine (yarn, longrope)
  friend bool operator==(const RopeConfig&, const RopeConfig&) = default;
};

struct DecoderLayer {
  // RMSNorms before attention and feed-forward, and after each, before the residual is added.
  bool attention_norm = true;
  bool attention_post_norm = false;
  bool ffn_norm = true;
  bool ffn_post_norm = false;

  QkNorm qk_norm = QkNorm::kNone;
  int rope = 0;          // index in DecoderConfig::ropes; -1: positions are not encoded
  int64_t window = 0;    // query i sees the keys j with i - window < j <= i; 0: all j <= i
  double scale = 0;      // of scores, usually head_dim^-0.5
  double score_cap = 0;  // scores become cap * tanh(score / cap) before mask and selection; 0: not
  friend bool operator==(const DecoderLayer&, const DecoderLayer&) = default;
};

// Where a file has the tensors of a decoder; the same in all layers. Which norms a layer has is in
// DecoderLayer.
struct DecoderTensorLayout {
  bool qkv_bias = false;  // q, k and v
  bool o_bias = false;
  bool ffn_bias = false;  // gate, up and down
  bool fused = false;  // q, k and v are one tensor, and so are gate and up, in that order of rows
  // Rows of q and k are in interleaved pairs (2i, 2i + 1); see DecoderTensors.
  bool qk_interleaved = false;
  // In a Hugging Face folder: what may precede "embed_tokens.weight" and "layers.0...."; the first
  // that the file has counts. Patterns ("vision_tower.*") of tensors that the decoder does not use.
  std::vector<std::string> prefixes = {"model."};
  std::vector<std::string> passed_over;
};

// Guarantees: all sizes are positive, head_dim is even, heads is a multiple of kv_heads, and
// heads * head_dim, hidden, intermediate and context_length are at most 2^20, vocab at most 2^22,
// layers at most 1024; layer.size() == layers, every rope index is valid and its table has 1 to
// head_dim / 2 finite frequencies. A window is 0 or below context_length. `bos`, `eos` and
// `end_ids` are -1 or inside the vocabulary.
struct DecoderConfig {
  std::string family;  // "llama", "qwen3", ...: as ModelInfo::family says it
  std::string name;    // general.name, _name_or_path, or empty
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t context_length = 0;  // positions the model was trained for, scaling of RoPE included
  double rms_eps = 0;
  // The output matrix is the embedding table, unless a folder has another one all the same:
  // DecoderTensors::output.
  bool tied = false;

  std::vector<DecoderLayer> layer;  // [layers]
  std::vector<RopeConfig> ropes;
  DecoderTensorLayout tensors;
  // Norm weights are stored as w - 1 (Gemma in safetensors; not in GGUF), q and k norm included.
  bool norms_store_offset = false;
  kernels::FfnActivation activation = kernels::FfnActivation::kSilu;
  double embedding_factor = 1;  // on the rows of the embedding table
  double residual_factor = 1;
  double logit_factor = 1;  // on the logits (Granite: 1 / logits_scaling)
  double logit_cap = 0;     // then logits become cap * tanh(logit / cap); 0: not

  double rope_theta = 0;         // of ropes[0], as the file has it
  int32_t bos = -1;              // -1: not named by the file
  int32_t eos = -1;              // the first of `end_ids`, or -1
  std::vector<int32_t> end_ids;  // every id that the configuration says ends an answer
};

// UNIMPLEMENTED naming the supported ones unless general.architecture is that of a decoder. Reads
// metadata alone, so it can be GgufFile::Open's check.
absl::Status CheckDecoderArchitecture(const GgufFile& file);

// INVALID_ARGUMENT naming file and key for a value that is absent, of another type or out of range,
// and naming both numbers if `context_length` is not from 1 to the model's own (0: the model's
// own). UNIMPLEMENTED naming what was found for an architecture or feature that this build does not
// compute.
absl::StatusOr<DecoderConfig> ReadDecoderConfig(const GgufFile& file, int64_t context_length = 0);
// `source` names the file in errors.
absl::StatusOr<DecoderConfig> ReadDecoderConfigJson(std::string_view contents,
                                                    std::string_view source,
                                                    int64_t context_length = 0);

}  // namespace lectern
