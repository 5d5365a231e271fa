// The hyper-parameters of a T5 model (Raffel et al. 2020, arXiv 1910.10683; v1.1: Shazeer 2020,
// arXiv 2002.05202), from a Hugging Face config.json. Every value is range-checked here, so that
// later code can multiply without checking.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/ffn/ffn_activation.h"

namespace lectern {

// Guarantees: all sizes are positive; hidden, heads * head_dim and intermediate are at most 2^17,
// vocab at most 2^22, layers at most 1024, buckets even and at most 4096, context_length at
// most kMaxT5Window.
struct T5Config {
  int64_t hidden = 0;  // d_model
  int64_t heads = 0;
  int64_t head_dim = 0;      // d_kv
  int64_t intermediate = 0;  // d_ff
  int64_t encoder_layers = 0;
  int64_t decoder_layers = 0;
  int64_t vocab = 0;
  int64_t context_length =
      0;                // n_positions: tokens of one encoder input, 512 if the file does not say
  int64_t buckets = 0;  // of relative positions
  int64_t max_distance = 0;
  double rms_eps = 0;
  bool gated = false;  // v1.1: activation(wi_0 x) * (wi_1 x); else activation(wi x)
  kernels::FfnActivation activation = kernels::FfnActivation::kRelu;
  bool tied = false;         // the output matrix is the embedding table, if the file has no other
  bool scales_head = false;  // the output matrix's input is scaled by hidden^-1/2
  int32_t start = 0;         // first id of every answer
  int32_t eos = -1;

  // Files do not say what a model was fine-tuned to read. UnifiedQA (Khashabi et al. 2020, arXiv
  // 2005.00700) comes from T5 v1.0, Flan-T5 (Chung et al. 2022, arXiv 2210.11416) from v1.1, whose
  // feed-forward layers are gated.
  bool is_unified_qa() const { return !gated; }
};

// Positions that one encoder input, or one answer, may have.
inline constexpr int64_t kMaxT5Window = 8192;

// The bucket of a relative position, key minus query (section 2.1 of the paper): half of the
// buckets for each direction in the encoder, all for the past in the decoder; logarithmic in the
// farther half.
int64_t T5Bucket(int64_t relative, bool bidirectional, int64_t buckets, int64_t max_distance);

// INVALID_ARGUMENT naming file and key for a value that is absent, of another type or out of range.
// UNIMPLEMENTED for an architecture or a feature that this build does not compute.
absl::StatusOr<T5Config> ReadT5Config(std::string_view contents, std::string_view source);

}  // namespace lectern
