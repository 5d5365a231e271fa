#include "server/rpc/call/call_record.h"

#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/error_details.h"
#include "protocol/metadata.h"
#include "server/engine/request_checks.h"
#include "server/rpc/call/grpc_status.h"

namespace lectern {
namespace {

std::string Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

std::string NewRequestId() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat("req-", absl::Hex(random(), absl::kZeroPad16));
}

// Returns the trace id of a W3C traceparent, VERSION-TRACE-PARENT-FLAGS in lower-case hexadecimal
// digits, or "". Later versions may have more after the flags.
std::string TraceIdOf(const std::string& parent) {
  constexpr size_t kLength = 55;
  if (parent.size() < kLength || absl::StartsWith(parent, "ff")) return "";
  if (parent.size() > kLength && (absl::StartsWith(parent, "00") || parent[kLength] != '-')) {
    return "";
  }
  for (size_t i = 0; i < kLength; ++i) {
    const bool dash = i == 2 || i == 35 || i == 52;
    const char c = parent[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (dash ? c != '-' : !hex) return "";
  }
  const std::string trace = parent.substr(3, 32);
  const bool zero =
      trace.find_first_not_of('0') == std::string::npos || parent.find_first_not_of('0', 36) == 52;
  return zero ? "" : trace;
}

// The only place where callers are authenticated, over TLS and over plain text.
absl::StatusOr<std::string> TenantOf(const grpc::CallbackServerContext& context,
                                     const AccessTokens* tokens) {
  if (tokens != nullptr) {
    // With several it would be unclear which one counts.
    const bool one = context.client_metadata().count(kAuthorizationKey) == 1;
    return tokens->TenantOf(one ? Metadata(context, kAuthorizationKey) : "");
  }
  if (context.client_metadata().count(kTenantKey) == 0) {
    return AddressOfPeer(context.peer());
  }
  std::string tenant = Metadata(context, kTenantKey);
  if (IsName(tenant, kMaxTenantBytes)) return tenant;
  return ViolationsError(
      {{kTenantKey, "must be 1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'"}});
}

}  // namespace

std::string AddressOfPeer(const std::string& peer) {
  const size_t scheme = peer.find(':');
  if (!absl::StartsWith(peer, "ipv4:") && !absl::StartsWith(peer, "ipv6:")) {
    return peer.substr(0, scheme);  // "unix": everyone on this machine
  }
  const std::string address =
      absl::StrReplaceAll(peer.substr(scheme + 1), {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  const size_t bracket = address.find(']');
  if (!address.empty() && address[0] == '[' && bracket != std::string::npos) {
    return address.substr(1, bracket - 1);
  }
  return address.substr(0, address.rfind(':'));
}

CallIdentity IdentityOf(const grpc::CallbackServerContext& context, const AccessTokens* tokens) {
  absl::StatusOr<std::string> tenant = TenantOf(context, tokens);
  std::string owner = Metadata(context, kTenantKey);
  if (tokens != nullptr) owner = tenant.value_or("");
  std::string id = Metadata(context, kRequestIdKey);
  if (!IsName(id, kMaxRequestIdBytes)) id = NewRequestId();
  return {.request_id = std::move(id),
          .trace_id = TraceIdOf(Metadata(context, "traceparent")),
          .peer = context.peer(),
          .tenant = std::move(tenant),
          .owner = std::move(owner)};
}

std::string ReasonOf(const absl::Status& status) {
  std::string reason = GetErrorDetails(status).reason;
  return reason.empty() ? std::string(absl::StatusCodeToString(status.code())) : reason;
}

CallRecord::CallRecord(const RpcEnvironment* environment, RpcMethod method,
                       grpc::CallbackServerContext* context)
    : CallRecord(environment, method, LabelOf(kMethodLabels, method), context) {}

CallRecord::CallRecord(const RpcEnvironment* environment, const std::string& name,
                       grpc::CallbackServerContext* context)
    : CallRecord(environment, RpcMethod::kUnknown, name, context) {}

CallRecord::CallRecord(const RpcEnvironment* environment, RpcMethod method, std::string name,
                       grpc::CallbackServerContext* context)
    : environment_(environment),
      method_(method),
      name_(std::move(name)),
      identity_(IdentityOf(*context, environment->tokens)),
      start_(std::chrono::steady_clock::now()) {
  environment_->metrics->CallStarted(method_);
  context->AddTrailingMetadata(kRequestIdKey, identity_.request_id);
}

void CallRecord::Add(std::vector<LogField> fields) {
  absl::MutexLock lock(&mutex_);
  fields_.insert(fields_.end(), std::make_move_iterator(fields.begin()),
                 std::make_move_iterator(fields.end()));
}

void CallRecord::Failed(const absl::Status& status) {
  if (status.ok()) return;
  LogIfInternal(status);
  if (absl::IsUnauthenticated(status)) environment_->metrics->Rejected(AdmissionReason::kAuth);
  absl::MutexLock lock(&mutex_);
  reason_ = ReasonOf(status);
}

void CallRecord::LogIfInternal(const absl::Status& status) const {
  if (!absl::IsInternal(status) && !absl::IsUnknown(status)) return;
  std::vector<LogField> fields = Ids();
  fields.push_back({"error", std::string(status.message())});
  Log(LogLevel::kError, "request failed", fields);
}

void CallRecord::LogPart(std::string_view message, std::vector<LogField> fields) const {
  std::vector<LogField> all = Ids();
  all.insert(all.end(), std::make_move_iterator(fields.begin()),
             std::make_move_iterator(fields.end()));
  Log(LogLevel::kInfo, message, all);
}

std::vector<LogField> CallRecord::Ids() const {
  std::vector<LogField> ids = {{"request_id", identity_.request_id}};
  if (!identity_.trace_id.empty()) ids.push_back({"trace_id", identity_.trace_id});
  ids.push_back({"method", name_});
  return ids;
}

void CallRecord::Finish(grpc::StatusCode code) {
  const absl::Duration duration = absl::FromChrono(std::chrono::steady_clock::now() - start_);
  environment_->metrics->CallFinished(method_, StatusName(code), duration, bytes_out_, bytes_in_);
  std::vector<LogField> line = Ids();
  line.push_back({"status", StatusName(code)});
  absl::MutexLock lock(&mutex_);
  if (!reason_.empty()) line.push_back({"reason", reason_});
  if (identity_.tenant.ok()) line.push_back({"tenant", *identity_.tenant});
  line.insert(line.end(), {{"peer", identity_.peer},
                           {"duration_ms", absl::ToDoubleMilliseconds(duration)},
                           {"bytes_in", bytes_in_.load()},
                           {"bytes_out", bytes_out_.load()},
                           {"chunks", chunks_.load()},
                           {"version", environment_->version}});
  line.insert(line.end(), fields_.begin(), fields_.end());
  const bool probe = method_ == RpcMethod::kHealthCheck || method_ == RpcMethod::kHealthWatch ||
                     method_ == RpcMethod::kServerLive || method_ == RpcMethod::kServerReady ||
                     method_ == RpcMethod::kModelReady;
  Log(probe ? LogLevel::kDebug : LogLevel::kInfo, "rpc", line);
}

}  // namespace lectern
