#include "server/engine/answering/strategies/whole_document.h"

#include <array>
#include <utility>
#include <vector>

namespace lectern {

Task<absl::Status> WholeDocument::Prefill() {
  BeginPrefill();
  const ModelInfo& info = run_.model->info();
  const uint64_t tokens = run_.document_tokens();
  const std::vector<int32_t>& suffix = suffix_.ids;
  auto document = co_await DocumentPages();
  if (!document.ok()) co_return document.status();
  std::vector<uint64_t> sizes(
      1, Sequence::OwnTokens(tokens, suffix.size() + run_.options.max_new_tokens, info));
  auto pages = co_await run_.parts.allocator->Allocate(*run_.model, std::move(sizes), run_.owner());
  if (!pages.ok()) co_return pages.status();
  sequence_ = Sequence(*std::move(document), 0, tokens, info, std::move((*pages)[0]));
  std::vector<float> key_mass(tokens + suffix.size(), 0.0f);
  // Only the question's own words are evidence: the frame around them attends to what is near it.
  const std::array<size_t, 4> cuts = {0, suffix_.question_begin, suffix_.question_end,
                                      suffix.size()};
  std::vector<ForwardSlice> slices;
  for (size_t part = 0; part + 1 < cuts.size(); ++part) {
    if (cuts[part] == cuts[part + 1]) continue;
    slices.push_back({.tokens = std::span(suffix).subspan(cuts[part], cuts[part + 1] - cuts[part]),
                      .position = sequence_.position() + static_cast<int64_t>(cuts[part]),
                      .pages = sequence_.pages(),
                      .policy = &run_.policy,
                      .kept_mass = &run_.kept_mass,
                      .key_mass = part == 1 ? key_mass.data() : nullptr});
  }
  slices.back().logits = logits_.data();
  const Scheduler::Progress progress = [this](uint64_t done) {
    run_.sink->OnProgress(AskStage::kPrefillQuestion, done, suffix_.ids.size());
  };
  const absl::Status computed =
      co_await run_.parts.scheduler->Run(*run_.model, slices, run_.owner(), &progress);
  if (!computed.ok()) co_return computed;
  sequence_.Advance(suffix.size());
  run_.CountComputed(suffix.size());
  run_.RankSentences(
      std::span(key_mass).subspan(run_.content->prefix.size(), run_.content->encoding.ids.size()));
  co_return absl::OkStatus();
}

}  // namespace lectern
