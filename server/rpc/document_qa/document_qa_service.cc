#include "server/rpc/document_qa/document_qa_service.h"

#include <lectern/v1/document_qa.grpc.pb.h>

#include <functional>

#include "absl/time/clock.h"
#include "server/rpc/call/call_record.h"
#include "server/rpc/document_qa/ask_call.h"
#include "server/rpc/document_qa/ask_many_call.h"
#include "server/rpc/document_qa/convert.h"
#include "server/rpc/document_qa/count_tokens_call.h"
#include "server/rpc/document_qa/unary_call.h"
#include "server/rpc/document_qa/upload_call.h"

namespace lectern {
namespace {

class DocumentQaService final : public v1::DocumentQA::CallbackService {
 public:
  DocumentQaService(ServingState* serving, const RpcEnvironment& environment,
                    const ServerFacts& facts)
      : serving_(serving), environment_(environment), facts_(facts), start_(absl::Now()) {}

  grpc::ServerBidiReactor<v1::UploadDocumentRequest, v1::UploadDocumentResponse>* UploadDocument(
      grpc::CallbackServerContext* context) override {
    const auto call = std::make_shared<UploadCall>(&environment_, *serving_, context);
    call->Own();
    call->Start();
    return call.get();
  }

  grpc::ServerWriteReactor<v1::AskResponse>* Ask(grpc::CallbackServerContext* context,
                                                 const v1::AskRequest* request) override {
    const auto call = std::make_shared<AskCall>(&environment_, context, *request);
    call->Own();
    call->Start(*serving_, *request);
    return call.get();
  }

  grpc::ServerBidiReactor<v1::AskManyRequest, v1::AskManyResponse>* AskMany(
      grpc::CallbackServerContext* context) override {
    const auto call = std::make_shared<AskManyCall>(&environment_, *serving_, context);
    call->Own();
    call->Start();
    return call.get();
  }

  grpc::ServerUnaryReactor* GetDocument(grpc::CallbackServerContext* context,
                                        const v1::GetDocumentRequest* request,
                                        v1::Document* response) override {
    return Unary(context, RpcMethod::kGetDocument, *request, *response,
                 [&](Engine& engine, const std::string& owner) {
                   const auto document = engine.GetDocument(request->id(), owner);
                   if (document.ok()) *response = ToProto(*document);
                   return document.status();
                 });
  }

  grpc::ServerUnaryReactor* ListDocuments(grpc::CallbackServerContext* context,
                                          const v1::ListDocumentsRequest* request,
                                          v1::ListDocumentsResponse* response) override {
    return Unary(context, RpcMethod::kListDocuments, *request, *response,
                 [&](Engine& engine, const std::string& owner) {
                   const auto page = engine.ListDocuments(
                       request->page_size(), request->page_token(), request->model(), owner);
                   if (!page.ok()) return page.status();
                   for (const DocumentInfo& document : page->documents) {
                     *response->add_documents() = ToProto(document);
                   }
                   response->set_next_page_token(page->next_page_token);
                   response->set_total_documents(page->total);
                   return absl::OkStatus();
                 });
  }

  grpc::ServerUnaryReactor* DeleteDocument(grpc::CallbackServerContext* context,
                                           const v1::DeleteDocumentRequest* request,
                                           v1::DeleteDocumentResponse* response) override {
    return Unary(context, RpcMethod::kDeleteDocument, *request, *response,
                 [&](Engine& engine, const std::string& owner) {
                   const auto freed = engine.DeleteDocument(request->id(), owner);
                   if (freed.ok()) response->set_freed_bytes(*freed);
                   return freed.status();
                 });
  }

  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context,
                                        const v1::CountTokensRequest* request,
                                        v1::CountTokensResponse* response) override {
    return StartCountTokens(environment_, *serving_, context, *request, *response);
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override {
    return Unary(context, RpcMethod::kListModels, *request, *response,
                 [&](Engine& engine, const std::string&) {
                   for (const auto& model : engine.models()) {
                     *response->add_models() = ToProto(model->info());
                   }
                   return absl::OkStatus();
                 });
  }

  grpc::ServerUnaryReactor* GetServerStatus(grpc::CallbackServerContext* context,
                                            const v1::GetServerStatusRequest*,
                                            v1::ServerStatus* response) override {
    CallRecord record(&environment_, RpcMethod::kGetServerStatus, context);
    // Unlike the other methods, works while the server loads.
    const absl::Status status = record.identity().tenant.status();
    if (status.ok()) FillStatus(*response);
    return EndUnary(record, context, *response, status);
  }

 private:
  template <typename Request, typename Response, typename Work>
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, RpcMethod method,
                                  const Request& request, const Response& response,
                                  const Work& work) const {
    return EngineUnary(environment_, *serving_, context, method, request, response, work);
  }

  static v1::ServerStatus::State StateOf(ServerState state) {
    switch (state) {
      case ServerState::kLoading:
        return v1::ServerStatus::STATE_LOADING;
      case ServerState::kWarmingUp:
        return v1::ServerStatus::STATE_WARMING_UP;
      case ServerState::kServing:
        return v1::ServerStatus::STATE_SERVING;
      case ServerState::kDraining:
      case ServerState::kStopped:
        return v1::ServerStatus::STATE_DRAINING;
    }
    return v1::ServerStatus::STATE_UNSPECIFIED;
  }

  void FillStatus(v1::ServerStatus& out) const {
    out.set_state(StateOf(serving_->state()));
    out.set_explanation(serving_->explanation());
    out.set_version(environment_.version);
    *out.mutable_uptime() = ToProto(absl::Now() - start_);
    out.set_isa(facts_.isa);
    out.set_threads(facts_.threads);
    const Engine* engine = serving_->engine();
    if (engine == nullptr) return;
    const EngineStatus status = engine->status();
    out.set_requests_running(status.running);
    out.set_requests_waiting(status.waiting);
    out.set_queue_capacity(engine->limits().queue.waiting);
    out.set_documents(status.documents);
    out.set_kv_bytes_used(status.kv_bytes_used);
    out.set_kv_bytes_capacity(status.kv_bytes_capacity);
    *out.mutable_limits() = ToProto(engine->limits());
    out.mutable_limits()->set_max_message_bytes(facts_.max_message_bytes);
    out.mutable_limits()->set_max_open_asks_per_stream(kMaxOpenAsksPerStream);
    *out.mutable_default_policy() = ToProto(engine->models()[0]->info().default_policy);
  }

  ServingState* const serving_;
  const RpcEnvironment environment_;
  const ServerFacts facts_;
  const absl::Time start_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewDocumentQaService(ServingState* serving,
                                                    const RpcEnvironment& environment,
                                                    const ServerFacts& facts) {
  return std::make_unique<DocumentQaService>(serving, environment, facts);
}

}  // namespace lectern
