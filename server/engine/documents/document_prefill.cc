#include "server/engine/documents/document_prefill.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "server/engine/kv_cache/page_count.h"

namespace lectern {
Task<absl::StatusOr<std::shared_ptr<const DocumentContent>>> DocumentPrefill::Prepare(
    std::shared_ptr<const Model> model, std::string text, std::string sha256, StepOwner owner) {
  std::function<std::shared_ptr<const DocumentContent>()> work =
      [model = std::move(model), text = std::move(text), sha256 = std::move(sha256)]() mutable {
        return PrepareContent(std::move(model), std::move(text), std::move(sha256));
      };
  co_return co_await scheduler_->Background(std::move(work), owner);
}

Task<absl::StatusOr<DocumentStore::Lease>> DocumentPrefill::MakeResident(DocumentStore::Lease lease,
                                                                         StepOwner owner) {
  if (lease.resident()) co_return lease;
  using Made = absl::StatusOr<DocumentStore::Lease>;
  std::function<Made()> work = [store = store_, lease]() mutable -> Made {
    LECTERN_RETURN_IF_ERROR(store->MakeResident(lease));
    return lease;
  };
  auto made = co_await scheduler_->Background(std::move(work), owner);
  if (!made.ok()) co_return made.status();
  co_return *std::move(made);
}

Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DocumentPrefill::Load(
    DocumentStore::Lease lease, ReadingMode reading, AttentionPolicy policy, StepOwner owner) {
  using Loaded = absl::StatusOr<std::shared_ptr<const DocumentKv>>;
  if (!store_->IsOnDisk(lease, reading, policy)) co_return nullptr;
  std::vector<uint64_t> sizes;
  for (const TokenRange& part : lease.content().Parts(reading)) {
    sizes.push_back(lease.content().PromptSize(part));
  }
  auto allocated = co_await AllocatePages(*lease.model(), std::move(sizes), owner);
  if (!allocated.ok()) co_return allocated.status();
  auto pages = std::make_shared<std::vector<PageSet>>(*std::move(allocated));
  std::function<Loaded()> work = [store = store_, lease, reading, policy, pages] {
    size_t next = 0;
    // The store asks for what the document's parts need, as above.
    return store->FindOrLoad(
        lease, reading, policy,
        [&](size_t, size_t) -> absl::StatusOr<PageSet> { return std::move((*pages)[next++]); });
  };
  pages = nullptr;
  auto loaded = co_await scheduler_->Background(std::move(work), owner);
  if (!loaded.ok()) co_return loaded.status();
  co_return *std::move(loaded);
}

absl::Status DocumentPrefill::NoRoom(const Model& model, uint64_t tokens, uint64_t bytes) const {
  ErrorDetails details{.reason = "CACHE_FULL",
                       .metadata = {{"bytes", absl::StrCat(bytes)},
                                    {"limit", absl::StrCat(pool_->budget())},
                                    {"used", absl::StrCat(pool_->used())}}};
  if (bytes <= pool_->budget() && store_->AnyInUse()) details.retry_after = absl::Seconds(1);
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("keys and values of ", tokens, " tokens take ", bytes, " bytes; ", pool_->used(),
                   " of ", pool_->budget(), " are in use by documents that may not be evicted"),
      details);
}

Task<absl::StatusOr<std::vector<PageSet>>> DocumentPrefill::AllocatePages(
    const Model& model, std::vector<uint64_t> tokens, StepOwner owner) {
  const ModelInfo& info = model.info();
  uint64_t bytes = 0;
  for (const uint64_t count : tokens) {
    bytes += PagePool::Cost(info.page_bytes, PagesFor(count, info));
  }
  const uint64_t all_tokens = std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
  while (true) {
    const uint64_t used = pool_->used();
    if (bytes > pool_->budget()) co_return NoRoom(model, all_tokens, bytes);
    std::vector<PageSet> sets(tokens.size());
    bool fits = true;
    for (size_t i = 0; fits && i < tokens.size(); ++i) {
      fits = pool_->Allocate(info.page_bytes, PagesFor(tokens[i], info), sets[i]);
    }
    if (fits) co_return std::move(sets);
    sets.clear();
    if (store_->EvictOne()) continue;
    // Another job may give back pages, or a document.
    const uint64_t ended = scheduler_->jobs_ended();
    std::function<bool()> changed = [this, used, ended] {
      return pool_->used() < used || scheduler_->jobs_ended() != ended;
    };
    const absl::Status waited = co_await scheduler_->WaitForMemory(std::move(changed), owner);
    if (absl::IsAborted(waited)) co_return NoRoom(model, all_tokens, bytes);
    if (!waited.ok()) co_return waited;
  }
}

Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DocumentPrefill::Read(
    std::shared_ptr<const DocumentContent> content, ReadingMode reading, AttentionPolicy policy,
    StepOwner owner, Scheduler::Progress progress) {
  const Model& model = *content->model;
  auto read = std::make_shared<DocumentKv>();
  read->policy = policy;
  read->reading = reading;
  if (model.info().kind != ModelKind::kGenerative) {
    co_return std::shared_ptr<const DocumentKv>(std::move(read));
  }
  std::vector<std::vector<int32_t>> prompts;
  std::vector<uint64_t> sizes;
  uint64_t tokens = 0;
  for (const TokenRange& part : content->Parts(reading)) {
    prompts.push_back(content->Prompt(part));
    sizes.push_back(prompts.back().size());
    tokens += prompts.back().size();
  }
  auto pages = co_await AllocatePages(model, std::move(sizes), owner);
  if (!pages.ok()) co_return pages.status();
  read->parts = *std::move(pages);
  std::vector<ForwardSlice> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    requests.push_back(
        {.tokens = prompts[i], .pages = read->parts[i].pages(), .policy = &read->policy});
  }
  const absl::Status computed = co_await scheduler_->Run(model, requests, owner, &progress);
  if (!computed.ok()) co_return computed;
  metrics_->PrefillTokens(model.info().name, PrefillSource::kComputed, tokens);
  co_return std::shared_ptr<const DocumentKv>(std::move(read));
}

bool DocumentPrefill::IsReading(const Key& key) const {
  return std::find(reading_.begin(), reading_.end(), key) != reading_.end();
}

}  // namespace lectern
