// A client's connections: to any replica of a service, or to one particular replica.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "lectern/connection.h"

namespace lectern {

// Adds a scheme to a list of addresses: "127.0.0.1:1,127.0.0.1:2" becomes
// "ipv4:127.0.0.1:1,127.0.0.1:2", "[::1]:1,[::1]:2" becomes "ipv6:...". Other targets are returned
// unchanged.
std::string ToGrpcTarget(const std::string& target);

// Returns the host that the certificate of a server at `target` must name; "" if `target` does not
// name one host, because it is a list of addresses or a Unix socket.
std::string HostOfTarget(const std::string& target);

// Thread-safe. A stub returned by To() may be used after it is dropped here.
class Channels {
 public:
  using Stub = lectern::v1::DocumentQA::Stub;

  Channels(const std::string& target, const Connection& connection);

  // Sends calls to the serving replicas in turn (client/cpp/service_config.json).
  Stub& any() const { return *any_; }

  // Returns a stub to the replica at `peer` (ClientContext::peer()), without gRPC's own retries and
  // without waiting for the replica if it is gone; any() if `peer` is empty.
  std::shared_ptr<Stub> To(const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_);

  // A channel that checks health sends nothing to a server that is loading or draining. This stub
  // does not check, so that GetServerStatus reaches such a server.
  Stub& unchecked() const { return *unchecked_; }
  grpc::Channel& unchecked_channel() const { return *unchecked_channel_; }
  grpc::Channel& any_channel() const { return *any_channel_; }

 private:
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  // The name that certificates must have, also for a replica that is reached by its address.
  const std::string server_name_;
  const std::shared_ptr<grpc::Channel> unchecked_channel_;
  const std::shared_ptr<grpc::Channel> any_channel_;
  const std::unique_ptr<Stub> unchecked_;
  const std::shared_ptr<Stub> any_;
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Stub>> to_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
