// The Open Inference Protocol's calls. Its real clients are in tests/e2e.
#include <grpc/health/v1/health.grpc.pb.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/hashing/sha256.h"
#include "server/rpc/document_qa/question_stream.h"
#include "server/rpc/open_inference/tensors.h"
#include "tests/server/rpc/open_inference_fixture.h"

namespace lectern {
namespace {

using grpc::StatusCode;
using nlohmann::json;
using testing::HasSubstr;

bool IsFinal(const ModelStreamInferResponse& response) {
  return response.infer_response().parameters().at("triton_final_response").bool_param();
}
int64_t RequestNumber(const ModelStreamInferResponse& response) {
  return response.infer_response().parameters().at("request_number").int64_param();
}

TEST_F(OpenInferenceTest, IsLiveAtOnceAndReadyWhileItServes) {
  grpc::ClientContext live_context;
  inference::ServerLiveResponse live;
  ASSERT_TRUE(infer_->ServerLive(&live_context, {}, &live).ok());
  EXPECT_TRUE(live.live());
  EXPECT_FALSE(ServerReady());
  EXPECT_FALSE(ModelReady("fake"));
  inference::ModelMetadataResponse metadata;
  EXPECT_EQ(Metadata("fake", "", &metadata).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Infer(Question("q")).error_code(), StatusCode::UNAVAILABLE);
  Serve();
  EXPECT_TRUE(ServerReady());
  EXPECT_TRUE(ModelReady("fake"));
  EXPECT_TRUE(ModelReady("fake", "1"));
  EXPECT_FALSE(ModelReady("fake", "2"));
  EXPECT_FALSE(ModelReady("other"));
  serving_.Set(ServerState::kDraining, "over");
  engine_->StopAccepting();
  EXPECT_FALSE(ServerReady());
  EXPECT_FALSE(ModelReady("fake"));
  EXPECT_EQ(Infer(Question("q")).error_code(), StatusCode::UNAVAILABLE);
  const auto refused = Stream({Question("q", "mine")});
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_THAT(refused[0].error_message(), testing::StartsWith("request mine: UNAVAILABLE: "));
}

const AccessTokens* Tokens() {
  static AccessTokens* const tokens = [] {
    auto* made = new AccessTokens;
    EXPECT_TRUE(
        made->Load(R"({"tokens": [{"tenant": "a", "sha256": ")" + Sha256Hex("secret") + "\"}]}")
            .ok());
    return made;
  }();
  return tokens;
}

class OpenInferenceTokensTest : public OpenInferenceTest {
 protected:
  OpenInferenceTokensTest() : OpenInferenceTest({.tokens = Tokens()}) {}
};

TEST_F(OpenInferenceTokensTest, WithoutATokenOnlyLivenessAndReadinessAreReported) {
  Serve();
  EXPECT_TRUE(ServerReady());
  grpc::ClientContext server_context, ready_context, stream_context, known_context;
  inference::ServerMetadataResponse server;
  EXPECT_EQ(infer_->ServerMetadata(&server_context, {}, &server).error_code(),
            StatusCode::UNAUTHENTICATED);
  inference::ModelReadyResponse ready;
  EXPECT_EQ(infer_->ModelReady(&ready_context, {}, &ready).error_code(),
            StatusCode::UNAUTHENTICATED);
  inference::ModelMetadataResponse model;
  EXPECT_EQ(Metadata("fake", "", &model).error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Infer(Question("q")).error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Infer(ModelInferRequest()).error_code(),
            StatusCode::UNAUTHENTICATED);  // before the request is checked
  auto stream = infer_->ModelStreamInfer(&stream_context);
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  known_context.AddMetadata("authorization", "Bearer secret");
  ModelInferResponse response;
  EXPECT_TRUE(infer_->ModelInfer(&known_context, Question("q"), &response).ok());
}

TEST_F(OpenInferenceTest, HealthAndMetricsKnowTheService) {
  Serve();
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("inference.GRPCInferenceService");
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(health->Check(&context, request, &response).ok());
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_TRUE(Infer(Question("q")).ok());
  StopServer();
  EXPECT_THAT(metrics_.Render(),
              HasSubstr("grpc_server_call_duration_seconds_count{grpc_method=\"inference."
                        "GRPCInferenceService/ModelInfer\",grpc_status=\"OK\"} 1"));
}

TEST_F(OpenInferenceTest, MetadataNamesServerModelAndTensors) {
  Serve();
  grpc::ClientContext context;
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(infer_->ServerMetadata(&context, {}, &server).ok());
  EXPECT_EQ(server.name(), "lectern");
  EXPECT_EQ(server.version(), "test");
  inference::ModelMetadataResponse model;
  ASSERT_TRUE(Metadata("fake", "1", &model).ok());
  EXPECT_EQ(model.name(), "fake");
  EXPECT_EQ(model.platform(), "lectern");
  EXPECT_THAT(model.versions(), testing::ElementsAre("1"));
  std::vector<std::string> inputs;
  for (const auto& input : model.inputs()) inputs.push_back(input.name());
  EXPECT_THAT(inputs, testing::ElementsAre("question", "document", "document_id", "parameters"));
  // Every named output is returned with its datatype on request.
  ModelInferRequest request = Question("q");
  for (const auto& output : model.outputs()) request.add_outputs()->set_name(output.name());
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  ASSERT_EQ(response.outputs_size(), model.outputs_size());
  for (int i = 0; i < model.outputs_size(); ++i) {
    EXPECT_EQ(response.outputs(i).name(), model.outputs(i).name());
    EXPECT_EQ(response.outputs(i).datatype(), model.outputs(i).datatype());
  }
  EXPECT_EQ(Outputs(response)["delta"], "xxxxx");
  grpc::ClientContext config_context;
  inference::ModelConfigRequest config_request;
  config_request.set_name("fake");
  inference::ModelConfigResponse config;
  ASSERT_TRUE(infer_->ModelConfig(&config_context, config_request, &config).ok());
  ASSERT_EQ(config.config().input_size(), model.inputs_size());
  ASSERT_EQ(config.config().output_size(), model.outputs_size());
  EXPECT_FALSE(config.config().input(0).optional());
  EXPECT_TRUE(config.config().input(1).optional());
  for (int i = 0; i < model.outputs_size(); ++i) {
    EXPECT_EQ(config.config().output(i).name(), model.outputs(i).name());
    const auto type = config.config().output(i).data_type();
    EXPECT_EQ(model.outputs(i).datatype(), type == inference::TYPE_STRING ? "BYTES"
                                           : type == inference::TYPE_BOOL ? "BOOL"
                                           : type == inference::TYPE_FP32 ? "FP32"
                                                                          : "");
  }
  EXPECT_EQ(Metadata("other", "", &model).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Metadata("fake", "2", &model).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(OpenInferenceTest, AnswersInTheFormOfTheRequest) {
  Serve();
  ModelInferResponse raw, typed;
  ASSERT_TRUE(Infer(Question("TWO?", "mine"), &raw).ok());
  ModelInferRequest request;
  AddTyped(request, "question", "TWO?");
  AddTyped(request, "document", kDocument);
  ASSERT_TRUE(Infer(request, &typed).ok());
  EXPECT_EQ(raw.id(), "mine");
  EXPECT_EQ(raw.model_name(), "fake");
  EXPECT_EQ(raw.model_version(), "1");
  EXPECT_EQ(typed.model_name(), "fake");  // the default, because the request names none
  EXPECT_EQ(raw.raw_output_contents_size(), raw.outputs_size());
  EXPECT_EQ(typed.raw_output_contents_size(), 0);
  auto outputs = Outputs(raw);
  auto same = Outputs(typed);
  outputs.erase("timings");
  same.erase("timings");
  EXPECT_EQ(outputs, same);
  EXPECT_EQ(outputs["answer"], "xxxxx");
  EXPECT_EQ(outputs["finish_reason"], "stop");
  EXPECT_EQ(outputs["no_evidence"], "false");
  EXPECT_EQ(outputs.count("delta"), 0u);
  EXPECT_GT(std::stof(outputs["kept_mass"]), 0);
  EXPECT_LT(std::stof(outputs["kept_mass"]), 1);
  EXPECT_EQ(json::parse(outputs["usage"])["generated_tokens"], 5);
  const json evidence = json::parse(outputs["evidence"]);
  ASSERT_FALSE(evidence.empty());
  EXPECT_EQ(evidence[0]["text"], "It has TWO sentences.");
  for (const json& span : evidence) {
    const size_t begin = span["begin_byte"];
    EXPECT_EQ(std::string(kDocument).substr(begin, span["end_byte"].get<size_t>() - begin),
              span["text"]);
  }
}

TEST_F(OpenInferenceTest, DocumentsBelongToTheTenantOfTheMetadata) {
  Serve();
  grpc::ClientContext context;
  context.AddMetadata("x-lectern-tenant", "mine");
  auto upload = stub_->UploadDocument(&context);
  v1::UploadDocumentRequest part;
  part.mutable_metadata();
  upload->Write(part);
  part.set_data(kDocument);
  upload->Write(part);
  upload->WritesDone();
  std::string document;
  for (v1::UploadDocumentResponse response; upload->Read(&response);) {
    if (response.has_document()) document = response.document().id();
  }
  ASSERT_TRUE(upload->Finish().ok());
  ModelInferRequest request;
  AddRaw(request, "document_id", document);
  AddRaw(request, "question", "q");
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response, "mine").ok());
  EXPECT_GT(json::parse(Outputs(response)["usage"])["tokens_reused"], 0);
  EXPECT_EQ(Infer(request, &response, "other").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Infer(request, &response, "not a name").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(OpenInferenceTest, StreamsPiecesAndALastResponseForEveryRequest) {
  Serve();
  ModelInferRequest bad = Question("q", "bad");
  bad.set_model_name("other");
  ModelInferRequest only_answer = Question("q", "short");
  only_answer.add_outputs()->set_name("answer");
  // Two requests have no id, and two have equal ids.
  const auto responses = Stream(
      {Question("q"), Question("q"), bad, Question("q", "a"), Question("q", "a"), only_answer});
  std::map<int64_t, std::string> text;
  std::map<int64_t, int> finals, pieces;
  for (const ModelStreamInferResponse& response : responses) {
    const int64_t number = RequestNumber(response);
    const auto& infer = response.infer_response();
    EXPECT_EQ(finals[number], 0) << "after the last one";
    finals[number] += IsFinal(response);
    const std::vector<std::string> ids = {"", "", "bad", "a", "a", "short"};
    EXPECT_EQ(infer.id(), ids.at(number));
    if (number == 2) {
      EXPECT_THAT(response.error_message(), testing::StartsWith("request bad: NOT_FOUND: "));
      EXPECT_EQ(infer.parameters().at("code").string_param(), "NOT_FOUND");
      EXPECT_EQ(infer.parameters().at("reason").string_param(), "MODEL_NOT_FOUND");
      continue;
    }
    EXPECT_EQ(response.error_message(), "");
    auto outputs = Outputs(infer);
    if (IsFinal(response)) {
      EXPECT_EQ(outputs["answer"], "xxxxx");
      EXPECT_EQ(outputs.size(), number == 5 ? 1u : 11u);
    } else {
      EXPECT_EQ(outputs.size(), 1u);
      text[number] += outputs["delta"];
      ++pieces[number];
    }
  }
  EXPECT_EQ(finals.size(), 6u);
  for (const auto& [number, count] : finals) EXPECT_EQ(count, 1) << number;
  for (const int number : {0, 1, 3, 4}) EXPECT_EQ(text[number], "xxxxx") << number;
  EXPECT_EQ(pieces.count(5), 0u);
}

TEST_F(OpenInferenceTest, SlowReadersMissNothing) {
  Serve();
  ModelInferRequest typed;
  AddTyped(typed, "question", "long");
  AddTyped(typed, "document", kDocument);
  (*typed.mutable_parameters())["max_new_tokens"].set_int64_param(500);
  for (const ModelInferRequest& request : {Question("long"), typed}) {
    grpc::ClientContext context;
    auto stream = infer_->ModelStreamInfer(&context);
    model_->gate().Close();
    ASSERT_TRUE(stream->Write(request));
    while (engine_->status().running == 0) std::this_thread::yield();
    model_->gate().Open();
    WaitUntilIdle();  // the engine is done although nobody has read
    stream->WritesDone();
    std::string text;
    for (ModelStreamInferResponse response; stream->Read(&response);) {
      if (!IsFinal(response)) text += Outputs(response.infer_response())["delta"];
    }
    EXPECT_TRUE(stream->Finish().ok());
    EXPECT_EQ(text, std::string(400, 'x'));
  }
}

TEST(OpenInferenceTensorsTest, PiecesOfTextMergeInBothForms) {
  for (const bool raw : {true, false}) {
    ModelInferResponse first, second;
    open_inference::OutputTensors(first, raw).Add("delta", std::string("one, "));
    open_inference::OutputTensors(second, raw).Add("delta", std::string("two"));
    open_inference::AppendText(first, second);
    EXPECT_EQ(Outputs(first)["delta"], "one, two");
  }
}

TEST_F(OpenInferenceTest, AStreamTakesMoreRequestsThanItAnswersAtOnce) {
  Serve();
  std::vector<ModelInferRequest> requests(kMaxOpenAsksPerStream + 20, Question("q"));
  std::map<int64_t, std::string> answers;
  for (const auto& response : Stream(requests)) {
    EXPECT_EQ(response.error_message(), "");
    if (IsFinal(response)) {
      answers[RequestNumber(response)] = Outputs(response.infer_response())["answer"];
    }
  }
  EXPECT_EQ(answers.size(), requests.size());
  for (const auto& [number, answer] : answers) EXPECT_EQ(answer, "xxxxx") << number;
}

TEST_F(OpenInferenceTest, CancellationAndDeadlinesEndTheJob) {
  Serve();
  model_->gate().Close();
  grpc::ClientContext cancelled, late, stream_context;
  ModelInferResponse response;
  grpc::Status status;
  std::thread call([&] { status = infer_->ModelInfer(&cancelled, Question("long"), &response); });
  while (engine_->status().running == 0) std::this_thread::yield();
  cancelled.TryCancel();
  call.join();
  EXPECT_EQ(status.error_code(), StatusCode::CANCELLED);
  late.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(infer_->ModelInfer(&late, Question("long"), &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  auto stream = infer_->ModelStreamInfer(&stream_context);
  ASSERT_TRUE(stream->Write(Question("long")));
  stream_context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  model_->gate().Open();
  WaitUntilIdle();
  EXPECT_EQ(engine_->status().kv_bytes_used, 0u);
}

}  // namespace
}  // namespace lectern
