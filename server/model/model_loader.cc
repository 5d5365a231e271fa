#include "server/model/model_loader.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"
#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/model/fingerprint.h"
#include "server/model/llama/f32_weights.h"
#include "server/model/llama/int8_weights.h"
#include "server/model/llama/llama_model.h"
#include "server/model/loaders/gguf.h"
#include "server/model/loaders/llama_config.h"
#include "server/model/loaders/safetensors.h"
#include "server/model/loaders/strict_json.h"
#include "server/model/loaders/tokenizer_files.h"
#include "server/tokenizer/byte_level_bpe.h"
#include "server/tokenizer/chat_template.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

// What both kinds of files come down to.
struct LlamaFiles {
  std::shared_ptr<const LlamaReader> reader;
  ByteLevelBpeConfig vocabulary;
  std::string chat_template;  // empty: none
  std::string format;
  std::vector<std::string> hashed_files;
};

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
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return std::string(file.bytes());
}

absl::StatusOr<LlamaFiles> OpenGguf(const std::string& path) {
  LlamaFiles files;
  files.format = "gguf";
  files.hashed_files = {path};
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  LECTERN_ASSIGN_OR_RETURN(LlamaConfig config, ReadLlamaConfig(*file));
  LECTERN_ASSIGN_OR_RETURN(files.vocabulary, ReadGgufTokenizer(*file));
  files.chat_template = config.chat_template;
  LECTERN_ASSIGN_OR_RETURN(
      files.reader, LlamaReader::Open(std::move(config), std::move(file), LlamaNaming::kGguf));
  return files;
}

// The chat template of a Hugging Face folder, or an empty string.
absl::StatusOr<std::string> ReadChatTemplate(const fs::path& folder) {
  const std::string path = folder / "tokenizer_config.json";
  if (!fs::exists(path)) return std::string();
  LECTERN_ASSIGN_OR_RETURN(const std::string contents, ReadText(path));
  LECTERN_ASSIGN_OR_RETURN(const auto json, ParseJsonObject(contents, path));
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return std::string();
  if (!found->is_string()) {
    return absl::UnimplementedError(
        absl::StrCat(path, ": key 'chat_template': only one template, as a string, is known"));
  }
  return found->get<std::string>();
}

absl::StatusOr<LlamaFiles> OpenFolder(const fs::path& folder) {
  LlamaFiles files;
  files.format = "safetensors";
  const std::string config_path = folder / "config.json";
  const std::string tokenizer_path = folder / "tokenizer.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string config_json, ReadText(config_path));
  LECTERN_ASSIGN_OR_RETURN(LlamaConfig config, ReadLlamaConfigJson(config_json, config_path));
  LECTERN_ASSIGN_OR_RETURN(const std::string tokenizer_json, ReadText(tokenizer_path));
  LECTERN_ASSIGN_OR_RETURN(files.vocabulary,
                           ParseTokenizerJson(tokenizer_json, tokenizer_path, config.eos));
  LECTERN_ASSIGN_OR_RETURN(files.chat_template, ReadChatTemplate(folder));
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<TensorSource> source,
                           OpenSafetensors(folder, /*ignore_other_types=*/true));
  LECTERN_ASSIGN_OR_RETURN(files.reader, LlamaReader::Open(std::move(config), std::move(source),
                                                           LlamaNaming::kHuggingFace));
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".json" || extension == ".safetensors") {
      files.hashed_files.push_back(entry.path());
    }
  }
  // Directory order differs between machines.
  std::sort(files.hashed_files.begin(), files.hashed_files.end());
  return files;
}

// The type that holds most bytes, as "Q4_1".
std::string MainType(const TensorSource& source) {
  std::map<std::string_view, size_t> bytes;
  for (const std::string_view name : source.Names()) {
    const TensorView* tensor = source.Find(name);
    bytes[ToString(tensor->type)] += tensor->bytes.size();
  }
  std::string_view main = "none";
  size_t most = 0;
  for (const auto& [type, count] : bytes) {
    if (count > most) {
      main = type;
      most = count;
    }
  }
  return std::string(main);
}

uint64_t CountParameters(const TensorSource& source) {
  uint64_t count = 0;
  for (const std::string_view name : source.Names()) {
    const TensorView* tensor = source.Find(name);
    count += static_cast<uint64_t>(tensor->rows()) * static_cast<uint64_t>(tensor->cols());
  }
  return count;
}

absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadWeights(
    std::shared_ptr<const LlamaReader> reader, ModelLoadOptions::Numerics numerics,
    const kernels::ExecutionContext& execution) {
  switch (numerics) {
    case ModelLoadOptions::Numerics::kF32:
      return LoadLlamaF32Weights(*reader, execution.num_threads);
    case ModelLoadOptions::Numerics::kInt8Rotated:
      return LoadLlamaInt8Weights(std::move(reader), execution.num_threads);
  }
  return absl::InvalidArgumentError("numerics: unknown");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const ModelLoadOptions& options,
                                                         const LlamaConfig& config,
                                                         ByteLevelBpeConfig& vocabulary) {
  LECTERN_ASSIGN_OR_RETURN(auto tokenizer, NewByteLevelBpe(std::move(vocabulary)));
  if (tokenizer->vocab_size() > config.vocab) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.path, ": the tokenizer has ", tokenizer->vocab_size(),
                     " tokens, the embedding table only ", config.vocab));
  }
  return tokenizer;
}

absl::StatusOr<std::string> HashFiles(const std::vector<std::string>& paths) {
  Sha256 hash;
  for (const std::string& path : paths) LECTERN_RETURN_IF_ERROR(HashFile(path, hash));
  return hash.HexDigest();
}

absl::StatusOr<std::shared_ptr<const Model>> Load(const ModelLoadOptions& options) {
  LECTERN_RETURN_IF_ERROR(CheckOptions(options));
  std::error_code error;
  LECTERN_ASSIGN_OR_RETURN(LlamaFiles files, fs::is_directory(options.path, error)
                                                 ? OpenFolder(options.path)
                                                 : OpenGguf(options.path));
  const LlamaConfig& config = files.reader->config();
  std::unique_ptr<ChatTemplate> chat_template;
  if (!files.chat_template.empty()) {
    LECTERN_ASSIGN_OR_RETURN(chat_template, RecogniseChatTemplate(files.chat_template));
  }
  kernels::ExecutionContext execution;
  execution.num_threads = options.threads;
  // Beside the weights, which take longest.
  auto tokenizer = std::async(std::launch::async,
                              [&] { return MakeTokenizer(options, config, files.vocabulary); });
  auto fingerprint = std::async(std::launch::async, [&] { return HashFiles(files.hashed_files); });
  ModelInfo info;
  info.name = options.name;
  info.format = files.format;
  info.quantization = MainType(files.reader->source());
  info.parameters = CountParameters(files.reader->source());
  info.default_policy = options.default_policy;
  LECTERN_ASSIGN_OR_RETURN(auto weights, LoadWeights(files.reader, options.numerics, execution));
  LECTERN_ASSIGN_OR_RETURN(auto made_tokenizer, tokenizer.get());
  LECTERN_ASSIGN_OR_RETURN(std::string digest, fingerprint.get());
  return std::make_shared<const LlamaModel>(
      LlamaParts{config, std::move(weights), std::move(made_tokenizer), Prompt(chat_template.get()),
                 std::move(info), std::move(digest), execution});
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelLoadOptions& options) {
  try {
    return Load(options);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(options.path, ": out of memory"));
  } catch (const fs::filesystem_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(options.path, ": ", error.code().message()));
  }
}

}  // namespace lectern
