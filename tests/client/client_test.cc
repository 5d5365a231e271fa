#include "lectern/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "base/error_details.h"
#include "tests/client/fake_document_qa.h"

namespace lectern {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ClientTest : public testing::Test {
 protected:
  FakeDocumentQa fake_;
  Client client_{fake_.target()};
};

TEST_F(ClientTest, UploadSendsEveryByteWithSizeAndHash) {
  std::string text;
  for (int i = 0; i < 200000; ++i) absl::StrAppend(&text, i, "\n");  // several messages
  std::vector<uint64_t> done;
  const auto document = client_.Upload(text, {}, {}, [&done](const auto& event) {
    if (event.has_progress()) done.push_back(event.progress().done());
  });
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(document->bytes(), text.size());
  EXPECT_EQ(fake_.text, text);
  EXPECT_EQ(fake_.metadata.expected_sha256(), Sha256Hex(text));
  ASSERT_GT(done.size(), 4u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), text.size());
}

TEST_F(ClientTest, AskReportsEveryEventInOrder) {
  lectern::v1::AskRequest request;
  request.set_document_id("doc");
  std::string streamed;
  int events = 0;
  const auto answer = client_.Ask(request, {}, [&](const auto& event) {
    ++events;
    streamed += event.delta().text();
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(events, 4);
  EXPECT_EQ(streamed, "At 03:14\x1b[2J.");
  EXPECT_EQ(answer->text(), "At 03:14.");
}

TEST_F(ClientTest, ErrorsCarryEveryDetail) {
  lectern::v1::AskRequest request;
  request.set_document_id("bad");
  const absl::Status status = client_.Ask(request, {}, nullptr).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "DOCUMENT_TOO_LONG");
  EXPECT_EQ(details.metadata.at("tokens"), "9000");
  ASSERT_EQ(details.field_violations.size(), 2u);
  EXPECT_EQ(details.field_violations[0].field, "attention.top_k");
  EXPECT_EQ(details.field_violations[1].description, "at most 8");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(details.resource_name, "doc-bad");
}

TEST_F(ClientTest, ARefusedUploadReportsTheServersReason) {
  const absl::Status status = client_.Upload("refuse this", {}, {}, nullptr).status();
  EXPECT_EQ(GetErrorDetails(status).reason, "DOCUMENT_TOO_LONG");
}

TEST_F(ClientTest, AStreamWithoutItsLastMessageIsAnError) {
  lectern::v1::AskRequest request;
  request.set_document_id("cut");
  EXPECT_TRUE(absl::IsInternal(client_.Ask(request, {}, nullptr).status()));
  lectern::v1::UploadMetadata metadata;
  metadata.set_title("no-document");
  EXPECT_TRUE(absl::IsInternal(client_.Upload("text", metadata, {}, nullptr).status()));
}

TEST_F(ClientTest, CancellingEndsTheCallAtBothEnds) {
  lectern::v1::AskRequest request;
  request.set_document_id("endless");
  Canceller canceller;
  std::thread stopper([&] {
    while (!fake_.endless_running) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    canceller.Cancel();
  });
  const absl::Status status = client_.Ask(request, {.canceller = &canceller}, nullptr).status();
  stopper.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  while (!fake_.endless_cancelled) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  // Calls made after the cancellation end as well.
  EXPECT_TRUE(absl::IsCancelled(client_.ListModels({.canceller = &canceller}).status()));
}

TEST_F(ClientTest, DeadlinesHold) {
  lectern::v1::AskRequest request;
  request.set_document_id("endless");
  const auto answer = client_.Ask(request, {.timeout = absl::Milliseconds(100)}, nullptr);
  EXPECT_TRUE(absl::IsDeadlineExceeded(answer.status())) << answer.status();
}

TEST_F(ClientTest, ListingJoinsThePages) {
  const auto documents = client_.ListDocuments("", {});
  ASSERT_TRUE(documents.ok()) << documents.status();
  std::vector<std::string> ids;
  for (const auto& document : *documents) ids.push_back(document.id());
  EXPECT_THAT(ids, ElementsAre("doc-a", "doc-b", "doc-c"));
}

TEST_F(ClientTest, FailuresWithoutDetailsHaveNoReason) {
  const absl::Status status = client_.DeleteDocument("gone", {}).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(GetErrorDetails(status).reason, IsEmpty());
  EXPECT_EQ(client_.DeleteDocument("doc-a", {})->freed_bytes(), 1234567u);
}

TEST(ClientConnectTest, FailsAtOnceWhereNobodyListens) {
  std::string target;
  {
    FakeDocumentQa fake;
    target = fake.target();
    EXPECT_TRUE(Client(target).Connect(absl::Seconds(10)).ok());
  }
  EXPECT_TRUE(absl::IsUnavailable(Client(target).Connect(absl::Minutes(5))));
}

}  // namespace
}  // namespace lectern
