// Whether a span reader was trained on questions without an answer (SQuAD 2, Rajpurkar et al. 2018,
// arXiv 1806.03822), so that the score of "no answer" means something. config.json does not say;
// the names under which readers are published do.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/model/load_options.h"

namespace lectern {

// ModelInfo::no_answer_threshold of the reader in folder `path`: what `settings` say, else by name
// 0 or unset. `trained_from` is config.json's _name_or_path, which may be empty.
//
// The names are the folder's, that of the hub's cache above a snapshot ("models--ORG--NAME"), and
// the last part of `trained_from`. If one of them contains "squad2" (also "squad-v2", "squad_2.0"
// and the like), or none contains "squad", the threshold is 0, as in SQuAD 2's evaluation. If one
// contains "squad" without a 2, the reader saw only questions that have an answer: it always
// answers with a span.
std::optional<double> NoAnswerThreshold(const ModelSettings& settings, const std::string& path,
                                        std::string_view trained_from);

}  // namespace lectern
