#include "tests/server/model/sequence.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lectern::test {

std::vector<float> AllLogits(const Model& model, Sequence& sequence,
                             std::span<const int32_t> tokens, int64_t slice_tokens) {
  const auto workspace = model.NewWorkspace();
  const int64_t vocabulary = model.info().vocabulary;
  std::vector<float> logits(tokens.size() * vocabulary);
  for (size_t first = 0; first < tokens.size(); first += slice_tokens) {
    const auto part = tokens.subspan(first, std::min<size_t>(slice_tokens, tokens.size() - first));
    ForwardSlice slice = sequence.Next(part);
    slice.all_logits = logits.data() + first * vocabulary;
    const absl::Status status = model.Forward({&slice, 1}, *workspace);
    EXPECT_TRUE(status.ok()) << status;
  }
  return logits;
}

Continuation Greedy(const Model& model, Sequence& sequence, std::span<const int32_t> prompt,
                    int64_t new_tokens) {
  const auto workspace = model.NewWorkspace();
  std::vector<float> logits(model.info().vocabulary);
  std::vector<int32_t> fed(prompt.begin(), prompt.end());
  Continuation result;
  for (int64_t step = 0; step < new_tokens; ++step) {
    ForwardSlice slice = sequence.Next(fed);
    slice.logits = logits.data();
    const absl::Status status = model.Forward({&slice, 1}, *workspace);
    EXPECT_TRUE(status.ok()) << status;
    const auto best = std::max_element(logits.begin(), logits.end());
    const int32_t id = static_cast<int32_t>(best - logits.begin());
    float second = -INFINITY;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (static_cast<int32_t>(i) != id) second = std::max(second, logits[i]);
    }
    result.ids.push_back(id);
    result.gaps.push_back(*best - second);
    fed = {id};
  }
  return result;
}

}  // namespace lectern::test
