// One sequence with pages of its own, for programs that time a whole model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "server/model/aligned_buffer.h"
#include "server/model/model.h"

namespace lectern {

double Seconds(const std::function<void()>& work);

// A fixed pseudo-random walk over the vocabulary.
std::vector<int32_t> PseudoRandomIds(int64_t count, int64_t vocabulary);

class BenchSession {
 public:
  BenchSession(const Model& model, int64_t max_tokens);
  BenchSession(const BenchSession&) = delete;
  BenchSession& operator=(const BenchSession&) = delete;

  // Reads tokens behind `position` in slices; returns the most likely next token.
  int32_t Read(std::span<const int32_t> tokens, int64_t position, const AttentionPolicy& policy);

  // Decodes `count` tokens behind `position`, beginning with `token`.
  void Decode(int32_t token, int count, int64_t position, const AttentionPolicy& policy);

 private:
  const Model& model_;
  std::unique_ptr<Workspace> workspace_;
  AlignedBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
  std::vector<float> logits_;
};

}  // namespace lectern
