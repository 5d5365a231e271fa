// C++ client of lectern.v1.DocumentQA.
//
//   Client client("127.0.0.1:8001");
//   auto document = client.Upload(text, {}, {}, [](const v1::UploadDocumentResponse&) {});
//   v1::AskRequest ask;
//   ask.set_document_id(document->id());
//   ask.set_question("Which valve failed first?");
//   auto answer = client.Ask(ask, {}, [](const v1::AskResponse& event) { ... });
//
// Calls block. Errors carry the server's ErrorDetails (server/base/error_details.h): reason,
// violated fields, retry hint. An error without a reason came from the transport.
//
// The connection is plain text: for an untrusted network put a proxy with TLS in between.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lectern {

// Ends calls from another thread. Thread-safe; outlives the calls it was given to.
class Canceller {
 public:
  // Every call that runs under this object, now or later, ends with CANCELLED.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CancelScope;
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* running_ ABSL_GUARDED_BY(mutex_) = nullptr;  // one call at a time
};

struct CallOptions {
  // The call's deadline. The shorter of this and the method's timeout in client/service_config.json
  // holds (300 s for Ask and GetDocument, 600 s for UploadDocument).
  absl::Duration timeout = absl::InfiniteDuration();
  Canceller* canceller = nullptr;  // may be null
};

// Thread-safe; each call may run on its own thread. Callbacks run on the calling thread, in order.
class Client {
 public:
  // `target` is HOST:PORT or any gRPC target. Does not connect yet.
  explicit Client(const std::string& target);

  // Waits until a connection stands. UNAVAILABLE as soon as an attempt fails or `timeout` passes.
  absl::Status Connect(absl::Duration timeout);

  using UploadCallback = std::function<void(const lectern::v1::UploadDocumentResponse&)>;
  using AskCallback = std::function<void(const lectern::v1::AskResponse&)>;

  // Sends `text` with its length and SHA-256, which the server checks. `on_event` sees every event,
  // the final document included.
  absl::StatusOr<lectern::v1::Document> Upload(std::string_view text,
                                               lectern::v1::UploadMetadata metadata,
                                               const CallOptions& options,
                                               const UploadCallback& on_event);

  // `on_event` sees every event, the final answer included.
  absl::StatusOr<lectern::v1::Answer> Ask(const lectern::v1::AskRequest& request,
                                          const CallOptions& options, const AskCallback& on_event);

  absl::StatusOr<lectern::v1::Document> GetDocument(const std::string& id,
                                                    const CallOptions& options);

  // All pages, by id.
  absl::StatusOr<std::vector<lectern::v1::Document>> ListDocuments(const std::string& model,
                                                                   const CallOptions& options);

  absl::StatusOr<lectern::v1::DeleteDocumentResponse> DeleteDocument(const std::string& id,
                                                                     const CallOptions& options);

  absl::StatusOr<lectern::v1::ListModelsResponse> ListModels(const CallOptions& options);

  // Works also while the server is loading or draining.
  absl::StatusOr<lectern::v1::ServerStatus> GetServerStatus(const CallOptions& options);

 private:
  const std::string target_;
  // A server that is loading or draining tells so by its health, and a channel that checks health
  // sends it nothing. GetServerStatus has to reach it all the same: hence a channel that does not.
  const std::shared_ptr<grpc::Channel> unchecked_channel_;
  const std::unique_ptr<lectern::v1::DocumentQA::Stub> status_stub_;
  const std::unique_ptr<lectern::v1::DocumentQA::Stub> stub_;
};

}  // namespace lectern
