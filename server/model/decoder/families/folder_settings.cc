#include "server/model/decoder/families/folder_settings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/model/decoder/families/folder_rope.h"

namespace lectern {
namespace {

using nlohmann::json;

// Settings that change what a model computes, with the value that means "as usual" (besides null
// and false). A family that computes one of them asks for it.
struct Meaningful {
  const char* key;
  double neutral;
};
constexpr Meaningful kMeaningful[] = {
    {"attention_bias", 0},
    {"mlp_bias", 0},
    {"sliding_window", 0},
    {"num_local_experts", 0},
    {"num_experts", 0},
    {"n_routed_experts", 0},
    {"q_lora_rank", 0},
    {"kv_lora_rank", 0},
    {"partial_rotary_factor", 1},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"attention_multiplier", 1},
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"clip_qkv", 0},
    {"attention_chunk_size", 0},
    {"use_bidirectional_attention", 0},
    {"is_encoder_decoder", 0},
    {"add_cross_attention", 0},
    {"use_mrope", 0},
};

bool IsNeutral(const json& value, double neutral) {
  if (value.is_null()) return true;
  if (value.is_boolean()) return !value.get<bool>();
  return value.is_number() && value.get<double>() == neutral;
}

}  // namespace

const std::string& FolderSettings::Name(const SettingKey& key) const {
  asked_.insert(key.folder);
  return key.folder;
}

bool FolderSettings::Has(const SettingKey& key) const {
  return !key.folder.empty() && reader_.Find(Name(key)) != nullptr;
}

bool FolderSettings::IsNull(const SettingKey& key) const {
  const auto entry = object_.find(Name(key));
  return entry != object_.end() && entry->is_null();
}

absl::StatusOr<int64_t> FolderSettings::Int(const SettingKey& key,
                                            std::optional<int64_t> absent) const {
  if (!Has(key) && absent.has_value()) return *absent;
  return reader_.Int(Name(key));
}

absl::StatusOr<double> FolderSettings::Number(const SettingKey& key,
                                              std::optional<double> absent) const {
  if (Has(key)) return reader_.Number(Name(key), /*absent=*/0);
  if (absent.has_value()) return *absent;
  return Invalid(key, "is missing");
}

absl::StatusOr<bool> FolderSettings::Bool(const SettingKey& key, bool absent) const {
  return Has(key) ? reader_.Bool(Name(key)) : absent;
}

absl::StatusOr<std::string> FolderSettings::Text(const SettingKey& key) const {
  return Has(key) ? reader_.Text(Name(key)) : std::string();
}

absl::StatusOr<std::vector<int64_t>> FolderSettings::Flags(const SettingKey& key) const {
  std::vector<int64_t> flags;
  const json* list = reader_.Find(Name(key));
  if (list == nullptr || list->is_number()) return flags;
  if (!list->is_array()) return Invalid(key, absl::StrCat(ShowJson(*list), " is not a list"));
  for (const json& one : *list) {
    const bool is_flag = one.is_boolean() || one == 0 || one == 1;
    if (!is_flag) return Invalid(key, absl::StrCat(ShowJson(one), " is neither 0 nor 1"));
    flags.push_back(one.is_boolean() ? one.get<bool>() : one.get<int64_t>());
  }
  return flags;
}

absl::StatusOr<std::vector<std::string>> FolderSettings::Texts(const SettingKey& key) const {
  std::vector<std::string> texts;
  const json* list = reader_.Find(Name(key));
  if (list == nullptr) return texts;
  if (!list->is_array()) return Invalid(key, absl::StrCat(ShowJson(*list), " is not a list"));
  for (const json& one : *list) {
    if (!one.is_string()) return Invalid(key, absl::StrCat(ShowJson(one), " is not a string"));
    texts.push_back(one.get<std::string>());
  }
  return texts;
}

absl::StatusOr<int64_t> FolderSettings::Vocabulary(std::optional<int64_t> absent) const {
  return Int({.folder = "vocab_size"}, absent);
}

absl::StatusOr<int64_t> FolderSettings::RotatedChannels(const RopeKeys& keys, double partial,
                                                        int64_t head_dim) const {
  const SettingKey key = {.folder = "partial_rotary_factor"};
  if (partial == 1) return head_dim;
  if (!keys.partial) return Unsupported(key, absl::StrCat(partial, " is not supported; 1 is"));
  if (!(partial > 0 && partial <= 1))
    return Invalid(key, absl::StrCat(partial, " is not in (0, 1]"));
  const auto rotated = static_cast<int64_t>(partial * static_cast<double>(head_dim));
  if (rotated >= 2 && rotated % 2 == 0) return rotated;
  return Invalid(key, absl::StrCat("rotates ", rotated, " channels of ", head_dim,
                                   ", which is not an even number above 0"));
}

absl::StatusOr<RopeSettings> FolderSettings::Rope(const RopeKeys& keys, int64_t head_dim,
                                                  int64_t context_length) const {
  LECTERN_ASSIGN_OR_RETURN(const FolderRope found, ReadFolderRope(reader_, keys, context_length));
  RopeSettings rope;
  rope.scaling = found.scaling;
  LECTERN_ASSIGN_OR_RETURN(rope.theta, Number(keys.theta, keys.theta_absent));
  rope.theta = found.theta.value_or(rope.theta);
  LECTERN_ASSIGN_OR_RETURN(double partial, Number({.folder = "partial_rotary_factor"}, 1));
  partial = found.partial.value_or(partial);
  LECTERN_ASSIGN_OR_RETURN(rope.rotated, RotatedChannels(keys, partial, head_dim));
  const std::string fault = RopeScalingFault(rope.scaling, rope.rotated);
  if (fault.empty()) return rope;
  const SettingKey scaling = {.folder = Has({.folder = "rope_scaling"}) ? "rope_scaling"
                                                                        : "rope_parameters"};
  return Invalid(scaling, absl::StrCat("RoPE scaling: ", fault));
}

absl::Status FolderSettings::RefuseUnread() const {
  const json* quantized = reader_.Find("quantization_config");
  if (quantized != nullptr) {
    return reader_.Unsupported(
        "quantization_config",
        absl::StrCat(
            ShowJson(*quantized),
            " is not supported; serve the weights before they were quantised, or a GGUF file"));
  }
  for (const auto& [key, neutral] : kMeaningful) {
    const auto found = object_.find(key);
    if (found == object_.end() || asked_.contains(key) || IsNeutral(*found, neutral)) continue;
    return reader_.Unsupported(key, absl::StrCat(ShowJson(*found), " is not supported"));
  }
  return absl::OkStatus();
}

absl::Status FolderSettings::Invalid(const SettingKey& key, std::string_view why) const {
  return reader_.Invalid(key.folder, why);
}

absl::Status FolderSettings::Unsupported(const SettingKey& key, std::string_view why) const {
  return reader_.Unsupported(key.folder, why);
}

}  // namespace lectern
