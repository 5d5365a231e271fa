// Which failures the client retries, on which replica, and what it never repeats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error_details.h"
#include "client/cpp/channels.h"
#include "lectern/client.h"
#include "tests/client/scripted_document_qa.h"

namespace lectern {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Pair;

const char kText[] = "At 03:14 the relief valve failed.";

// gRPC itself does not retry a stream that has delivered a message.
grpc::Status BreakOff(const ScriptedDocumentQa::Send& send, const std::vector<std::string>& said) {
  lectern::v1::AskResponse queued;
  queued.mutable_queued();
  send(queued);
  for (const std::string& piece : said) send(DeltaOf(piece));
  return ErrorWith(grpc::StatusCode::UNAVAILABLE, "DRAINING", 1000);
}

class ClientRetryTest : public testing::Test {
 protected:
  CallOptions Options() {
    CallOptions options;
    options.retry.first_wait = absl::Milliseconds(1);
    options.retry.longest_wait = absl::Milliseconds(2);
    options.on_retry = [this](const RetryNotice& notice) { notices_.push_back(notice); };
    return options;
  }
  CallOptions WithDocument() {
    CallOptions options = Options();
    options.document = &source_;
    return options;
  }
  static lectern::v1::AskRequest Question(const std::string& id = ScriptedDocumentQa::IdOf(kText)) {
    lectern::v1::AskRequest request;
    request.set_question("When?");
    if (!id.empty()) request.set_document_id(id);
    return request;
  }
  AskCallback Collect() {
    return [this](const auto& event) { streamed_.push_back(event.delta().text()); };
  }
  std::string Streamed() {
    std::string all;
    for (const std::string& piece : streamed_) all += piece;
    return all;
  }

  ScriptedDocumentQa server_;
  Client client_{server_.target()};
  DocumentSource source_ = TextSource(kText);
  std::vector<RetryNotice> notices_;
  std::vector<std::string> streamed_;
};

TEST_F(ClientRetryTest, UploadsWhatTheServerNoLongerHasAndAsksAgain) {
  int upload_events = 0;
  source_.on_event = [&](const auto&) { ++upload_events; };
  const auto answer = client_.Ask(Question(), WithDocument(), Collect());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(Streamed(), "At 03:14.");
  EXPECT_EQ(server_.uploads, 1);
  EXPECT_EQ(server_.asks, 2);
  EXPECT_EQ(upload_events, 1);
  ASSERT_EQ(notices_.size(), 1u);
  EXPECT_TRUE(notices_[0].uploads);
  EXPECT_EQ(notices_[0].attempt, 2);
  EXPECT_EQ(GetErrorDetails(notices_[0].cause).reason, "DOCUMENT_EVICTED");
}

TEST_F(ClientRetryTest, UploadsToOneAddressTwiceAtMost) {
  server_.keeps_documents = false;
  const auto answer = client_.Ask(Question(), WithDocument(), nullptr);
  EXPECT_TRUE(absl::IsNotFound(answer.status())) << answer.status();
  EXPECT_EQ(server_.uploads, 2);
  EXPECT_EQ(server_.asks, 3);
}

TEST_F(ClientRetryTest, EveryCallAboutADocumentNamesItForTheProxies) {
  const auto named = Contains(Pair("x-lectern-document", ScriptedDocumentQa::IdOf(kText)));
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  EXPECT_THAT(server_.metadata, named);
  const auto forget = [this] { server_.metadata.clear(); };
  forget();
  ASSERT_TRUE(client_.Ask(Question(), Options(), nullptr).ok());
  EXPECT_THAT(server_.metadata, named);
  forget();
  ASSERT_TRUE(client_.AskMany({Question()}, Options(), nullptr)[0].ok());
  EXPECT_THAT(server_.metadata, named);
  forget();
  ASSERT_TRUE(client_.GetDocument(ScriptedDocumentQa::IdOf(kText), Options()).ok());
  EXPECT_THAT(server_.metadata, named);
  forget();
  ASSERT_TRUE(client_.DeleteDocument(ScriptedDocumentQa::IdOf(kText), Options()).ok());
  EXPECT_THAT(server_.metadata, named);
  forget();
  ASSERT_TRUE(client_.Ask(Question(""), WithDocument(), nullptr).ok());  // uploads first
  EXPECT_THAT(server_.metadata, named);
  EXPECT_EQ(server_.model_lists, 1);
}

TEST_F(ClientRetryTest, InvalidDocumentIdsAreLeftToTheServer) {
  EXPECT_TRUE(absl::IsNotFound(client_.GetDocument("two\nlines", Options()).status()));
  EXPECT_THAT(server_.metadata, testing::Not(Contains(testing::Key("x-lectern-document"))));
}

TEST_F(ClientRetryTest, AReplacedModelIsNoticedByTheNextUpload) {
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  server_.fingerprint = "f2";
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());  // still as the old one
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  EXPECT_THAT(server_.metadata,
              Contains(Pair("x-lectern-document", ScriptedDocumentQa::IdOf(kText, "f2"))));
  EXPECT_EQ(server_.model_lists, 2);
}

TEST_F(ClientRetryTest, WithoutItsTextAMissingDocumentIsAnError) {
  EXPECT_TRUE(absl::IsNotFound(client_.Ask(Question(), Options(), nullptr).status()));
  EXPECT_EQ(server_.asks, 1);
}

TEST_F(ClientRetryTest, AQuestionWithoutAnIdUploadsFirst) {
  const auto answer = client_.Ask(Question(""), WithDocument(), nullptr);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(server_.asks, 1);
  EXPECT_EQ(server_.uploads, 1);
}

TEST_F(ClientRetryTest, TheTextOfAnotherDocumentIsRefused) {
  const auto answer = client_.Ask(Question("doc-another"), WithDocument(), nullptr);
  EXPECT_TRUE(absl::IsInvalidArgument(answer.status())) << answer.status();
  EXPECT_EQ(server_.asks, 1);
}

TEST_F(ClientRetryTest, FilesAreReadWhenTheyAreNeeded) {
  const std::string path = testing::TempDir() + "/client_retry_test.txt";
  std::ofstream(path, std::ios::binary) << kText;
  source_ = FileSource(path);
  EXPECT_TRUE(client_.Ask(Question(), WithDocument(), nullptr).ok());
  std::remove(path.c_str());
  EXPECT_TRUE(client_.Ask(Question(), WithDocument(), nullptr).ok());  // the server has it
  const auto missing = client_.Ask(Question("doc-another"), WithDocument(), nullptr);
  EXPECT_THAT(std::string(missing.status().message()), testing::HasSubstr(path));
}

TEST_F(ClientRetryTest, AFullServerIsWaitedForOnlyIfAskedTo) {
  server_.before = [](int number, const auto&) {
    return number < 3 ? ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 30)
                      : grpc::Status::OK;
  };
  CallOptions options = WithDocument();
  EXPECT_TRUE(absl::IsResourceExhausted(client_.Ask(Question(), options, nullptr).status()));
  EXPECT_EQ(server_.asks, 1);
  server_.asks = 0;
  options.retry.when_full = true;
  EXPECT_TRUE(client_.Ask(Question(), options, nullptr).ok());
  ASSERT_GE(notices_.size(), 2u);
  EXPECT_GE(notices_[0].wait, absl::Milliseconds(30));
  EXPECT_GE(notices_[1].wait, absl::Milliseconds(30));
}

TEST_F(ClientRetryTest, AttemptsAreBounded) {
  server_.before = [](int, const auto&) {
    return ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 1);
  };
  CallOptions options = Options();
  options.retry.when_full = true;
  options.retry.max_attempts = 3;
  EXPECT_TRUE(absl::IsResourceExhausted(client_.Ask(Question(), options, nullptr).status()));
  EXPECT_EQ(server_.asks, 3);
  EXPECT_EQ(notices_.size(), 2u);
}

TEST_F(ClientRetryTest, AWaitBeyondTheDeadlineIsNotBegun) {
  server_.before = [](int, const auto&) {
    return ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 3'600'000);
  };
  CallOptions options = Options();
  options.retry.when_full = true;
  options.timeout = absl::Minutes(5);
  EXPECT_TRUE(absl::IsResourceExhausted(client_.Ask(Question(), options, nullptr).status()));
  EXPECT_EQ(server_.asks, 1);
}

TEST_F(ClientRetryTest, CancellingEndsAWait) {
  server_.before = [](int, const auto&) {
    return ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 3'600'000);
  };
  Canceller canceller;
  std::thread stopper;
  CallOptions options = Options();
  options.retry.when_full = true;
  options.canceller = &canceller;
  options.on_retry = [&](const auto&) { stopper = std::thread([&] { canceller.Cancel(); }); };
  const auto answer = client_.Ask(Question(), options, nullptr);
  stopper.join();
  EXPECT_TRUE(absl::IsCancelled(answer.status())) << answer.status();
}

TEST_F(ClientRetryTest, AnAnswerThatBreaksOffGoesOnWhereItBroke) {
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  server_.before = [](int number, const auto& send) {
    return number == 1 ? BreakOff(send, {"At", " 03"}) : grpc::Status::OK;
  };
  const auto answer = client_.Ask(Question(), Options(), Collect());
  ASSERT_TRUE(answer.ok()) << answer.status();
  // Queued and two pieces; then the new part of the second piece, and the answer.
  EXPECT_THAT(streamed_, ElementsAre("", "At", " 03", ":14.", ""));
  EXPECT_EQ(answer->text(), "At 03:14.");
}

TEST_F(ClientRetryTest, AnotherAnswerIsNotPastedTogether) {
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  for (const char* said : {"On Monday", "At 03:14. And then"}) {
    server_.asks = 0;
    server_.before = [said](int number, const auto& send) {
      return number == 1 ? BreakOff(send, {said}) : grpc::Status::OK;
    };
    const auto answer = client_.Ask(Question(), Options(), nullptr);
    EXPECT_TRUE(absl::IsAborted(answer.status())) << answer.status();
    EXPECT_EQ(GetErrorDetails(answer.status()).reason, "RESUME_DIFFERS");
  }
}

TEST_F(ClientRetryTest, AStreamThatAProxyBrokeOffIsRepeated) {
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  for (const grpc::Status& broken :
       {grpc::Status(grpc::StatusCode::UNKNOWN, "Stream removed"),
        grpc::Status(grpc::StatusCode::INTERNAL, "Received RST_STREAM with error code 2")}) {
    server_.asks = 0;
    server_.before = [&](int number, const auto&) {
      return number == 1 ? broken : grpc::Status::OK;
    };
    EXPECT_TRUE(client_.Ask(Question(), Options(), nullptr).ok());
    EXPECT_EQ(server_.asks, 2);
  }
  for (const auto code : {grpc::StatusCode::UNKNOWN, grpc::StatusCode::INTERNAL}) {
    server_.asks = 0;  // what the server itself says is not
    server_.before = [&](int, const auto&) { return ErrorWith(code, "RST_STREAM"); };
    EXPECT_FALSE(client_.Ask(Question(), Options(), nullptr).ok());
    EXPECT_EQ(server_.asks, 1);
  }
}

TEST_F(ClientRetryTest, ACallCancelledByTheServerAloneIsRepeated) {
  server_.before = [](int number, const auto&) {
    return number == 1 ? grpc::Status(grpc::StatusCode::CANCELLED, "") : grpc::Status::OK;
  };
  EXPECT_TRUE(client_.Ask(Question(), WithDocument(), nullptr).ok());
  Canceller canceller;
  canceller.Cancel();
  CallOptions options = WithDocument();
  options.canceller = &canceller;
  server_.asks = 0;
  notices_.clear();
  EXPECT_TRUE(absl::IsCancelled(client_.Ask(Question(), options, nullptr).status()));
  EXPECT_TRUE(notices_.empty());
}

TEST_F(ClientRetryTest, UploadsAreRepeated) {
  server_.upload_before = [](int number) {
    return number < 3 ? ErrorWith(grpc::StatusCode::UNAVAILABLE, "DRAINING") : grpc::Status::OK;
  };
  EXPECT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  EXPECT_EQ(server_.uploads, 3);
  server_.upload_before = [](int) {
    return ErrorWith(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST");
  };
  EXPECT_TRUE(absl::IsInvalidArgument(client_.Upload(kText, {}, Options(), nullptr).status()));
  EXPECT_EQ(server_.uploads, 4);
}

TEST_F(ClientRetryTest, SendsTenantAndRequestIdAndReportsTheIdOfAFailure) {
  CallOptions options = Options();
  options.tenant = "team-a";
  options.request_id = "r.1";
  const auto answer = client_.Ask(Question(), options, nullptr);
  EXPECT_THAT(server_.metadata, Contains(Pair("x-lectern-tenant", "team-a")));
  EXPECT_THAT(server_.metadata, Contains(Pair("x-request-id", "r.1")));
  EXPECT_EQ(GetErrorDetails(answer.status()).metadata.at("request_id"), "req-1");
  options.tenant = "two\nlines";
  EXPECT_TRUE(absl::IsInvalidArgument(client_.Ask(Question(), options, nullptr).status()));
  options.tenant = std::string(65, 'a');
  EXPECT_TRUE(absl::IsInvalidArgument(client_.ListModels(options).status()));
  EXPECT_EQ(server_.asks, 1);
}

class ReplicasTest : public ClientRetryTest {
 protected:
  ScriptedDocumentQa other_;
  Client client_{server_.target() + "," + other_.target()};
};

TEST_F(ReplicasTest, TheReplicaWithoutTheDocumentGetsIt) {
  for (int i = 0; i < 6; ++i) {
    const auto answer = client_.Ask(Question(), WithDocument(), nullptr);
    ASSERT_TRUE(answer.ok()) << answer.status();
  }
  EXPECT_EQ(server_.uploads, 1);
  EXPECT_EQ(other_.uploads, 1);
}

TEST_F(ReplicasTest, ADrainingReplicaIsLeftForAnotherOne) {
  other_.before = [](int, const auto& send) { return BreakOff(send, {"At "}); };
  for (int i = 0; i < 4; ++i) {
    streamed_.clear();
    const auto answer = client_.Ask(Question(), WithDocument(), Collect());
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(Streamed(), "At 03:14.");
  }
  EXPECT_GT(other_.asks, 0);
}

TEST_F(ReplicasTest, UploadAndFirstQuestionReachTheSameReplica) {
  for (int i = 0; i < 4; ++i) {
    source_ = TextSource(std::string(kText) + std::to_string(i));
    ASSERT_TRUE(client_.Ask(Question(""), WithDocument(), nullptr).ok());
  }
  EXPECT_EQ(server_.uploads + other_.uploads, 4);
  EXPECT_EQ(server_.asks + other_.asks, 4);
}

TEST_F(ClientRetryTest, ManyQuestionsHaveTheirResultsInOrder) {
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  std::vector<lectern::v1::AskRequest> requests(3, Question());
  requests[1].set_question("bad");
  std::vector<std::string> streamed(3);
  const auto answers = client_.AskMany(requests, Options(), [&](size_t i, const auto& event) {
    streamed[i] += event.delta().text();
  });
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0]->text(), "At 03:14.");
  EXPECT_TRUE(absl::IsInvalidArgument(answers[1].status()));
  EXPECT_EQ(GetErrorDetails(answers[1].status()).reason, "INVALID_REQUEST");
  EXPECT_EQ(answers[2]->text(), "At 03:14.");
  EXPECT_THAT(streamed, ElementsAre("At 03:14.", "", "At 03:14."));
  EXPECT_EQ(server_.streams, 1);
  EXPECT_TRUE(client_.AskMany({}, Options(), nullptr).empty());
}

TEST_F(ClientRetryTest, OnlyFailedQuestionsOfManyAreAskedAgain) {
  // The fourth question breaks the stream in the middle of its answer, when three have theirs.
  server_.before = [](int number, const auto& send) {
    return number == 4 ? BreakOff(send, {"At 0"}) : grpc::Status::OK;
  };
  ASSERT_TRUE(client_.Upload(kText, {}, Options(), nullptr).ok());
  std::vector<std::string> streamed(5);
  const auto answers =
      client_.AskMany(std::vector<lectern::v1::AskRequest>(5, Question()), Options(),
                      [&](size_t i, const auto& event) { streamed[i] += event.delta().text(); });
  for (const auto& answer : answers) ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(streamed, testing::Each("At 03:14."));
  EXPECT_EQ(server_.asks, 6);  // four, then the fourth and the fifth
  EXPECT_EQ(server_.streams, 2);
}

TEST_F(ClientRetryTest, ManyQuestionsUploadTheirDocumentOnce) {
  std::vector<lectern::v1::AskRequest> requests(3, Question());
  requests[1].clear_source();
  const auto first = client_.AskMany(requests, WithDocument(), nullptr);
  for (const auto& answer : first) ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(server_.uploads, 1);
  server_.keeps_documents = false;
  requests.assign(2, Question(ScriptedDocumentQa::IdOf("lost")));
  source_ = TextSource("lost");
  const auto second = client_.AskMany(requests, WithDocument(), nullptr);
  for (const auto& answer : second) EXPECT_TRUE(absl::IsNotFound(answer.status()));
  EXPECT_EQ(server_.uploads, 3);
}

TEST(TargetTest, ListsOfAddressesGetTheirScheme) {
  EXPECT_EQ(ToGrpcTarget("127.0.0.1:1"), "127.0.0.1:1");
  EXPECT_EQ(ToGrpcTarget("127.0.0.1:1,127.0.0.2:2"), "ipv4:127.0.0.1:1,127.0.0.2:2");
  EXPECT_EQ(ToGrpcTarget("[::1]:1,[fe80::2]:2"), "ipv6:[::1]:1,[fe80::2]:2");
  EXPECT_EQ(ToGrpcTarget("dns:///lectern-headless:8001"), "dns:///lectern-headless:8001");
}

}  // namespace
}  // namespace lectern
