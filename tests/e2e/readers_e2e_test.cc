// T5, BERT and RoBERTa through the same calls, over a real socket: the tiny models of tests/golden
// in fp32, whose answers are known (upload, ask, many windows, restart from disk, refusals), and
// the trained ones of models/readers in int8, whose answers are right.
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/e2e/e2e_fixture.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::e2e {
namespace {

using testing::HasSubstr;

class ReadersE2eTest : public E2eTest {
 protected:
  void SetUp() override {}  // each test starts its own server

  void Serve(const std::string& model, std::vector<std::string> flags = {}) {
    const auto folder = test::GoldenDir() / model;
    LECTERN_REQUIRE_FILE(std::filesystem::exists(folder / "config.json"), folder.string());
    flags.push_back("--numerics=f32");
    Start(folder, flags);
  }

  void Start(const std::filesystem::path& folder, const std::vector<std::string>& flags) {
    own_.reset();
    own_ = std::make_unique<test::ServerProcess>(flags, folder.string());
    ASSERT_TRUE(own_->WaitUntilReady()) << own_->Log();
    Connect(*own_);
  }

  v1::ModelInfo Model() {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    EXPECT_TRUE(stub_->ListModels(&context, {}, &response).ok());
    return response.models(0);
  }

  std::unique_ptr<test::ServerProcess> own_;
};

// The text of ids of the tiny T5.
std::string Spell(const std::vector<int32_t>& ids) {
  const auto tokenizer = LoadTokenizerFolder(test::GoldenDir() / "t5_tiny" / "v1_0", 1);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return (*tokenizer)->Decode(ids, /*skip_special=*/true);
}

nlohmann::json CaseOf(const std::string& family, const std::string& name) {
  for (const test::GoldenCase& c : test::GoldenCases(family)) {
    if (c.name == name) return c.params;
  }
  return {};
}

class ExtractiveE2eTest : public ReadersE2eTest, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, ExtractiveE2eTest, testing::Values("bert", "roberta"));

TEST_P(ExtractiveE2eTest, AnswersWithTheGoldenSpans) {
  const std::string family = GetParam(), golden = family + "_qa_tiny";
  Serve(golden + "/model");
  if (IsSkipped() || HasFatalFailure()) return;
  const v1::ModelInfo model = Model();
  EXPECT_EQ(model.kind(), v1::ModelInfo::KIND_EXTRACTIVE);
  EXPECT_EQ(model.family(), family);
  EXPECT_FALSE(model.supports_sampling());
  EXPECT_TRUE(model.supports_ffn_top_k());
  const auto params = CaseOf(golden, "qa_0");
  const std::string context = params.at("context");
  const UploadResult upload = Upload(context);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  for (const char* variant : {"dense", "k8", "k16"}) {
    SCOPED_TRACE(variant);
    v1::AskRequest request = Question(upload.document.id(), params.at("question"));
    if (variant[0] == 'k') request.mutable_attention()->set_top_k(std::atoi(variant + 1));
    const AskResult asked = Ask(request);
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    const auto& best = params.at("answers").at(variant).at("best")[0];
    EXPECT_EQ(asked.answer.text(), best.at("text").get<std::string>());
    EXPECT_EQ(asked.streamed, asked.answer.text());
    ASSERT_GT(asked.answer.evidence_size(), 0);
    EXPECT_EQ(asked.answer.evidence(0).begin_byte(), best.at("start_byte").get<uint64_t>());
    EXPECT_EQ(asked.answer.evidence(0).end_byte(), best.at("end_byte").get<uint64_t>());
    EXPECT_EQ(asked.answer.evidence(0).text(), asked.answer.text());
    EXPECT_EQ(asked.answer.exactness().exact(), variant[0] == 'd');
    EXPECT_EQ(asked.answer.exactness().kept_mass_mean() < 1, variant[0] == 'k');
  }
  v1::AskRequest sampled = Question(upload.document.id(), "Where?");
  sampled.mutable_sampling()->set_temperature(1);
  EXPECT_THAT(Ask(sampled).status.error_message(), HasSubstr("sampling.temperature"));
  std::string endless = "Where";
  for (int i = 0; i < 40; ++i) endless += " did Dario work";
  const AskResult refused = Ask(Question(upload.document.id(), endless));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(refused.status), "DOCUMENT_TOO_LONG");
}

// A document of many windows: every span is where it says, and the server is as before.
TEST_F(ReadersE2eTest, BertReadsALongDocument) {
  Serve("bert_qa_tiny/model");
  if (IsSkipped() || HasFatalFailure()) return;
  std::string text;
  for (int i = 0; text.size() < 6000; ++i) {
    text += CaseOf("bert_qa_tiny", "qa_" + std::to_string(i % 5)).at("context").get<std::string>();
    text += " ";
  }
  const UploadResult upload = Upload(text);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  EXPECT_GT(upload.document.chunks(), 5u);
  const AskResult asked = Ask(Question(upload.document.id(), "Where did Dario Conti work?"));
  ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
  EXPECT_EQ(asked.answer.reading(), v1::READING_CHUNKS);
  EXPECT_GT(asked.answer.considered_ratio(), 0);
  ASSERT_GT(asked.answer.evidence_size(), 0);
  for (const v1::EvidenceSpan& span : asked.answer.evidence()) {
    EXPECT_EQ(text.substr(span.begin_byte(), span.end_byte() - span.begin_byte()), span.text());
  }
  ExpectReleased(0);
}

TEST_F(ReadersE2eTest, T5WritesTheGoldenAnswer) {
  TemporaryFolder cache;
  const std::string flag = "--cache_dir=" + cache.path();
  Serve("t5_tiny/v1_0", {flag});
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_EQ(Model().kind(), v1::ModelInfo::KIND_SEQ2SEQ);
  EXPECT_EQ(Model().layers(), 6u);
  // "question \n context" of the golden input, whose greedy ids are known.
  const std::string input = CaseOf("t5_tiny", "v1_0.dense").at("texts")[0];
  const size_t cut = input.find(" \\n ");
  const std::string question = input.substr(0, cut), context = input.substr(cut + 4);
  const UploadResult upload = Upload(context);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  std::string dense;
  for (const char* name : {"v1_0.dense", "v1_0.attn8", "v1_0.cross8"}) {
    SCOPED_TRACE(name);
    const auto params = CaseOf("t5_tiny", name);
    v1::AskRequest request = Question(upload.document.id(), question);
    request.set_max_new_tokens(12);
    v1::AttentionPolicy& attention = *request.mutable_attention();
    for (const char* part : {"enc", "dec", "cross"}) {
      const uint32_t k = params.at("attention_topk").at(part);
      for (int layer = 0; layer < 2; ++layer) attention.add_layer_top_k(k);
    }
    const AskResult asked = Ask(request);
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    const auto data = test::GoldenTensors::Read(test::GoldenDir() / "t5_tiny" /
                                                (std::string(name) + ".safetensors"));
    const std::vector<int32_t> ids(data["greedy_ids"].i32.begin(),
                                   data["greedy_ids"].i32.begin() + 12);
    EXPECT_EQ(asked.answer.text(), Spell(ids));
    EXPECT_EQ(asked.answer.usage().generated_tokens(), 12u);
    EXPECT_GT(asked.answer.evidence_size(), 0);
    if (dense.empty()) dense = asked.answer.text();
  }
  // After a restart the document comes from disk.
  Serve("t5_tiny/v1_0", {flag});
  v1::AskRequest request = Question(upload.document.id(), question);
  request.set_max_new_tokens(12);
  const AskResult again = Ask(request);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.answer.text(), dense);
}

// Many windows and many questions at once, all of them given back.
TEST_F(ReadersE2eTest, T5FusesManyWindows) {
  Serve("t5_tiny/v1_1");
  if (IsSkipped() || HasFatalFailure()) return;
  std::string text;
  for (int i = 0; i < 120; ++i) {
    text += "tomas okafor became the ferry captain of marlow bridge in " +
            std::to_string(1800 + i) + ". ";
  }
  const UploadResult upload = Upload(text);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  EXPECT_GT(upload.document.chunks(), 3u);
  std::vector<std::string> answers(4);
  std::vector<std::thread> threads;
  for (std::string& answer : answers) {
    threads.emplace_back([&] {
      const AskResult asked = Ask(Question(upload.document.id(), "who was the ferry captain?"));
      EXPECT_TRUE(asked.status.ok()) << asked.status.error_message();
      EXPECT_GT(asked.answer.usage().tokens_computed(), 1000u);
      answer = asked.answer.text();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& answer : answers) EXPECT_EQ(answer, answers[0]);
  ExpectReleased(0);
}

std::filesystem::path TrainedReaders() {
  return test::FixtureDir().parent_path().parent_path() / "models" / "readers";
}

// Lines of models/readers/FILE: {"context", "question", "answer", "begin"}, none of them seen in
// training.
std::vector<nlohmann::json> QuestionsOf(const std::string& file, size_t count) {
  std::ifstream stream(TrainedReaders() / file);
  std::vector<nlohmann::json> cases;
  for (std::string line; cases.size() < count && std::getline(stream, line);) {
    cases.push_back(nlohmann::json::parse(line));
  }
  EXPECT_EQ(cases.size(), count);
  return cases;
}

class TrainedReaderTest : public ReadersE2eTest {
 protected:
  // Uploads every passage, puts its question, and counts the right answers (in lower case).
  int RightAnswers(const std::vector<nlohmann::json>& cases) {
    int right = 0;
    for (const nlohmann::json& c : cases) {
      const std::string context = c.at("context"), answer = c.at("answer");
      SCOPED_TRACE(c.at("question").get<std::string>());
      const UploadResult upload = Upload(context);
      EXPECT_TRUE(upload.status.ok()) << upload.status.error_message();
      chunks_ = upload.document.chunks();
      asked_ = Ask(Question(upload.document.id(), c.at("question")));
      EXPECT_TRUE(asked_.status.ok()) << asked_.status.error_message();
      if (absl::AsciiStrToLower(asked_.answer.text()) != absl::AsciiStrToLower(answer)) continue;
      ++right;
      CheckEvidence(context, c.at("begin"), c.at("begin").get<size_t>() + answer.size());
    }
    return right;
  }

  // Checks a right answer: [begin, end) of the document is inside the first piece of evidence.
  void CheckEvidence(const std::string& context, size_t begin, size_t end) {
    ASSERT_GT(asked_.answer.evidence_size(), 0);
    const v1::EvidenceSpan& first = asked_.answer.evidence(0);
    EXPECT_EQ(context.substr(first.begin_byte(), first.end_byte() - first.begin_byte()),
              first.text());
    if (spans_) {
      EXPECT_EQ(first.begin_byte(), begin);
      EXPECT_EQ(first.end_byte(), end);
    } else if (first.begin_byte() <= begin && first.end_byte() >= end) {
      ++found_;
    }
  }

  bool spans_ = false;   // the evidence is the answer itself
  int found_ = 0;        // answers whose sentence is the first piece of evidence
  uint32_t chunks_ = 0;  // of the last document
  AskResult asked_;
};

TEST_F(TrainedReaderTest, BertFindsTheAnswer) {
  Start(TrainedReaders() / "bert", {});
  if (HasFatalFailure()) return;
  spans_ = true;
  EXPECT_GE(RightAnswers(QuestionsOf("test.jsonl", 20)), 18);
  EXPECT_GE(RightAnswers(QuestionsOf("long.jsonl", 10)), 8);
  EXPECT_GT(chunks_, 1u);
}

TEST_F(TrainedReaderTest, T5WritesTheAnswer) {
  Start(TrainedReaders() / "t5", {});
  if (HasFatalFailure()) return;
  EXPECT_GE(RightAnswers(QuestionsOf("test.jsonl", 20)), 18);
  EXPECT_GE(found_, 18);
  EXPECT_GE(RightAnswers(QuestionsOf("long.jsonl", 10)), 8);
  EXPECT_GT(chunks_, 1u);
}

}  // namespace
}  // namespace lectern::e2e
