#include "client/cpp/channels.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_cat.h"
#include "client/cpp/service_config.h"

namespace lectern {
namespace {

using lectern::v1::DocumentQA;

// Replicas come and go and their addresses with them: more than this many are not remembered.
constexpr size_t kMostPeers = 64;
// A replica that restarts is seen again soon.
constexpr int kLongestReconnectMs = 2'000;
// The server takes pings each 30 s and more; a replica that hangs is noticed in 80 s.
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// Of a connection to one replica: no retries and no waiting, since another one may be there.
constexpr char kOneReplicaConfig[] =
    R"json({"loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": "lectern.v1.DocumentQA"}})json";

enum class Kind { kUnchecked, kAny, kOne };

std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const Connection& connection) {
  if (connection.authorities.empty()) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({.pem_root_certs = connection.authorities,
                               .pem_private_key = connection.key,
                               .pem_cert_chain = connection.certificate});
}

std::string ServerNameOf(const std::string& target, const Connection& connection) {
  if (connection.authorities.empty()) return "";
  return connection.server_name.empty() ? HostOfTarget(target) : connection.server_name;
}

std::shared_ptr<grpc::Channel> NewChannel(
    const std::string& target, Kind kind,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials, const std::string& server_name) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix("lectern-client");
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLongestReconnectMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Only what the config below says, not what a name server may add.
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  if (!server_name.empty()) arguments.SetSslTargetNameOverride(server_name);
  if (kind == Kind::kAny) arguments.SetServiceConfigJSON(kServiceConfig);
  if (kind == Kind::kOne) arguments.SetServiceConfigJSON(kOneReplicaConfig);
  return grpc::CreateCustomChannel(target, credentials, arguments);
}

}  // namespace

std::string ToGrpcTarget(const std::string& target) {
  if (target.find(',') == std::string::npos) return target;
  const bool v6 = target.front() == '[';
  if (target.find_first_not_of(v6 ? "0123456789abcdefABCDEF.:,[]" : "0123456789.:,") !=
      std::string::npos) {
    return target;
  }
  return absl::StrCat(v6 ? "ipv6:" : "ipv4:", target);
}

Channels::Channels(const std::string& target, const Connection& connection)
    : credentials_(CredentialsOf(connection)),
      server_name_(ServerNameOf(target, connection)),
      unchecked_channel_(
          NewChannel(ToGrpcTarget(target), Kind::kUnchecked, credentials_, server_name_)),
      any_channel_(NewChannel(ToGrpcTarget(target), Kind::kAny, credentials_, server_name_)),
      unchecked_(DocumentQA::NewStub(unchecked_channel_)),
      any_(DocumentQA::NewStub(any_channel_)) {}

std::shared_ptr<Channels::Stub> Channels::To(const std::string& peer) {
  if (peer.empty()) return any_;
  absl::MutexLock lock(&mutex_);
  if (to_.size() >= kMostPeers && to_.count(peer) == 0) to_.clear();
  std::shared_ptr<Stub>& stub = to_[peer];
  if (stub == nullptr) {
    stub = DocumentQA::NewStub(NewChannel(peer, Kind::kOne, credentials_, server_name_));
  }
  return stub;
}

}  // namespace lectern
