#include "client/cpp/retries.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "base/error_details.h"
#include "protocol/reasons.h"

namespace lectern {
namespace {

// A replica that lacks a document it was just sent is unlikely to keep it the second time. Behind a
// proxy, however, the question may reach another replica than the upload if one has just joined or
// left.
constexpr int kUploadsToOnePeer = 2;

// If a replica dies in the middle of a stream, a proxy ends the stream without a status or resets
// it, and gRPC reports UNKNOWN or INTERNAL. A Lectern server always gives a reason.
bool BrokeOffOnTheWay(const absl::Status& failed) {
  if (!GetErrorDetails(failed).reason.empty()) return false;
  return absl::IsUnknown(failed) ||
         (absl::IsInternal(failed) && absl::StrContains(failed.message(), "RST_STREAM"));
}

}  // namespace

Retries::Retries(const CallOptions& options, absl::Time deadline)
    : options_(options),
      deadline_(deadline),
      next_wait_(options.retry.first_wait),
      random_(std::random_device{}()) {}

bool Retries::NeedsUpload(const absl::Status& failed) const {
  if (options_.document == nullptr || !absl::IsNotFound(failed)) return false;
  const std::string reason = GetErrorDetails(failed).reason;
  return reason == kReasonDocumentEvicted || reason == kReasonDocumentNotFound;
}

bool Retries::Retryable(const absl::Status& failed) const {
  if (absl::IsUnavailable(failed) || NeedsUpload(failed) || BrokeOffOnTheWay(failed)) return true;
  if (absl::IsCancelled(failed)) {
    return options_.canceller == nullptr || !options_.canceller->cancelled();
  }
  return absl::IsResourceExhausted(failed) && options_.retry.when_full &&
         GetErrorDetails(failed).retry_after.has_value();
}

absl::Duration Retries::WaitAfter(const absl::Status& failed) {
  if (NeedsUpload(failed)) return absl::ZeroDuration();
  const absl::Duration wait = next_wait_;
  next_wait_ = std::min(2 * next_wait_, options_.retry.longest_wait);
  // Jitter separates clients that failed together. The wait requested by a full server is a
  // minimum; one requested by an unavailable server is ignored, because the next attempt goes to
  // another replica.
  const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
  const absl::Duration asked = absl::IsResourceExhausted(failed)
                                   ? *GetErrorDetails(failed).retry_after
                                   : absl::ZeroDuration();
  return asked + share * wait;
}

bool Retries::Sleep(absl::Duration wait) const {
  if (options_.canceller == nullptr) {
    absl::SleepFor(wait);
    return true;
  }
  absl::MutexLock lock(&options_.canceller->mutex_);
  return !options_.canceller->mutex_.AwaitWithTimeout(
      absl::Condition(&options_.canceller->cancelled_), wait);
}

bool Retries::Again(const absl::Status& failed, const std::string& peer) {
  if (!Retryable(failed) || attempt_ >= options_.retry.max_attempts) return false;
  const bool uploads = NeedsUpload(failed);
  if (uploads && uploads_to_[peer] >= kUploadsToOnePeer) return false;
  const absl::Duration wait = WaitAfter(failed);
  if (absl::Now() + wait >= deadline_) return false;
  ++attempt_;
  if (options_.on_retry) {
    options_.on_retry({.cause = failed, .attempt = attempt_, .wait = wait, .uploads = uploads});
  }
  return Sleep(wait);
}

}  // namespace lectern
