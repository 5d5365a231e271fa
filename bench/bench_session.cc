#include "bench/bench_session.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace lectern {

constexpr int kSliceTokens = 512;

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int32_t> PseudoRandomIds(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids(count);
  uint32_t state = 1;
  for (int32_t& id : ids) {
    state = state * 1664525u + 1013904223u;
    id = static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(vocabulary));
  }
  return ids;
}

BenchSession::BenchSession(const Model& model, int64_t max_tokens)
    : model_(model), workspace_(model.NewWorkspace()) {
  const ModelInfo& info = model.info();
  const int64_t count = (max_tokens + info.page_tokens - 1) / info.page_tokens;
  std::byte* memory = memory_.Reserve(count * info.page_bytes);
  for (int64_t i = 0; i < count; ++i) pages_.push_back(memory + i * info.page_bytes);
  logits_.resize(info.vocabulary);
}

int32_t BenchSession::Read(std::span<const int32_t> tokens, int64_t position,
                           const AttentionPolicy& policy) {
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min<size_t>(tokens.size(), kSliceTokens));
    tokens = tokens.subspan(part.size());
    ForwardSlice slice{.tokens = part, .position = position, .pages = pages_, .policy = &policy};
    if (tokens.empty()) slice.logits = logits_.data();
    const absl::Status status = model_.Forward({&slice, 1}, *workspace_);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(2);
    }
    position += static_cast<int64_t>(part.size());
  }
  return static_cast<int32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
}

void BenchSession::Decode(int32_t token, int count, int64_t position,
                          const AttentionPolicy& policy) {
  for (int i = 0; i < count; ++i) token = Read({&token, 1}, position + i, policy);
}

}  // namespace lectern
