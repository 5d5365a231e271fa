// One sequence for tests: tokens, their pages, and the outputs of forward passes over them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "server/model/model.h"

namespace lectern::test {

// Owns pages; grows as it is fed. Not thread-safe.
class Sequence {
 public:
  explicit Sequence(const Model& model, AttentionPolicy policy = AttentionPolicy::Exact())
      : model_(&model), policy_(std::move(policy)) {}

  int64_t position() const { return position_; }
  std::vector<std::byte*>& pages() { return views_; }
  const AttentionPolicy& policy() const { return policy_; }

  // A slice of the next tokens; feeding it moves the position. `tokens` must outlive the call.
  ForwardSlice Next(std::span<const int32_t> tokens) {
    ForwardSlice slice;
    slice.tokens = tokens;
    slice.position = position_;
    slice.policy = &policy_;
    position_ += static_cast<int64_t>(tokens.size());
    while (static_cast<int64_t>(views_.size()) * model_->info().page_tokens < position_) AddPage();
    slice.pages = views_;
    return slice;
  }

  // Makes the next slice start at `position` (which has been written).
  void Rewind(int64_t position) { position_ = position; }

  // A copy with its own pages, as memcpy makes them.
  Sequence Copy() const {
    Sequence copy(*model_, policy_);
    copy.position_ = position_;
    for (const std::byte* page : views_) {
      copy.AddPage();
      std::memcpy(copy.views_.back(), page, model_->info().page_bytes);
    }
    return copy;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  void AddPage() {
    const size_t bytes = model_->info().page_bytes;
    pages_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
    // The earlier contents of a page must not matter.
    std::memset(pages_.back().get(), 0xa5, bytes);
    views_.push_back(pages_.back().get());
  }

  const Model* model_;
  AttentionPolicy policy_;
  int64_t position_ = 0;
  std::vector<std::unique_ptr<std::byte, Free>> pages_;
  std::vector<std::byte*> views_;
};

// Logits [tokens, vocabulary] of the next tokens, fed in slices of at most `slice_tokens`.
std::vector<float> AllLogits(const Model& model, Sequence& sequence,
                             std::span<const int32_t> tokens, int64_t slice_tokens = 512);

// The greedy continuation of `prompt` (not fed yet), with the gap between the best and the second
// logit at every step.
struct Continuation {
  std::vector<int32_t> ids;
  std::vector<float> gaps;
};
Continuation Greedy(const Model& model, Sequence& sequence, std::span<const int32_t> prompt,
                    int64_t new_tokens);

}  // namespace lectern::test
