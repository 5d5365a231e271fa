#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/strict_json.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_config_parts.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/folder_settings.h"

namespace lectern {
namespace {

using nlohmann::json;

absl::StatusOr<const DecoderFamily*> FindFamily(const ConfigReader& reader) {
  LECTERN_ASSIGN_OR_RETURN(const std::string type, reader.Text("model_type"));
  const DecoderFamily* family = FindFamilyByModelType(type);
  if (family != nullptr) return family;
  return reader.Unsupported("model_type",
                            absl::StrCat("'", Printable(type), "' is not supported; supported are ",
                                         absl::StrJoin(DecoderModelTypes(), ", ")));
}

// The settings of a family that has them in "text_config", in one object with those around it.
// Only the outer object names the ids of end tokens reliably.
absl::StatusOr<json> MergeTextConfig(const json& object, const ConfigReader& reader) {
  const json* text = reader.Find("text_config");
  if (text == nullptr) return reader.Invalid("text_config", "is missing");
  if (!text->is_object()) {
    return reader.Invalid("text_config", absl::StrCat(ShowJson(*text), " is not an object"));
  }
  json merged = object;
  merged.erase("text_config");
  for (const auto& [key, value] : text->items()) {
    const bool is_outer = key == "eos_token_id" && reader.Find(key) != nullptr;
    if (!is_outer) merged[key] = value;
  }
  return merged;
}

// The ids of "eos_token_id", a number or a list; empty if there is none.
absl::StatusOr<std::vector<int32_t>> ReadEndIds(const ConfigReader& reader, int64_t vocab) {
  constexpr char kKey[] = "eos_token_id";
  std::vector<int32_t> ids;
  const json* value = reader.Find(kKey);
  if (value == nullptr) return ids;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& id : list) {
    if (!id.is_number_unsigned()) {
      return reader.Invalid(kKey, absl::StrCat(ShowJson(*value), " is not a token id"));
    }
    if (id.get<uint64_t>() >= static_cast<uint64_t>(vocab)) {
      return reader.Invalid(kKey,
                            absl::StrCat(ShowJson(id), " is outside the vocabulary of ", vocab));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

absl::StatusOr<int32_t> ReadBos(const ConfigReader& reader, int64_t vocab) {
  constexpr char kKey[] = "bos_token_id";
  LECTERN_ASSIGN_OR_RETURN(const int32_t bos, reader.Token(kKey, INT32_MAX));
  if (bos < vocab) return bos;
  return reader.Invalid(kKey, absl::StrCat(bos, " is outside the vocabulary of ", vocab));
}

}  // namespace

absl::StatusOr<DecoderConfig> ReadDecoderConfigJson(std::string_view contents,
                                                    std::string_view source,
                                                    int64_t context_length) {
  LECTERN_ASSIGN_OR_RETURN(json object, ParseConfigJson(contents, source));
  const DecoderFamily* family;
  {
    const ConfigReader outer(object, source);
    LECTERN_ASSIGN_OR_RETURN(family, FindFamily(outer));
    LECTERN_RETURN_IF_ERROR(outer.CheckArchitecture(family->class_name));
    if (family->in_text_config) {
      LECTERN_ASSIGN_OR_RETURN(object, MergeTextConfig(object, outer));
    }
  }
  const ConfigReader reader(object, source);
  const FolderSettings settings(object, source, context_length);
  DecoderConfig config;
  config.family = family->name;
  LECTERN_RETURN_IF_ERROR(family->describe(settings, config));
  LECTERN_RETURN_IF_ERROR(settings.RefuseUnread());
  LECTERN_ASSIGN_OR_RETURN(config.name, reader.Text("_name_or_path"));
  LECTERN_ASSIGN_OR_RETURN(config.bos, ReadBos(reader, config.vocab));
  LECTERN_ASSIGN_OR_RETURN(config.end_ids, ReadEndIds(reader, config.vocab));
  LECTERN_RETURN_IF_ERROR(FinishDecoderConfig(source, context_length, config));
  return config;
}

}  // namespace lectern
