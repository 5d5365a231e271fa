// The service over a real socket, with the real engine and a fake model: cases that the end-to-end
// tests cannot force, such as slow readers, blocked steps and malformed streams.
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpc/health/v1/health.grpc.pb.h>

#include <thread>

#include "base/error_details.h"
#include "base/utf8.h"
#include "server/rpc/call/grpc_status.h"
#include "tests/server/rpc/service_fixture.h"

namespace lectern {
namespace {

using grpc::StatusCode;

TEST_F(ServiceTest, RefusesUntilItServesButReportsItsStatus) {
  grpc::ClientContext ask_context, status_context;
  auto stream = stub_->Ask(&ask_context, Inline("q"));
  v1::AskResponse event;
  EXPECT_FALSE(stream->Read(&event));
  const grpc::Status refused = stream->Finish();
  EXPECT_EQ(refused.error_code(), StatusCode::UNAVAILABLE);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(refused.error_details()));
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "LOADING");
  EXPECT_EQ(info.domain(), "lectern");
  google::rpc::RetryInfo retry;
  EXPECT_TRUE(details.details(1).UnpackTo(&retry));
  v1::ServerStatus status;
  EXPECT_TRUE(stub_->GetServerStatus(&status_context, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::ServerStatus::STATE_LOADING);
}

TEST_F(ServiceTest, SlowReadersGetMergedTextAndBlockNobody) {
  Serve();
  grpc::ClientContext slow_context;
  auto slow = stub_->Ask(&slow_context, Inline("long"));
  WaitUntilIdle();  // the engine is done although nobody has read
  std::string text;
  v1::AskResponse event;
  uint64_t seq = 0;
  while (slow->Read(&event)) {
    if (event.has_delta()) {
      text += event.delta().text();
      EXPECT_GT(event.seq(), seq);
      seq = event.seq();
    }
  }
  EXPECT_TRUE(slow->Finish().ok());
  EXPECT_EQ(text, std::string(400, 'x'));
  EXPECT_TRUE(event.has_answer());
}

TEST_F(ServiceTest, ResumeSendsOnlyWhatHasNotBeenSeen) {
  Serve();
  v1::AskRequest request = Inline("q");
  request.set_answer_id("mine");
  request.set_after_seq(3);
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, request);
  std::string text;
  for (v1::AskResponse event; stream->Read(&event);) {
    EXPECT_EQ(event.answer_id(), "mine");
    if (event.has_delta()) text += event.delta().text();
    if (event.has_answer()) {
      EXPECT_EQ(event.answer().text(), "xxxxx");
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(text, "xx");
}

TEST_F(ServiceTest, AQueuedQuestionGetsAnEstimatedWait) {
  Serve();
  const auto queued = [&] {
    model_->gate().Close();
    grpc::ClientContext running_context, waiting_context;
    auto running = stub_->Ask(&running_context, Inline("long"));
    model_->gate().WaitForVisitor();
    auto waiting = stub_->Ask(&waiting_context, Inline("q"));
    while (engine_->status().waiting == 0) std::this_thread::yield();
    model_->gate().Open();
    v1::Queued queued;
    for (v1::AskResponse event; waiting->Read(&event);) {
      if (event.has_queued()) queued = event.queued();
    }
    EXPECT_TRUE(waiting->Finish().ok());
    for (v1::AskResponse event; running->Read(&event);) {
    }
    EXPECT_TRUE(running->Finish().ok());
    return queued;
  };
  const v1::Queued first = queued();
  EXPECT_EQ(first.position(), 1u);
  EXPECT_FALSE(first.has_estimated_wait()) << "no step has been timed yet";
  const v1::Queued second = queued();
  EXPECT_EQ(second.position(), 1u);
  ASSERT_TRUE(second.has_estimated_wait());
  EXPECT_GT(second.estimated_wait().seconds() + second.estimated_wait().nanos(), 0);
}

TEST_F(ServiceTest, CancelOfABlockedStepEndsTheJob) {
  Serve();
  model_->gate().Close();
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, Inline("long"));
  while (engine_->status().running == 0) std::this_thread::yield();
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  model_->gate().Open();
  WaitUntilIdle();
  EXPECT_EQ(engine_->status().kv_bytes_used, 0u);
}

TEST_F(ServiceTest, AskManyKeepsGoingOverBadQuestionsAndHalfClose) {
  Serve();
  grpc::ClientContext context;
  auto stream = stub_->AskMany(&context);
  const auto send = [&](const std::string& tag, const std::string& question) {
    v1::AskManyRequest request;
    request.set_tag(tag);
    *request.mutable_ask() = Inline(question);
    return stream->Write(request);
  };
  ASSERT_TRUE(send("", "no tag"));
  ASSERT_TRUE(send("empty", ""));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(send("q" + std::to_string(i), "q"));
  stream->WritesDone();
  std::map<std::string, int> ends;
  for (v1::AskManyResponse response; stream->Read(&response);) {
    const bool end = response.has_error() || response.response().has_answer();
    ends[response.tag()] += end;
    if (response.has_error()) {
      EXPECT_EQ(response.error().code(), 3) << response.tag();
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(ends.size(), 52u);
  for (const auto& [tag, count] : ends) EXPECT_EQ(count, 1) << tag;
}

// Refused questions hold no slot, so only the backlog limits what a client that never reads can
// accumulate: sooner or later its writes block.
TEST_F(ServiceTest, AskManyStopsReadingFromAClientThatDoesNotRead) {
  Serve();
  grpc::ClientContext context;
  auto stream = stub_->AskMany(&context);
  std::atomic<int> written{0};
  constexpr int kMany = 200'000;
  std::thread writer([&] {
    v1::AskManyRequest request;
    request.set_tag(std::string(100, 't'));
    while (written < kMany && stream->Write(request)) ++written;
  });
  int before = -1;
  while (written != before || before <= 0) {
    before = written;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  EXPECT_LT(before, kMany);
  context.TryCancel();
  writer.join();
  stream->Finish();
}

TEST_F(ServiceTest, AskManyCancelsOneByItsTagAndRefusesADuplicate) {
  Serve();
  model_->gate().Close();
  grpc::ClientContext context;
  auto stream = stub_->AskMany(&context);
  v1::AskManyRequest request;
  for (const char* tag : {"a", "b", "b"}) {
    request.set_tag(tag);
    *request.mutable_ask() = Inline("q");
    ASSERT_TRUE(stream->Write(request));
  }
  request.Clear();
  request.set_tag("b");
  request.set_cancel(true);
  ASSERT_TRUE(stream->Write(request));
  request.Clear();
  request.set_tag("a");  // in use too: once it is refused, the cancellation before it has been read
  *request.mutable_ask() = Inline("q");
  ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  std::vector<int> codes_of_b;
  bool answered_a = false;
  for (v1::AskManyResponse response; stream->Read(&response);) {
    if (response.tag() == "b" && response.has_error()) {
      codes_of_b.push_back(response.error().code());
    }
    if (response.tag() == "a" && response.has_error()) {
      EXPECT_EQ(response.error().code(), StatusCode::INVALID_ARGUMENT);
      model_->gate().Open();
    }
    if (response.tag() == "a" && response.has_response()) {
      answered_a = answered_a || response.response().has_answer();
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(answered_a);
  EXPECT_THAT(codes_of_b, testing::ElementsAre(3, 1));  // the duplicate, then CANCELLED
}

TEST_F(ServiceTest, UploadStreamsOutOfOrderAreRefused) {
  Serve();
  const auto run = [&](const std::vector<v1::UploadDocumentRequest>& requests) {
    grpc::ClientContext context;
    auto stream = stub_->UploadDocument(&context);
    for (const auto& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    for (v1::UploadDocumentResponse response; stream->Read(&response);) {
    }
    return stream->Finish().error_code();
  };
  v1::UploadDocumentRequest metadata, data, nothing, big;
  metadata.mutable_metadata();
  data.set_data("text");
  big.set_data(std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(run({}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(run({data}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(run({metadata, metadata}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(run({metadata, nothing}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(run({metadata, big}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(run({metadata, data}), StatusCode::OK);
}

TEST_F(ServiceTest, CountsTokensOfATextAndNamesBadFields) {
  Serve();
  v1::CountTokensRequest request;
  v1::CountTokensResponse response;
  request.set_text(std::string(5000, 'a'));
  {
    grpc::ClientContext context;
    const grpc::Status status = stub_->CountTokens(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(context.GetServerInitialMetadata().empty());
  }
  EXPECT_EQ(response.model(), "fake");
  EXPECT_EQ(response.tokens(), 5000u);
  EXPECT_EQ(response.reading(), v1::READING_CHUNKS);
  EXPECT_EQ(response.chunks(), (5000 + response.chunk_tokens() - 1) / response.chunk_tokens());
  EXPECT_EQ(response.context_length(), static_cast<uint64_t>(model_->info().context_length));
  request.set_text("");
  grpc::ClientContext context;
  const grpc::Status status = stub_->CountTokens(&context, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("text"));
  StopServer();
  EXPECT_THAT(metrics_.Render(), testing::HasSubstr("lectern.v1.DocumentQA/CountTokens"));
}

TEST_F(ServiceTest, CountsTokensOfDocuments) {
  Serve();
  grpc::ClientContext upload_context;
  auto upload = stub_->UploadDocument(&upload_context);
  v1::UploadDocumentRequest part;
  part.mutable_metadata()->set_title("title");
  upload->Write(part);
  part.set_data("A short document.");
  upload->Write(part);
  upload->WritesDone();
  v1::UploadDocumentResponse uploaded;
  v1::Document document;
  while (upload->Read(&uploaded)) {
    if (uploaded.has_document()) document = uploaded.document();
  }
  ASSERT_TRUE(upload->Finish().ok());
  const auto count = [this](const v1::CountTokensRequest& request,
                            v1::CountTokensResponse* response) {
    grpc::ClientContext context;
    return stub_->CountTokens(&context, request, response);
  };
  v1::CountTokensRequest request;
  v1::CountTokensResponse of_document, of_text;
  request.set_document_id(document.id());
  ASSERT_TRUE(count(request, &of_document).ok());
  EXPECT_GT(of_document.tokens(), 0u);
  EXPECT_EQ(of_document.tokens(), document.tokens());
  EXPECT_EQ(of_document.reading(), document.reading());
  EXPECT_EQ(of_document.model(), document.model());
  request.set_text("A short document.");
  ASSERT_TRUE(count(request, &of_text).ok());
  EXPECT_EQ(of_text.SerializeAsString(), of_document.SerializeAsString());
  request.set_model("absent");
  EXPECT_EQ(count(request, &of_text).error_code(), StatusCode::NOT_FOUND);
  request.Clear();
  EXPECT_EQ(count(request, &of_text).error_code(), StatusCode::INVALID_ARGUMENT);
  request.set_document_id("doc-00000000000000000000000000000000");
  EXPECT_EQ(count(request, &of_text).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, UnknownEnumValuesAreNamed) {
  Serve();
  v1::AskRequest request = Inline("q");
  request.set_reading(static_cast<v1::Reading>(77));
  request.mutable_attention()->set_tail(static_cast<v1::AttentionPolicy::Tail>(77));
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, request);
  v1::AskResponse event;
  EXPECT_FALSE(stream->Read(&event));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("attention.tail"));
  EXPECT_THAT(status.error_message(), testing::HasSubstr("reading"));
}

TEST_F(ServiceTest, WatchSeesEveryChangeUntilTheEnd) {
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext context;
  auto stream = health->Watch(&context, {});
  using Response = grpc::health::v1::HealthCheckResponse;
  Response response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), Response::NOT_SERVING);
  Serve();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVING);
  serving_.Set(ServerState::kStopped, "over");
  while (stream->Read(&response)) EXPECT_EQ(response.status(), Response::NOT_SERVING);
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAVAILABLE);
}

TEST(GrpcStatusTest, HidesInternalsAndBoundsDetails) {
  const grpc::Status internal = ToGrpcStatus(absl::InternalError("/secret/path: boom"));
  EXPECT_EQ(internal.error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(internal.error_message(), "internal error");
  EXPECT_EQ(internal.error_details().find("secret"), std::string::npos);
  std::vector<FieldViolation> many(200, {"some.field", std::string(100, 'x')});
  const grpc::Status large = ToGrpcStatus(
      MakeError(absl::StatusCode::kInvalidArgument, "many", {.field_violations = many}));
  EXPECT_LE(large.error_details().size(), 4096u);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(large.error_details()));
  google::rpc::BadRequest bad;
  ASSERT_EQ(details.details_size(), 2);
  ASSERT_TRUE(details.details(1).UnpackTo(&bad));
  EXPECT_GT(bad.field_violations_size(), 10);  // as many as fit
}

TEST(GrpcStatusTest, LongMessagesStayParseable) {
  std::string message = "a";  // so that the limit falls inside a character
  for (int i = 0; i < 600; ++i) message += "\xc3\x84";
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(ToGrpcStatus(absl::NotFoundError(message)).error_details()));
  EXPECT_TRUE(IsValidUtf8(details.message()));
  EXPECT_TRUE(IsValidUtf8(ToGrpcStatus(absl::NotFoundError(message)).error_message()));
}

}  // namespace
}  // namespace lectern
