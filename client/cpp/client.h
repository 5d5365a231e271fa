// C++ client of lectern.v1.DocumentQA.
//
//   Client client("127.0.0.1:8001");
//   auto document = client.Upload(text, {}, {}, nullptr);
//   v1::AskRequest ask;
//   ask.set_document_id(document->id());
//   ask.set_question("Which valve failed first?");
//   auto answer = client.Ask(ask, {}, [](const v1::AskResponse& event) { ... });
//
// Calls block. Errors carry the server's ErrorDetails (base/error_details.h): reason,
// violated fields, retry hint, and the request's id in the server's log as metadata "request_id".
// An error without a reason came from the transport.
//
// Replicas. A target may stand for several servers. Calls go to those that say they are serving, in
// turn; RetryPolicy (call_options.h) tells what is tried again on another one. An answer that
// breaks off with UNAVAILABLE is asked for again and goes on where it broke off. A document lives
// on the replica that read it: give its text as CallOptions.document, and a replica that does not
// have it gets it and answers. Every call about one document names it in its metadata
// (x-lectern-document), by which a proxy can send all of them to the same replica (deploy/routing).
//
// The connection is plain text unless Connection (client/cpp/connection.h) says otherwise; a token
// (CallOptions) goes with the calls in either case, so that it is for TLS and loopback alone.
#pragma once

#include <lectern/v1/document_qa.pb.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/call_options.h"
#include "client/cpp/channels.h"
#include "client/cpp/delivery.h"
#include "client/cpp/document_ids.h"

namespace lectern {

// Thread-safe; each call may run on its own thread. Callbacks run on the calling thread, in order.
class Client {
 public:
  // `target` is HOST:PORT, several addresses as "127.0.0.1:8001,127.0.0.1:8003", or any gRPC target
  // ("dns:///lectern-headless:8001"). Does not connect yet. CheckConnection() tells beforehand what
  // cannot work.
  explicit Client(const std::string& target, const Connection& connection = {});

  // Waits until a connection stands. UNAVAILABLE as soon as an attempt fails or `timeout` passes.
  absl::Status Connect(absl::Duration timeout);

  // Waits until a server says that it is serving. False if `timeout` passes before.
  bool WaitUntilServing(absl::Duration timeout);

  // Sends `text` with its length and SHA-256, which the server checks. `on_event` sees every event,
  // the final document included. The same text gives the same document, so that an upload that
  // failed is repeated as a whole.
  absl::StatusOr<lectern::v1::Document> Upload(std::string_view text,
                                               lectern::v1::UploadMetadata metadata,
                                               const CallOptions& options,
                                               const UploadCallback& on_event);

  // The id of the document that `text` is, or will be, under `model` (empty: the default one); ""
  // if the server does not tell its models.
  std::string DocumentId(std::string_view text, const std::string& model,
                         const CallOptions& options);

  // `on_event` sees every event, the final answer included; queue and progress events anew with
  // each attempt, every piece of text once. With options.document the request may leave
  // `document_id` empty: the text is uploaded first. ABORTED (RESUME_DIFFERS) when an answer that
  // broke off did not begin alike the second time.
  absl::StatusOr<lectern::v1::Answer> Ask(const lectern::v1::AskRequest& request,
                                          const CallOptions& options, const AskCallback& on_event);

  using AskManyCallback = std::function<void(size_t index, const lectern::v1::AskResponse&)>;

  // Asks all `requests` on one stream, where the server answers them side by side, and waits for
  // all of them: one result for each, in their order. `on_event` sees their events mixed. Each
  // question fails alone; those that may be tried again are, together. With options.document every
  // request is about that document, or has an inline text; `document_id` may be left empty.
  std::vector<absl::StatusOr<lectern::v1::Answer>> AskMany(
      std::vector<lectern::v1::AskRequest> requests, const CallOptions& options,
      const AskManyCallback& on_event);

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
  Channels channels_;
  DocumentIds ids_{channels_};
};

}  // namespace lectern
