// Cuts a document into windows for an encoder that reads them together with the question, and finds
// the spans that answer it (SQuAD's usual post-processing, Rajpurkar et al. 2016, arXiv 1606.05250;
// Devlin et al. 2019, arXiv 1810.04805, section 4.2).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "server/engine/documents/document.h"

namespace lectern {

// Returns windows of at most `room` tokens that cover `range`. Each begins `overlap` tokens before
// the end of the previous one; overlap < room.
std::vector<TokenRange> SlideWindows(const TokenRange& range, size_t room, size_t overlap);

// The model's scores of one window.
struct WindowScores {
  TokenRange document;        // the document's tokens in the window
  size_t document_begin = 0;  // their position in the window
  std::vector<float> begins;  // [tokens of the window], the frame included
  std::vector<float> ends;    // [tokens of the window]
};

struct AnswerSpan {
  TokenRange tokens;  // of the document
  size_t window = 0;
  double score = 0;        // the sum of the scores of begin and end
  double probability = 0;  // softmax over the spans returned and, if given, the null score
};

// The score that the document holds no answer: the smallest, over all windows, of begin plus end of
// the window's first token (Rajpurkar et al. 2018, arXiv 1806.03822; Devlin et al. 2019, section
// 4.3). `windows` is not empty.
double NullScore(std::span<const WindowScores> windows);

// Pairs the kBestPositions best begins and ends of every window, without spans that leave the
// document or have more than kLongestAnswer tokens, and returns the kBestPositions best pairs of
// all windows, best first. Among equal scores the earlier window, the better begin, and the better
// end go first.
inline constexpr size_t kBestPositions = 20;
inline constexpr size_t kLongestAnswer = 30;
std::vector<AnswerSpan> BestSpans(std::span<const WindowScores> windows,
                                  std::optional<double> null_score = std::nullopt);

}  // namespace lectern
