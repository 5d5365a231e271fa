#include "client/cpp/call_scope.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error_details.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"
#include "client/cpp/rpc_status.h"
#include "protocol/metadata.h"
#include "protocol/reasons.h"

namespace lectern {
namespace {

absl::Status CheckName(const char* field, std::string_view value, size_t limit) {
  if (value.empty() || IsName(value, limit)) return absl::OkStatus();
  const std::string allowed = absl::StrCat("must be [A-Za-z0-9._-]{1,", limit, "}");
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", allowed),
                   {.reason = kReasonInvalidRequest, .field_violations = {{field, allowed}}});
}

absl::Status CheckToken(std::string_view token) {
  bool good = token.size() <= kMaxTokenBytes;
  for (const char c : token) good = good && absl::ascii_isgraph(c);
  if (good) return absl::OkStatus();
  const std::string allowed =
      absl::StrCat("must be at most ", kMaxTokenBytes, " visible ASCII characters");
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat("the token ", allowed),
                   {.reason = kReasonInvalidRequest, .field_violations = {{"token", allowed}}});
}

}  // namespace

void Canceller::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (running_ != nullptr) running_->TryCancel();
}

bool Canceller::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

DocumentSource TextSource(std::string text) {
  return {.text = [text = std::move(text)]() -> absl::StatusOr<std::string> { return text; }};
}

DocumentSource FileSource(const std::string& path) {
  return {.text = [path]() -> absl::StatusOr<std::string> {
    LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    return std::string(file.bytes());
  }};
}

absl::Status CheckOptions(const CallOptions& options) {
  LECTERN_RETURN_IF_ERROR(CheckName(kTenantKey, options.tenant, kMaxTenantBytes));
  LECTERN_RETURN_IF_ERROR(CheckToken(options.token));
  return CheckName(kRequestIdKey, options.request_id, kMaxRequestIdBytes);
}

absl::Time DeadlineOf(const CallOptions& options) { return absl::Now() + options.timeout; }

CallScope::CallScope(const CallOptions& options, absl::Time deadline,
                     const std::string& document_id)
    : canceller_(options.canceller) {
  if (deadline != absl::InfiniteFuture()) context_.set_deadline(absl::ToChronoTime(deadline));
  if (!options.tenant.empty()) context_.AddMetadata(kTenantKey, options.tenant);
  if (!options.token.empty()) {
    context_.AddMetadata(kAuthorizationKey,
                         absl::StrCat(std::string(kBearerPrefix), options.token));
  }
  if (!options.request_id.empty()) context_.AddMetadata(kRequestIdKey, options.request_id);
  // An id that metadata cannot carry is left out here; the server refuses the request.
  if (IsName(document_id, kMaxDocumentIdBytes)) {
    context_.AddMetadata(kDocumentKey, document_id);
  }
  if (canceller_ == nullptr) return;
  absl::MutexLock lock(&canceller_->mutex_);
  canceller_->running_ = &context_;
  if (canceller_->cancelled_) context_.TryCancel();
}

CallScope::~CallScope() {
  if (canceller_ == nullptr) return;
  absl::MutexLock lock(&canceller_->mutex_);
  canceller_->running_ = nullptr;
}

absl::Status CallScope::ToStatus(const grpc::Status& status) const {
  const absl::Status plain = FromGrpcStatus(status);
  if (plain.ok()) return plain;
  const auto& trailing = context_.GetServerTrailingMetadata();
  const auto id = trailing.find(kRequestIdKey);
  if (id == trailing.end()) return plain;
  ErrorDetails details = GetErrorDetails(plain);
  details.metadata["request_id"] = std::string(id->second.data(), id->second.size());
  return MakeError(plain.code(), {plain.message().data(), plain.message().size()}, details);
}

}  // namespace lectern
