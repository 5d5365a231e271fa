#include "server/model/loading/model_loader.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "server/formats/config_reader.h"
#include "server/formats/file_error.h"
#include "server/formats/gguf.h"
#include "server/formats/strict_json.h"
#include "server/model/bert/bert_family.h"
#include "server/model/bert/load_bert.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/load_decoder.h"
#include "server/model/loading/model_path.h"
#include "server/model/model_files.h"
#include "server/model/t5/load_t5.h"
#include "server/tokenizer/files/tokenizer_files.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

constexpr char kT5[] = "t5";

absl::Status CheckOptions(const ModelLoadOptions& options) {
  const auto bad = [](const char* field, std::string description) {
    ErrorDetails details;
    details.field_violations = {{field, description}};
    return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, ": ", description),
                     details);
  };
  if (options.path.empty()) return bad("path", "must name a .gguf file or a folder");
  if (options.threads < 1 || options.threads > 1024) {
    return bad("threads", absl::StrCat(options.threads, " is not in [1, 1024]"));
  }
  if (options.device != nullptr && options.numerics != ModelLoadOptions::Numerics::kInt8Rotated) {
    return bad("device", "multiplies with numerics int8 only");
  }
  return absl::OkStatus();
}

// The model_type of a folder's config.json.
absl::StatusOr<std::string> ModelTypeOf(const fs::path& folder) {
  const std::string path = folder / "config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadTextFile(path));
  LECTERN_ASSIGN_OR_RETURN(const auto json, ParseConfigJson(contents, path));
  return ConfigReader(json, path).Text("model_type");
}

bool IsDecoder(std::string_view type) { return FindFamilyByModelType(type) != nullptr; }

// UNIMPLEMENTED naming every model_type that can be loaded, unless `type` is one of them.
absl::Status CheckModelType(const fs::path& folder, const std::string& type) {
  if (type == kT5 || FindBertFamily(type) != nullptr || IsDecoder(type)) return absl::OkStatus();
  std::vector<std::string> supported = DecoderModelTypes();
  for (const BertFamily& family : BertFamilies()) supported.emplace_back(family.model_type);
  supported.emplace_back(kT5);
  std::sort(supported.begin(), supported.end());
  const std::string file = folder / "config.json";
  return UnsupportedFile({.file = file, .kind = "key", .name = "model_type"},
                         absl::StrCat("'", Printable(type), "' is not supported; supported are ",
                                      absl::StrJoin(supported, ", ")));
}

// Refuses settings that the family does not have. `type` is a supported model_type; every GGUF
// file is of a decoder, as is "llama".
absl::Status CheckSettings(const ModelLoadOptions& options, std::string_view type) {
  const auto refuse = [&options](const char* flag, const char* family) {
    return absl::InvalidArgumentError(absl::StrCat(options.path, ": --", flag, "=", options.name,
                                                   "=...: the model is not a ", family));
  };
  const bool is_reader = FindBertFamily(type) != nullptr, is_t5 = type == kT5;
  if (options.settings.no_answer && !is_reader) return refuse("no_answer", "span reader");
  if (options.settings.lower_case && !is_t5) return refuse("lower_case", "T5 model");
  if (options.settings.prompt_format && !IsDecoder(type)) return refuse("prompt_format", "decoder");
  return absl::OkStatus();
}

// The functions that make a Result of each kind of files.
template <typename Result>
struct Readers {
  using Read = absl::StatusOr<Result> (*)(const ModelLoadOptions& options);
  Read gguf;
  Read decoder;
  Read t5;
  Read bert;
};

using LoadedModel = std::shared_ptr<const Model>;
constexpr Readers<LoadedModel> kLoad = {
    LoadDecoderGguf, LoadDecoderFolder, LoadT5Folder,
    [](const ModelLoadOptions& options) { return LoadBertFolder(options); }};
constexpr Readers<ModelDescription> kDescribe = {DescribeDecoderGguf, DescribeDecoderFolder,
                                                 DescribeT5Folder, DescribeBertFolder};

template <typename Result>
absl::StatusOr<Result> Read(const ModelLoadOptions& options, const Readers<Result>& readers) {
  std::error_code error;
  if (!fs::is_directory(options.path, error)) {
    LECTERN_RETURN_IF_ERROR(CheckSettings(options, "llama"));
    return readers.gguf(options);
  }
  if (options.numerics == ModelLoadOptions::Numerics::kBlocks) {
    return absl::UnimplementedError(
        absl::StrCat(options.path, ": numerics blocks: a folder holds no weights in blocks"));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::string type, ModelTypeOf(options.path));
  LECTERN_RETURN_IF_ERROR(CheckModelType(options.path, type));
  LECTERN_RETURN_IF_ERROR(CheckSettings(options, type));
  if (type == kT5) return readers.t5(options);
  if (FindBertFamily(type) != nullptr) return readers.bert(options);
  return readers.decoder(options);
}

// Runs `work`, and turns exceptions of the standard library into errors.
template <typename Result, typename Work>
absl::StatusOr<Result> Guarded(const std::string& path, const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": out of memory"));
  } catch (const fs::filesystem_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.code().message()));
  }
}

template <typename Result>
absl::StatusOr<Result> Resolve(const ModelLoadOptions& options, const Readers<Result>& readers) {
  return Guarded<Result>(options.path, [&]() -> absl::StatusOr<Result> {
    ModelLoadOptions chosen = options;
    if (options.device != nullptr && options.numerics == ModelLoadOptions::Numerics::kAuto) {
      chosen.numerics = ModelLoadOptions::Numerics::kInt8Rotated;
    }
    LECTERN_RETURN_IF_ERROR(CheckOptions(chosen));
    LECTERN_ASSIGN_OR_RETURN(chosen.path, ResolveModelPath(options.path));
    return Read(chosen, readers);
  });
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelLoadOptions& options) {
  return Resolve(options, kLoad);
}

absl::StatusOr<ModelDescription> DescribeModel(const ModelLoadOptions& options) {
  return Resolve(options, kDescribe);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadModelTokenizer(
    const ModelLoadOptions& options) {
  using Result = std::shared_ptr<const Tokenizer>;
  return Guarded<Result>(options.path, [&]() -> absl::StatusOr<Result> {
    LECTERN_ASSIGN_OR_RETURN(const std::string path, ResolveModelPath(options.path));
    std::error_code error;
    if (fs::is_directory(path, error)) {
      LECTERN_ASSIGN_OR_RETURN(ModelDescription description, DescribeModel(options));
      return std::move(description.tokenizer);
    }
    LECTERN_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
    LECTERN_ASSIGN_OR_RETURN(auto tokenizer, LoadTokenizerGguf(*file));
    return Result(std::move(tokenizer));
  });
}

}  // namespace lectern
