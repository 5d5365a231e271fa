// The server program from outside: errors field by field, health, metrics, exit codes,
// draining.
#include <signal.h>

#include <future>
#include <thread>

#include "tests/e2e/e2e_fixture.h"

namespace lectern::e2e {
namespace {

using grpc::StatusCode;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;

class ServerE2eTest : public E2eTest {
 protected:
  std::vector<std::string> ViolatedFields(const grpc::Status& status) {
    google::rpc::Status details;
    details.ParseFromString(status.error_details());
    std::vector<std::string> fields;
    for (const auto& any : details.details()) {
      google::rpc::BadRequest bad;
      if (!any.UnpackTo(&bad)) continue;
      for (const auto& violation : bad.field_violations()) fields.push_back(violation.field());
    }
    return fields;
  }
};

TEST_F(ServerE2eTest, ReportsEveryViolatedField) {
  v1::AskRequest request;
  request.set_inline_text("Some text.");
  request.mutable_attention()->set_top_k(0);
  request.mutable_sampling()->set_temperature(9);
  request.set_max_new_tokens(1'000'000);
  request.add_stop("");
  const AskResult asked = Ask(request);
  EXPECT_EQ(asked.status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(asked.status),
              testing::UnorderedElementsAre("question", "attention.top_k", "sampling.temperature",
                                            "max_new_tokens", "stop[0]"));
}

TEST_F(ServerE2eTest, RefusesBrokenUploads) {
  const auto code = [&](const std::string& text, v1::UploadMetadata metadata = {}) {
    return Upload(text, std::move(metadata)).status.error_code();
  };
  EXPECT_EQ(code(""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code("not utf-8: \xff"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code("cut off: \xe2\x82"), StatusCode::INVALID_ARGUMENT);
  v1::UploadMetadata metadata;
  metadata.set_expected_bytes(5);
  EXPECT_EQ(code("more than five", metadata), StatusCode::INVALID_ARGUMENT);
  metadata.Clear();
  metadata.set_expected_sha256(std::string(64, '0'));
  EXPECT_EQ(code("another digest", metadata), StatusCode::INVALID_ARGUMENT);
  metadata.Clear();
  metadata.set_model("nobody");
  EXPECT_EQ(code("text", metadata), StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  auto stream = stub_->UploadDocument(&context);
  v1::UploadDocumentRequest request;
  request.set_data("data before metadata");
  stream->Write(request);
  stream->WritesDone();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerE2eTest, ListsDocumentsPageByPage) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Upload("Short document number " + std::to_string(i) + ".").status.ok());
  }
  v1::ListDocumentsRequest request;
  request.set_page_size(2);
  std::vector<std::string> ids;
  uint64_t total = 0;
  do {
    grpc::ClientContext context;
    v1::ListDocumentsResponse response;
    ASSERT_TRUE(stub_->ListDocuments(&context, request, &response).ok());
    EXPECT_LE(response.documents_size(), 2);
    for (const v1::Document& document : response.documents()) ids.push_back(document.id());
    total = response.total_documents();
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(ids.size(), total);
  EXPECT_GE(total, 3u);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  request.set_page_token("nonsense");
  grpc::ClientContext context;
  v1::ListDocumentsResponse response;
  EXPECT_EQ(stub_->ListDocuments(&context, request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerE2eTest, HealthKnowsItsServices) {
  const auto check = [&](const std::string& service, grpc::health::v1::HealthCheckResponse* out) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    return health_->Check(&context, request, out).error_code();
  };
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_EQ(check("", &response), StatusCode::OK);
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(check("lectern.v1.DocumentQA", &response), StatusCode::OK);
  EXPECT_EQ(check("nobody", &response), StatusCode::NOT_FOUND);
}

TEST_F(ServerE2eTest, MetricsMoveAndAreWellFormed) {
  ASSERT_TRUE(Ask([&] {
                v1::AskRequest request = Question("", "What colour?");
                request.set_inline_text("The door is red.");
                return request;
              }())
                  .status.ok());
  // A client receives the end of an answer a moment before its job is gone.
  int code = 0;
  std::string metrics;
  for (int i = 0; i < 500; ++i) {
    metrics = server_->Get("/metrics", &code);
    EXPECT_EQ(code, 200);
    if (metrics.find("lectern_requests_running 0\n") != std::string::npos) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_THAT(
      metrics,
      ContainsRegex(R"re(lectern_requests_finished_total\{[^}]*model="test"[^}]*\} [1-9])re"));
  EXPECT_THAT(metrics, HasSubstr("lectern_requests_running 0"));
  EXPECT_THAT(metrics, HasSubstr("lectern_time_to_first_token_seconds_bucket"));
  EXPECT_THAT(metrics, HasSubstr("process_resident_memory_bytes"));
  std::istringstream lines(metrics);
  const auto sample =
      MatchesRegex(R"((lectern|grpc|process)_[a-z0-9_]+(\{[^}]*\})? [-+0-9.eEinfINFNa]+)");
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    EXPECT_THAT(line, sample);
  }
  server_->Get("/nothing", &code);
  EXPECT_EQ(code, 404);
  if (std::system("command -v promtool > /dev/null") != 0) return;
  FILE* lint = popen("promtool check metrics > /dev/null 2>&1", "w");
  fwrite(metrics.data(), 1, metrics.size(), lint);
  EXPECT_EQ(pclose(lint), 0);
}

TEST_F(ServerE2eTest, DrainFinishesWhatRunsAndRefusesTheRest) {
  test::ServerProcess server;
  ASSERT_TRUE(server.WaitUntilReady()) << server.Log();
  Connect(server);
  v1::AskRequest request = Question("", "Write a long story about the sky.");
  request.set_inline_text("The sky is blue.");
  request.set_max_new_tokens(60);
  request.mutable_sampling()->set_temperature(1);
  auto running = std::async(std::launch::async, [&] { return Ask(request); });
  while (Status().requests_running() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  server.Signal(SIGTERM);
  const AskResult finished = running.get();
  EXPECT_TRUE(finished.status.ok()) << finished.status.error_message();
  EXPECT_EQ(server.WaitForExit(20), 0);
  EXPECT_EQ(Ask(request).status.error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(ServerE2eTest, WatchersSeeTheDrain) {
  test::ServerProcess server({"--lame_duck=300ms"});
  ASSERT_TRUE(server.WaitUntilReady()) << server.Log();
  Connect(server);
  grpc::ClientContext context;
  auto stream = health_->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  server.Signal(SIGTERM);
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  EXPECT_EQ(server.WaitForExit(20), 0);
}

TEST_F(ServerE2eTest, SecondSignalExitsAtOnce) {
  test::ServerProcess server({"--lame_duck=60s"});
  ASSERT_TRUE(server.WaitUntilReady()) << server.Log();
  server.Signal(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(server.WaitForExit(0), -1);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.WaitForExit(5), 1);
}

TEST_F(ServerE2eTest, BadFlagsExitWith2AndNameTheFlag) {
  for (const auto& [flag, name] : std::vector<std::pair<std::string, std::string>>{
           {"--nonsense=1", "--nonsense"},
           {"--threads=many", "--threads"},
           {"--kv_bytes=-1", "--kv_bytes"},
           {"--tail=sideways", "--tail"},
           {"--model=pathonly", "--model"},
           {"--drain_timeout=soon", "--drain_timeout"}}) {
    test::ServerProcess server({flag});
    EXPECT_EQ(server.WaitForExit(10), 2) << flag;
    EXPECT_THAT(server.Log(), HasSubstr(name));
  }
}

TEST_F(ServerE2eTest, BrokenModelExitsWith3AndNamesTheFile) {
  const std::string path = std::filesystem::temp_directory_path() / "lectern_broken.gguf";
  FILE* file = std::fopen(path.c_str(), "wb");
  std::fputs("GGUF but not really", file);
  std::fclose(file);
  test::ServerProcess server({}, path);
  EXPECT_EQ(server.WaitForExit(20), 3);
  EXPECT_THAT(server.Log(), HasSubstr("lectern_broken.gguf"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace lectern::e2e
