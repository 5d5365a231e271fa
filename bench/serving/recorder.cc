#include "bench/serving/recorder.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"

namespace lectern::bench {
namespace {

using Milliseconds = std::chrono::duration<double, std::milli>;

nlohmann::json Percentiles(std::vector<double> values) {
  nlohmann::json out = {{"count", values.size()}};
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  for (const int percent : {50, 90, 99}) {
    const size_t rank = (values.size() * static_cast<size_t>(percent) + 99) / 100;
    out["p" + std::to_string(percent)] = values[std::max<size_t>(rank, 1) - 1];
  }
  out["max"] = values.back();
  return out;
}

const char* NameOf(Kind kind) {
  switch (kind) {
    case Kind::kAsk:
      return "ask";
    case Kind::kUpload:
      return "upload";
    case Kind::kCancel:
      return "cancel";
    case Kind::kSlow:
      return "slow_reader";
    case Kind::kCrash:
      return "crash";
  }
  return "";
}

}  // namespace

bool IsRefusal(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  if (absl::IsResourceExhausted(status)) {
    return details.reason == "QUEUE_REQUESTS" || details.reason == "QUEUE_TOKENS" ||
           details.reason == "QUEUE_WAIT" || details.reason == "CACHE_FULL" ||
           details.reason == "UPLOAD_BUFFER";
  }
  const auto stage = details.metadata.find("stage");
  return absl::IsDeadlineExceeded(status) && stage != details.metadata.end() &&
         stage->second == "admission";
}

double Recorder::Now() const {
  return std::chrono::duration<double>(SteadyClock::now() - begin_).count();
}

void Recorder::Sent() {
  absl::MutexLock lock(&mutex_);
  ++sent_;
}

void Recorder::Text(uint32_t tokens, SteadyClock::duration gap) {
  if (!Counts(Now())) return;
  absl::MutexLock lock(&mutex_);
  tokens_ += tokens;
  // A merged piece counts for several tokens.
  if (gap > gap.zero() && tokens > 0) inter_token_ms_.push_back(Milliseconds(gap).count() / tokens);
}

void Recorder::Done(const CallResult& result) {
  const bool counts = Counts(Now());
  absl::MutexLock lock(&mutex_);
  const bool refused = IsRefusal(result.status);
  const std::string outcome = result.status.ok() ? "ok"
                              : refused          ? "refused"
                                                 : absl::StatusCodeToString(result.status.code());
  ++outcomes_[absl::StrCat(NameOf(result.kind), "_", outcome)];
  if (!result.status.ok() && !refused) ++failures_[result.status.ToString()];
  if (!counts) return;
  if (refused) refusal_ms_.push_back(Milliseconds(result.end - result.start).count());
  const bool plain = result.kind == Kind::kAsk || result.kind == Kind::kUpload;
  if (!plain || !result.status.ok()) return;
  ++good_;
  work_tokens_ += result.work_tokens;
  if (result.first_text != result.start) {
    first_text_ms_.push_back(Milliseconds(result.first_text - result.start).count());
  }
}

nlohmann::json Recorder::Report() const {
  absl::MutexLock lock(&mutex_);
  const double counted = seconds_ - warmup_;
  return {{"seconds", counted},
          {"sent", sent_},
          {"outcomes", outcomes_},
          {"failures", failures_},
          {"goodput", static_cast<double>(good_) / counted},
          {"goodput_tokens", static_cast<double>(work_tokens_) / counted},
          {"answer_tokens_per_second", static_cast<double>(tokens_) / counted},
          {"first_text_ms", Percentiles(first_text_ms_)},
          {"inter_token_ms", Percentiles(inter_token_ms_)},
          {"refusal_ms", Percentiles(refusal_ms_)}};
}

}  // namespace lectern::bench
