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

// Replaces kAuto. Without VNNI, blocks are about as fast as rotated int8, take less memory
// and stay closer to fp32 (docs/measurements/peers.md, docs/measurements/quality.md). With VNNI,
// rotated int8 needs half the instructions; the two were not compared there.
Numerics ResolveNumerics(const ModelLoadOptions& options, const DecoderTensors& tensors) {
  if (options.numerics != Numerics::kAuto) return options.numerics;
  const bool blocks = options.isa != kernels::Isa::kAvx512 && AreInBlocks(tensors);
  return blocks ? Numerics::kBlocks : Numerics::kInt8Rotated;
}

// Logs which tensor types are rounded again where weights stay in the blocks of the file.
void LogRounding(const ModelLoadOptions& options, const TensorSource& source) {
  std::set<std::string> rounded;
  for (const std::string_view name : source.Names()) {
    const TensorView* const tensor = source.Find(name);
    if (tensor->shape.size() > 1 && BlockFormOf(tensor->type).rounds) {
      rounded.emplace(ToString(tensor->type));
    }
  }
  if (rounded.empty()) return;
  LogInfo("weights of these types are rounded to 8 bits in blocks of 32",
          {{"model", options.name}, {"types", absl::StrJoin(rounded, ", ")}});
}

absl::StatusOr<std::shared_ptr<const Model>> Load(const ModelLoadOptions& options,
                                                  DecoderFiles files) {
  const DecoderConfig& config = files.config;
  ModelInfo info = InfoOfFiles(options, files.format, *files.source);
  info.default_policy = options.default_policy;
  LECTERN_ASSIGN_OR_RETURN(const LinearForm form,
                           LinearForm::Of(ResolveNumerics(options, files.tensors), options.threads,
                                          options.device.get()));
  if (form.numerics == Numerics::kBlocks) LogRounding(options, *files.source);
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
  info.weight_bytes = EstimateWeightBytes(*files.source, form.numerics);
  return ModelDescription{std::move(info), std::move(tokenizer)};
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderGguf(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenGguf(options));
  return Load(options, std::move(files));
}

absl::StatusOr<std::shared_ptr<const Model>> LoadDecoderFolder(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(DecoderFiles files, OpenFolder(options));
  return Load(options, std::move(files));
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
