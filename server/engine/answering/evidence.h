// Evidence: the sentences of the document that the question's tokens attended to.
//
// Recipe (docs/measurements/quality.md): the attention of the question's tokens, summed over the
// layers that indicate evidence best (the model's choice) and all heads, and over the tokens of
// each sentence; best first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "server/engine/api.h"
#include "server/engine/text/sentences.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

struct Evidence {
  std::vector<EvidenceSpan> spans;  // at most max_spans, best first
  double strength = 0;              // share of attention to the best sentence, 0 to 1
  std::vector<double> shares;       // the same of every sentence; empty if there was no attention
};

// Ranks the sentences of `text`. key_mass[i] is the attention to token i of `encoding`. Spans are
// whole sentences.
Evidence RankEvidence(const std::string& text, const Encoding& encoding,
                      const std::vector<ByteRange>& sentences, std::span<const float> key_mass,
                      uint32_t max_spans);

}  // namespace lectern
