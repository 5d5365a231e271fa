#include "server/model/decoder/families/shared_settings.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"

namespace lectern {
namespace {

const SettingKey kHidden = {"hidden_size", "embedding_length"};
const SettingKey kLayers = {"num_hidden_layers", "block_count"};
const SettingKey kHeads = {"num_attention_heads", "attention.head_count"};
const SettingKey kKvHeads = {"num_key_value_heads", "attention.head_count_kv"};
const SettingKey kHeadDim = {"head_dim", "attention.key_length"};
const SettingKey kValueDim = {"", "attention.value_length"};
const SettingKey kIntermediate = {"intermediate_size", "feed_forward_length"};
const SettingKey kVocab = {"vocab_size", "vocab_size"};
const SettingKey kContext = {"max_position_embeddings", "context_length"};
const SettingKey kRmsEps = {"rms_norm_eps", "attention.layer_norm_rms_epsilon"};

// A size that the file must have unless there is a default for config.json.
absl::StatusOr<int64_t> Size(const DecoderSettings& settings, const SettingKey& key,
                             int64_t absent) {
  const bool required = settings.is_gguf() || absent == 0;
  return settings.Int(key, required ? std::nullopt : std::optional(absent));
}

absl::Status CheckRange(const DecoderSettings& settings, const SettingKey& key, int64_t value,
                        int64_t most) {
  if (value >= 1 && value <= most) return absl::OkStatus();
  return settings.Invalid(key, absl::StrCat(value, " is not from 1 to ", most));
}

absl::Status CheckSizes(const DecoderSettings& settings, const DecoderConfig& config) {
  const auto check = [&](const SettingKey& key, int64_t value, int64_t most) {
    return CheckRange(settings, key, value, most);
  };
  LECTERN_RETURN_IF_ERROR(check(kHidden, config.hidden, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(check(kLayers, config.layers, kMaxDecoderLayers));
  LECTERN_RETURN_IF_ERROR(check(kHeads, config.heads, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(check(kKvHeads, config.kv_heads, config.heads));
  LECTERN_RETURN_IF_ERROR(check(kHeadDim, config.head_dim, kMaxDecoderWidth / config.heads));
  LECTERN_RETURN_IF_ERROR(check(kIntermediate, config.intermediate, kMaxDecoderWidth));
  LECTERN_RETURN_IF_ERROR(check(kVocab, config.vocab, kMaxDecoderVocab));
  LECTERN_RETURN_IF_ERROR(check(kContext, config.context_length, kMaxDecoderWidth));
  if (config.heads % config.kv_heads != 0) {
    return settings.Invalid(kKvHeads, absl::StrCat(config.heads, " heads are not a multiple of ",
                                                   config.kv_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0) {
    return settings.Invalid(kHeadDim, absl::StrCat("head size ", config.head_dim, " is odd"));
  }
  if (!(config.rms_eps > 0 && config.rms_eps <= 1)) {
    return settings.Invalid(kRmsEps, absl::StrCat(config.rms_eps, " is not above 0 and at most 1"));
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t value_dim, settings.Int(kValueDim, config.head_dim));
  if (value_dim == config.head_dim) return absl::OkStatus();
  return settings.Unsupported(
      kValueDim, absl::StrCat(value_dim, " differs from the head size, ", config.head_dim));
}

}  // namespace

absl::Status ReadSizes(const DecoderSettings& settings, const SizeDefaults& defaults,
                       DecoderConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(config.hidden, Size(settings, kHidden, defaults.hidden));
  LECTERN_ASSIGN_OR_RETURN(config.layers, Size(settings, kLayers, defaults.layers));
  LECTERN_ASSIGN_OR_RETURN(config.heads, Size(settings, kHeads, defaults.heads));
  const int64_t kv_heads =
      !settings.is_gguf() && defaults.kv_heads > 0 && !settings.IsNull(kKvHeads) ? defaults.kv_heads
                                                                                 : config.heads;
  LECTERN_ASSIGN_OR_RETURN(config.kv_heads, settings.Int(kKvHeads, kv_heads));
  // A file without heads is refused below.
  int64_t head_dim = config.heads > 0 ? config.hidden / config.heads : 0;
  if (!settings.is_gguf() && defaults.head_dim > 0) head_dim = defaults.head_dim;
  LECTERN_ASSIGN_OR_RETURN(config.head_dim, settings.Int(kHeadDim, head_dim));
  LECTERN_ASSIGN_OR_RETURN(config.intermediate,
                           Size(settings, kIntermediate, defaults.intermediate));
  LECTERN_ASSIGN_OR_RETURN(
      config.vocab,
      settings.Vocabulary(defaults.vocab > 0 ? std::optional(defaults.vocab) : std::nullopt));
  LECTERN_ASSIGN_OR_RETURN(config.context_length,
                           Size(settings, kContext, defaults.context_length));
  LECTERN_ASSIGN_OR_RETURN(
      config.rms_eps,
      settings.Number(kRmsEps,
                      settings.is_gguf() ? std::nullopt : std::optional(defaults.rms_eps)));
  if (settings.is_gguf()) {
    config.tied = !settings.HasTensor("output.weight");
  } else {
    LECTERN_ASSIGN_OR_RETURN(config.tied,
                             settings.Bool({.folder = "tie_word_embeddings"}, defaults.tied));
  }
  LECTERN_RETURN_IF_ERROR(CheckSizes(settings, config));
  config.layer.assign(config.layers,
                      {.scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim))});
  return absl::OkStatus();
}

absl::Status CheckActivation(const DecoderSettings& settings, const std::string& key,
                             const std::vector<std::string>& supported) {
  if (settings.is_gguf() || !settings.Has({.folder = key})) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const std::string found, settings.Text({.folder = key}));
  if (std::find(supported.begin(), supported.end(), found) != supported.end()) {
    return absl::OkStatus();
  }
  return settings.Unsupported(
      {.folder = key},
      absl::StrCat("'", Printable(found), "' is not supported; ", supported.front(), " is"));
}

absl::Status ReadAttentionBias(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(const bool bias, settings.Bool({.folder = "attention_bias"}, false));
  config.tensors.qkv_bias = bias || settings.HasTensor("blk.0.attn_q.bias");
  config.tensors.o_bias = bias || settings.HasTensor("blk.0.attn_output.bias");
  return absl::OkStatus();
}

absl::Status ReadMlpBias(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(const bool bias, settings.Bool({.folder = "mlp_bias"}, false));
  config.tensors.ffn_bias = bias || settings.HasTensor("blk.0.ffn_down.bias");
  return absl::OkStatus();
}

absl::StatusOr<int> AddRope(const DecoderSettings& settings, const RopeKeys& keys,
                            DecoderConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(const RopeSettings rope,
                           settings.Rope(keys, config.head_dim, config.context_length));
  if (!(rope.theta > 1 && rope.theta <= 1e12)) {
    return settings.Invalid(keys.theta,
                            absl::StrCat(rope.theta, " is not above 1 and at most 1e12"));
  }
  config.context_length = std::max(config.context_length, ScaledContext(rope.scaling));
  const int64_t limit = settings.context_limit();
  config.ropes.push_back(
      MakeRope(rope.theta, rope.rotated, rope.scaling, limit > 0 ? limit : config.context_length));
  if (config.ropes.size() == 1) config.rope_theta = rope.theta;
  return static_cast<int>(config.ropes.size()) - 1;
}

SlidingRule FullEvery(int64_t period) {
  return [period](int64_t layer) { return period == 0 || (layer + 1) % period != 0; };
}

absl::StatusOr<std::vector<bool>> ReadSlidingLayers(const DecoderSettings& settings,
                                                    const DecoderConfig& config,
                                                    const SlidingRule& rule) {
  const SettingKey types_key = {.folder = "layer_types"};
  const SettingKey pattern_key = {.gguf = "attention.sliding_window_pattern"};
  const auto check_size = [&](const SettingKey& key, size_t size) -> absl::Status {
    if (static_cast<int64_t>(size) == config.layers) return absl::OkStatus();
    return settings.Invalid(key,
                            absl::StrCat("has ", size, " values for ", config.layers, " layers"));
  };
  std::vector<bool> sliding(config.layers);
  for (int64_t i = 0; i < config.layers; ++i) sliding[i] = rule(i);
  LECTERN_ASSIGN_OR_RETURN(const std::vector<std::string> types, settings.Texts(types_key));
  if (!types.empty()) {
    LECTERN_RETURN_IF_ERROR(check_size(types_key, types.size()));
    for (size_t i = 0; i < types.size(); ++i) {
      sliding[i] = types[i] == "sliding_attention";
      if (sliding[i] || types[i] == "full_attention") continue;
      return settings.Unsupported(
          types_key, absl::StrCat("'", Printable(types[i]),
                                  "' is not supported; full_attention and sliding_attention are"));
    }
  }
  if (!settings.Has(pattern_key)) return sliding;
  LECTERN_ASSIGN_OR_RETURN(const std::vector<int64_t> flags, settings.Flags(pattern_key));
  if (!flags.empty()) {
    LECTERN_RETURN_IF_ERROR(check_size(pattern_key, flags.size()));
    sliding.assign(flags.begin(), flags.end());
    return sliding;
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t period, settings.Int(pattern_key, std::nullopt));
  if (period < 0) return settings.Invalid(pattern_key, absl::StrCat(period, " is negative"));
  for (int64_t i = 0; i < config.layers; ++i) sliding[i] = FullEvery(period)(i);
  return sliding;
}

absl::StatusOr<int64_t> ReadWindow(const DecoderSettings& settings, int64_t absent) {
  const SettingKey key = {"sliding_window", "attention.sliding_window"};
  LECTERN_ASSIGN_OR_RETURN(const int64_t window,
                           settings.Int(key, settings.IsNull(key) ? 0 : absent));
  const bool is_off = window == 0 && (settings.is_gguf() || !settings.Has(key));
  if (!is_off && window < 1) {
    return settings.Invalid(key, absl::StrCat(window, " is not a number of tokens"));
  }
  return window;
}

void SetWindows(int64_t window, const std::vector<bool>& sliding, DecoderConfig& config) {
  for (size_t i = 0; i < config.layer.size(); ++i) config.layer[i].window = sliding[i] ? window : 0;
}

absl::StatusOr<double> ReadPositive(const DecoderSettings& settings, const SettingKey& key,
                                    double absent) {
  LECTERN_ASSIGN_OR_RETURN(const double value, settings.Number(key, absent));
  if (value > 0 && value <= 1e6) return value;
  return settings.Invalid(key, absl::StrCat(value, " is not above 0 and at most 1e6"));
}

}  // namespace lectern
