// Windows of encoders that read a question and a part of the document together: which parts, and
// which spans of them answer (SQuAD's usual post-processing, Rajpurkar et al. 2016, arXiv
// 1606.05250; Devlin et al. 2019, arXiv 1810.04805, section 4.2).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "server/engine/documents/document.h"

namespace lectern {

// Parts of at most `room` tokens that cover `range`, each beginning `overlap` tokens before the end
// of the one before it. overlap < room.
std::vector<TokenRange> SlideWindows(const TokenRange& range, size_t room, size_t overlap);

// The scores of one window.
struct WindowScores {
  TokenRange document;        // the document's tokens in it
  size_t document_begin = 0;  // where they begin in the window
  std::vector<float> begins;  // of every token of the window, frame included
  std::vector<float> ends;
};

struct AnswerSpan {
  TokenRange tokens;  // of the document
  size_t window = 0;
  double score = 0;        // of begin and end together
  double probability = 0;  // softmax over the spans that were returned
};

// Of every window the kBestPositions best begins and ends are paired, spans that leave the document
// or are longer than kLongestAnswer left out; the kBestPositions best of all windows, best first.
// Equal scores: the earlier window, the better begin, the better end.
inline constexpr size_t kBestPositions = 20;
inline constexpr size_t kLongestAnswer = 30;
std::vector<AnswerSpan> BestSpans(std::span<const WindowScores> windows);

}  // namespace lectern
