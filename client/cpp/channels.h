// The connections of a client: to any replica of a service, and to one of them in particular.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/connection.h"

namespace lectern {

// `target` with a scheme where it is a list of addresses: "127.0.0.1:1,127.0.0.1:2" becomes
// "ipv4:127.0.0.1:1,127.0.0.1:2" and "[::1]:1,[::1]:2" "ipv6:...". Everything else stays.
std::string ToGrpcTarget(const std::string& target);

// Thread-safe. Stubs live as long as somebody holds them.
class Channels {
 public:
  using Stub = lectern::v1::DocumentQA::Stub;

  Channels(const std::string& target, const Connection& connection);

  // To whichever replica is serving, in turn (client/cpp/service_config.json).
  Stub& any() const { return *any_; }

  // To the replica at `peer` (ClientContext::peer()), without gRPC's own retries and without
  // waiting for it when it is gone; any() when `peer` is empty.
  std::shared_ptr<Stub> To(const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_);

  // A server that is loading or draining tells so by its health, and a channel that checks health
  // sends it nothing. GetServerStatus has to reach it all the same.
  Stub& unchecked() const { return *unchecked_; }
  grpc::Channel& unchecked_channel() const { return *unchecked_channel_; }
  grpc::Channel& any_channel() const { return *any_channel_; }

 private:
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  // What certificates have to name, also where a replica is reached by its address.
  const std::string server_name_;
  const std::shared_ptr<grpc::Channel> unchecked_channel_;
  const std::shared_ptr<grpc::Channel> any_channel_;
  const std::unique_ptr<Stub> unchecked_;
  const std::shared_ptr<Stub> any_;
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Stub>> to_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
