#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"
#include "server/formats/strict_json.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_config_checks.h"

namespace lectern {
namespace {

using nlohmann::json;

const DecoderConfigKeys& JsonKeys() {
  static const auto& keys = *new DecoderConfigKeys{
      .hidden = "hidden_size",
      .layers = "num_hidden_layers",
      .heads = "num_attention_heads",
      .kv_heads = "num_key_value_heads",
      .head_dim = "head_dim",
      .intermediate = "intermediate_size",
      .vocab = "vocab_size",
      .context_length = "max_position_embeddings",
      .rms_eps = "rms_norm_eps",
      .rope_theta = "rope_theta",
      .bos = "bos_token_id",
      .eos = "eos_token_id",
  };
  return keys;
}

// RoPE of the older form (rope_theta and rope_scaling) or the newer (rope_parameters with both).
// Returns theta.
absl::StatusOr<double> ReadRope(const ConfigReader& reader, std::string_view source) {
  LECTERN_ASSIGN_OR_RETURN(double theta, reader.Number(JsonKeys().rope_theta, 10'000.0));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* parameters = reader.Find(key);
    if (parameters == nullptr) continue;
    if (!parameters->is_object()) {
      return reader.Invalid(key, absl::StrCat(ShowJson(*parameters), " is not an object"));
    }
    const ConfigReader inner(*parameters, source);
    const char* type_key = inner.Find("rope_type") != nullptr ? "rope_type" : "type";
    LECTERN_ASSIGN_OR_RETURN(const std::string type, inner.Text(type_key));
    if (type != "default" && type != "none") {
      return reader.Unsupported(
          key, absl::StrCat("RoPE scaling ", ShowJson(*parameters), " is not supported"));
    }
    LECTERN_ASSIGN_OR_RETURN(theta, inner.Number(JsonKeys().rope_theta, theta));
  }
  return theta;
}

absl::Status RefuseUnsupported(const ConfigReader& reader) {
  LECTERN_RETURN_IF_ERROR(reader.CheckText("model_type", "llama"));
  LECTERN_RETURN_IF_ERROR(reader.CheckArchitecture("LlamaForCausalLM"));
  if (reader.Find("hidden_act") != nullptr) {
    LECTERN_RETURN_IF_ERROR(reader.CheckText("hidden_act", "silu"));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    LECTERN_ASSIGN_OR_RETURN(const bool bias, reader.Bool(key));
    if (bias) return reader.Unsupported(key, "biases are not supported");
  }
  // Switches of relatives of Llama: the value that means "off" is allowed.
  for (const char* key :
       {"sliding_window", "num_local_experts", "num_experts", "n_routed_experts"}) {
    const json* value = reader.Find(key);
    if (value != nullptr && *value != 0) {
      return reader.Unsupported(key, absl::StrCat(ShowJson(*value), " is not supported"));
    }
  }
  const json* partial = reader.Find("partial_rotary_factor");
  if (partial != nullptr && *partial != 1) {
    return reader.Unsupported("partial_rotary_factor",
                              absl::StrCat(ShowJson(*partial), " is not supported; 1 is"));
  }
  const json* quantization = reader.Find("quantization_config");
  if (quantization != nullptr) {
    return reader.Unsupported("quantization_config",
                              absl::StrCat(ShowJson(*quantization), " is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecoderConfig> ReadDecoderConfigJson(std::string_view contents,
                                                    std::string_view source,
                                                    int64_t context_length) {
  LECTERN_ASSIGN_OR_RETURN(const json object, ParseConfigJson(contents, source));
  const ConfigReader reader(object, source);
  const DecoderConfigKeys& keys = JsonKeys();
  LECTERN_RETURN_IF_ERROR(RefuseUnsupported(reader));
  DecoderConfig config;
  LECTERN_ASSIGN_OR_RETURN(config.name, reader.Text("_name_or_path"));
  LECTERN_ASSIGN_OR_RETURN(config.hidden, reader.Int(keys.hidden));
  LECTERN_ASSIGN_OR_RETURN(config.layers, reader.Int(keys.layers));
  LECTERN_ASSIGN_OR_RETURN(config.heads, reader.Int(keys.heads));
  LECTERN_ASSIGN_OR_RETURN(config.kv_heads, reader.Int(keys.kv_heads, config.heads));
  // hidden / heads unless the file says otherwise; a file without heads is refused below.
  const int64_t usual_head_dim = config.heads > 0 ? config.hidden / config.heads : 0;
  LECTERN_ASSIGN_OR_RETURN(config.head_dim, reader.Int(keys.head_dim, usual_head_dim));
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, reader.Int(keys.intermediate));
  LECTERN_ASSIGN_OR_RETURN(config.vocab, reader.Int(keys.vocab));
  LECTERN_ASSIGN_OR_RETURN(config.context_length, reader.Int(keys.context_length));
  LECTERN_ASSIGN_OR_RETURN(config.rms_eps, reader.Number(keys.rms_eps, 1e-6));
  LECTERN_ASSIGN_OR_RETURN(config.rope_theta, ReadRope(reader, source));
  LECTERN_ASSIGN_OR_RETURN(config.tied, reader.Bool("tie_word_embeddings"));
  LECTERN_ASSIGN_OR_RETURN(config.bos, reader.Token(keys.bos, kMaxDecoderVocab));
  LECTERN_ASSIGN_OR_RETURN(config.eos, reader.Token(keys.eos, kMaxDecoderVocab));
  LECTERN_RETURN_IF_ERROR(CheckDecoderConfig(config, keys, source));
  LECTERN_RETURN_IF_ERROR(LimitContext(source, context_length, config));
  DescribeLlama(config);
  return config;
}

}  // namespace lectern
