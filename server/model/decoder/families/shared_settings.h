// Steps that families share when they fill in a DecoderConfig. Errors are those of DecoderSettings.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/families/decoder_settings.h"

namespace lectern {

inline constexpr int64_t kMaxDecoderWidth = 1 << 20;
inline constexpr int64_t kMaxDecoderLayers = 1024;
inline constexpr int64_t kMaxDecoderVocab = 1 << 22;

// Values for the keys that a config.json leaves out (GGUF files have them all).
struct SizeDefaults {
  // 0: the file must have it.
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t context_length = 0;

  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: hidden / heads
  double rms_eps = 1e-6;
  bool tied = false;
};

// Reads the sizes, checks that they keep the guarantees of DecoderConfig, and gives every layer the
// usual scale, head_dim^-0.5.
absl::Status ReadSizes(const DecoderSettings& settings, const SizeDefaults& defaults,
                       DecoderConfig& config);

// UNIMPLEMENTED unless config.json names `supported` or one of its other names, or no activation.
// GGUF files name none.
absl::Status CheckActivation(const DecoderSettings& settings, const std::string& key,
                             const std::vector<std::string>& supported);

// Biases of q, k, v and o, and those of gate, up and down: config.json's attention_bias and
// mlp_bias; in GGUF files those that the file has.
absl::Status ReadAttentionBias(const DecoderSettings& settings, DecoderConfig& config);
absl::Status ReadMlpBias(const DecoderSettings& settings, DecoderConfig& config);

// Adds a table to config.ropes, raises the context length to what scaling reaches, and returns the
// table's index.
absl::StatusOr<int> AddRope(const DecoderSettings& settings, const RopeKeys& keys,
                            DecoderConfig& config);

// True for the layers (from 0) that see a window where the file does not say it.
using SlidingRule = std::function<bool(int64_t layer)>;
// A rule under which `period` - 1 sliding layers precede a full one; 0: all layers slide.
SlidingRule FullEvery(int64_t period);

// Which layers see a window: config.json's layer_types, GGUF's sliding_window_pattern, else `rule`.
absl::StatusOr<std::vector<bool>> ReadSlidingLayers(const DecoderSettings& settings,
                                                    const DecoderConfig& config,
                                                    const SlidingRule& rule);

// The window of sliding layers, 0 if the file switches it off (null, or 0 in GGUF); `absent` where
// the file does not name it.
absl::StatusOr<int64_t> ReadWindow(const DecoderSettings& settings, int64_t absent);

// Sets the window of the layers that slide.
void SetWindows(int64_t window, const std::vector<bool>& sliding, DecoderConfig& config);

// A number in (0, 1e6].
absl::StatusOr<double> ReadPositive(const DecoderSettings& settings, const SettingKey& key,
                                    double absent);

}  // namespace lectern
