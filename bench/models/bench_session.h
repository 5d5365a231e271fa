// One sequence with its own pages, for programs that time a whole model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "server/model/model.h"

namespace lectern {

double Seconds(const std::function<void()>& work);

// A fixed pseudo-random walk over the vocabulary.
std::vector<int32_t> PseudoRandomIds(int64_t count, int64_t vocabulary);

int32_t MostLikely(std::span<const float> logits);

// Runs Forward; the program ends with status 2 if it fails.
void RunStep(const Model& model, std::span<const ForwardSlice> slices, Workspace& workspace);

// Pages for one sequence.
class BenchPages {
 public:
  BenchPages(const Model& model, int64_t tokens);
  const std::vector<std::byte*>& pages() const { return pages_; }

 private:
  AlignedBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
};

class BenchSession {
 public:
  BenchSession(const Model& model, int64_t max_tokens);
  // Begins with the first `shared` tokens of `document`, a multiple of the page size, in the pages
  // of `document`, which must outlive this.
  BenchSession(const BenchSession& document, int64_t shared, int64_t max_tokens);
  BenchSession(const BenchSession&) = delete;
  BenchSession& operator=(const BenchSession&) = delete;

  // Reads tokens from `position` on in slices; returns the most likely next token.
  int32_t Read(std::span<const int32_t> tokens, int64_t position, const AttentionPolicy& policy);

  // Decodes `count` tokens from `position` on, beginning with `token`.
  void Decode(int32_t token, int count, int64_t position, const AttentionPolicy& policy);

 private:
  friend void AnswerTogether(std::span<const std::unique_ptr<BenchSession>> sessions,
                             std::span<const int32_t> question, int64_t position, int answer_tokens,
                             const AttentionPolicy& policy);

  const Model& model_;
  std::unique_ptr<Workspace> workspace_;
  const BenchPages own_;
  std::vector<std::byte*> pages_;
  std::vector<float> logits_;
};

// All sessions read `question`, each with a different first token, at `position` and decode
// `answer_tokens` tokens. Each step of all sessions is one call.
void AnswerTogether(std::span<const std::unique_ptr<BenchSession>> sessions,
                    std::span<const int32_t> question, int64_t position, int answer_tokens,
                    const AttentionPolicy& policy);

}  // namespace lectern
