#include "client/cpp/channels.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/service_config.h"

namespace lectern {
namespace {

using lectern::v1::DocumentQA;

// Replicas come and go, and their addresses with them. Stubs to at most this many are kept.
constexpr size_t kMostPeers = 64;
// Short, so that a replica that restarts is used again soon.
constexpr int kLongestReconnectMs = 2'000;
// The server accepts one ping every 30 s; a replica that hangs is noticed within 80 s.
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// The service config for a connection to one replica: no retries and no waiting, because another
// replica may be available.
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
  // Uses the service config below and ignores one from the name server.
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

std::string HostOfTarget(const std::string& target) {
  if (absl::StartsWith(target, "unix")) return "";
  std::string address = target;
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (!absl::StartsWith(target, scheme)) continue;
    address = target.substr(target.find(':') + 1);
    // dns://NAME_SERVER/HOST:PORT
    if (absl::StartsWith(address, "//")) address = address.substr(address.rfind('/') + 1);
  }
  if (address.find(',') != std::string::npos) return "";
  if (absl::StartsWith(address, "[")) return address.substr(1, address.find(']') - 1);
  return address.substr(0, address.rfind(':'));
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
