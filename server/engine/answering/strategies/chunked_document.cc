#include "server/engine/answering/strategies/chunked_document.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "server/engine/answering/chunk_reading.h"
#include "server/engine/request_checks.h"

namespace lectern {

Task<absl::Status> ChunkedDocument::Prefill() {
  BeginPrefill();
  auto document = co_await DocumentPages();
  if (!document.ok()) co_return document.status();
  const absl::Status searched = co_await SearchChunks(*document);
  if (!searched.ok()) co_return searched;
  co_return co_await ReadAgain(*std::move(document));
}

Task<absl::StatusOr<std::vector<ChunkedDocument::Search>>> ChunkedDocument::BeginSearches(
    std::shared_ptr<const DocumentKv> document) {
  const ModelInfo& info = run_.model->info();
  const DocumentContent& text = *run_.content;
  const std::vector<size_t> candidates = ChooseCandidates(text, run_.options.question);
  std::vector<uint64_t> sizes;
  uint64_t considered = 0;
  for (const size_t chunk : candidates) {
    considered += text.chunks[chunk].size();
    sizes.push_back(
        Sequence::OwnTokens(text.PromptSize(text.chunks[chunk]), suffix_.question_end, info));
  }
  run_.answer.considered_ratio =
      static_cast<double>(considered) / static_cast<double>(text.encoding.ids.size());
  auto pages = co_await run_.parts.allocator->Allocate(*run_.model, std::move(sizes), run_.owner());
  if (!pages.ok()) co_return pages.status();
  std::vector<Search> searches;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const uint64_t tokens = text.PromptSize(text.chunks[candidates[i]]);
    const std::vector<float> none(tokens + suffix_.question_end, 0.0f);
    searches.push_back(
        {.chunk = candidates[i],
         .sequence = Sequence(document, candidates[i], tokens, info, std::move((*pages)[i])),
         .frame_mass = none,
         .question_mass = none});
  }
  co_return std::move(searches);
}

Task<absl::Status> ChunkedDocument::SearchChunks(std::shared_ptr<const DocumentKv> document) {
  auto begun = co_await BeginSearches(std::move(document));
  if (!begun.ok()) co_return begun.status();
  std::vector<Search>& searches = *begun;
  const size_t begin = suffix_.question_begin, end = suffix_.question_end;
  std::vector<ForwardSlice> slices;
  for (Search& search : searches) {
    ForwardSlice slice{.tokens = std::span(suffix_.ids).first(begin),
                       .position = search.sequence.position(),
                       .pages = search.sequence.pages(),
                       .policy = &run_.policy,
                       .kept_mass = &run_.kept_mass,
                       .key_mass = search.frame_mass.data(),
                       .evidence_only = true};
    slices.push_back(slice);
    slice.tokens = std::span(suffix_.ids).subspan(begin, end - begin);
    slice.position += static_cast<int64_t>(begin);
    slice.key_mass = search.question_mass.data();
    slices.push_back(slice);
  }
  const Scheduler::Progress progress = [this, chunks = searches.size()](uint64_t done) {
    run_.sink->OnProgress(AskStage::kSearch, done / suffix_.question_end, chunks);
  };
  const absl::Status computed =
      co_await run_.parts.scheduler->Run(*run_.model, slices, run_.owner(), &progress);
  if (!computed.ok()) co_return computed;
  run_.CountComputed(searches.size() * end);
  std::vector<float> token_mass(run_.content->encoding.ids.size(), 0.0f);
  for (const Search& search : searches) AddMass(search, token_mass);
  run_.RankSentences(token_mass);
  co_return absl::OkStatus();
}

// Counts what the question's words attend to more than the frame before them does. Every prompt has
// places that draw attention whatever is asked, its first sentence above all, and each chunk has
// its own.
void ChunkedDocument::AddMass(const Search& search, std::vector<float>& token_mass) const {
  const double frame_tokens = static_cast<double>(suffix_.question_begin);
  const double own_tokens = static_cast<double>(suffix_.question_end - suffix_.question_begin);
  const double share = frame_tokens > 0 ? own_tokens / frame_tokens : 0;
  const TokenRange& chunk = run_.content->chunks[search.chunk];
  const size_t prefix = run_.content->prefix.size();
  for (size_t i = 0; i < chunk.size(); ++i) {
    const double words = search.question_mass[prefix + i];
    const double more = words - share * search.frame_mass[prefix + i];
    // Never zero: there must be an order even where all is alike.
    const double least = words / 1024.0;
    token_mass[chunk.begin + i] = static_cast<float>(std::max(least, more));
  }
}

Task<absl::Status> ChunkedDocument::ReadAgain(std::shared_ptr<const DocumentKv> document) {
  const ModelInfo& info = run_.model->info();
  const uint64_t max_new_tokens = run_.options.max_new_tokens;
  std::vector<int32_t> tokens =
      run_.model->tokenizer()
          .Encode(SecondReading(*run_.content, run_.evidence), /*parse_special=*/false)
          .ids;
  const uint64_t prefix = run_.content->prefix.size();
  LECTERN_CO_RETURN_IF_ERROR(CheckContextLength({.document = prefix + tokens.size(),
                                                 .question = suffix_.ids.size(),
                                                 .answer = max_new_tokens},
                                                info));
  tokens.insert(tokens.end(), suffix_.ids.begin(), suffix_.ids.end());
  std::vector<uint64_t> sizes(1, Sequence::OwnTokens(prefix, tokens.size() + max_new_tokens, info));
  auto pages = co_await run_.parts.allocator->Allocate(*run_.model, std::move(sizes), run_.owner());
  if (!pages.ok()) co_return pages.status();
  sequence_ = Sequence(std::move(document), 0, prefix, info, std::move((*pages)[0]));
  const ForwardSlice slice{.tokens = tokens,
                           .position = sequence_.position(),
                           .pages = sequence_.pages(),
                           .policy = &run_.policy,
                           .logits = logits_.data(),
                           .kept_mass = &run_.kept_mass};
  const uint64_t total = tokens.size();
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    run_.sink->OnProgress(AskStage::kPrefillQuestion, done, total);
  };
  const absl::Status computed =
      co_await run_.parts.scheduler->Run(*run_.model, {&slice, 1}, run_.owner(), &progress);
  if (!computed.ok()) co_return computed;
  sequence_.Advance(total);
  run_.CountComputed(total);
  co_return absl::OkStatus();
}

}  // namespace lectern
