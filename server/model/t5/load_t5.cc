#include "server/model/t5/load_t5.h"

#include <filesystem>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/formats/safetensors.h"
#include "server/model/model_files.h"
#include "server/model/t5/t5_model.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/word_piece/lower_case.h"

namespace lectern {

namespace {

// A folder's contents but its weights, which are still to be loaded from `source`.
struct T5Files {
  T5Parts parts;
  std::unique_ptr<TensorSource> source;
};

absl::StatusOr<T5Files> OpenT5Folder(const ModelLoadOptions& options) {
  const std::filesystem::path folder = options.path;
  const std::string config_path = folder / "config.json";
  T5Files files;
  T5Parts& parts = files.parts;
  LECTERN_ASSIGN_OR_RETURN(const std::string config_json, ReadTextFile(config_path));
  LECTERN_ASSIGN_OR_RETURN(parts.config, ReadT5Config(config_json, config_path));
  LECTERN_ASSIGN_OR_RETURN(parts.config.context_length,
                           ContextLengthOf(options, parts.config.context_length));
  LECTERN_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizerFolder(folder, parts.config.eos));
  parts.lower_case = options.settings.lower_case.value_or(parts.config.is_unified_qa());
  if (parts.lower_case) parts.tokenizer = NewLowerCase(std::move(parts.tokenizer));
  LECTERN_ASSIGN_OR_RETURN(files.source, OpenSafetensors(folder, /*ignore_other_types=*/true));
  parts.info = InfoOfFiles(options, "safetensors", *files.source);
  parts.execution.num_threads = options.threads;
  parts.execution.isa = options.isa;
  return files;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadT5Folder(const ModelLoadOptions& options) {
  const absl::Time start = absl::Now();
  LECTERN_ASSIGN_OR_RETURN(T5Files files, OpenT5Folder(options));
  T5Parts& parts = files.parts;
  LECTERN_ASSIGN_OR_RETURN(const LinearForm form,
                           LinearForm::Of(options.numerics, options.threads, options.device.get()));
  LECTERN_ASSIGN_OR_RETURN(parts.weights_hash, HashFiles(ModelFilesOf(options.path)));
  LECTERN_ASSIGN_OR_RETURN(parts.weights,
                           T5Weights::Load(parts.config, std::move(files.source), form));
  parts.info.load_time = absl::Now() - start;
  return std::make_shared<const T5Model>(std::move(parts));
}

absl::StatusOr<ModelDescription> DescribeT5Folder(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(T5Files files, OpenT5Folder(options));
  const LinearForm form = LinearForm::Described(options.numerics, options.threads);
  ModelInfo info = std::move(files.parts.info);
  DescribeT5(files.parts.config, form, files.parts.tokenizer.get(), info);
  LECTERN_ASSIGN_OR_RETURN(info.weight_bytes,
                           T5Weights::Measure(files.parts.config, std::move(files.source), form));
  return ModelDescription{std::move(info), std::move(files.parts.tokenizer)};
}

}  // namespace lectern
