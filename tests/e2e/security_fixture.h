// A server with a tiny model and certificates made for the test, and clients of all kinds.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/e2e_fixture.h"
#include "tests/testing/certificates.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::e2e {

// Small enough to be there within a second.
inline std::string TinyModelPath() {
  return (test::FixtureDir() / "llama_tiny" / "tied.Q8_0.gguf").string();
}

class SecurityE2eTest : public testing::Test {
 protected:
  using Stub = v1::DocumentQA::Stub;

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  // By rename, as deployments do.
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name) + ".new", std::ios::binary) << text;
    std::filesystem::rename(Path(name) + ".new", Path(name));
  }
  void WritePair(const test::IssuedCertificate& pair) const {
    Write("cert.pem", pair.chain);
    Write("key.pem", pair.key);
  }
  std::vector<std::string> TlsFlags() const {
    return {"--tls_cert=" + Path("cert.pem"), "--tls_key=" + Path("key.pem")};
  }

  void Serve(const std::vector<std::string>& flags) {
    server_ = std::make_unique<test::ServerProcess>(flags, TinyModelPath());
    ASSERT_TRUE(server_->WaitUntilReady()) << server_->Log();
  }

  // Each has a separate connection.
  std::shared_ptr<grpc::Channel> Channel(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server_->grpc_address(), credentials, arguments);
  }
  std::unique_ptr<Stub> Tls(const std::string& authorities,
                            const test::IssuedCertificate& own = {}) const {
    return v1::DocumentQA::NewStub(Channel(grpc::SslCredentials(
        {.pem_root_certs = authorities, .pem_private_key = own.key, .pem_cert_chain = own.chain})));
  }
  std::unique_ptr<Stub> Plain() const {
    return v1::DocumentQA::NewStub(Channel(grpc::InsecureChannelCredentials()));
  }

  // The outcome of a call; `server_name` gets the common name in the server's certificate.
  grpc::Status Call(Stub& stub, const std::map<std::string, std::string>& metadata = {},
                    std::string* server_name = nullptr) const {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    v1::ServerStatus status;
    const grpc::Status called = stub.GetServerStatus(&context, {}, &status);
    if (server_name != nullptr && called.ok()) {
      const auto names = context.auth_context()->FindPropertyValues("x509_common_name");
      if (!names.empty()) *server_name = std::string(names[0].data(), names[0].size());
    }
    return called;
  }
  grpc::StatusCode Code(const std::unique_ptr<Stub>& stub) const {
    return Call(*stub).error_code();
  }

  double Metric(const std::string& series) const { return server_->Metric(series); }
  void AwaitMetric(const std::string& series, double value) const {
    for (int i = 0; i < 3000 && Metric(series) < value; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_GE(Metric(series), value) << series << server_->Log();
  }

  const TemporaryFolder folder_;
  const test::CertificateAuthority authority_{"the authority"};
  std::unique_ptr<test::ServerProcess> server_;
};

// A stream that lives as long as the test wants, and is asked a question now and then.
class LiveStream {
 public:
  explicit LiveStream(v1::DocumentQA::Stub& stub) : stream_(stub.AskMany(&context_)) {}

  // Whether a question on the stream is answered.
  bool Ask() {
    v1::AskManyRequest request;
    request.set_tag(std::to_string(++asked_));
    request.mutable_ask()->set_inline_text("The sky is blue.");
    request.mutable_ask()->set_question("What colour?");
    request.mutable_ask()->set_max_new_tokens(4);
    if (!stream_->Write(request)) return false;
    for (v1::AskManyResponse response; stream_->Read(&response);) {
      if (response.has_error()) ADD_FAILURE() << response.error().message();
      if (response.has_error() || response.response().has_answer()) return !response.has_error();
    }
    return false;
  }
  // Ends the stream, or hears how it has ended.
  grpc::Status Finish() {
    stream_->WritesDone();
    for (v1::AskManyResponse response; stream_->Read(&response);) {
    }
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AskManyRequest, v1::AskManyResponse>> stream_;
  int asked_ = 0;
};

}  // namespace lectern::e2e
