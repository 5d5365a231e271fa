// Every call has ids, a tenant, a priority, one line in the log, counts, and a reader that must
// keep up. The engine is a fake, so that the test makes the events.
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "base/error_details.h"
#include "tests/server/rpc/service_fixture.h"

namespace lectern {
namespace {

using grpc::StatusCode;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class FakeJob : public Job {
 public:
  void Cancel() override {
    if (!cancelled_.HasBeenNotified()) cancelled_.Notify();
  }
  void WaitUntilCancelled() { cancelled_.WaitForNotification(); }

 private:
  absl::Notification cancelled_;
};

// Keeps the request; the test answers it.
class FakeEngine : public Engine {
 public:
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadOptions& options) override {
    upload = options;
    return absl::UnimplementedError("no uploads here");
  }
  absl::StatusOr<DocumentInfo> GetDocument(const std::string& id,
                                           const std::string& owner) const override {
    owner_of_get = owner;
    if (id == "broken") return absl::InternalError("secret detail");
    return DocumentInfo{.id = id};
  }
  absl::StatusOr<DocumentPage> ListDocuments(uint32_t, const std::string&, const std::string&,
                                             const std::string&) const override {
    return DocumentPage{};
  }
  absl::StatusOr<uint64_t> DeleteDocument(const std::string&, const std::string&) override {
    return 0;
  }
  absl::StatusOr<std::shared_ptr<Job>> Ask(AskOptions options,
                                           std::shared_ptr<AskSink> sink) override {
    ask = std::move(options);
    if (on_ask) on_ask(std::move(sink));
    return job;
  }
  absl::StatusOr<std::shared_ptr<Job>> CountTokens(CountOptions, CountDone done) override {
    done(TokenCount{});
    return job;
  }
  const std::vector<std::shared_ptr<const Model>>& models() const override { return models_; }
  const EngineLimits& limits() const override { return limits_; }
  EngineStatus status() const override { return {}; }
  absl::Time heartbeat() const override { return absl::Now(); }
  void StopAccepting() override {}
  bool WaitUntilIdle(absl::Time) override { return true; }
  void Stop() override {}

  UploadOptions upload;
  AskOptions ask;
  mutable std::string owner_of_get;
  std::function<void(std::shared_ptr<AskSink>)> on_ask = [](std::shared_ptr<AskSink> sink) {
    Answer answer;
    answer.model = "fake";
    answer.text = "the secret answer";
    answer.document_id = "doc-0123456789abcdef0123456789abcdef";
    answer.usage = {.document_tokens = 90,
                    .question_tokens = 10,
                    .generated_tokens = 7,
                    .tokens_computed = 10,
                    .tokens_reused = 90};
    sink->OnText(answer.text, 7);
    sink->OnAnswer(answer);
  };
  std::shared_ptr<FakeJob> job = std::make_shared<FakeJob>();

 private:
  const std::vector<std::shared_ptr<const Model>> models_ = {std::make_shared<FakeModel>()};
  const EngineLimits limits_;
};

class CallTest : public RpcFixture {
 protected:
  explicit CallTest(RpcEnvironment environment = {}) : RpcFixture(std::move(environment)) {
    RpcFixture::Serve(&engine_);
  }
  ~CallTest() override { StopServer(); }

  using Metadata = std::map<std::string, std::string>;

  struct Result {
    grpc::Status status;
    std::string initial_id, trailing_id;
  };

  static std::string IdIn(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
    const auto found = metadata.find("x-request-id");
    return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
  }

  Result Ask(const v1::AskRequest& request, const Metadata& metadata = {}) {
    grpc::ClientContext context;
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    auto stream = stub_->Ask(&context, request);
    for (v1::AskResponse event; stream->Read(&event);) {
    }
    Result result;
    result.status = stream->Finish();
    result.initial_id = IdIn(context.GetServerInitialMetadata());
    result.trailing_id = IdIn(context.GetServerTrailingMetadata());
    return result;
  }

  // Returns the log lines of `calls` and of the end of all calls.
  template <typename F>
  std::vector<json> Lines(F&& calls) {
    testing::internal::CaptureStdout();
    calls();
    StopServer();
    log_ = testing::internal::GetCapturedStdout();
    std::vector<json> lines;
    std::istringstream text(log_);
    for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }

  double Metric(const std::string& series) {
    std::istringstream text(metrics_.Render());
    for (std::string line; std::getline(text, line);) {
      if (line.rfind(series + " ", 0) == 0) return std::stod(line.substr(series.size() + 1));
    }
    ADD_FAILURE() << series << " is missing";
    return -1;
  }

  FakeEngine engine_;
  std::string log_;
};

TEST_F(CallTest, RequestIdsAreReturnedAndInvalidOnesReplaced) {
  const Result given = Ask(Inline("q"), {{"x-request-id", "My.id_7-a"}});
  EXPECT_EQ(given.initial_id, "My.id_7-a");
  EXPECT_EQ(given.trailing_id, "My.id_7-a");
  EXPECT_EQ(engine_.ask.request_id, "My.id_7-a");
  const Result minted = Ask(Inline("q"));
  EXPECT_THAT(minted.trailing_id, testing::MatchesRegex("req-[0-9a-f]{16}"));
  EXPECT_NE(Ask(Inline("q")).trailing_id, minted.trailing_id);
  for (const std::string& strange : {std::string(129, 'a'), std::string("two words")}) {
    EXPECT_THAT(Ask(Inline("q"), {{"x-request-id", strange}}).trailing_id,
                testing::StartsWith("req-"));
  }
}

// Early initial metadata would commit the client: a refusal could not be retried elsewhere.
TEST_F(CallTest, RefusalsHaveTheIdInTheTrailerOnly) {
  serving_.Set(ServerState::kStopped, "over");
  const Result refused = Ask(Inline("q"), {{"x-request-id", "mine"}});
  EXPECT_EQ(refused.status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.initial_id, "");
  EXPECT_EQ(refused.trailing_id, "mine");
}

TEST_F(CallTest, UnaryCallsHaveIdsToo) {
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "unary");
  context.AddMetadata("x-lectern-tenant", "team");
  v1::Document document;
  ASSERT_TRUE(stub_->GetDocument(&context, {}, &document).ok());
  EXPECT_EQ(engine_.owner_of_get, "team");
  EXPECT_EQ(IdIn(context.GetServerInitialMetadata()), "unary");
  EXPECT_EQ(IdIn(context.GetServerTrailingMetadata()), "unary");
}

TEST_F(CallTest, TenantIsTheMetadataElseTheAddress) {
  EXPECT_TRUE(Ask(Inline("q")).status.ok());
  EXPECT_EQ(engine_.ask.tenant, "127.0.0.1");
  EXPECT_EQ(engine_.ask.owner, "");
  EXPECT_TRUE(Ask(Inline("q"), {{"x-lectern-tenant", "team-7.b_C"}}).status.ok());
  EXPECT_EQ(engine_.ask.tenant, "team-7.b_C");
  EXPECT_EQ(engine_.ask.owner, "team-7.b_C");
  for (const std::string& bad : {std::string(), std::string(65, 'a'), std::string("a b")}) {
    const grpc::Status status = Ask(Inline("q"), {{"x-lectern-tenant", bad}}).status;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << bad;
    EXPECT_THAT(status.error_message(), HasSubstr("x-lectern-tenant"));
  }
}

TEST_F(CallTest, EveryMethodChecksItsTenant) {
  const auto context = [] {
    auto made = std::make_unique<grpc::ClientContext>();
    made->AddMetadata("x-lectern-tenant", "a/b");
    return made;
  };
  const auto unary = context(), many = context(), upload = context();
  v1::Document document;
  EXPECT_EQ(stub_->GetDocument(unary.get(), {}, &document).error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(stub_->AskMany(many.get())->Finish().error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(stub_->UploadDocument(upload.get())->Finish().error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(CallTest, AskManyAndUploadsCarryTenantAndId) {
  grpc::ClientContext many_context, upload_context;
  many_context.AddMetadata("x-lectern-tenant", "t");
  many_context.AddMetadata("x-request-id", "many");
  auto many = stub_->AskMany(&many_context);
  v1::AskManyRequest question;
  question.set_tag("a");
  *question.mutable_ask() = Inline("q");
  question.mutable_ask()->set_priority(v1::PRIORITY_BULK);
  many->Write(question);
  many->WritesDone();
  for (v1::AskManyResponse event; many->Read(&event);) {
  }
  EXPECT_TRUE(many->Finish().ok());
  EXPECT_EQ(engine_.ask.tenant, "t");
  EXPECT_EQ(engine_.ask.request_id, "many");
  EXPECT_EQ(engine_.ask.priority, Priority::kBulk);

  upload_context.AddMetadata("x-lectern-tenant", "u");
  upload_context.AddMetadata("x-request-id", "up");
  auto upload = stub_->UploadDocument(&upload_context);
  v1::UploadDocumentRequest request;
  request.mutable_metadata();
  upload->Write(request);
  EXPECT_EQ(upload->Finish().error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(engine_.upload.tenant, "u");
  EXPECT_EQ(engine_.upload.owner, "u");
  EXPECT_EQ(engine_.upload.request_id, "up");
  EXPECT_EQ(engine_.upload.priority, Priority::kBulk);
}

TEST_F(CallTest, PriorityDefaultsToInteractiveAndKnowsItsValues) {
  v1::AskRequest request = Inline("q");
  EXPECT_TRUE(Ask(request).status.ok());
  EXPECT_EQ(engine_.ask.priority, Priority::kInteractive);
  request.set_priority(static_cast<v1::Priority>(9));
  const grpc::Status status = Ask(request).status;
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("priority"));
}

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST_F(CallTest, OneLogLinePerCallWithoutItsText) {
  const auto lines = Lines([&] {
    Ask(Inline("the secret question"),
        {{"x-request-id", "id-1"},
         {"x-lectern-tenant", "team"},
         {"traceparent", std::string("00-") + kTrace + "-00f067aa0ba902b7-01"}});
  });
  ASSERT_EQ(lines.size(), 1u);
  const json& line = lines[0];
  EXPECT_EQ(line["severity"], "info");
  EXPECT_EQ(line["msg"], "rpc");
  EXPECT_EQ(line["request_id"], "id-1");
  EXPECT_EQ(line["trace_id"], kTrace);
  EXPECT_EQ(line["method"], "lectern.v1.DocumentQA/Ask");
  EXPECT_EQ(line["status"], "OK");
  EXPECT_EQ(line["tenant"], "team");
  EXPECT_THAT(line["peer"].get<std::string>(), testing::StartsWith("ipv4:127.0.0.1:"));
  EXPECT_EQ(line["finish_reason"], "stop");
  EXPECT_EQ(line["model"], "fake");
  EXPECT_EQ(line["doc"], "01234567");
  EXPECT_EQ(line["prompt_tokens"], 100);
  EXPECT_EQ(line["cached_tokens"], 90);
  EXPECT_EQ(line["generated_tokens"], 7);
  EXPECT_EQ(line["chunks"], 2);
  EXPECT_GT(line["bytes_in"], 10);
  EXPECT_GT(line["bytes_out"], 10);
  for (const char* field : {"queue_ms", "ttft_ms", "duration_ms", "version"}) {
    EXPECT_TRUE(line.contains(field)) << field;
  }
  for (const char* text : {"secret", "short document"}) EXPECT_THAT(log_, Not(HasSubstr(text)));
}

TEST_F(CallTest, FailuresNameTheirReasonAndHideNothingFromTheLog) {
  const auto lines = Lines([&] {
    engine_.on_ask = [](std::shared_ptr<AskSink> sink) {
      sink->OnText("the sec", 3);
      sink->OnError(MakeError(absl::StatusCode::kDeadlineExceeded, "late", {.reason = "DEADLINE"}));
    };
    v1::AskRequest request = Inline("q");
    request.set_model("forged\n{\"msg\":\"line\"}");
    Ask(request);
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "broken-1");
    v1::GetDocumentRequest get;
    get.set_id("broken");
    v1::Document document;
    const grpc::Status status = stub_->GetDocument(&context, get, &document);
    EXPECT_THAT(status.error_message(), Not(HasSubstr("secret")));
  });
  ASSERT_EQ(lines.size(), 3u) << log_;
  const auto line = [&](const char* message, const char* status) {
    const auto found = std::find_if(lines.begin(), lines.end(), [&](const json& l) {
      return l["msg"] == message && (*status == 0 || l["status"] == status);
    });
    return found == lines.end() ? json() : *found;
  };
  const json late = line("rpc", "DEADLINE_EXCEEDED");
  EXPECT_EQ(late["reason"], "DEADLINE");
  EXPECT_EQ(late["finish_reason"], "deadline");
  EXPECT_EQ(late["generated_tokens"], 3);
  EXPECT_EQ(late["model"], "forged\n{\"msg\":\"line\"}");
  const json failed = line("request failed", "");
  EXPECT_EQ(failed["severity"], "error");
  EXPECT_EQ(failed["request_id"], "broken-1");
  EXPECT_EQ(failed["error"], "secret detail");
  EXPECT_EQ(line("rpc", "INTERNAL")["request_id"], "broken-1");
}

TEST_F(CallTest, AskManyHasALineForEachQuestion) {
  const auto lines = Lines([&] {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "many");
    auto stream = stub_->AskMany(&context);
    v1::AskManyRequest request;
    request.set_tag("a");
    *request.mutable_ask() = Inline("the secret question");
    stream->Write(request);
    stream->WritesDone();
    for (v1::AskManyResponse event; stream->Read(&event);) {
    }
    stream->Finish();
  });
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["msg"], "question");
  EXPECT_EQ(lines[0]["request_id"], "many");
  EXPECT_EQ(lines[0]["prompt_tokens"], 100);
  EXPECT_EQ(lines[1]["msg"], "rpc");
  EXPECT_THAT(log_, Not(HasSubstr("secret")));
}

TEST_F(CallTest, InvalidTraceparentsAreIgnored) {
  const std::vector<std::string> parents = {
      "nonsense",
      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
      std::string("00-") + kTrace + "-0000000000000000-01",
      std::string("ff-") + kTrace + "-00f067aa0ba902b7-01",
      std::string("00-") + kTrace + "-00f067aa0ba902b7-01-more",
      "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"};
  const auto lines = Lines([&] {
    for (const auto& parent : parents) Ask(Inline("q"), {{"traceparent", parent}});
  });
  ASSERT_EQ(lines.size(), parents.size());
  for (const json& line : lines) EXPECT_FALSE(line.contains("trace_id")) << line;
}

class PromptLogTest : public CallTest {
 protected:
  PromptLogTest() : CallTest(RpcEnvironment{.log_prompts = true}) {}
};

TEST_F(PromptLogTest, QuestionAndAnswerAreLoggedOnRequest) {
  const auto lines = Lines([&] { Ask(Inline("the secret question")); });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["question"], "the secret question");
  EXPECT_EQ(lines[0]["answer"], "the secret answer");
  EXPECT_THAT(log_, Not(HasSubstr("short document")));
}

TEST_F(CallTest, UnknownMethodsCountAsOther) {
  grpc::GenericStub stub(channel_);
  const std::vector<std::string> methods = {"/lectern.v1.DocumentQA/Nope", "/a.b/C", "/../etc"};
  for (const auto& method : methods) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    grpc::ByteBuffer reply;
    grpc::Status status;
    auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(nullptr, 0), &queue);
    call->StartCall();
    call->Finish(&reply, &status, this);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED) << method;
  }
  EXPECT_EQ(Metric(R"(grpc_server_call_started_total{grpc_method="other"})"), methods.size());
  EXPECT_EQ(Metric("grpc_server_call_duration_seconds_count"
                   R"({grpc_method="other",grpc_status="UNIMPLEMENTED"})"),
            methods.size());
}

TEST_F(CallTest, BytesOfMessagesAreCounted) {
  v1::AskRequest request = Inline(std::string(5000, 'q'));
  Ask(request);
  StopServer();
  const std::string labels = R"({grpc_method="lectern.v1.DocumentQA/Ask",grpc_status="OK"})";
  EXPECT_EQ(Metric("grpc_server_call_rcvd_total_compressed_message_size_bytes_sum" + labels),
            request.ByteSizeLong());
  EXPECT_GT(Metric("grpc_server_call_sent_total_compressed_message_size_bytes_sum" + labels), 20);
}

class SlowReaderTest : public CallTest {
 protected:
  SlowReaderTest() : CallTest(RpcEnvironment{.slow_reader_timeout = absl::Milliseconds(300)}) {
    // A client that does not read then accepts 64 KiB from the server and no more.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 16);
    channel_ = grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::DocumentQA::NewStub(channel_);
  }
};

// The answer is larger than flow control lets an idle reader accept.
TEST_F(SlowReaderTest, LosesItsCallAndEverythingIsFreed) {
  std::shared_ptr<AskSink> sink;
  engine_.on_ask = [&](std::shared_ptr<AskSink> given) {
    sink = given;
    for (int i = 0; i < 3; ++i) sink->OnText(std::string(1 << 20, 'x'), 1);
  };
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, Inline("q"));
  engine_.job->WaitUntilCancelled();
  for (v1::AskResponse event; stream->Read(&event);) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), testing::StartsWith("SLOW_READER"));
  sink->OnText("late", 1);  // the engine may not have seen the cancellation yet
  sink->OnError(absl::CancelledError("cancelled by the client"));
  const std::weak_ptr<AskSink> call = sink;
  sink = nullptr;
  StopServer();
  EXPECT_TRUE(call.expired());
  EXPECT_EQ(Metric("lectern_slow_reader_disconnects_total"), 1);
  EXPECT_EQ(Metric("lectern_streams_open"), 0);
  EXPECT_EQ(Metric("lectern_stream_buffered_chunks"), 0);
  EXPECT_EQ(Metric("grpc_server_call_duration_seconds_count"
                   R"({grpc_method="lectern.v1.DocumentQA/Ask",grpc_status="RESOURCE_EXHAUSTED"})"),
            1);
}

TEST_F(SlowReaderTest, AnAnswerThatIsOverDoesNotWaitForEverEither) {
  engine_.on_ask = [&](std::shared_ptr<AskSink> sink) {
    sink->OnText(std::string(1 << 20, 'x'), 1);
    sink->OnAnswer(Answer{});
  };
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, Inline("q"));
  engine_.job->WaitUntilCancelled();
  for (v1::AskResponse event; stream->Read(&event);) {
  }
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(SlowReaderTest, SilenceOfTheEngineIsNotTheReadersFault) {
  std::shared_ptr<AskSink> sink;
  absl::Notification asked;
  engine_.on_ask = [&](std::shared_ptr<AskSink> given) {
    sink = given;
    sink->OnText("first", 1);
    asked.Notify();
  };
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, Inline("q"));
  asked.WaitForNotification();
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  sink->OnText("second", 1);
  sink->OnAnswer(Answer{});
  for (v1::AskResponse event; stream->Read(&event);) {
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Metric("lectern_slow_reader_disconnects_total"), 0);
}

TEST(AddressOfPeerTest, LeavesOutSchemeAndPort) {
  EXPECT_EQ(AddressOfPeer("ipv4:10.0.0.7:5555"), "10.0.0.7");
  EXPECT_EQ(AddressOfPeer("ipv6:%5B::1%5D:80"), "::1");
  EXPECT_EQ(AddressOfPeer("ipv6:[fe80::1%25eth0]:80"), "fe80::1%eth0");
  EXPECT_EQ(AddressOfPeer("unix:/run/x.sock"), "unix");
  EXPECT_EQ(AddressOfPeer(""), "");
}

}  // namespace
}  // namespace lectern
