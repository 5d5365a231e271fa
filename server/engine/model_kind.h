// Properties that the engine derives from a model's kind. Only this header and the factory of
// strategies (answering/strategies/strategy_factory.cc) look at the kind.
#pragma once

#include "server/model/model.h"

namespace lectern {

// A decoder reads a document once and keeps its keys and values for all questions. The other kinds
// read a document together with each question and keep nothing.
inline bool KeepsKv(const ModelInfo& model) { return model.kind == ModelKind::kGenerative; }

// Answers are sampled token by token. An extractive model answers with spans of the document.
inline bool Samples(const ModelInfo& model) { return model.kind != ModelKind::kExtractive; }

}  // namespace lectern
