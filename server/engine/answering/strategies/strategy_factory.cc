#include "server/engine/answering/strategies/strategy_factory.h"

#include <utility>

#include "server/engine/answering/strategies/chunked_document.h"
#include "server/engine/answering/strategies/extractive_spans.h"
#include "server/engine/answering/strategies/fused_windows.h"
#include "server/engine/answering/strategies/whole_document.h"

namespace lectern {

QuestionPrompt MakeQuestionPrompt(const Model& model, std::string_view question) {
  if (model.info().kind == ModelKind::kGenerative) return model.PromptSuffix(question);
  return model.EncoderPromptOf(question);
}

uint64_t TokensOf(const QuestionPrompt& prompt) {
  if (const auto* suffix = std::get_if<QuestionSuffix>(&prompt)) return suffix->ids.size();
  return std::get<EncoderPrompt>(prompt).size();
}

std::unique_ptr<AnswerStrategy> MakeStrategy(AnswerRun& run, QuestionPrompt prompt) {
  switch (run.model->info().kind) {
    case ModelKind::kGenerative: {
      QuestionSuffix suffix = std::get<QuestionSuffix>(std::move(prompt));
      if (run.reading == ReadingMode::kChunks) {
        return std::make_unique<ChunkedDocument>(run, std::move(suffix));
      }
      return std::make_unique<WholeDocument>(run, std::move(suffix));
    }
    case ModelKind::kSeq2Seq:
      return std::make_unique<FusedWindows>(run, std::get<EncoderPrompt>(std::move(prompt)));
    case ModelKind::kExtractive:
      return std::make_unique<ExtractiveSpans>(run, std::get<EncoderPrompt>(std::move(prompt)));
  }
  return nullptr;
}

}  // namespace lectern
