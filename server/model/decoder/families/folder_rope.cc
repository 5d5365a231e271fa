#include "server/model/decoder/families/folder_rope.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"

namespace lectern {
namespace {

using nlohmann::json;
using Type = RopeScaling::Type;

// The object that describes RoPE: a value, and the key it was found at, for errors.
class RopeObject {
 public:
  RopeObject(const ConfigReader& config, std::string name, const json* object)
      : config_(config), name_(std::move(name)), object_(object) {}

  // Null when absent or null.
  const json* Find(const std::string& key) const {
    if (object_ == nullptr) return nullptr;
    const auto entry = object_->find(key);
    return entry == object_->end() || entry->is_null() ? nullptr : &*entry;
  }

  absl::StatusOr<std::optional<double>> Number(const std::string& key) const {
    const json* value = Find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number())
      return Invalid(key, absl::StrCat(ShowJson(*value), " is not a number"));
    return value->get<double>();
  }

  absl::StatusOr<double> Number(const std::string& key, double absent) const {
    LECTERN_ASSIGN_OR_RETURN(const std::optional<double> value, Number(key));
    return value.value_or(absent);
  }

  absl::StatusOr<std::vector<double>> Numbers(const std::string& key) const {
    const json* list = Find(key);
    std::vector<double> numbers;
    if (list == nullptr || !list->is_array()) return Invalid(key, "is not a list of numbers");
    for (const json& one : *list) {
      if (!one.is_number()) return Invalid(key, absl::StrCat(ShowJson(one), " is not a number"));
      numbers.push_back(one.get<double>());
    }
    return numbers;
  }

  absl::Status Invalid(const std::string& key, std::string_view why) const {
    return config_.Invalid(name_, absl::StrCat("RoPE scaling: ", key, ": ", std::string(why)));
  }
  absl::Status Invalid(std::string_view why) const {
    return config_.Invalid(name_, absl::StrCat("RoPE scaling: ", std::string(why)));
  }
  absl::Status Unsupported(std::string_view why) const {
    return config_.Unsupported(name_, absl::StrCat("RoPE scaling ", std::string(why)));
  }

 private:
  const ConfigReader& config_;
  const std::string name_;
  const json* const object_;  // null: there is none
};

bool HasLayerTypes(const json& object) {
  return object.contains("full_attention") || object.contains("sliding_attention");
}

// rope_scaling, unless it is empty, else rope_parameters, as transformers does.
absl::StatusOr<std::pair<std::string, const json*>> FindObject(const ConfigReader& config) {
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const json* object = config.Find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) {
      return config.Invalid(name, absl::StrCat(ShowJson(*object), " is not an object"));
    }
    if (!object->empty()) return std::pair<std::string, const json*>(name, object);
  }
  return std::pair<std::string, const json*>("rope_parameters", nullptr);
}

// The part of the object that is for the layers of `keys`; null for none.
absl::StatusOr<const json*> PartFor(const ConfigReader& config, const RopeKeys& keys,
                                    const std::string& name, const json* object) {
  if (object == nullptr) return nullptr;
  if (!HasLayerTypes(*object)) return keys.scaled ? object : nullptr;
  if (keys.layer_type.empty()) {
    return config.Unsupported(name, "a RoPE for each layer type is not supported");
  }
  const auto part = object->find(keys.layer_type);
  if (part == object->end() || part->is_null()) return nullptr;
  if (!part->is_object()) {
    return config.Invalid(name, absl::StrCat(ShowJson(*part), " is not an object"));
  }
  return &*part;
}

absl::StatusOr<Type> ReadType(const RopeObject& object, const RopeKeys& keys) {
  if (object.Find("mrope_section") != nullptr) {
    return object.Unsupported("with an mrope_section is not supported");
  }
  const json* name = object.Find("rope_type");
  if (name == nullptr) name = object.Find("type");
  if (name == nullptr) {
    if (object.Find("factor") == nullptr) return Type::kDefault;
    return object.Invalid("has a factor, but no rope_type");
  }
  if (!name->is_string()) return object.Invalid("rope_type", ShowJson(*name) + " is not a string");
  const auto& text = name->get_ref<const std::string&>();
  if (keys.yarn_is_longrope && (text == "su" || text == "yarn")) return Type::kLongrope;
  bool known;
  const Type type = RopeScalingType(text, &known);
  if (known) return type;
  const char* reason =
      text == "dynamic" ? " (its frequencies change with the length of the text)" : "";
  return object.Unsupported(absl::StrCat("'", Printable(text), "' is not supported", reason, "; ",
                                         std::string(RopeScalingNames()), " are"));
}

// original_max_position_embeddings: the one at top level wins.
absl::StatusOr<int64_t> OriginalContext(const ConfigReader& config, const RopeObject& object,
                                        int64_t context_length) {
  constexpr char kKey[] = "original_max_position_embeddings";
  if (config.Find(kKey) != nullptr) return config.Int(kKey);
  LECTERN_ASSIGN_OR_RETURN(const double original,
                           object.Number(kKey, static_cast<double>(context_length)));
  if (!(original >= 1 && original <= 1e12)) return object.Invalid(kKey, "is out of range");
  return static_cast<int64_t>(original);
}

absl::Status ReadYarn(const RopeObject& object, RopeScaling& scaling) {
  LECTERN_ASSIGN_OR_RETURN(scaling.beta_fast, object.Number("beta_fast", 32));
  LECTERN_ASSIGN_OR_RETURN(scaling.beta_slow, object.Number("beta_slow", 1));
  LECTERN_ASSIGN_OR_RETURN(scaling.mscale, object.Number("mscale", 0));
  LECTERN_ASSIGN_OR_RETURN(scaling.mscale_all_dim, object.Number("mscale_all_dim", 0));
  const json* truncate = object.Find("truncate");
  if (truncate != nullptr && !truncate->is_boolean()) {
    return object.Invalid("truncate", "is not a boolean");
  }
  scaling.truncate = truncate == nullptr || truncate->get<bool>();
  return absl::OkStatus();
}

absl::StatusOr<RopeScaling> ReadScaling(const ConfigReader& config, const RopeObject& object,
                                        const RopeKeys& keys, int64_t context_length) {
  RopeScaling scaling;
  LECTERN_ASSIGN_OR_RETURN(scaling.type, ReadType(object, keys));
  if (scaling.type == Type::kDefault) return scaling;
  if (scaling.type != Type::kLinear) {
    LECTERN_ASSIGN_OR_RETURN(scaling.original_context,
                             OriginalContext(config, object, context_length));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::optional<double> factor, object.Number("factor"));
  const bool follows = scaling.type == Type::kYarn || scaling.type == Type::kLongrope;
  if (!factor.has_value() && !follows) return object.Invalid("factor", "is missing");
  scaling.factor =
      factor.has_value() ? *factor
      : scaling.original_context > 0
          ? static_cast<double>(context_length) / static_cast<double>(scaling.original_context)
          : 1;
  LECTERN_ASSIGN_OR_RETURN(scaling.attention_factor, object.Number("attention_factor", 0));
  if (scaling.type == Type::kYarn) LECTERN_RETURN_IF_ERROR(ReadYarn(object, scaling));
  if (scaling.type == Type::kLlama3) {
    LECTERN_ASSIGN_OR_RETURN(scaling.low_frequency_factor, object.Number("low_freq_factor", 0));
    LECTERN_ASSIGN_OR_RETURN(scaling.high_frequency_factor, object.Number("high_freq_factor", 0));
  }
  if (scaling.type == Type::kLongrope) {
    LECTERN_ASSIGN_OR_RETURN(scaling.short_factors, object.Numbers("short_factor"));
    LECTERN_ASSIGN_OR_RETURN(scaling.long_factors, object.Numbers("long_factor"));
  }
  return scaling;
}

}  // namespace

absl::StatusOr<FolderRope> ReadFolderRope(const ConfigReader& config, const RopeKeys& keys,
                                          int64_t context_length) {
  FolderRope rope;
  LECTERN_ASSIGN_OR_RETURN(const auto found, FindObject(config));
  const auto& [name, whole] = found;
  LECTERN_ASSIGN_OR_RETURN(const json* part, PartFor(config, keys, name, whole));
  const RopeObject object(config, name, part);
  LECTERN_ASSIGN_OR_RETURN(rope.theta, object.Number("rope_theta"));
  LECTERN_ASSIGN_OR_RETURN(rope.partial, object.Number("partial_rotary_factor"));
  LECTERN_ASSIGN_OR_RETURN(rope.scaling, ReadScaling(config, object, keys, context_length));
  return rope;
}

}  // namespace lectern
