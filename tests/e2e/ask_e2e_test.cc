// Upload and ask over a real socket with the real model.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/e2e/e2e_fixture.h"

namespace lectern::e2e {
namespace {

using testing::HasSubstr;

constexpr char kFact[] = "The night operator on duty that week was called Clara Jensen.";
constexpr char kQuestion[] = "What was the night operator called?";

class AskE2eTest : public E2eTest {};

TEST_F(AskE2eTest, AnswersFromAnUploadedDocument) {
  const std::string text = TextWithFact(1, kFact);
  const UploadResult upload = Upload(text);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  EXPECT_EQ(upload.document.bytes(), text.size());
  EXPECT_GT(upload.document.tokens(), 500u);
  ASSERT_FALSE(upload.progress.empty());
  EXPECT_EQ(upload.progress.front().stage(), v1::UploadProgress::STAGE_RECEIVING);
  EXPECT_EQ(upload.progress.back().stage(), v1::UploadProgress::STAGE_PREFILL);
  EXPECT_EQ(upload.progress.back().done(), upload.progress.back().total());

  const AskResult asked = Ask(Question(upload.document.id(), kQuestion));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_THAT(asked.answer.text(), HasSubstr("Clara Jensen"));
  EXPECT_EQ(asked.streamed, asked.answer.text());
  EXPECT_EQ(asked.answer.finish_reason(), v1::Answer::FINISH_REASON_STOP);

  // Order: queued, progress, deltas, the answer; nothing after it.
  int stage = 0;
  uint64_t seq = 0;
  for (const v1::AskResponse& event : asked.events) {
    const int now = event.has_queued() ? 0 : event.has_progress() ? 1 : event.has_delta() ? 2 : 3;
    EXPECT_GE(now, stage);
    stage = now;
    EXPECT_EQ(event.answer_id(), asked.events.front().answer_id());
    if (now >= 2) {
      EXPECT_GT(event.seq(), seq);
      seq = event.seq();
    }
  }
  EXPECT_TRUE(asked.events.back().has_answer());

  // Evidence: whole sentences inside the document, the fact's among them.
  ASSERT_FALSE(asked.answer.evidence().empty());
  bool found = false;
  double attention = 1;
  for (const v1::EvidenceSpan& span : asked.answer.evidence()) {
    ASSERT_LE(span.end_byte(), text.size());
    EXPECT_EQ(span.text(), text.substr(span.begin_byte(), span.end_byte() - span.begin_byte()));
    EXPECT_LE(span.attention(), attention);
    attention = span.attention();
    found = found || span.text() == kFact;
  }
  EXPECT_TRUE(found);

  EXPECT_FALSE(asked.answer.no_evidence());
  EXPECT_GT(asked.answer.question_coverage(), 0.6);

  // Exactness of the default policy.
  EXPECT_FALSE(asked.answer.exactness().exact());
  EXPECT_GT(asked.answer.exactness().kept_mass_mean(), 0.5);
  EXPECT_LE(asked.answer.exactness().kept_mass_mean(), 1.0);
  EXPECT_EQ(asked.answer.exactness().policy().top_k(), 128u);
}

TEST_F(AskE2eTest, ShortTextsAreReadExactlyUnlessKIsChosen) {
  v1::AskRequest request;
  request.set_inline_text(kFact +
                          std::string(" The water level was normal and no alarm was raised."));
  request.set_question(kQuestion);
  const AskResult asked = Ask(request);
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_TRUE(asked.answer.exactness().exact());
  EXPECT_EQ(asked.answer.exactness().kept_mass_mean(), 1.0);
  EXPECT_EQ(asked.answer.exactness().policy().top_k(), 128u);
  EXPECT_EQ(asked.answer.exactness().policy().dense_up_to(), 1024u);

  request.mutable_attention()->set_top_k(4);
  const AskResult few = Ask(request);
  ASSERT_TRUE(few.status.ok()) << few.status.error_message();
  EXPECT_FALSE(few.answer.exactness().exact());
  EXPECT_LT(few.answer.exactness().kept_mass_mean(), 1.0);
  EXPECT_FALSE(few.answer.exactness().policy().has_dense_up_to());
}

TEST_F(AskE2eTest, SaysThatTheDocumentDoesNotSeemToAnswer) {
  const UploadResult upload = Upload(TextWithFact(1, kFact));
  ASSERT_TRUE(upload.status.ok());
  const AskResult asked =
      Ask(Question(upload.document.id(), "Which colour has the king's favourite bicycle?"));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_LT(asked.answer.question_coverage(), 0.3);
  EXPECT_TRUE(asked.answer.no_evidence());
  EXPECT_EQ(asked.answer.considered_ratio(), 1.0);
}

// The sample document, as README and quickstart show it.
TEST_F(AskE2eTest, FirstConversationIsRightOrFlagged) {
  const char* const source = std::getenv("LECTERN_SOURCE_DIR");
  std::ifstream file(std::string(source != nullptr ? source : ".") +
                     "/docs/sample/pumping_station.txt");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(text.empty());
  const UploadResult upload = Upload(text);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  // Answers as long as those of quickstart.
  const auto question = [&](const std::string& words) {
    v1::AskRequest request = Question(upload.document.id(), words);
    request.set_max_new_tokens(40);
    return request;
  };
  const AskResult valve = Ask(question("At what time did the relief valve V-12 fail?"));
  ASSERT_TRUE(valve.status.ok()) << valve.status.error_message();
  EXPECT_THAT(valve.answer.text(), HasSubstr("03:14"));
  const auto& evidence = valve.answer.evidence();
  EXPECT_TRUE(std::any_of(evidence.begin(), evidence.end(), [](const v1::EvidenceSpan& span) {
    return span.text() == "At 03:14 the relief valve V-12 failed.";
  }));
  EXPECT_FALSE(valve.answer.no_evidence());
  EXPECT_EQ(valve.answer.question_coverage(), 1.0);

  const AskResult box = Ask(question("In which box are the log books kept?"));
  ASSERT_TRUE(box.status.ok()) << box.status.error_message();
  EXPECT_THAT(box.answer.text(), HasSubstr("4471"));
  EXPECT_FALSE(box.answer.no_evidence());

  const AskResult mayor = Ask(question("Who is the mayor of Marden?"));
  ASSERT_TRUE(mayor.status.ok()) << mayor.status.error_message();
  EXPECT_TRUE(mayor.answer.no_evidence()) << mayor.answer.text();
}

// A document of a single short chunk, where no word is rarer than another.
TEST_F(AskE2eTest, FlagsQuestionsAboutDocumentsOfASingleChunk) {
  v1::AskRequest request;
  request.set_inline_text(kFact);
  request.set_question(kQuestion);
  request.set_max_new_tokens(24);
  const AskResult asked = Ask(request);
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_THAT(asked.answer.text(), HasSubstr("Jensen"));
  EXPECT_FALSE(asked.answer.no_evidence());
  request.set_question("Which colour has the king's favourite bicycle?");
  const AskResult absent = Ask(request);
  ASSERT_TRUE(absent.status.ok()) << absent.status.error_message();
  EXPECT_TRUE(absent.answer.no_evidence()) << absent.answer.text();
}

TEST_F(AskE2eTest, ComputesOnlyTheQuestionAndGivesTheSameAnswerWithoutReuse) {
  const UploadResult upload = Upload(TextWithFact(1, kFact));
  ASSERT_TRUE(upload.status.ok());
  v1::AskRequest request = Question(upload.document.id(), kQuestion);
  const AskResult reused = Ask(request);
  request.set_disable_reuse(true);
  const AskResult computed = Ask(request);
  ASSERT_TRUE(reused.status.ok() && computed.status.ok());
  const v1::Usage& a = reused.answer.usage();
  const v1::Usage& b = computed.answer.usage();
  EXPECT_EQ(a.tokens_computed(), a.question_tokens());
  EXPECT_EQ(a.tokens_reused(), a.document_tokens());
  EXPECT_EQ(b.tokens_reused(), 0u);
  EXPECT_EQ(b.tokens_computed(), b.document_tokens() + b.question_tokens());
  EXPECT_EQ(reused.answer.text(), computed.answer.text());
  EXPECT_EQ(reused.answer.exactness().kept_mass_mean(),
            computed.answer.exactness().kept_mass_mean());
  ASSERT_EQ(reused.answer.evidence_size(), computed.answer.evidence_size());
  for (int i = 0; i < reused.answer.evidence_size(); ++i) {
    EXPECT_EQ(reused.answer.evidence(i).attention(), computed.answer.evidence(i).attention());
  }
}

TEST_F(AskE2eTest, ExactReadsTheDocumentDenselyOnceAndSaysSo) {
  const UploadResult upload = Upload(TextWithFact(1, kFact + std::string(" It was in May.")));
  ASSERT_TRUE(upload.status.ok());
  v1::AskRequest request = Question(upload.document.id(), kQuestion);
  request.mutable_attention()->set_exact(true);
  const AskResult first = Ask(request);
  const AskResult second = Ask(request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_TRUE(first.answer.exactness().exact());
  EXPECT_EQ(first.answer.exactness().kept_mass_mean(), 1.0);
  EXPECT_EQ(first.answer.usage().tokens_reused(), 0u);
  EXPECT_GT(second.answer.usage().tokens_reused(), 0u);
  EXPECT_EQ(first.answer.text(), second.answer.text());

  grpc::ClientContext context;
  v1::GetDocumentRequest get;
  get.set_id(upload.document.id());
  v1::Document document;
  ASSERT_TRUE(stub_->GetDocument(&context, get, &document).ok());
  EXPECT_EQ(document.read_under_size(), 2);
  EXPECT_GT(document.device_bytes(), upload.document.device_bytes());
}

TEST_F(AskE2eTest, SameContentIsTheSameDocumentAndIsReadOnce) {
  const std::string text = TextWithFact(1, "A duplicate is a duplicate.");
  const UploadResult first = Upload(text);
  const UploadResult second = Upload(text);
  ASSERT_TRUE(first.status.ok() && second.status.ok());
  EXPECT_EQ(first.document.id(), second.document.id());
  for (const v1::UploadProgress& progress : second.progress) {
    EXPECT_EQ(progress.stage(), v1::UploadProgress::STAGE_RECEIVING);
  }
}

TEST_F(AskE2eTest, DeletionFreesTheMemoryAndForgetsTheDocument) {
  const uint64_t before = Status().kv_bytes_used();
  const UploadResult upload = Upload(TextWithFact(1, "This one will be deleted."));
  ASSERT_TRUE(upload.status.ok());
  EXPECT_EQ(Status().kv_bytes_used(), before + upload.document.device_bytes());
  grpc::ClientContext context;
  v1::DeleteDocumentRequest request;
  request.set_id(upload.document.id());
  v1::DeleteDocumentResponse response;
  ASSERT_TRUE(stub_->DeleteDocument(&context, request, &response).ok());
  EXPECT_EQ(response.freed_bytes(), upload.document.device_bytes());
  ExpectReleased(before);
  const AskResult asked = Ask(Question(upload.document.id(), "x"));
  EXPECT_EQ(asked.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(asked.status), "DOCUMENT_NOT_FOUND");
}

TEST_F(AskE2eTest, InlineTextIsReadForOneAnswer) {
  const uint64_t before = Status().kv_bytes_used();
  v1::AskRequest request = Question("", "What colour is the sky?");
  request.set_inline_text("The sky over the harbour is green today.");
  const AskResult asked = Ask(request);
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_THAT(asked.answer.text(), HasSubstr("green"));
  EXPECT_EQ(asked.answer.document_id(), "");
  ExpectReleased(before);
}

TEST_F(AskE2eTest, CancelMidStreamFreesEverything) {
  const UploadResult upload = Upload(TextWithFact(1, kFact));
  const uint64_t before = Status().kv_bytes_used();
  v1::AskRequest request = Question(upload.document.id(), "Write a long story about this log.");
  request.set_max_new_tokens(1000);
  grpc::ClientContext context;
  const AskResult cancelled = Read(context, request, 3);
  EXPECT_EQ(cancelled.status.error_code(), grpc::StatusCode::CANCELLED);
  ExpectReleased(before);
}

TEST_F(AskE2eTest, DeadlineEndsTheAnswer) {
  const UploadResult upload = Upload(TextWithFact(1, kFact));
  const uint64_t before = Status().kv_bytes_used();
  v1::AskRequest request = Question(upload.document.id(), "Write a long story about this log.");
  request.set_max_new_tokens(1000);
  request.mutable_sampling()->set_temperature(2);  // so that it does not end by itself
  const auto counted = [] {
    double sum = 0;
    for (const char* stage : {"queue", "prefill", "decode"}) {
      sum +=
          server_->Metric(std::string("lectern_deadline_exceeded_total{stage=\"") + stage + "\"}");
    }
    return sum;
  };
  const double earlier = counted();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const AskResult late = Read(context, request, 1 << 30);
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ExpectReleased(before);
  // Not as cancelled, although it is the client's library that ends the call.
  EXPECT_EQ(counted(), earlier + 1);
}

TEST_F(AskE2eTest, AWholeReadingBeyondTheWindowIsRefusedWithBothCounts) {
  const uint64_t before = Status().kv_bytes_used();
  v1::UploadMetadata metadata;
  metadata.set_reading(v1::READING_WHOLE);
  const UploadResult upload = Upload(TextWithFact(12, kFact), metadata);
  EXPECT_EQ(upload.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(upload.status), "DOCUMENT_TOO_LONG");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(upload.status.error_details()));
  ASSERT_GT(details.details_size(), 0);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.metadata().at("limit"), "8192");
  EXPECT_GT(std::stoi(info.metadata().at("tokens")), 8192);
  ExpectReleased(before);
}

TEST_F(AskE2eTest, ADocumentBeyondTheWindowIsReadInChunks) {
  const uint64_t before = Status().kv_bytes_used();
  const UploadResult upload = Upload(TextWithFact(12, kFact));
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  EXPECT_EQ(upload.document.reading(), v1::READING_CHUNKS);
  EXPECT_GT(upload.document.tokens(), 8192u);
  const AskResult asked = Ask(Question(upload.document.id(), kQuestion));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_THAT(asked.answer.text(), HasSubstr("Clara Jensen"));
  ASSERT_FALSE(asked.answer.evidence().empty());
  EXPECT_EQ(asked.answer.evidence(0).text(), kFact);

  grpc::ClientContext context;
  v1::DeleteDocumentRequest request;
  request.set_id(upload.document.id());
  v1::DeleteDocumentResponse response;
  ASSERT_TRUE(stub_->DeleteDocument(&context, request, &response).ok());
  ExpectReleased(before);
}

TEST_F(AskE2eTest, SeveralQuestionsOnOneStream) {
  const UploadResult upload = Upload(TextWithFact(1, kFact));
  grpc::ClientContext context;
  auto stream = stub_->AskMany(&context);
  for (int i = 0; i < 6; ++i) {
    v1::AskManyRequest request;
    request.set_tag("q" + std::to_string(i));
    *request.mutable_ask() = Question(i == 3 ? "doc-unknown" : upload.document.id(), kQuestion);
    ASSERT_TRUE(stream->Write(request));
  }
  stream->WritesDone();
  std::map<std::string, std::string> answers;
  int errors = 0;
  for (v1::AskManyResponse response; stream->Read(&response);) {
    if (response.has_error()) {
      ++errors;
      EXPECT_EQ(response.tag(), "q3");
      EXPECT_EQ(response.error().code(), static_cast<int>(grpc::StatusCode::NOT_FOUND));
    } else if (response.response().has_answer()) {
      answers[response.tag()] = response.response().answer().text();
    }
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(errors, 1);
  ASSERT_EQ(answers.size(), 5u);
  for (const auto& [tag, text] : answers) EXPECT_EQ(text, answers["q0"]) << tag;
}

}  // namespace
}  // namespace lectern::e2e
