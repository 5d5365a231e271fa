#include "client/cpp/delivery.h"

#include <algorithm>

#include "base/error_details.h"

namespace lectern {
namespace {

absl::Status Differs() {
  return MakeError(absl::StatusCode::kAborted,
                   "the answer broke off, and the repeated request gave a different answer",
                   {.reason = "RESUME_DIFFERS"});
}

}  // namespace

absl::Status Delivery::Pass(const lectern::v1::AskResponse& event) {
  if (event.has_answer() && position_ < delivered_.size()) return Differs();
  if (!event.has_delta()) {
    if (on_event_) on_event_(event);
    return absl::OkStatus();
  }
  const std::string& text = event.delta().text();
  const size_t old = std::min(text.size(), delivered_.size() - position_);
  if (delivered_.compare(position_, old, text, 0, old) != 0) return Differs();
  position_ += text.size();
  if (old == text.size() && old > 0) return absl::OkStatus();
  delivered_.append(text, old, std::string::npos);
  if (!on_event_) return absl::OkStatus();
  if (old == 0) {
    on_event_(event);
    return absl::OkStatus();
  }
  lectern::v1::AskResponse rest = event;
  rest.mutable_delta()->set_text(text.substr(old));
  on_event_(rest);
  return absl::OkStatus();
}

}  // namespace lectern
