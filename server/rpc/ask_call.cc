#include "server/rpc/ask_call.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/convert.h"

namespace lectern {
namespace {

std::string NewAnswerId() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat("ans-", absl::Hex(random(), absl::kZeroPad16));
}

}  // namespace

std::string TenantOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("x-lectern-tenant");
  if (found != metadata.end()) return std::string(found->second.data(), found->second.size());
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':'));
}

std::string OwnerOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("x-lectern-tenant");
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  return absl::FromChrono(context.deadline());
}

absl::StatusOr<AskOptions> AskOptionsOf(const Engine& engine, const v1::AskRequest& request,
                                        const grpc::CallbackServerContext& context) {
  auto options = FromProto(request, engine.models()[0]->info().default_policy);
  if (options.ok()) {
    options->tenant = TenantOf(context);
    options->owner = OwnerOf(context);
    options->deadline = DeadlineOf(context);
  }
  return options;
}

AskEvents::AskEvents(std::string answer_id, uint64_t after_seq)
    : answer_id_(answer_id.empty() ? NewAnswerId() : std::move(answer_id)), after_seq_(after_seq) {}

v1::AskResponse AskEvents::New() const {
  v1::AskResponse response;
  response.set_answer_id(answer_id_);
  return response;
}

v1::AskResponse AskEvents::Queued(uint32_t position) const {
  v1::AskResponse response = New();
  response.mutable_queued()->set_position(position);
  return response;
}

v1::AskResponse AskEvents::Progress(AskStage stage, uint64_t done, uint64_t total) const {
  v1::AskResponse response = New();
  response.mutable_progress()->set_stage(ToProto(stage));
  response.mutable_progress()->set_done(done);
  response.mutable_progress()->set_total(total);
  return response;
}

bool AskEvents::Delta(std::string_view text, uint32_t tokens, v1::AskResponse& out) {
  if (++seq_ <= after_seq_) return false;
  out = New();
  out.set_seq(seq_);
  out.mutable_delta()->set_text(std::string(text));
  out.mutable_delta()->set_tokens(tokens);
  return true;
}

v1::AskResponse AskEvents::Final(const Answer& answer) {
  v1::AskResponse response = New();
  response.set_seq(++seq_);
  *response.mutable_answer() = ToProto(answer);
  return response;
}

bool AskEvents::Merge(v1::AskResponse& last, const v1::AskResponse& next) {
  if (last.event_case() != next.event_case()) return false;
  if (last.has_delta()) {
    last.mutable_delta()->mutable_text()->append(next.delta().text());
    last.mutable_delta()->set_tokens(last.delta().tokens() + next.delta().tokens());
    last.set_seq(next.seq());
    return true;
  }
  if (last.has_progress() && last.progress().stage() != next.progress().stage()) return false;
  last = next;
  return true;
}

AskCall::AskCall(ServerMetrics* metrics, const v1::AskRequest& request)
    : StreamWriter(metrics, "lectern.v1.DocumentQA/Ask"),
      events_(request.answer_id(), request.after_seq()) {}

void AskCall::Start(const ServingState& serving, const grpc::CallbackServerContext& context,
                    const v1::AskRequest& request) {
  const absl::StatusOr<Engine*> engine = serving.Serving();
  if (!engine.ok()) return End(ToGrpcStatus(engine.status()));
  const absl::StatusOr<AskOptions> options = AskOptionsOf(**engine, request, context);
  if (!options.ok()) return End(ToGrpcStatus(options.status()));
  auto sink = std::static_pointer_cast<AskCall>(shared_from_this());
  const absl::StatusOr<std::shared_ptr<Job>> job = (*engine)->Ask(*options, sink);
  if (!job.ok()) return End(ToGrpcStatus(job.status()));
  absl::MutexLock lock(&job_mutex_);
  job_ = *job;
  if (cancelled_) job_->Cancel();
}

void AskCall::OnCancel() {
  const auto keep = shared_from_this();
  absl::MutexLock lock(&job_mutex_);
  cancelled_ = true;
  if (job_ != nullptr) job_->Cancel();
}

void AskCall::OnText(std::string_view text, uint32_t tokens) {
  v1::AskResponse response;
  if (events_.Delta(text, tokens, response)) Write(std::move(response), &AskEvents::Merge);
}

void AskCall::OnAnswer(const Answer& answer) {
  Write(events_.Final(answer), &AskEvents::Merge);
  End(grpc::Status::OK);
}

}  // namespace lectern
