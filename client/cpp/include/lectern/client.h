// C++ client for lectern.v1.DocumentQA.
//
//   lectern::Client client("127.0.0.1:8001");
//   auto document = client.Upload(text, {}, {}, nullptr);
//   lectern::v1::AskRequest ask;
//   ask.set_document_id(document->id());
//   ask.set_question("Which valve failed first?");
//   auto answer = client.Ask(ask, {}, [](const lectern::v1::AskResponse& event) { ... });
//
// Calls block. A failed call returns a status with the server's ErrorDetails
// (lectern/error_details.h; base/error_details.h in the source tree): the reason, violated fields,
// a retry hint, and the request's id in the server's log as metadata "request_id". An error without
// a reason came from the transport.
//
// Replicas. A target may name several servers. Calls go in turn to those that report they are
// serving; RetryPolicy (lectern/call_options.h) says which failures are retried on another one. An
// answer that breaks off with UNAVAILABLE is requested again and continues where it broke off. A
// document exists only on the replica that read it: pass its text as CallOptions.document, and a
// replica that lacks the document receives it and then answers. Every call about one document names
// it in its metadata (x-lectern-document), so that a proxy can send all of them to the same replica
// (deploy/routing).
//
// The connection is plain text unless Connection (lectern/connection.h) asks for TLS. A token in
// CallOptions is sent either way, so use one only with TLS or on loopback.
#pragma once

#include <lectern/v1/ask.pb.h>
#include <lectern/v1/document.pb.h>
#include <lectern/v1/document_qa.pb.h>
#include <lectern/v1/server.pb.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lectern/call_options.h"
#include "lectern/connection.h"

namespace lectern {

class Channels;
class DocumentIds;

using AskCallback = std::function<void(const lectern::v1::AskResponse&)>;

// Thread-safe; each call may run on its own thread. Callbacks run on the calling thread, in order.
class Client {
 public:
  // `target` is HOST:PORT, several addresses as "127.0.0.1:8001,127.0.0.1:8003", or any gRPC target
  // ("dns:///lectern-headless:8001"). Does not connect yet. Use CheckConnection() first to find
  // settings with which no call can succeed.
  explicit Client(const std::string& target, const Connection& connection = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Waits until a connection is established. UNAVAILABLE as soon as an attempt fails or `timeout`
  // passes.
  absl::Status Connect(absl::Duration timeout);

  // Waits until a server reports that it is serving. False if `timeout` passes first.
  bool WaitUntilServing(absl::Duration timeout);

  // Sends `text` with its length and SHA-256, which the server checks. `on_event` receives every
  // event, including the final document; it may be empty. Uploading a text twice gives one
  // document, so a failed upload is repeated as a whole.
  absl::StatusOr<lectern::v1::Document> Upload(std::string_view text,
                                               lectern::v1::UploadMetadata metadata,
                                               const CallOptions& options,
                                               const UploadCallback& on_event);

  // Returns the id that `text` has, or will have, as a document of `model` (empty: the default
  // one);
  // "" if the server does not list its models.
  std::string DocumentId(std::string_view text, const std::string& model,
                         const CallOptions& options);

  // `on_event` receives every event, including the final answer: queue and progress events again
  // for each attempt, each piece of text once. With options.document the request may leave
  // `document_id` empty: the text is uploaded first. ABORTED (RESUME_DIFFERS) if an answer that
  // broke off starts differently the second time.
  absl::StatusOr<lectern::v1::Answer> Ask(const lectern::v1::AskRequest& request,
                                          const CallOptions& options, const AskCallback& on_event);

  using AskManyCallback = std::function<void(size_t index, const lectern::v1::AskResponse&)>;

  // Asks all `requests` on one stream, where the server answers them concurrently, and waits for
  // all of them. Returns one result for each, in the order of `requests`; `on_event` receives their
  // events interleaved. Questions fail independently; those that may be retried are retried
  // together. With options.document every request must be about that document (`document_id` may be
  // left empty) or have an inline text.
  std::vector<absl::StatusOr<lectern::v1::Answer>> AskMany(
      std::vector<lectern::v1::AskRequest> requests, const CallOptions& options,
      const AskManyCallback& on_event);

  absl::StatusOr<lectern::v1::Document> GetDocument(const std::string& id,
                                                    const CallOptions& options);

  // Returns the documents of all pages, ordered by id.
  absl::StatusOr<std::vector<lectern::v1::Document>> ListDocuments(const std::string& model,
                                                                   const CallOptions& options);

  absl::StatusOr<lectern::v1::DeleteDocumentResponse> DeleteDocument(const std::string& id,
                                                                     const CallOptions& options);

  // Counts the tokens of a text, which must fit into one message, or of a stored document.
  absl::StatusOr<lectern::v1::CountTokensResponse> CountTokens(
      const lectern::v1::CountTokensRequest& request, const CallOptions& options);

  absl::StatusOr<lectern::v1::ListModelsResponse> ListModels(const CallOptions& options);

  // Also works while the server is loading or draining.
  absl::StatusOr<lectern::v1::ServerStatus> GetServerStatus(const CallOptions& options);

 private:
  const std::string target_;
  const std::unique_ptr<Channels> channels_;
  const std::unique_ptr<DocumentIds> ids_;  // uses channels_
};

}  // namespace lectern
