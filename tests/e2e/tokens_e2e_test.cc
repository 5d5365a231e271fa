// Tokens from outside: no call without one, the tenant is the token's, files change while calls
// run.
#include "base/hashing/sha256.h"
#include "client/cli/options.h"
#include "lectern/client.h"
#include "tests/e2e/security_fixture.h"

namespace lectern::e2e {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;
using testing::Not;

constexpr char kTaken[] = R"(lectern_auth_tokens_reload_total{result="ok"})";
constexpr char kRefused[] = R"(lectern_auth_tokens_reload_total{result="error"})";
constexpr char kRejected[] = R"(lectern_admission_total{decision="rejected",reason="auth"})";

class TokensE2eTest : public SecurityE2eTest {
 protected:
  void WriteTokens(const std::vector<std::pair<std::string, std::string>>& tokens) const {
    std::string list;
    for (const auto& [tenant, token] : tokens) {
      list += (list.empty() ? "" : ",") + std::string(R"({"tenant": ")") + tenant +
              R"(", "sha256": ")" + Sha256Hex(token) + "\"}";
    }
    Write("tokens.json", R"({"tokens": [)" + list + "]}");
  }
  std::string Flag() const { return "--auth_tokens=" + Path("tokens.json"); }
  CallOptions With(const std::string& token, const std::string& tenant = "") const {
    CallOptions options;
    options.token = token;
    options.tenant = tenant;
    return options;
  }
  size_t Documents(lectern::Client& client, const CallOptions& options) const {
    const auto documents = client.ListDocuments("", options);
    EXPECT_TRUE(documents.ok()) << documents.status();
    return documents.ok() ? documents->size() : 0;
  }
};

TEST_F(TokensE2eTest, NoCallWithoutAKnownToken) {
  WriteTokens({{"a", "first-secret"}});
  Serve({Flag()});
  const auto stub = Plain();
  const auto refused = [&](const std::map<std::string, std::string>& metadata) {
    const grpc::Status status = Call(*stub, metadata);
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
    return ReasonOf(status);
  };
  EXPECT_EQ(refused({}), "TOKEN_MISSING");
  EXPECT_EQ(refused({{"x-lectern-tenant", "a"}}), "TOKEN_MISSING");
  EXPECT_EQ(refused({{"authorization", "Bearer wrong"}}), "TOKEN_UNKNOWN");
  EXPECT_TRUE(Call(*stub, {{"authorization", "Bearer first-secret"}}).ok());
  // Every other method, streams included.
  grpc::ClientContext ask_context, many_context, upload_context, list_context;
  v1::AskRequest ask;
  ask.set_inline_text("The sky is blue.");
  ask.set_question("What colour?");
  EXPECT_EQ(stub->Ask(&ask_context, ask)->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(stub->AskMany(&many_context)->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(stub->UploadDocument(&upload_context)->Finish().error_code(),
            StatusCode::UNAUTHENTICATED);
  v1::ListDocumentsResponse list;
  EXPECT_EQ(stub->ListDocuments(&list_context, {}, &list).error_code(),
            StatusCode::UNAUTHENTICATED);
  // Load balancers, which have no token, may check health.
  grpc::ClientContext health_context;
  grpc::health::v1::HealthCheckResponse health;
  const auto probe = grpc::health::v1::Health::NewStub(Channel(grpc::InsecureChannelCredentials()));
  EXPECT_TRUE(probe->Check(&health_context, {}, &health).ok());
  AwaitMetric(kRejected, 7);
  EXPECT_EQ(Metric(kRejected), 7);
  EXPECT_THAT(server_->Log(), Not(HasSubstr("secret")));
  EXPECT_THAT(server_->Log(), HasSubstr("TOKEN_UNKNOWN"));
}

TEST_F(TokensE2eTest, TheTenantIsTheTokensWhateverTheCallSays) {
  WriteTokens({{"a", "of-a"}, {"b", "of-b"}, {"a", "of-a-too"}});
  Serve({Flag(), "--tenant_documents=1"});
  lectern::Client client(server_->grpc_address());
  const auto document =
      client.Upload("The sky is blue.", {}, With("of-a", "b"), [](const auto&) {});
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(Documents(client, With("of-a-too")), 1u);
  EXPECT_EQ(Documents(client, With("of-b", "a")), 0u);
  EXPECT_TRUE(absl::IsNotFound(client.DeleteDocument(document->id(), With("of-b")).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(
      client.Upload("More.", {}, With("of-a-too"), [](const auto&) {}).status()))
      << "one quota for both tokens";
  EXPECT_TRUE(client.Upload("More.", {}, With("of-b"), [](const auto&) {}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(client.ListModels(With("a token of several words")).status()))
      << "gRPC would end the process for some bytes";
}

TEST_F(TokensE2eTest, ValidChangesTakeEffectAndInvalidOnesDoNot) {
  WriteTokens({{"a", "old"}});
  Serve({Flag()});
  lectern::Client client(server_->grpc_address());
  const auto code = [&](const char* token) {
    return client.GetServerStatus(With(token)).status().code();
  };
  EXPECT_EQ(code("old"), absl::StatusCode::kOk);
  Write("tokens.json", R"({"tokens": [)");
  AwaitMetric(kRefused, 1);
  std::filesystem::remove(Path("tokens.json"));
  AwaitMetric(kRefused, 2);
  EXPECT_EQ(code("old"), absl::StatusCode::kOk);
  EXPECT_EQ(code("new"), absl::StatusCode::kUnauthenticated);
  WriteTokens({{"a", "old"}, {"a", "new"}});
  AwaitMetric(kTaken, 1);
  EXPECT_EQ(code("old"), absl::StatusCode::kOk);
  EXPECT_EQ(code("new"), absl::StatusCode::kOk);
  WriteTokens({{"a", "new"}});
  AwaitMetric(kTaken, 2);
  EXPECT_EQ(code("old"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(code("new"), absl::StatusCode::kOk);
}

TEST_F(TokensE2eTest, OverTlsTheClientsTokenIsCheckedLikeInPlainText) {
  WritePair(authority_.Issue({}));
  WriteTokens({{"a", "over-tls"}});
  std::vector<std::string> flags = TlsFlags();
  flags.push_back(Flag());
  Serve(flags);
  lectern::Client client(server_->grpc_address(), {.authorities = authority_.pem()});
  EXPECT_TRUE(client.GetServerStatus(With("over-tls")).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(client.GetServerStatus(With("other")).status()));
  const DocumentSource text = TextSource("The sky is blue.");
  CallOptions options = With("over-tls");
  options.document = &text;
  v1::AskRequest ask;
  ask.set_question("What colour?");
  ask.set_max_new_tokens(4);
  const auto answer = client.Ask(ask, options, [](const v1::AskResponse&) {});
  EXPECT_TRUE(answer.ok()) << answer.status();
}

TEST_F(TokensE2eTest, DoesNotStartWithABadFile) {
  Write("tokens.json", R"({"tokens": [{"tenant": "a", "sha256": "short"}]})");
  test::ServerProcess server({Flag()}, TinyModelPath());
  EXPECT_EQ(server.WaitForExit(30), 1);
  EXPECT_THAT(server.Log(), HasSubstr("tokens.json: tokens[0].sha256"));
}

}  // namespace
}  // namespace lectern::e2e
