#include "server/model/t5/t5_config.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"
#include "server/formats/strict_json.h"
#include "server/model/layers/activation_names.h"

namespace lectern {
namespace {

constexpr int64_t kUsualWindow = 512;

constexpr std::string_view kGated = "gated-";

// An activation's name, with "gated-" before it in v1.1. The gelu of "gated-gelu" is gelu_new.
absl::Status ReadFeedForward(const ConfigReader& reader, T5Config& config) {
  LECTERN_ASSIGN_OR_RETURN(std::string name, reader.Text("feed_forward_proj"));
  if (name.empty()) return absl::OkStatus();  // v1.0's
  const std::string whole = name;
  config.gated = name.starts_with(kGated);
  if (config.gated) name = name.substr(kGated.size());
  if (config.gated && name == "gelu") name = "gelu_new";
  const auto activation = ActivationNamed(name);
  if (!activation) {
    return reader.Unsupported("feed_forward_proj",
                              absl::StrCat("'", Printable(whole), "' is not supported; ",
                                           ActivationNames(), " are, with gated- or without"));
  }
  config.activation = *activation;
  return absl::OkStatus();
}

// Earlier builds read the case of the prompt from here.
absl::Status RefuseFormerKey(const ConfigReader& reader) {
  const nlohmann::json* tasks = reader.Find("task_specific_params");
  if (tasks == nullptr || !tasks->is_object() || !tasks->contains("lectern")) {
    return absl::OkStatus();
  }
  return reader.Unsupported("task_specific_params.lectern",
                            "is no longer read; give --lower_case=NAME=true or false instead");
}

}  // namespace

int64_t T5Bucket(int64_t relative, bool bidirectional, int64_t buckets, int64_t max_distance) {
  int64_t first = 0;
  int64_t distance = -relative;
  if (bidirectional) {
    buckets /= 2;
    if (relative > 0) first = buckets;
    distance = std::abs(relative);
  } else {
    distance = std::max<int64_t>(distance, 0);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  // In floats, as everyone who trained such a model computed it.
  const float scale =
      std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const auto far = exact + static_cast<int64_t>(scale * static_cast<float>(buckets - exact));
  return first + std::min(far, buckets - 1);
}

absl::StatusOr<T5Config> ReadT5Config(std::string_view contents, std::string_view source) {
  LECTERN_ASSIGN_OR_RETURN(const nlohmann::json object, ParseConfigJson(contents, source));
  const ConfigReader reader(object, source);
  LECTERN_RETURN_IF_ERROR(reader.CheckText("model_type", "t5"));
  LECTERN_RETURN_IF_ERROR(reader.CheckArchitecture("T5ForConditionalGeneration"));
  constexpr int64_t kMaxWidth = 1 << 17, kMaxLayers = 1024, kMaxVocab = 1 << 22;
  T5Config config;
  LECTERN_RETURN_IF_ERROR(ReadFeedForward(reader, config));
  LECTERN_RETURN_IF_ERROR(RefuseFormerKey(reader));
  LECTERN_ASSIGN_OR_RETURN(config.hidden, reader.IntIn("d_model", 1, kMaxWidth));
  LECTERN_ASSIGN_OR_RETURN(config.heads, reader.IntIn("num_heads", 1, 1024));
  LECTERN_ASSIGN_OR_RETURN(config.head_dim, reader.IntIn("d_kv", 1, kMaxWidth / config.heads));
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, reader.IntIn("d_ff", 1, kMaxWidth));
  LECTERN_ASSIGN_OR_RETURN(config.encoder_layers, reader.IntIn("num_layers", 1, kMaxLayers));
  config.decoder_layers = config.encoder_layers;
  if (reader.Find("num_decoder_layers") != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(config.decoder_layers,
                             reader.IntIn("num_decoder_layers", 1, kMaxLayers));
  }
  LECTERN_ASSIGN_OR_RETURN(config.vocab, reader.IntIn("vocab_size", 1, kMaxVocab));
  config.context_length = kUsualWindow;
  if (reader.Find("n_positions") != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(config.context_length, reader.IntIn("n_positions", 16, kMaxT5Window));
  }
  LECTERN_ASSIGN_OR_RETURN(config.buckets, reader.IntIn("relative_attention_num_buckets", 4, 4096));
  if (config.buckets % 4 != 0) {
    return reader.Invalid("relative_attention_num_buckets",
                          absl::StrCat(config.buckets, " is not a multiple of 4"));
  }
  config.max_distance = 128;
  if (reader.Find("relative_attention_max_distance") != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(config.max_distance,
                             reader.IntIn("relative_attention_max_distance", 2, 1 << 20));
  }
  if (config.max_distance <= config.buckets / 2) {
    return reader.Invalid("relative_attention_max_distance",
                          absl::StrCat(config.max_distance, " is not above half of the buckets"));
  }
  LECTERN_ASSIGN_OR_RETURN(config.rms_eps, reader.Number("layer_norm_epsilon", 1e-6));
  if (!(config.rms_eps >= 0 && config.rms_eps < 1)) {
    return reader.Invalid("layer_norm_epsilon", "is not in [0, 1)");
  }
  LECTERN_ASSIGN_OR_RETURN(config.tied, reader.Bool("tie_word_embeddings", true));
  LECTERN_ASSIGN_OR_RETURN(config.scales_head, reader.Bool("scale_decoder_outputs", config.tied));
  LECTERN_ASSIGN_OR_RETURN(config.eos, reader.Token("eos_token_id", config.vocab));
  LECTERN_ASSIGN_OR_RETURN(const int32_t start,
                           reader.Token("decoder_start_token_id", config.vocab));
  config.start = std::max(start, 0);
  return config;
}

}  // namespace lectern
