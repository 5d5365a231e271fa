// Chooses how a question is answered: by the model's kind, and by how the document is read.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>

#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/strategies/answer_strategy.h"
#include "server/model/model.h"

namespace lectern {

// The question as a decoder's prompt has it, after the document, or as the windows of an encoder
// have it, around a part of the document.
using QuestionPrompt = std::variant<QuestionSuffix, EncoderPrompt>;

QuestionPrompt MakeQuestionPrompt(const Model& model, std::string_view question);
uint64_t TokensOf(const QuestionPrompt& prompt);

// `run` must outlive the strategy; its content and reading are known. `prompt` comes from
// MakeQuestionPrompt() for the run's model.
std::unique_ptr<AnswerStrategy> MakeStrategy(AnswerRun& run, QuestionPrompt prompt);

}  // namespace lectern
