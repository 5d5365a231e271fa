// T5, BERT and RoBERTa through the same calls, over a real socket: the tiny models of tests/golden
// in fp32, whose answers are known (upload, ask, many windows, restart from disk, refusals), and
// the trained ones of models/readers in int8, whose answers are right.
#include <inference/open_inference.grpc.pb.h>

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

  void Serve(const std::filesystem::path& folder, std::vector<std::string> flags = {}) {
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

  void ExpectNoAnswerOverOpenInference(const nlohmann::json& expected, double difference);

  std::unique_ptr<test::ServerProcess> own_;
};

std::filesystem::path FolderOf(const test::GoldenCase& c) {
  return c.folder / c.params.at("model").get<std::string>();
}

nlohmann::json ConfigOf(const std::filesystem::path& folder) {
  return nlohmann::json::parse(std::ifstream(folder / "config.json"));
}

// The text that ids of a T5 spell.
std::string Spell(const std::filesystem::path& folder, const std::vector<int32_t>& ids) {
  const auto tokenizer = LoadTokenizerFolder(folder, ConfigOf(folder).at("eos_token_id"));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return (*tokenizer)->Decode(ids, /*skip_special=*/true);
}

// The cases of a family with questions, and top-k of attention.
std::vector<test::GoldenCase> QuestionCases(const std::string& family) {
  std::vector<test::GoldenCase> cases;
  for (test::GoldenCase& c : test::GoldenCases(family)) {
    if (c.params.contains("attention_topk")) cases.push_back(std::move(c));
  }
  return cases;
}

class ExtractiveE2eTest : public ReadersE2eTest, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, ExtractiveE2eTest, testing::Values("bert", "roberta"));

TEST_P(ExtractiveE2eTest, AnswersWithTheGoldenSpans) {
  const std::string family = GetParam(), golden = family + "_qa_tiny";
  const auto cases = QuestionCases(golden);
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family " + golden);
  Serve(FolderOf(cases[0]), {"--no_answer=test=off"});
  if (IsSkipped() || HasFatalFailure()) return;
  const v1::ModelInfo model = Model();
  EXPECT_EQ(model.kind(), v1::ModelInfo::KIND_EXTRACTIVE);
  EXPECT_EQ(model.family(), family);
  EXPECT_FALSE(model.supports_sampling());
  EXPECT_TRUE(model.supports_ffn_top_k());
  const auto& params = cases[0].params;
  const std::string context = params.at("context");
  const UploadResult upload = Upload(context);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  for (const uint32_t k : params.at("attention_topk").get<std::vector<uint32_t>>()) {
    const std::string variant = k == 0 ? "dense" : "k" + std::to_string(k);
    SCOPED_TRACE(variant);
    v1::AskRequest request = Question(upload.document.id(), params.at("question"));
    if (k != 0) request.mutable_attention()->set_top_k(k);
    const AskResult asked = Ask(request);
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    const auto& best = params.at("answers").at(variant).at("best")[0];
    EXPECT_EQ(asked.answer.text(), best.at("text").get<std::string>());
    EXPECT_EQ(asked.streamed, asked.answer.text());
    ASSERT_GT(asked.answer.evidence_size(), 0);
    EXPECT_EQ(asked.answer.evidence(0).begin_byte(), best.at("start_byte").get<uint64_t>());
    EXPECT_EQ(asked.answer.evidence(0).end_byte(), best.at("end_byte").get<uint64_t>());
    EXPECT_EQ(asked.answer.evidence(0).text(), asked.answer.text());
    EXPECT_EQ(asked.answer.exactness().exact(), k == 0);
    EXPECT_EQ(asked.answer.exactness().kept_mass_mean() < 1, k != 0);
  }
  v1::AskRequest sampled = Question(upload.document.id(), "Where?");
  sampled.mutable_sampling()->set_temperature(1);
  EXPECT_THAT(Ask(sampled).status.error_message(), HasSubstr("sampling.temperature"));
  std::string endless = "Where";
  for (uint32_t i = 0; i < model.window(); ++i) endless += " did Dario work";
  const AskResult refused = Ask(Question(upload.document.id(), endless));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(refused.status), "QUESTION_TOO_LONG");
}

// The outputs of ModelInfer for a question without an answer.
void ReadersE2eTest::ExpectNoAnswerOverOpenInference(const nlohmann::json& expected,
                                                     double difference) {
  inference::ModelInferRequest request;
  request.set_model_name("test");
  for (const char* name : {"question", "document"}) {
    auto* input = request.add_inputs();
    input->set_name(name);
    input->set_datatype("BYTES");
    input->add_shape(1);
    input->mutable_contents()->add_bytes_contents(expected.at(name).get<std::string>());
  }
  grpc::ClientContext context;
  inference::ModelInferResponse response;
  const grpc::Status status =
      inference::GRPCInferenceService::NewStub(channel_)->ModelInfer(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  int found = 0;
  for (const auto& output : response.outputs()) {
    if (output.name() == "answer") {
      EXPECT_EQ(output.contents().bytes_contents(0), "");
    } else if (output.name() == "finish_reason") {
      EXPECT_EQ(output.contents().bytes_contents(0), "no_answer");
    } else if (output.name() == "null_score_difference") {
      EXPECT_NEAR(output.contents().fp32_contents(0), difference, 1e-3);
    } else {
      continue;
    }
    ++found;
  }
  EXPECT_EQ(found, 3);
}

// A SQuAD 2 reader whose null score is above its best span's.
TEST_F(ReadersE2eTest, ASquad2ReaderFindsNoAnswer) {
  const std::filesystem::path folder = test::FixtureDir() / "compat" / "bert-squad2-no-answer";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(folder), folder.string());
  const auto expected = nlohmann::json::parse(std::ifstream(folder / "expected.json"));
  const double difference =
      expected.at("null_score").get<double>() - expected.at("best_span_score").get<double>();
  v1::AskRequest request;
  request.set_inline_text(expected.at("document"));
  request.set_question(expected.at("question"));
  Serve(folder);
  if (IsSkipped() || HasFatalFailure()) return;
  ASSERT_TRUE(Model().has_no_answer_threshold());
  EXPECT_EQ(Model().no_answer_threshold(), 0);
  const std::string series =
      R"(lectern_requests_finished_total{finish_reason="no_answer",model="test"})";
  const double before = own_->Metric(series);  // counts the server's own first question
  const AskResult none = Ask(request);
  ASSERT_TRUE(none.status.ok()) << none.status.error_message();
  EXPECT_EQ(none.answer.finish_reason(), v1::Answer::FINISH_REASON_NO_ANSWER);
  EXPECT_EQ(none.answer.text(), "");
  EXPECT_EQ(none.streamed, "");
  EXPECT_TRUE(none.answer.no_evidence());
  EXPECT_EQ(none.answer.usage().generated_tokens(), 0u);
  EXPECT_NEAR(none.answer.null_score_difference(), difference, 1e-3);
  ASSERT_GT(none.answer.evidence_size(), 0);  // the spans that came closest
  EXPECT_LT(none.answer.evidence_strength(), 0.01);
  EXPECT_EQ(own_->Metric(series), before + 1);
  ExpectNoAnswerOverOpenInference(expected, difference);
  // A question may set another threshold.
  request.set_no_answer_threshold(static_cast<float>(difference + 1));
  const AskResult span = Ask(request);
  ASSERT_TRUE(span.status.ok()) << span.status.error_message();
  EXPECT_EQ(span.answer.finish_reason(), v1::Answer::FINISH_REASON_STOP);
  EXPECT_EQ(span.answer.text(), none.answer.evidence(0).text());
  EXPECT_EQ(span.answer.null_score_difference(), none.answer.null_score_difference());
  request.set_no_answer_threshold(2e6f);
  EXPECT_THAT(Ask(request).status.error_message(), HasSubstr("no_answer_threshold"));
  // Without the rule the best span is the answer, and its probability is among spans alone.
  request.clear_no_answer_threshold();
  Serve(folder, {"--no_answer=test=off"});
  EXPECT_FALSE(Model().has_no_answer_threshold());
  const AskResult always = Ask(request);
  EXPECT_EQ(always.answer.finish_reason(), v1::Answer::FINISH_REASON_STOP);
  EXPECT_EQ(always.answer.text(), span.answer.text());
  EXPECT_NEAR(always.answer.null_score_difference(), difference, 1e-3);
  EXPECT_GT(always.answer.evidence_strength(), 0.01);
}

TEST_F(ReadersE2eTest, OtherModelsRefuseAThreshold) {
  Serve(test::FixtureDir() / "t5_tiny" / "v1_1", {"--lower_case=test=true"});
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_FALSE(Model().has_no_answer_threshold());
  v1::AskRequest request;
  request.set_inline_text("The relief valve failed.");
  request.set_question("What failed?");
  request.set_no_answer_threshold(0);
  const AskResult refused = Ask(request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("no_answer_threshold must not be set"));
}

// A document of many windows: every span is where it says, and the server is as before.
TEST_F(ReadersE2eTest, BertReadsALongDocument) {
  const auto cases = QuestionCases("bert_qa_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family bert_qa_tiny");
  Serve(FolderOf(cases[0]));
  if (IsSkipped() || HasFatalFailure()) return;
  std::string text;
  for (size_t i = 0; text.size() < 100 * Model().window(); ++i) {
    text += cases[i % cases.size()].params.at("context").get<std::string>() + " ";
  }
  const UploadResult upload = Upload(text);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  EXPECT_GT(upload.document.chunks(), 5u);
  const AskResult asked = Ask(Question(upload.document.id(), cases[0].params.at("question")));
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
  const auto cases = QuestionCases("t5_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family t5_tiny");
  const std::filesystem::path folder = FolderOf(cases[0]);
  Serve(folder, {flag});
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_EQ(Model().kind(), v1::ModelInfo::KIND_SEQ2SEQ);
  const nlohmann::json config = ConfigOf(folder);
  const uint32_t encoder_layers = config.at("num_layers");
  const uint32_t decoder_layers = config.value("num_decoder_layers", encoder_layers);
  EXPECT_EQ(Model().layers(), encoder_layers + 2 * decoder_layers);
  // "question \n context" of the golden input, whose greedy ids are known.
  const std::string input = cases[0].params.at("texts")[0];
  const size_t cut = input.find(" \\n ");
  const std::string question = input.substr(0, cut), context = input.substr(cut + 4);
  const UploadResult upload = Upload(context);
  ASSERT_TRUE(upload.status.ok()) << upload.status.error_message();
  std::vector<std::string> answers;
  v1::AskRequest request;
  for (const test::GoldenCase& c : cases) {
    const auto& params = c.params;
    // Only cases with this model and question, all feed-forward units and an answer that fills its
    // length.
    if (FolderOf(c) != folder || params.at("texts")[0] != input || params.at("ff_topk") != 0 ||
        !params.at("first_eos")[0].is_null()) {
      continue;
    }
    SCOPED_TRACE(c.name);
    const test::GoldenTensors data = c.Load();
    const test::GoldenTensor& greedy = data["greedy_ids"];  // [texts, tokens]
    const std::vector<int32_t> ids(greedy.i32.begin(), greedy.i32.begin() + greedy.shape.at(1));
    request = Question(upload.document.id(), question);
    request.set_max_new_tokens(static_cast<uint32_t>(ids.size()));
    for (const char* part : {"enc", "dec", "cross"}) {
      const uint32_t layers = part == std::string("enc") ? encoder_layers : decoder_layers;
      for (uint32_t layer = 0; layer < layers; ++layer) {
        request.mutable_attention()->add_layer_top_k(params.at("attention_topk").at(part));
      }
    }
    const AskResult asked = Ask(request);
    ASSERT_TRUE(asked.status.ok()) << asked.status.error_message();
    EXPECT_EQ(asked.answer.text(), Spell(folder, ids));
    EXPECT_EQ(asked.answer.usage().generated_tokens(), ids.size());
    EXPECT_GT(asked.answer.evidence_size(), 0);
    answers.push_back(asked.answer.text());
  }
  EXPECT_GT(answers.size(), 1u);
  // After a restart the document comes from disk.
  Serve(folder, {flag});
  const AskResult again = Ask(request);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.answer.text(), answers.back());
}

// Many windows and many questions at once, all of them given back.
TEST_F(ReadersE2eTest, T5FusesManyWindows) {
  Serve(test::FixtureDir() / "t5_tiny" / "v1_1");
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
