// Client::Ask and Client::AskMany, which resume streams that break off.
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "client/cpp/channels.h"
#include "client/cpp/delivery.h"
#include "client/cpp/rpc_status.h"
#include "client/cpp/session.h"
#include "lectern/client.h"

namespace lectern {
namespace {

using lectern::v1::Answer;
using lectern::v1::AskManyRequest;
using lectern::v1::AskManyResponse;
using lectern::v1::AskRequest;
using lectern::v1::AskResponse;

absl::StatusOr<Answer> AskOnce(Channels::Stub& stub, const AskRequest& request, CallScope& scope,
                               Delivery& delivery) {
  auto stream = stub.Ask(scope.context(), request);
  delivery.Restart();
  absl::StatusOr<Answer> answer = NoLastMessage("answer");
  AskResponse response;
  while (stream->Read(&response)) {
    if (const absl::Status passed = delivery.Pass(response); !passed.ok()) {
      scope.context()->TryCancel();
      stream->Finish();
      return passed;
    }
    if (response.has_answer()) answer = response.answer();
  }
  LECTERN_RETURN_IF_ERROR(scope.ToStatus(stream->Finish()));
  return answer;
}

bool AsksAboutDocument(const AskRequest& request) { return !request.has_inline_text(); }

// The questions of one AskMany: those still open, and the results of the others.
class Batch {
 public:
  Batch(std::vector<AskRequest> requests, const Client::AskManyCallback& on_event)
      : requests_(std::move(requests)),
        results_(requests_.size(), NoLastMessage("answer")),
        open_(requests_.size(), true) {
    deliveries_.reserve(requests_.size());
    for (size_t i = 0; i < requests_.size(); ++i) {
      deliveries_.emplace_back([&on_event, i](const AskResponse& event) {
        if (on_event) on_event(i, event);
      });
    }
  }

  // Sets the document of the questions that leave its id out.
  void SetDocument(const std::string& id) {
    if (id.empty()) return;
    for (AskRequest& request : requests_) {
      if (AsksAboutDocument(request) && request.document_id().empty()) request.set_document_id(id);
    }
  }

  // Asks every open question on one stream.
  void Round(Channels::Stub& stub, CallScope& scope);

  // Closes the questions that have an answer or an error that is not retried. Returns the error of
  // the remaining ones, the one with the longest requested wait if they differ; OK if none remain.
  absl::Status Close(const Session& session);

  // Ends every open question with `status`.
  void Fail(const absl::Status& status) {
    for (size_t i = 0; i < open_.size(); ++i) {
      if (open_[i] && !results_[i].ok()) results_[i] = status;
    }
  }

  std::vector<absl::StatusOr<Answer>> results() && { return std::move(results_); }

 private:
  absl::Status Take(const AskManyResponse& response);

  std::vector<AskRequest> requests_;
  std::vector<Delivery> deliveries_;
  std::vector<absl::StatusOr<Answer>> results_;
  std::vector<bool> open_;
  std::vector<bool> waiting_;  // asked in this round and without a result so far
};

absl::Status Batch::Take(const AskManyResponse& response) {
  size_t index = 0;
  if (!absl::SimpleAtoi(response.tag(), &index) || index >= open_.size() || !open_[index]) {
    return absl::InternalError(
        absl::StrCat("the server answered a question that was not asked: ", response.tag()));
  }
  if (!waiting_[index]) return absl::OkStatus();  // already ended here
  if (response.has_error()) {
    results_[index] = FromAskError(response.error());
    waiting_[index] = false;
    return absl::OkStatus();
  }
  if (const absl::Status passed = deliveries_[index].Pass(response.response()); !passed.ok()) {
    results_[index] = passed;
    waiting_[index] = false;
  } else if (response.response().has_answer()) {
    results_[index] = response.response().answer();
    waiting_[index] = false;
  }
  return absl::OkStatus();
}

void Batch::Round(Channels::Stub& stub, CallScope& scope) {
  waiting_ = open_;
  for (Delivery& delivery : deliveries_) delivery.Restart();
  auto stream = stub.AskMany(scope.context());
  std::thread writer([this, &stream, asked = open_] {
    bool open = true;
    AskManyRequest request;
    for (size_t i = 0; open && i < asked.size(); ++i) {
      if (!asked[i]) continue;
      request.set_tag(absl::StrCat(i));
      *request.mutable_ask() = requests_[i];
      open = stream->Write(request);
    }
    if (open) stream->WritesDone();
  });
  absl::Status broken = absl::OkStatus();
  for (AskManyResponse response; broken.ok() && stream->Read(&response);) broken = Take(response);
  if (!broken.ok()) scope.context()->TryCancel();
  writer.join();
  absl::Status ended = scope.ToStatus(stream->Finish());
  if (!broken.ok()) ended = broken;
  if (ended.ok()) ended = NoLastMessage("answer");
  for (size_t i = 0; i < waiting_.size(); ++i) {
    if (waiting_[i]) results_[i] = ended;
  }
}

absl::Status Batch::Close(const Session& session) {
  absl::Status cause = absl::OkStatus();
  for (size_t i = 0; i < open_.size(); ++i) {
    if (!open_[i]) continue;
    open_[i] = session.Retryable(results_[i].status());
    if (!open_[i]) continue;
    const auto wait = [](const absl::Status& status) {
      return GetErrorDetails(status).retry_after.value_or(absl::ZeroDuration());
    };
    if (cause.ok() || wait(results_[i].status()) > wait(cause)) cause = results_[i].status();
  }
  return cause;
}

}  // namespace

absl::StatusOr<Answer> Client::Ask(const AskRequest& request, const CallOptions& options,
                                   const AskCallback& on_event) {
  LECTERN_RETURN_IF_ERROR(CheckOptions(options));
  Session session(*channels_, *ids_, options, request.document_id());
  AskRequest asked = request;
  if (AsksAboutDocument(request)) {
    LECTERN_RETURN_IF_ERROR(session.Begin());
    if (!session.document_id().empty()) asked.set_document_id(session.document_id());
  }
  Delivery delivery(on_event);
  while (true) {
    absl::StatusOr<Answer> answer;
    {
      CallScope scope(options, session.deadline(), asked.document_id());
      answer = AskOnce(*session.stub(), asked, scope, delivery);
      session.Reached(scope.context()->peer());
    }
    absl::Status status = answer.status();
    if (status.ok()) return answer;
    if (!session.Recover(status)) return status;
  }
}

std::vector<absl::StatusOr<Answer>> Client::AskMany(std::vector<AskRequest> requests,
                                                    const CallOptions& options,
                                                    const AskManyCallback& on_event) {
  std::string document_id;
  bool needs_document = false;
  for (const AskRequest& request : requests) {
    if (!AsksAboutDocument(request)) continue;
    needs_document = needs_document || request.document_id().empty();
    if (document_id.empty()) document_id = request.document_id();
  }
  Session session(*channels_, *ids_, options, document_id);
  Batch batch(std::move(requests), on_event);
  absl::Status status = CheckOptions(options);
  if (status.ok() && needs_document) status = session.Begin();
  if (!status.ok()) {
    batch.Fail(status);
    return std::move(batch).results();
  }
  batch.SetDocument(session.document_id());
  while (true) {
    {
      CallScope scope(options, session.deadline(), session.document_id());
      batch.Round(*session.stub(), scope);
      session.Reached(scope.context()->peer());
    }
    const absl::Status cause = batch.Close(session);
    if (cause.ok()) break;
    status = cause;
    if (session.Recover(status)) continue;
    // Each question keeps its own error, unless recovery failed with another one.
    if (status != cause) batch.Fail(status);
    break;
  }
  return std::move(batch).results();
}

}  // namespace lectern
