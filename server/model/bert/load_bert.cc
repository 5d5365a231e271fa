#include "server/model/bert/load_bert.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/safetensors.h"
#include "server/model/bert/bert_model.h"
#include "server/model/bert/no_answer.h"
#include "server/model/model_files.h"
#include "server/tokenizer/files/tokenizer_files.h"

namespace lectern {
namespace {

// The id of a special token, given as text; below `rows`, those of the embedding table.
absl::StatusOr<int32_t> SpecialId(const Tokenizer& tokenizer, std::string_view text, int64_t rows,
                                  const std::string& folder) {
  const Encoding encoding = tokenizer.Encode(text, /*parse_special=*/true);
  const FilePart part{.file = folder, .kind = "token", .name = text};
  if (encoding.ids.size() != 1 || !tokenizer.IsSpecial(encoding.ids[0])) {
    return InvalidFile(part, "is not in the vocabulary");
  }
  if (encoding.ids[0] < rows) return encoding.ids[0];
  return InvalidFile(part, "has no row in the embedding table");
}

// A folder's contents but its weights, which are still to be loaded from `source`.
struct BertFiles {
  BertParts parts;
  std::unique_ptr<TensorSource> source;
};

absl::StatusOr<BertFiles> OpenBertFolder(const ModelLoadOptions& options, bool encoder_alone) {
  const std::filesystem::path folder = options.path;
  const std::string config_path = folder / "config.json";
  BertFiles files;
  BertParts& parts = files.parts;
  LECTERN_ASSIGN_OR_RETURN(const std::string config_json, ReadTextFile(config_path));
  LECTERN_ASSIGN_OR_RETURN(parts.config, ReadBertConfig(config_json, config_path));
  LECTERN_ASSIGN_OR_RETURN(parts.config.context_length,
                           ContextLengthOf(options, parts.config.context_length));
  if (!parts.config.reads_spans && !encoder_alone) {
    return UnsupportedFile(
        {.file = config_path, .kind = "key", .name = "architectures"},
        "an encoder alone does not answer questions; a ...ForQuestionAnswering model does");
  }
  LECTERN_ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizerFolder(folder, /*eos_id=*/-1));
  const BertFamily& family = *parts.config.family;
  const int64_t rows = parts.config.vocab;
  LECTERN_ASSIGN_OR_RETURN(parts.cls, SpecialId(*parts.tokenizer, family.cls, rows, options.path));
  LECTERN_ASSIGN_OR_RETURN(parts.sep, SpecialId(*parts.tokenizer, family.sep, rows, options.path));
  LECTERN_ASSIGN_OR_RETURN(files.source, OpenSafetensors(folder, /*ignore_other_types=*/true));
  parts.info = InfoOfFiles(options, "safetensors", *files.source);
  parts.info.no_answer_threshold =
      NoAnswerThreshold(options.settings, options.path, parts.config.trained_from);
  parts.execution.num_threads = options.threads;
  parts.execution.isa = options.isa;
  return files;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Model>> LoadBertFolder(const ModelLoadOptions& options,
                                                            bool encoder_alone) {
  const absl::Time start = absl::Now();
  LECTERN_ASSIGN_OR_RETURN(BertFiles files, OpenBertFolder(options, encoder_alone));
  BertParts& parts = files.parts;
  LECTERN_ASSIGN_OR_RETURN(const LinearForm form,
                           LinearForm::Of(options.numerics, options.threads, options.device.get()));
  LECTERN_ASSIGN_OR_RETURN(parts.weights_hash, HashFiles(ModelFilesOf(options.path)));
  LECTERN_ASSIGN_OR_RETURN(parts.weights,
                           BertWeights::Load(parts.config, std::move(files.source), form));
  parts.info.load_time = absl::Now() - start;
  return std::make_shared<const BertModel>(std::move(parts));
}

absl::StatusOr<ModelDescription> DescribeBertFolder(const ModelLoadOptions& options) {
  LECTERN_ASSIGN_OR_RETURN(BertFiles files, OpenBertFolder(options, /*encoder_alone=*/false));
  const LinearForm form = LinearForm::Described(options.numerics, options.threads);
  ModelInfo info = std::move(files.parts.info);
  DescribeBert(files.parts.config, form, info);
  LECTERN_ASSIGN_OR_RETURN(info.weight_bytes,
                           BertWeights::Measure(files.parts.config, std::move(files.source), form));
  return ModelDescription{std::move(info), std::move(files.parts.tokenizer)};
}

}  // namespace lectern
