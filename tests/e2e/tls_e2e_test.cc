// TLS and mTLS from outside: who gets in, who does not, and certificates that change under load.
#include <atomic>
#include <thread>

#include "client/cli/commands.h"
#include "tests/e2e/security_fixture.h"

namespace lectern::e2e {
namespace {

using grpc::StatusCode;
using test::CertificateAuthority;
using test::IssuedCertificate;
using testing::HasSubstr;

constexpr char kTaken[] = R"(lectern_tls_reload_total{result="ok"})";
constexpr char kRefused[] = R"(lectern_tls_reload_total{result="error"})";

class TlsE2eTest : public SecurityE2eTest {
 protected:
  void ServeTls() {
    WritePair(authority_.Issue({}));
    Serve(TlsFlags());
  }
  void ServeMutualTls() {
    WritePair(authority_.Issue({}));
    Write("ca.pem", authority_.pem());
    std::vector<std::string> flags = TlsFlags();
    flags.push_back("--tls_client_ca=" + Path("ca.pem"));
    Serve(flags);
  }
  IssuedCertificate Client() const { return authority_.Issue({.for_server = false}); }

  // Starts the server and returns the reason if that fails.
  std::string StartError() {
    test::ServerProcess server(TlsFlags(), TinyModelPath());
    EXPECT_EQ(server.WaitForExit(30), 1);
    return server.Log();
  }
};

TEST_F(TlsE2eTest, ServesThoseWhoBelieveItsAuthority) {
  ServeTls();
  EXPECT_EQ(Code(Tls(authority_.pem())), StatusCode::OK);
  const CertificateAuthority other("the authority");  // of the same name, with another key
  EXPECT_EQ(Code(Tls(other.pem())), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Code(Plain()), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Code(Tls(authority_.pem())), StatusCode::OK);
  const double left = Metric("lectern_tls_cert_expiry_timestamp_seconds") -
                      absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  EXPECT_GT(left, 0);
  EXPECT_LE(left, 3600);
}

TEST_F(TlsE2eTest, ClientsCheckTheServersName) {
  WritePair(authority_.Issue({.host = "somewhere.example"}));
  Serve(TlsFlags());
  EXPECT_EQ(Code(Tls(authority_.pem())), StatusCode::UNAVAILABLE);
}

TEST_F(TlsE2eTest, MutualTlsNeedsAGoodClientCertificate) {
  ServeMutualTls();
  const auto good = [&] { return Code(Tls(authority_.pem(), Client())); };
  EXPECT_EQ(good(), StatusCode::OK);
  EXPECT_EQ(Code(Tls(authority_.pem())), StatusCode::UNAVAILABLE) << "no certificate";
  const CertificateAuthority other("another");
  EXPECT_EQ(Code(Tls(authority_.pem(), other.Issue({.for_server = false}))),
            StatusCode::UNAVAILABLE);
  EXPECT_EQ(Code(Tls(authority_.pem(),
                     authority_.Issue({.ends = -absl::Minutes(1), .for_server = false}))),
            StatusCode::UNAVAILABLE)
      << "expired";
  EXPECT_EQ(
      Code(Tls(authority_.pem(), authority_.Intermediate("below")->Issue({.for_server = false}))),
      StatusCode::OK);
  EXPECT_EQ(good(), StatusCode::OK);
}

TEST_F(TlsE2eTest, DoesNotStartWithWhatNobodyCouldBelieve) {
  EXPECT_THAT(StartError(), HasSubstr("cert.pem: is not a readable file"));
  WritePair(authority_.Issue({.ends = -absl::Minutes(1)}));
  EXPECT_THAT(StartError(), HasSubstr("has expired"));
  WritePair({.chain = authority_.Issue({}).chain, .key = authority_.Issue({}).key});
  EXPECT_THAT(StartError(), HasSubstr("the key does not belong to the certificate"));
  Write("cert.pem", "garbage");
  EXPECT_THAT(StartError(), HasSubstr("contains no certificate"));
}

// Everything that deployments do wrong, and a good pair between the others, while new connections
// are made all the time and a stream lives through all of it.
TEST_F(TlsE2eTest, RotatesUnderLoadAndKeepsTheLastGoodPair) {
  ServeTls();
  const auto stub = Tls(authority_.pem());
  LiveStream live(*stub);
  ASSERT_TRUE(live.Ask());
  std::atomic<bool> stop{false};
  std::atomic<int> calls{0}, failures{0};
  std::vector<std::thread> load;
  for (int i = 0; i < 2; ++i) {
    load.emplace_back([&] {
      while (!stop) {
        failures += Code(Tls(authority_.pem())) == StatusCode::OK ? 0 : 1;
        ++calls;
      }
    });
  }
  const auto served_by = [&] {
    std::string name;
    EXPECT_TRUE(Call(*Tls(authority_.pem()), {}, &name).ok());
    return name;
  };
  int refused = 0;
  const auto refuse = [&](const IssuedCertificate& pair) {
    WritePair(pair);
    AwaitMetric(kRefused, ++refused);
    EXPECT_TRUE(live.Ask());
  };
  for (int i = 1; i <= 2; ++i) {
    const std::string name = "server " + std::to_string(i);
    const IssuedCertificate good = authority_.Issue({.name = name});
    WritePair(good);
    AwaitMetric(kTaken, i);
    EXPECT_EQ(served_by(), name);
    EXPECT_TRUE(live.Ask());
    refuse({.chain = "garbage", .key = good.key});
    refuse({.chain = good.chain.substr(0, good.chain.size() / 2), .key = good.key});
    refuse({.chain = authority_.Issue({}).chain, .key = good.key});
    refuse(authority_.Issue({.ends = -absl::Minutes(1)}));
    std::filesystem::remove(Path("key.pem"));
    AwaitMetric(kRefused, ++refused);
    EXPECT_EQ(served_by(), name);
  }
  stop = true;
  for (std::thread& thread : load) thread.join();
  EXPECT_EQ(failures, 0) << "of " << calls;
  EXPECT_GT(calls, 20);
  EXPECT_TRUE(live.Finish().ok());
  EXPECT_EQ(Metric(kTaken), 2);
  EXPECT_THAT(server_->Log(), HasSubstr("the previous ones stay in force"));
}

TEST_F(TlsE2eTest, AuthoritiesOfClientsChangeWithAnOverlap) {
  ServeMutualTls();
  const CertificateAuthority next("the next authority");
  const IssuedCertificate before = Client();
  const IssuedCertificate after = next.Issue({.for_server = false});
  const auto old_stub = Tls(authority_.pem(), before);
  LiveStream live(*old_stub);
  ASSERT_TRUE(live.Ask());
  EXPECT_EQ(Code(Tls(authority_.pem(), after)), StatusCode::UNAVAILABLE);
  Write("ca.pem", authority_.pem() + next.pem());
  AwaitMetric(kTaken, 1);
  EXPECT_EQ(Code(Tls(authority_.pem(), before)), StatusCode::OK);
  EXPECT_EQ(Code(Tls(authority_.pem(), after)), StatusCode::OK);
  Write("ca.pem", next.pem());
  AwaitMetric(kTaken, 2);
  EXPECT_EQ(Code(Tls(authority_.pem(), before)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Code(Tls(authority_.pem(), after)), StatusCode::OK);
  EXPECT_TRUE(live.Ask()) << "a connection that stands keeps what it was let in with";
  EXPECT_TRUE(live.Finish().ok());
}

// The whole way of a person: the command line with certificate, key and authority, and an answer
// about a file, for which the client connects to the replica that has it.
TEST_F(TlsE2eTest, TheCommandLineSpeaksMutualTls) {
  ServeMutualTls();
  const IssuedCertificate own = Client();
  Write("own.pem", own.chain);
  Write("own_key.pem", own.key);
  Write("text", "The sky is blue.");
  const auto run = [&](std::vector<std::string> arguments, std::string* out) {
    arguments.push_back("--server=" + server_->grpc_address());
    const auto options = ParseCommandLine(arguments, [](const char*) { return nullptr; });
    if (!options.ok()) return kExitUsage;
    char* text = nullptr;
    size_t size = 0;
    FILE* file = open_memstream(&text, &size);
    Canceller canceller;
    const int code = RunCommand(*options, file, file, false, canceller);
    std::fclose(file);
    *out = std::string(text, size);
    std::free(text);
    return code;
  };
  const std::string ca = "--tls_ca=" + Path("ca.pem");
  const std::string cert = "--tls_cert=" + Path("own.pem");
  const std::string key = "--tls_key=" + Path("own_key.pem");
  std::string out;
  EXPECT_EQ(
      run({"ask", "--file=" + Path("text"), "What colour?", "--max_new_tokens=4", ca, cert, key},
          &out),
      kExitOk)
      << out;
  EXPECT_EQ(run({"status", ca}, &out), kExitNoConnection) << out;
  EXPECT_EQ(run({"status"}, &out), kExitNoConnection) << out;
  EXPECT_EQ(run({"status", ca, cert}, &out), kExitUsage);
  EXPECT_EQ(run({"status", "--tls_ca=" + Path("absent")}, &out), kExitUsage);
}

}  // namespace
}  // namespace lectern::e2e
