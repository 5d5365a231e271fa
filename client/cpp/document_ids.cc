#include "client/cpp/document_ids.h"

#include "client/cpp/call_scope.h"
#include "protocol/document_id.h"

namespace lectern {

std::string DocumentIds::Of(const std::string& text_sha256, const std::string& model,
                            const CallOptions& options, absl::Time deadline) {
  Fingerprints known;
  {
    const absl::MutexLock lock(&mutex_);
    known = fingerprints_;
  }
  if (known.empty()) {
    CallScope scope(options, deadline);
    lectern::v1::ListModelsResponse models;
    if (!channels_.any().ListModels(scope.context(), {}, &models).ok()) return "";
    for (const auto& info : models.models()) {
      known.emplace("", info.fingerprint());  // the first model is the default
      known.emplace(info.name(), info.fingerprint());
    }
    const absl::MutexLock lock(&mutex_);
    fingerprints_ = known;
  }
  const auto found = known.find(model);
  if (found == known.end() || found->second.empty()) return "";
  return DocumentIdOf(found->second, text_sha256);
}

void DocumentIds::Check(const std::string& expected, const std::string& actual) {
  if (expected == actual) return;
  const absl::MutexLock lock(&mutex_);
  fingerprints_.clear();
}

}  // namespace lectern
