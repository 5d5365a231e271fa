#include "server/model/decoder/families/gguf_settings.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"

namespace lectern {
namespace {

// Metadata that changes what a model computes, with the value that means "as usual". A family that
// computes one of them asks for it.
struct Meaningful {
  const char* key;
  double neutral;
};
constexpr Meaningful kMeaningful[] = {
    {"expert_count", 0},
    {"attention.sliding_window", 0},
    {"attention.scale", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.q_lora_rank", 0},
    {"attention.kv_lora_rank", 0},
    {"attention.temperature_length", 0},
    {"attn_logit_softcapping", 0},
    {"router_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"logit_scale", 1},
    {"residual_scale", 1},
    {"embedding_scale", 1},
    {"use_parallel_residual", 0},
    {"rope.scaling.yarn_log_multiplier", 0},
};

// The number that a metadata value holds; NaN for strings and arrays.
double NumberOf(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> double {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<Held>) return static_cast<double>(held);
        return std::nan("");
      },
      value.value);
}

}  // namespace

std::string GgufSettings::Name(const SettingKey& key) const {
  asked_.insert(key.gguf);
  return prefix_ + key.gguf;
}

bool GgufSettings::Has(const SettingKey& key) const {
  return !key.gguf.empty() && file_.Has(Name(key));
}

absl::Status GgufSettings::Invalid(const SettingKey& key, std::string_view why) const {
  return InvalidFile({.file = file_.path(), .kind = "key", .name = prefix_ + key.gguf}, why);
}

absl::Status GgufSettings::Unsupported(const SettingKey& key, std::string_view why) const {
  return UnsupportedFile({.file = file_.path(), .kind = "key", .name = prefix_ + key.gguf}, why);
}

absl::StatusOr<int64_t> GgufSettings::Int(const SettingKey& key,
                                          std::optional<int64_t> absent) const {
  if (!Has(key) && absent.has_value()) return *absent;
  const auto entry = file_.metadata().find(Name(key));
  const auto* each = entry == file_.metadata().end()
                         ? nullptr
                         : std::get_if<std::vector<int64_t>>(&entry->second.value);
  if (each == nullptr || each->empty()) return file_.GetInt(Name(key));
  const bool equal =
      std::all_of(each->begin(), each->end(), [&](int64_t one) { return one == each->front(); });
  if (!equal) return Unsupported(key, "differs between layers, which is not supported");
  return each->front();
}

absl::StatusOr<double> GgufSettings::Number(const SettingKey& key,
                                            std::optional<double> absent) const {
  if (!Has(key) && absent.has_value()) return *absent;
  return file_.GetFloat(Name(key));
}

absl::StatusOr<bool> GgufSettings::Bool(const SettingKey& key, bool absent) const {
  if (!Has(key)) return absent;
  const bool* value = std::get_if<bool>(&file_.metadata().at(Name(key)).value);
  if (value == nullptr) return Invalid(key, "is not a boolean");
  return *value;
}

absl::StatusOr<std::string> GgufSettings::Text(const SettingKey& key) const {
  return Has(key) ? file_.GetString(Name(key)) : std::string();
}

absl::StatusOr<std::vector<int64_t>> GgufSettings::Flags(const SettingKey& key) const {
  std::vector<int64_t> flags;
  if (!Has(key)) return flags;
  const auto& value = file_.metadata().at(Name(key)).value;
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(&value)) return *numbers;
  const auto* booleans = std::get_if<std::vector<bool>>(&value);
  if (booleans != nullptr) flags.assign(booleans->begin(), booleans->end());
  return flags;
}

absl::StatusOr<int64_t> GgufSettings::Vocabulary(std::optional<int64_t>) const {
  const TensorView* table = file_.Find("token_embd.weight");
  if (table != nullptr && table->shape.size() == 2) return table->rows();
  const SettingKey key = {.gguf = "vocab_size"};
  const auto entry = file_.metadata().find("tokenizer.ggml.tokens");
  const auto* tokens = entry == file_.metadata().end()
                           ? nullptr
                           : std::get_if<std::vector<std::string>>(&entry->second.value);
  if (tokens == nullptr) return Int(key, std::nullopt);
  return Int(key, static_cast<int64_t>(tokens->size()));
}

absl::StatusOr<std::vector<double>> GgufSettings::Values(const std::string& tensor) const {
  const TensorView* view = file_.Find(tensor);
  if (view == nullptr) return std::vector<double>();
  if (view->shape.size() != 1) {
    return InvalidFile({.file = file_.path(), .kind = "tensor", .name = tensor},
                       "is not a list of factors");
  }
  std::vector<float> values(view->cols());
  LECTERN_RETURN_IF_ERROR(Dequantize(*view, 0, 1, values.data()));
  return std::vector<double>(values.begin(), values.end());
}

absl::StatusOr<RopeScaling> GgufSettings::Scaling(int64_t context_length) const {
  const SettingKey type_key = {.gguf = "rope.scaling.type"};
  RopeScaling scaling;
  LECTERN_ASSIGN_OR_RETURN(const std::string type, Text(type_key));
  LECTERN_ASSIGN_OR_RETURN(scaling.short_factors, Values("rope_factors_short.weight"));
  LECTERN_ASSIGN_OR_RETURN(scaling.long_factors, Values("rope_factors_long.weight"));
  LECTERN_ASSIGN_OR_RETURN(scaling.divisors, Values("rope_freqs.weight"));
  // scale_linear is the older name of the factor.
  LECTERN_ASSIGN_OR_RETURN(const double linear, Number({.gguf = "rope.scale_linear"}, 0));
  LECTERN_ASSIGN_OR_RETURN(scaling.factor, Number({.gguf = "rope.scaling.factor"}, linear));
  bool known = true;
  if (!scaling.short_factors.empty() || !scaling.long_factors.empty()) {
    scaling.type = RopeScaling::Type::kLongrope;
  } else if (!type.empty()) {
    scaling.type = RopeScalingType(type, &known);
  } else if (scaling.factor != 0) {
    scaling.type = RopeScaling::Type::kLinear;  // the type of a factor without one
  }
  if (!known) {
    return Unsupported(type_key,
                       absl::StrCat("RoPE scaling '", Printable(type), "' is not supported; ",
                                    std::string(RopeScalingNames()), " are"));
  }
  // Linear scaling does not need the original context: a file that does not name it counts the
  // extension in its context length.
  const bool is_linear = scaling.type == RopeScaling::Type::kLinear;
  LECTERN_ASSIGN_OR_RETURN(
      scaling.original_context,
      Int({.gguf = "rope.scaling.original_context_length"}, is_linear ? 0 : context_length));
  const bool is_yarn = scaling.type == RopeScaling::Type::kYarn;
  if (scaling.factor == 0) {  // not named
    scaling.factor =
        scaling.type == RopeScaling::Type::kLongrope && scaling.original_context > 0
            ? static_cast<double>(context_length) / static_cast<double>(scaling.original_context)
            : 1;
  }
  const SettingKey attention = {.gguf = is_yarn ? "rope.scaling.yarn_attn_factor"
                                                : "rope.scaling.attn_factor"};
  LECTERN_ASSIGN_OR_RETURN(scaling.attention_factor, Number(attention, 0));
  LECTERN_ASSIGN_OR_RETURN(scaling.beta_fast, Number({.gguf = "rope.scaling.yarn_beta_fast"}, 32));
  LECTERN_ASSIGN_OR_RETURN(scaling.beta_slow, Number({.gguf = "rope.scaling.yarn_beta_slow"}, 1));
  const bool uses_attention = is_yarn || scaling.type == RopeScaling::Type::kLongrope;
  if (!uses_attention && scaling.attention_factor != 0 && scaling.attention_factor != 1) {
    return Unsupported(attention, absl::StrCat(scaling.attention_factor,
                                               " is not supported without yarn or longrope"));
  }
  return scaling;
}

absl::StatusOr<RopeSettings> GgufSettings::Rope(const RopeKeys& keys, int64_t head_dim,
                                                int64_t context_length) const {
  RopeSettings rope;
  LECTERN_ASSIGN_OR_RETURN(rope.theta, Number(keys.theta, keys.theta_absent));
  const SettingKey dimensions = {.gguf = "rope.dimension_count"};
  LECTERN_ASSIGN_OR_RETURN(rope.rotated, Int(dimensions, head_dim));
  if (rope.rotated != head_dim && !keys.partial) {
    return Unsupported(dimensions,
                       absl::StrCat(rope.rotated, " differs from the head size, ", head_dim));
  }
  if (rope.rotated < 2 || rope.rotated > head_dim || rope.rotated % 2 != 0) {
    return Invalid(dimensions,
                   absl::StrCat(rope.rotated, " is not an even number from 2 to ", head_dim));
  }
  if (Has({.gguf = "rope.dimension_sections"})) {
    return Unsupported({.gguf = "rope.dimension_sections"}, "mrope is not supported");
  }
  if (!keys.scaled) return rope;
  LECTERN_ASSIGN_OR_RETURN(rope.scaling, Scaling(context_length));
  const std::string fault = RopeScalingFault(rope.scaling, rope.rotated);
  if (fault.empty()) return rope;
  // The fault may lie in any of several values: name the first key that the file has.
  for (const char* key : {"rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"}) {
    if (Has({.gguf = key})) return Invalid({.gguf = key}, fault);
  }
  return Invalid({.gguf = "rope.scaling"}, fault);
}

absl::Status GgufSettings::RefuseUnread() const {
  for (const auto& [key, neutral] : kMeaningful) {
    const auto found = file_.metadata().find(prefix_ + key);
    if (found == file_.metadata().end() || asked_.contains(key)) continue;
    const double value = NumberOf(found->second);
    if (value == neutral) continue;
    const std::string shown = std::isnan(value) ? "this value" : absl::StrCat(value);
    return Unsupported({.gguf = key}, absl::StrCat(shown, " is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace lectern
