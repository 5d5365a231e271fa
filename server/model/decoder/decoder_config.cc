#include "server/model/decoder/decoder_config.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/model/decoder/decoder_config_parts.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/gguf_settings.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {
namespace {

absl::StatusOr<std::string> Text(const GgufFile& file, const std::string& key) {
  return file.Has(key) ? file.GetString(key) : std::string();
}

// -1 if the file does not name it.
absl::StatusOr<int32_t> Token(const GgufFile& file, const std::string& key, int64_t vocab) {
  if (!file.Has(key)) return -1;
  LECTERN_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  const FilePart part{.file = file.path(), .kind = "key", .name = key};
  if (id < -1 || id >= kMaxDecoderVocab) {
    return InvalidFile(part, absl::StrCat(id, " is not a token id"));
  }
  if (id >= vocab) {
    return InvalidFile(part, absl::StrCat(id, " is outside the vocabulary of ", vocab));
  }
  return static_cast<int32_t>(id);
}

absl::Status LimitContext(std::string_view file, int64_t context_length, DecoderConfig& config) {
  if (context_length == 0) return absl::OkStatus();
  if (context_length < 1 || context_length > config.context_length) {
    ErrorDetails details;
    details.field_violations = {
        {"context_length", absl::StrCat("must be from 1 to ", config.context_length)}};
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat(std::string(file), ": context length ", context_length,
                                  " is not from 1 to the model's, ", config.context_length),
                     details);
  }
  config.context_length = context_length;
  return absl::OkStatus();
}

}  // namespace

absl::Status FinishDecoderConfig(std::string_view file, int64_t context_length,
                                 DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(LimitContext(file, context_length, config));
  for (DecoderLayer& layer : config.layer) {
    // A window of the whole context hides nothing.
    if (layer.window >= config.context_length) layer.window = 0;
  }
  if (!config.end_ids.empty()) config.eos = config.end_ids.front();
  return absl::OkStatus();
}

absl::Status CheckDecoderArchitecture(const GgufFile& file) {
  constexpr char kKey[] = "general.architecture";
  const std::string kind =
      file.Has("general.type") ? file.GetString("general.type").value_or("") : "";
  if (kind == "adapter") {
    return UnsupportedFile({.file = file.path()},
                           "is an adapter (LoRA), not a model; merge it into its base model");
  }
  if (kind == "imatrix" || file.GetString(kKey).value_or("") == "imatrix") {
    return UnsupportedFile({.file = file.path()},
                           "is an importance matrix (imatrix) for quantisation, not a model");
  }
  LECTERN_ASSIGN_OR_RETURN(const std::string architecture, file.GetString(kKey));
  if (kind == "mmproj" || architecture == "clip") {
    return UnsupportedFile({.file = file.path()},
                           "is a vision projector (mmproj), not a language model; give the GGUF "
                           "file of the model itself");
  }
  if (FindFamilyByArchitecture(architecture) != nullptr) return absl::OkStatus();
  return UnsupportedFile(
      {.file = file.path(), .kind = "key", .name = kKey},
      absl::StrCat("'", Printable(architecture), "' is not supported; supported are ",
                   absl::StrJoin(DecoderArchitectures(), ", ")));
}

absl::StatusOr<DecoderConfig> ReadDecoderConfig(const GgufFile& file, int64_t context_length) {
  LECTERN_RETURN_IF_ERROR(CheckDecoderArchitecture(file));
  LECTERN_ASSIGN_OR_RETURN(const std::string architecture, file.GetString("general.architecture"));
  const GgufSettings settings(file, architecture, context_length);
  DecoderConfig config;
  config.family = architecture;
  LECTERN_RETURN_IF_ERROR(FindFamilyByArchitecture(architecture)->describe(settings, config));
  LECTERN_RETURN_IF_ERROR(settings.RefuseUnread());
  LECTERN_ASSIGN_OR_RETURN(config.name, Text(file, "general.name"));
  LECTERN_ASSIGN_OR_RETURN(config.bos, Token(file, "tokenizer.ggml.bos_token_id", config.vocab));
  LECTERN_ASSIGN_OR_RETURN(config.eos, Token(file, "tokenizer.ggml.eos_token_id", config.vocab));
  if (config.eos >= 0) config.end_ids = {config.eos};
  LECTERN_RETURN_IF_ERROR(FinishDecoderConfig(file.path(), context_length, config));
  return config;
}

}  // namespace lectern
