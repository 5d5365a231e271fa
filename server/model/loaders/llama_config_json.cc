#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/loaders/file_error.h"
#include "server/model/loaders/llama_config.h"
#include "server/model/loaders/llama_config_checks.h"
#include "server/model/loaders/loader_limits.h"
#include "server/model/loaders/strict_json.h"

namespace lectern {
namespace {

using nlohmann::json;

const LlamaConfigKeys& JsonKeys() {
  static const auto& keys = *new LlamaConfigKeys{
      .hidden = "hidden_size",
      .layers = "num_hidden_layers",
      .heads = "num_attention_heads",
      .kv_heads = "num_key_value_heads",
      .head_dim = "head_dim",
      .intermediate = "intermediate_size",
      .vocab = "vocab_size",
      .window = "max_position_embeddings",
      .rms_eps = "rms_norm_eps",
      .rope_theta = "rope_theta",
      .bos = "bos_token_id",
      .eos = "eos_token_id",
  };
  return keys;
}

std::string Show(const json& value) { return Printable(value.dump(-1, ' ', true)); }

// Values of one config.json; a key that is null counts as absent, as it does in the library.
class Reader {
 public:
  Reader(const json& object, std::string_view source) : object_(object), source_(source) {}

  // Null when absent.
  const json* Find(const std::string& key) const {
    const auto entry = object_.find(key);
    return entry == object_.end() || entry->is_null() ? nullptr : &*entry;
  }

  absl::StatusOr<int64_t> Int(const std::string& key) const {
    const json* value = Find(key);
    if (value == nullptr) return Invalid(key, "is missing");
    // Anything above 63 bits is out of every range as well.
    if (!value->is_number_integer() ||
        (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX)) {
      return Invalid(key, absl::StrCat(Show(*value), " is not an integer below 2^63"));
    }
    return value->get<int64_t>();
  }
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t absent) const {
    return Find(key) == nullptr ? absent : Int(key);
  }

  absl::StatusOr<double> Number(const std::string& key, double absent) const {
    const json* value = Find(key);
    if (value == nullptr) return absent;
    if (!value->is_number()) return Invalid(key, absl::StrCat(Show(*value), " is not a number"));
    return value->get<double>();
  }

  absl::StatusOr<bool> Bool(const std::string& key) const {
    const json* value = Find(key);
    if (value == nullptr) return false;
    if (!value->is_boolean()) return Invalid(key, absl::StrCat(Show(*value), " is not a boolean"));
    return value->get<bool>();
  }

  absl::StatusOr<std::string> Text(const std::string& key) const {
    const json* value = Find(key);
    if (value == nullptr) return std::string();
    if (!value->is_string()) return Invalid(key, absl::StrCat(Show(*value), " is not a string"));
    return value->get<std::string>();
  }

  // An id, or a list of exactly one.
  absl::StatusOr<int32_t> Token(const std::string& key) const {
    const json* value = Find(key);
    if (value == nullptr) return -1;
    if (value->is_array() && value->size() > 1) {
      return Unsupported(key, absl::StrCat("several ids, ", Show(*value), ", are not supported"));
    }
    const json& id = value->is_array() && value->size() == 1 ? (*value)[0] : *value;
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxLlamaVocab) {
      return Invalid(key, absl::StrCat(Show(*value), " is no token id"));
    }
    return id.get<int32_t>();
  }

  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return InvalidFile({.file = source_, .kind = "key", .name = key}, why);
  }
  absl::Status Unsupported(std::string_view key, std::string_view why) const {
    return UnsupportedFile({.file = source_, .kind = "key", .name = key}, why);
  }

 private:
  const json& object_;
  std::string_view source_;
};

absl::Status CheckText(const Reader& reader, const std::string& key, std::string_view wanted) {
  LECTERN_ASSIGN_OR_RETURN(const std::string found, reader.Text(key));
  if (found == wanted) return absl::OkStatus();
  const absl::string_view supported(wanted.data(), wanted.size());
  return reader.Unsupported(
      key, absl::StrCat("'", Printable(found), "' is not supported; ", supported, " is"));
}

absl::Status CheckArchitectures(const Reader& reader) {
  const json* names = reader.Find("architectures");
  if (names == nullptr) return absl::OkStatus();  // model_type has said it
  if (names->is_array() && names->size() == 1 && (*names)[0] == "LlamaForCausalLM") {
    return absl::OkStatus();
  }
  return reader.Unsupported("architectures",
                            absl::StrCat(Show(*names), " is not supported; LlamaForCausalLM is"));
}

// RoPE of the older form (rope_theta and rope_scaling) or the newer (rope_parameters with both).
// Returns theta.
absl::StatusOr<double> ReadRope(const Reader& reader, std::string_view source) {
  LECTERN_ASSIGN_OR_RETURN(double theta, reader.Number(JsonKeys().rope_theta, 10'000.0));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* parameters = reader.Find(key);
    if (parameters == nullptr) continue;
    if (!parameters->is_object()) {
      return reader.Invalid(key, absl::StrCat(Show(*parameters), " is not an object"));
    }
    const Reader inner(*parameters, source);
    const char* type_key = inner.Find("rope_type") != nullptr ? "rope_type" : "type";
    LECTERN_ASSIGN_OR_RETURN(const std::string type, inner.Text(type_key));
    if (type != "default" && type != "none") {
      return reader.Unsupported(
          key, absl::StrCat("RoPE scaling ", Show(*parameters), " is not supported"));
    }
    LECTERN_ASSIGN_OR_RETURN(theta, inner.Number(JsonKeys().rope_theta, theta));
  }
  return theta;
}

absl::Status RefuseUnsupported(const Reader& reader) {
  LECTERN_RETURN_IF_ERROR(CheckText(reader, "model_type", "llama"));
  LECTERN_RETURN_IF_ERROR(CheckArchitectures(reader));
  if (reader.Find("hidden_act") != nullptr) {
    LECTERN_RETURN_IF_ERROR(CheckText(reader, "hidden_act", "silu"));
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
      return reader.Unsupported(key, absl::StrCat(Show(*value), " is not supported"));
    }
  }
  const json* partial = reader.Find("partial_rotary_factor");
  if (partial != nullptr && *partial != 1) {
    return reader.Unsupported("partial_rotary_factor",
                              absl::StrCat(Show(*partial), " is not supported; 1 is"));
  }
  const json* quantization = reader.Find("quantization_config");
  if (quantization != nullptr) {
    return reader.Unsupported("quantization_config",
                              absl::StrCat(Show(*quantization), " is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LlamaConfig> ReadLlamaConfigJson(std::string_view contents,
                                                std::string_view source) {
  if (contents.size() > kMaxConfigJsonBytes) {
    return InvalidFile({.file = source},
                       absl::StrCat(contents.size(), " bytes; at most ", kMaxConfigJsonBytes));
  }
  LECTERN_ASSIGN_OR_RETURN(const json object, ParseJsonObject(contents, source));
  const Reader reader(object, source);
  const LlamaConfigKeys& keys = JsonKeys();
  LECTERN_RETURN_IF_ERROR(RefuseUnsupported(reader));
  LlamaConfig config;
  LECTERN_ASSIGN_OR_RETURN(config.name, reader.Text("_name_or_path"));
  LECTERN_ASSIGN_OR_RETURN(config.hidden, reader.Int(keys.hidden));
  LECTERN_ASSIGN_OR_RETURN(config.layers, reader.Int(keys.layers));
  LECTERN_ASSIGN_OR_RETURN(config.heads, reader.Int(keys.heads));
  LECTERN_ASSIGN_OR_RETURN(config.kv_heads, reader.Int(keys.kv_heads, config.heads));
  // hidden / heads unless told; a file with no heads is refused below, whatever stands here.
  const int64_t usual_head_dim = config.heads > 0 ? config.hidden / config.heads : 0;
  LECTERN_ASSIGN_OR_RETURN(config.head_dim, reader.Int(keys.head_dim, usual_head_dim));
  LECTERN_ASSIGN_OR_RETURN(config.intermediate, reader.Int(keys.intermediate));
  LECTERN_ASSIGN_OR_RETURN(config.vocab, reader.Int(keys.vocab));
  LECTERN_ASSIGN_OR_RETURN(config.window, reader.Int(keys.window));
  LECTERN_ASSIGN_OR_RETURN(config.rms_eps, reader.Number(keys.rms_eps, 1e-6));
  LECTERN_ASSIGN_OR_RETURN(config.rope_theta, ReadRope(reader, source));
  LECTERN_ASSIGN_OR_RETURN(config.tied, reader.Bool("tie_word_embeddings"));
  LECTERN_ASSIGN_OR_RETURN(config.bos, reader.Token(keys.bos));
  LECTERN_ASSIGN_OR_RETURN(config.eos, reader.Token(keys.eos));
  LECTERN_RETURN_IF_ERROR(CheckLlamaConfig(config, keys, source));
  return config;
}

}  // namespace lectern
