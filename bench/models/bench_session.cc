#include "bench/models/bench_session.h"

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

int32_t MostLikely(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void RunStep(const Model& model, std::span<const ForwardSlice> slices, Workspace& workspace) {
  const absl::Status status = model.Forward(slices, workspace);
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(2);
}

BenchPages::BenchPages(const Model& model, int64_t tokens) {
  const int64_t page_tokens = model.info().page_tokens;
  const int64_t count = (tokens + page_tokens - 1) / page_tokens;
  std::byte* memory = memory_.Reserve(count * model.info().page_bytes);
  for (int64_t i = 0; i < count; ++i) pages_.push_back(memory + i * model.info().page_bytes);
}

BenchSession::BenchSession(const Model& model, int64_t max_tokens)
    : model_(model),
      workspace_(model.NewWorkspace()),
      own_(model, max_tokens),
      pages_(own_.pages()),
      logits_(model.info().vocabulary) {}

BenchSession::BenchSession(const BenchSession& document, int64_t shared, int64_t max_tokens)
    : model_(document.model_),
      own_(model_, max_tokens - shared),
      logits_(model_.info().vocabulary) {
  const int64_t page_tokens = model_.info().page_tokens;
  pages_.assign(document.pages_.begin(), document.pages_.begin() + shared / page_tokens);
  pages_.insert(pages_.end(), own_.pages().begin(), own_.pages().end());
}

int32_t BenchSession::Read(std::span<const int32_t> tokens, int64_t position,
                           const AttentionPolicy& policy) {
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min<size_t>(tokens.size(), kSliceTokens));
    tokens = tokens.subspan(part.size());
    ForwardSlice slice{.tokens = part, .position = position, .pages = pages_, .policy = &policy};
    if (tokens.empty()) slice.logits = logits_.data();
    RunStep(model_, {&slice, 1}, *workspace_);
    position += static_cast<int64_t>(part.size());
  }
  return MostLikely(logits_);
}

void BenchSession::Decode(int32_t token, int count, int64_t position,
                          const AttentionPolicy& policy) {
  for (int i = 0; i < count; ++i) token = Read({&token, 1}, position + i, policy);
}

void AnswerTogether(std::span<const std::unique_ptr<BenchSession>> sessions,
                    std::span<const int32_t> question, int64_t position, int answer_tokens,
                    const AttentionPolicy& policy) {
  const Model& model = sessions.front()->model_;
  const std::unique_ptr<Workspace> workspace = model.NewWorkspace();
  std::vector<std::vector<int32_t>> tokens;
  for (size_t i = 0; i < sessions.size(); ++i) {
    tokens.emplace_back(question.begin(), question.end());
    tokens.back()[0] = static_cast<int32_t>(i + 1);
  }
  for (int step = 0; step < answer_tokens; ++step) {
    std::vector<ForwardSlice> slices;
    for (size_t i = 0; i < sessions.size(); ++i) {
      slices.push_back({.tokens = tokens[i],
                        .position = position,
                        .pages = sessions[i]->pages_,
                        .policy = &policy,
                        .logits = sessions[i]->logits_.data()});
    }
    RunStep(model, slices, *workspace);
    position += std::ssize(tokens.front());
    for (size_t i = 0; i < sessions.size(); ++i) tokens[i] = {MostLikely(sessions[i]->logits_)};
  }
}

}  // namespace lectern
