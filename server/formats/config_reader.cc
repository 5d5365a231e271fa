#include "server/formats/config_reader.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"

namespace lectern {

using nlohmann::json;

std::string ShowJson(const json& value) { return Printable(value.dump(-1, ' ', true)); }

const json* ConfigReader::Find(const std::string& key) const {
  const auto entry = object_.find(key);
  return entry == object_.end() || entry->is_null() ? nullptr : &*entry;
}

absl::StatusOr<int64_t> ConfigReader::Int(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) return Invalid(key, "is missing");
  // A value above 63 bits is outside every range.
  if (!value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX)) {
    return Invalid(key, absl::StrCat(ShowJson(*value), " is not an integer below 2^63"));
  }
  return value->get<int64_t>();
}

absl::StatusOr<int64_t> ConfigReader::Int(const std::string& key, int64_t absent) const {
  return Find(key) == nullptr ? absent : Int(key);
}

absl::StatusOr<int64_t> ConfigReader::IntIn(const std::string& key, int64_t least,
                                            int64_t most) const {
  LECTERN_ASSIGN_OR_RETURN(const int64_t value, Int(key));
  if (value < least || value > most) {
    return Invalid(key, absl::StrCat(value, " is not in [", least, ", ", most, "]"));
  }
  return value;
}

absl::StatusOr<double> ConfigReader::Number(const std::string& key, double absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_number()) return Invalid(key, absl::StrCat(ShowJson(*value), " is not a number"));
  return value->get<double>();
}

absl::StatusOr<bool> ConfigReader::Bool(const std::string& key, bool absent) const {
  const json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) {
    return Invalid(key, absl::StrCat(ShowJson(*value), " is not a boolean"));
  }
  return value->get<bool>();
}

absl::StatusOr<std::string> ConfigReader::Text(const std::string& key) const {
  const json* value = Find(key);
  if (value == nullptr) return std::string();
  if (!value->is_string()) return Invalid(key, absl::StrCat(ShowJson(*value), " is not a string"));
  return value->get<std::string>();
}

absl::StatusOr<int32_t> ConfigReader::Token(const std::string& key, int64_t limit) const {
  const json* value = Find(key);
  if (value == nullptr) return -1;
  if (value->is_array() && value->size() > 1) {
    return Unsupported(key, absl::StrCat("several ids, ", ShowJson(*value), ", are not supported"));
  }
  const json& id = value->is_array() && value->size() == 1 ? (*value)[0] : *value;
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(limit)) {
    return Invalid(key, absl::StrCat(ShowJson(*value), " is not a token id"));
  }
  return id.get<int32_t>();
}

absl::Status ConfigReader::CheckText(const std::string& key, std::string_view supported) const {
  LECTERN_ASSIGN_OR_RETURN(const std::string found, Text(key));
  if (found == supported) return absl::OkStatus();
  return Unsupported(key, absl::StrCat("'", Printable(found), "' is not supported; ",
                                       std::string(supported), " is"));
}

absl::Status ConfigReader::CheckArchitecture(std::string_view supported) const {
  const json* names = Find("architectures");
  if (names == nullptr) return absl::OkStatus();  // model_type has been checked
  if (names->is_array() && names->size() == 1 && (*names)[0] == supported) return absl::OkStatus();
  return Unsupported("architectures", absl::StrCat(ShowJson(*names), " is not supported; ",
                                                   std::string(supported), " is"));
}

absl::Status ConfigReader::Invalid(std::string_view key, std::string_view why) const {
  return InvalidFile({.file = source_, .kind = "key", .name = key}, why);
}

absl::Status ConfigReader::Unsupported(std::string_view key, std::string_view why) const {
  return UnsupportedFile({.file = source_, .kind = "key", .name = key}, why);
}

}  // namespace lectern
