#include "server/rpc/document_qa/ask_call.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/rpc/document_qa/convert.h"

namespace lectern {
namespace {

std::string NewAnswerId() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat("ans-", absl::Hex(random(), absl::kZeroPad16));
}

}  // namespace

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  return absl::FromChrono(context.deadline());
}

absl::StatusOr<std::shared_ptr<Job>> SubmitAsk(const ServingState& serving,
                                               const v1::AskRequest& request,
                                               const CallIdentity& identity,
                                               const grpc::CallbackServerContext& context,
                                               std::shared_ptr<AskSink> sink) {
  LECTERN_ASSIGN_OR_RETURN(Engine* const engine, serving.Serving());
  LECTERN_RETURN_IF_ERROR(identity.tenant.status());
  LECTERN_ASSIGN_OR_RETURN(AskOptions options, FromProto(request));
  options.tenant = *identity.tenant;
  options.owner = identity.owner;
  options.request_id = identity.request_id;
  options.deadline = DeadlineOf(context);
  return engine->Ask(std::move(options), std::move(sink));
}

AskEvents::AskEvents(std::string answer_id, uint64_t after_seq)
    : answer_id_(answer_id.empty() ? NewAnswerId() : std::move(answer_id)), after_seq_(after_seq) {}

v1::AskResponse AskEvents::New() const {
  v1::AskResponse response;
  response.set_answer_id(answer_id_);
  return response;
}

v1::AskResponse AskEvents::Queued(uint32_t position,
                                  std::optional<absl::Duration> estimated_wait) const {
  v1::AskResponse response = New();
  response.mutable_queued()->set_position(position);
  if (estimated_wait) {
    *response.mutable_queued()->mutable_estimated_wait() = ToProto(*estimated_wait);
  }
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

AskCall::AskCall(const RpcEnvironment* environment, grpc::CallbackServerContext* context,
                 const v1::AskRequest& request)
    : StreamWriter(environment, RpcMethod::kAsk, context),
      events_(request.answer_id(), request.after_seq()),
      log_(request, environment->log_prompts) {
  record().Received(request.ByteSizeLong());
}

void AskCall::Start(const ServingState& serving, const v1::AskRequest& request) {
  const absl::StatusOr<std::shared_ptr<Job>> job =
      SubmitAsk(serving, request, identity(), context(),
                std::static_pointer_cast<AskCall>(shared_from_this()));
  if (!job.ok()) return OnError(job.status());
  job_.Set(*job);
}

void AskCall::OnText(std::string_view text, uint32_t tokens) {
  log_.OnText(tokens);
  v1::AskResponse response;
  if (events_.Delta(text, tokens, response)) Write(std::move(response), &AskEvents::Merge);
}

void AskCall::OnAnswer(const Answer& answer) {
  record().Add(log_.Answered(answer));
  Write(events_.Final(answer), &AskEvents::Merge);
  End(absl::OkStatus());
}

void AskCall::OnError(const absl::Status& status) {
  record().Add(log_.Failed(status));
  End(status);
}

}  // namespace lectern
