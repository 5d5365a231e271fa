#include "server/engine/documents/document_prefill.h"

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "server/engine/documents/document_size.h"
#include "server/engine/fault_points.h"
#include "server/engine/model_kind.h"

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
  auto allocated = co_await allocator_->Allocate(*lease.model(), std::move(sizes), owner);
  if (!allocated.ok()) co_return allocated.status();
  auto pages = std::make_shared<std::vector<PageSet>>(*std::move(allocated));
  std::function<Loaded()> work = [store = store_, lease, reading, policy, pages] {
    size_t next = 0;
    // The store asks for the pages of one part after the other, in the order of `sizes`.
    return store->FindOrLoad(
        lease, reading, policy,
        [&](size_t, size_t) -> absl::StatusOr<PageSet> { return std::move((*pages)[next++]); });
  };
  pages = nullptr;
  auto loaded = co_await scheduler_->Background(std::move(work), owner);
  if (!loaded.ok()) co_return loaded.status();
  co_return *std::move(loaded);
}

Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DocumentPrefill::Compute(
    std::shared_ptr<const DocumentContent> content, ReadingMode reading, AttentionPolicy policy,
    StepOwner owner, Scheduler::Progress progress) {
  const Model& model = *content->model;
  auto kv = std::make_shared<DocumentKv>();
  kv->policy = policy;
  kv->reading = reading;
  if (!KeepsKv(model.info())) co_return std::shared_ptr<const DocumentKv>(std::move(kv));
  std::vector<std::vector<int32_t>> prompts;
  std::vector<uint64_t> sizes;
  uint64_t tokens = 0;
  for (const TokenRange& part : content->Parts(reading)) {
    prompts.push_back(content->Prompt(part));
    sizes.push_back(prompts.back().size());
    tokens += prompts.back().size();
  }
  auto pages = co_await allocator_->Allocate(model, std::move(sizes), owner);
  if (!pages.ok()) co_return pages.status();
  kv->parts = *std::move(pages);
  std::vector<ForwardSlice> slices;
  for (size_t i = 0; i < prompts.size(); ++i) {
    slices.push_back({.tokens = prompts[i], .pages = kv->parts[i].pages(), .policy = &kv->policy});
  }
  const absl::Status computed = co_await scheduler_->Run(model, slices, owner, &progress);
  if (!computed.ok()) co_return computed;
  metrics_->PrefillTokens(model.info().name, PrefillSource::kComputed, tokens);
  co_return std::shared_ptr<const DocumentKv>(std::move(kv));
}

Task<absl::StatusOr<DocumentPrefill::Found>> DocumentPrefill::FindOrCompute(
    DocumentStore::Lease lease, ReadingMode reading, AttentionPolicy policy, StepOwner owner,
    Scheduler::Progress progress) {
  std::shared_ptr<const DocumentKv> kv;
  std::function<absl::StatusOr<bool>()> find = [&]() -> absl::StatusOr<bool> {
    kv = store_->Find(lease, reading, policy);
    return kv != nullptr;
  };
  SingleFlight::Key key{lease.id(), reading, policy};
  const auto turn = co_await flights_.FindOrBegin(std::move(key), std::move(find), owner);
  if (!turn.ok()) co_return turn.status();
  if (!*turn) co_return Found{.kv = std::move(kv)};
  auto loaded = co_await Load(lease, reading, policy, owner);
  if (!loaded.ok()) co_return loaded.status();
  if (*loaded != nullptr) co_return Found{.kv = *std::move(loaded)};
  auto computed =
      co_await Compute(lease.shared_content(), reading, policy, owner, std::move(progress));
  if (!computed.ok()) co_return computed.status();
  DelayPoint(Fault::kPublish);
  store_->AddRead(lease.id(), *computed);
  co_return Found{.kv = *std::move(computed), .computed = true};
}

Task<absl::StatusOr<DocumentInfo>> DocumentPrefill::Store(
    std::shared_ptr<const DocumentContent> content, ReadingMode reading, AttentionPolicy policy,
    DocumentOptions keep, StepOwner owner, Scheduler::Progress progress) {
  const absl::Duration start = clock_->Steady();
  std::optional<DocumentInfo> known;
  std::function<absl::StatusOr<bool>()> find = [&]() -> absl::StatusOr<bool> {
    LECTERN_ASSIGN_OR_RETURN(known, store_->Renew(content->id, keep));
    return known.has_value();
  };
  SingleFlight::Key key{content->id, reading, policy};
  const auto turn = co_await flights_.FindOrBegin(std::move(key), std::move(find), owner);
  if (!turn.ok()) co_return turn.status();
  if (!*turn) co_return *std::move(known);
  // Given back when the document counts itself.
  const auto reserved = store_->Reserve(keep.owner, content->id, DeviceBytes(*content, reading));
  if (!reserved.ok()) co_return reserved.status();
  auto computed = co_await Compute(content, reading, policy, owner, std::move(progress));
  if (!computed.ok()) co_return computed.status();
  metrics_->DocumentRead(content->model->info().name, content->text.size(),
                         content->encoding.ids.size(), clock_->Steady() - start);
  LECTERN_CO_RETURN_IF_ERROR(FaultPoint(Fault::kPublish));
  co_return store_->Put(std::move(content), *std::move(computed), keep);
}

}  // namespace lectern
