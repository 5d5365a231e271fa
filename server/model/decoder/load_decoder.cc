#include "server/model/decoder/load_decoder.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/gguf.h"
#include "server/formats/safetensors.h"
#include "server/formats/strict_json.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_model.h"
#include "server/model/decoder/decoder_weights.h"
#include "server/model/model_files.h"
#include "server/model/prompt/chat_settings.h"
#include "server/model/prompt/model_prompt.h"
#include "server/tokenizer/files/tokenizer_files.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

// The contents of either kind of files.
struct DecoderFiles {
  DecoderConfig config;
  std::unique_ptr<TensorSource> source;
  DecoderTensors tensors;                                                      // of the source
  std::function<absl::StatusOr<std::unique_ptr<Tokenizer>>()> load_tokenizer;  // uses the source
  ChatSettings chat;
  std::string format;
  std::vector<std::string> hashed_files;
};

absl::StatusOr<DecoderFiles> OpenGguf(const ModelLoadOptions& options) {
  DecoderFiles files;
  files.format = "gguf";
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file,
                           GgufFile::Open(options.path, CheckDecoderArchitecture));
  if (file->Names().empty()) {
    return InvalidFile({.file = options.path}, "holds a vocabulary alone, without tensors");
  }
  LECTERN_ASSIGN_OR_RETURN(files.config, ReadDecoderConfig(*file, options.settings.context_length));
  files.load_tokenizer = [gguf = file.get()] { return LoadTokenizerGguf(*gguf); };
  LECTERN_ASSIGN_OR_RETURN(files.chat, ReadChatSettings(*file, files.config.vocab));
  LECTERN_ASSIGN_OR_RETURN(files.tensors,
                           FindDecoderTensors(*file, files.config, DecoderNaming::kGguf));
  files.hashed_files = file->paths();
  files.source = std::move(file);
  return files;
}

absl::StatusOr<DecoderFiles> OpenFolder(const ModelLoadOptions& options) {
  const fs::path folder = options.path;
  DecoderFiles files;
  files.format = "safetensors";
  const std::string config_path = folder / "config.json";
  LECTERN_ASSIGN_OR_RETURN(const std::string config_json, ReadTextFile(config_path));
  LECTERN_ASSIGN_OR_RETURN(files.config, ReadDecoderConfigJson(config_json, config_path,
                                                               options.settings.context_length));
  files.load_tokenizer = [path = options.path, eos = files.config.eos] {
    return LoadTokenizerFolder(path, eos);
  };
  LECTERN_ASSIGN_OR_RETURN(files.chat, ReadChatSettings(folder, files.config.vocab));
  LECTERN_ASSIGN_OR_RETURN(files.source, OpenSafetensors(folder, /*ignore_other_types=*/true));
  LECTERN_ASSIGN_OR_RETURN(
      files.tensors, FindDecoderTensors(*files.source, files.config, DecoderNaming::kHuggingFace));
  files.hashed_files = ModelFilesOf(folder);
  return files;
}

using Numerics = ModelLoadOptions::Numerics;

// Replaces kAuto. A token reads every weight, so where blocks take less memory than int8 (4 to 6
// bits) they answer faster, although rotated int8 reads prompts faster on a CPU with VNNI. Without
// VNNI the two are about as fast, and blocks are closer to fp32 with 8 bits as well
// (docs/measurements/linear.md, docs/measurements/quality.md).
Numerics ResolveNumerics(const ModelLoadOptions& options, const DecoderTensors& tensors) {
  if (options.numerics != Numerics::kAuto) return options.numerics;
  if (!AreInBlocks(tensors)) return Numerics::kInt8Rotated;
  return AreSmallerInBlocks(tensors) || options.isa != kernels::Isa::kAvx512
             ? Numerics::kBlocks
             : Numerics::kInt8Rotated;
}

// Types of the file's matrices that blocks hold only rounded.
std::vector<std::string> RoundedTypes(const TensorSource& source, Numerics numerics) {
  if (numerics != Numerics::kBlocks) return {};
  std::set<std::string> rounded;
  for (const std::string_view name : source.Names()) {
    const TensorView* const tensor = source.Find(name);
    if (tensor->shape.size() > 1 && BlockFormOf(tensor->type).rounds) {
      rounded.emplace(ToString(tensor->type));
    }
  }
  return {rounded.begin(), rounded.end()};
}

// `start` is when the files were opened.
absl::StatusOr<std::shared_ptr<const Model>> Load(const ModelLoadOptions& options,
                                                  DecoderFiles files, absl::Time start) {
  const DecoderConfig& config = files.config;
  ModelInfo info = InfoOfFiles(options, files.format, *files.source);
  info.default_policy = options.default_policy;
  LECTERN_ASSIGN_OR_RETURN(const LinearForm form,
                           LinearForm::Of(ResolveNumerics(options, files.tensors), options.threads,
                                          options.device.get()));
  info.rounded_types = RoundedTypes(*files.source, form.numerics);
  if (!info.rounded_types.empty()) {
    LogInfo("weights of these types are rounded to 8 bits in blocks of 32",
            {{"model", options.name}, {"types", absl::StrJoin(info.rounded_types, ", ")}});
  }
  std::string digest;
  std::unique_ptr<Tokenizer> tokenizer;
  const LinearLoader::Task others[] = {
      [&]() -> absl::Status {
        LECTERN_ASSIGN_OR_RETURN(digest, HashFiles(files.hashed_files));
        return absl::OkStatus();
      },
      [&]() -> absl::Status {
        LECTERN_ASSIGN_OR_RETURN(tokenizer, files.load_tokenizer());
        return absl::OkStatus();
      }};
  LECTERN_ASSIGN_OR_RETURN(
      auto weights, DecoderWeights::Load(config, std::move(files.source), std::move(files.tensors),
                                         form, others));
  const ModelPrompt prompt = ChooseModelPrompt(files.chat, options.settings.prompt_format,
                                               *tokenizer, config.bos, config.end_ids);
  DescribePrompt(prompt, info);
  info.load_time = absl::Now() - start;
  kernels::ExecutionContext execution;
  execution.num_threads = options.threads;
  execution.isa = options.isa;
  return std::make_shared<const DecoderModel>(
      DecoderParts{config, std::move(weights), std::move(tokenizer),
                   Prompt(prompt.format, prompt.end_of_sequence, prompt.bos), std::move(info),
                   std::move(digest), execution});
}

absl::StatusOr<ModelDescription> Describe(const ModelLoadOptions& options, DecoderFiles files) {
  const DecoderConfig& config = files.config;
  const LinearForm form =
      LinearForm::Described(ResolveNumerics(options, files.tensors), options.threads);
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, files.load_tokenizer());
  ModelInfo info = InfoOfFiles(options, files.format, *files.source);
  info.default_policy = options.default_policy;
  DescribePrompt(ChooseModelPrompt(files.chat, options.settings.prompt_format, *tokenizer,
                                   config.bos, config.end_ids),
                 info);
  DescribeDecoder(config, form, info);
  info.rounded_types = RoundedTypes(*files.source, form.numerics);
  LECTERN_ASSIGN_OR_RETURN(
      info.weight_bytes,
      DecoderWeights::Measure(config, std::move(files.source), std::move(files.tensors), form));
  return ModelDescription{std::move(info), std::move(tokenizer)};
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderGguf(const ModelLoadOptions& options) {
  const absl::Time start = absl::Now();
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenGguf(options));
  return Load(options, std::move(files), start);
}

absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderFolder(const ModelLoadOptions& options) {
  const absl::Time start = absl::Now();
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenFolder(options));
  return Load(options, std::move(files), start);
}

absl::StatusOr<ModelDescription> DescribeDecoderGguf(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenGguf(options));
  return Describe(options, std::move(files));
}

absl::StatusOr<ModelDescription> DescribeDecoderFolder(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenFolder(options));
  return Describe(options, std::move(files));
}

}  // namespace lectern
