#include "server/engine/document_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"
#include "server/base/status_macros.h"

namespace lectern {

absl::StatusOr<PageSet> DocumentReader::AllocatePages(const Model& model, uint64_t tokens) {
  const ModelInfo& info = model.info();
  const size_t count = (tokens + info.page_tokens - 1) / info.page_tokens;
  PageSet pages;
  while (!pool_->Allocate(info.page_bytes, count, pages)) {
    if (store_->EvictOne()) continue;
    const uint64_t need = PagePool::Cost(info.page_bytes, count);
    ErrorDetails details{.reason = "CACHE_FULL",
                         .metadata = {{"bytes", absl::StrCat(need)},
                                      {"limit", absl::StrCat(pool_->budget())},
                                      {"used", absl::StrCat(pool_->used())}}};
    if (need <= pool_->budget() && store_->AnyInUse()) details.retry_after = absl::Seconds(1);
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat("keys and values of ", tokens, " tokens take ", need, " bytes; ",
                                  pool_->used(), " of ", pool_->budget(),
                                  " are in use by documents that may not be evicted"),
                     details);
  }
  return pages;
}

absl::StatusOr<std::shared_ptr<const ReadDocument>> DocumentReader::Read(
    const DocumentContent& content, const AttentionPolicy& policy, const QueuedJob& job,
    WorkStage stage, const std::function<void(uint64_t)>& progress) {
  auto read = std::make_shared<ReadDocument>();
  read->policy = policy;
  for (const TokenRange& part : content.Parts(read->reading)) {
    const std::vector<int32_t> prompt = content.Prompt(part);
    LECTERN_ASSIGN_OR_RETURN(PageSet pages, AllocatePages(*content.model, prompt.size()));
    const StepRequest request{.tokens = prompt, .pages = pages.pages(), .policy = &read->policy};
    LECTERN_RETURN_IF_ERROR(stepper_->Run(*content.model, request, job, stage, progress));
    read->parts.push_back(std::move(pages));
    metrics_->PrefillTokens(content.model->info().name, PrefillSource::kComputed, prompt.size());
  }
  return read;
}

}  // namespace lectern
