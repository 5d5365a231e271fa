// Valid and invalid requests of the Open Inference Protocol, and their errors.
#include <google/protobuf/text_format.h>

#include <nlohmann/json.hpp>

#include "server/rpc/open_inference/convert.h"
#include "tests/server/rpc/open_inference_fixture.h"

namespace lectern {
namespace {

using grpc::StatusCode;
using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(OpenInferenceTest, NamesWhatIsWrong) {
  Serve();
  const auto expect = [&](const std::string& text, const auto& change) {
    ModelInferRequest request = Question("q");
    change(request);
    const grpc::Status status = Infer(request);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << text;
    EXPECT_THAT(status.error_message(), StartsWith(text));
    const auto streamed = Stream({request});
    ASSERT_EQ(streamed.size(), 1u) << text;
    EXPECT_THAT(streamed[0].error_message(), HasSubstr(": " + text));
  };
  expect("inputs.question must be given", [](auto& r) {
    r.mutable_inputs()->DeleteSubrange(0, 1);
    r.mutable_raw_input_contents()->DeleteSubrange(0, 1);
  });
  expect("inputs must have either", [](auto& r) { AddRaw(r, "document_id", "doc-1"); });
  expect("inputs must have either", [](auto& r) {
    r.mutable_inputs()->RemoveLast();
    r.mutable_raw_input_contents()->RemoveLast();
  });
  expect("inputs.text is not an input; there are question, document, document_id, parameters",
         [](auto& r) { AddRaw(r, "text", "x"); });
  expect("inputs.question must be given once", [](auto& r) { AddRaw(r, "question", "again"); });
  expect("inputs.question must have datatype BYTES",
         [](auto& r) { r.mutable_inputs(0)->set_datatype("FP32"); });
  expect("inputs.question must have shape [1]",
         [](auto& r) { r.mutable_inputs(0)->set_shape(0, 2); });
  expect("inputs.question must have shape [1]",
         [](auto& r) { r.mutable_inputs(0)->clear_shape(); });
  expect("inputs.question must not have the parameter shared_memory_region", [](auto& r) {
    (*r.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("x");
  });
  expect("inputs.question must not have contents",
         [](auto& r) { r.mutable_inputs(0)->mutable_contents()->add_bytes_contents("x"); });
  expect("raw_input_contents must be empty or one for each",
         [](auto& r) { r.add_raw_input_contents("x"); });
  for (const char* bad : {"", "abc", "\4", "xxxx"}) {
    expect("inputs.question must be one element",
           [&](auto& r) { r.set_raw_input_contents(0, bad); });
  }
  expect("inputs.question must be one element",
         [](auto& r) { r.set_raw_input_contents(0, Raw("two") + Raw("elements")); });
  expect("inputs.question must have one element in bytes_contents",
         [](auto& r) { r.clear_raw_input_contents(); });
  expect("inputs.question must be 1 to", [](auto& r) { r.set_raw_input_contents(0, Raw("")); });
  expect("inputs.question must be 1 to", [](auto& r) { r.set_raw_input_contents(0, Raw("\xff")); });
  expect("inputs.document must be 1 to", [](auto& r) { r.set_raw_input_contents(1, Raw("\xff")); });
  expect("model_version must be 1", [](auto& r) { r.set_model_version("2"); });
  expect("id must be at most 128", [](auto& r) { r.set_id(std::string(129, 'i')); });
  expect("outputs.text is not an output; there are answer",
         [](auto& r) { r.add_outputs()->set_name("text"); });
  expect("outputs.answer must not have parameters", [](auto& r) {
    r.add_outputs()->set_name("answer");
    (*r.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(3);
  });
  EXPECT_EQ(Infer([&] {
              ModelInferRequest request = Question("q");
              request.set_model_name("other");
              return request;
            }())
                .error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(OpenInferenceTest, NamesTheWrongParameter) {
  Serve();
  const auto expect = [&](const std::string& text, const auto& change) {
    ModelInferRequest request = Question("q");
    change(*request.mutable_parameters());
    const grpc::Status status = Infer(request);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << text;
    EXPECT_THAT(status.error_message(), StartsWith(text));
  };
  expect("parameters.topk is not a parameter; there are max_new_tokens, max_evidence_spans",
         [](auto& p) { p["topk"].set_int64_param(8); });
  expect("parameters.top_k must be an integer of 0 to 4294967295",
         [](auto& p) { p["top_k"].set_int64_param(-1); });
  expect("parameters.top_k must be an integer", [](auto& p) { p["top_k"].set_double_param(8); });
  expect("parameters.top_k must be an integer",
         [](auto& p) { p["top_k"].set_uint64_param(uint64_t{1} << 32); });
  expect("parameters.top_k must be an integer", [](auto& p) { p["top_k"]; });
  expect("parameters.top_k must be 1 to", [](auto& p) { p["top_k"].set_int64_param(0); });
  expect("parameters.exact must be true or false", [](auto& p) { p["exact"].set_int64_param(1); });
  expect("parameters.temperature must be a number",
         [](auto& p) { p["temperature"].set_string_param("warm"); });
  expect("parameters.temperature must be 0 to 2",
         [](auto& p) { p["temperature"].set_double_param(3); });
  expect("parameters.reading must be one of auto, whole, chunks",
         [](auto& p) { p["reading"].set_string_param("fast"); });
  expect("parameters.stop must be text", [](auto& p) { p["stop"].set_int64_param(1); });
  expect("parameters.max_new_tokens must be at most",
         [](auto& p) { p["max_new_tokens"].set_int64_param(501); });
  const auto in_json = [&](const std::string& text, const std::string& object) {
    ModelInferRequest request = Question("q");
    AddRaw(request, "parameters", object);
    EXPECT_THAT(Infer(request).error_message(), StartsWith(text));
  };
  in_json("parameters must be a JSON object", "[1]");
  in_json("parameters must be a JSON object", "{");
  in_json("parameters must be a JSON object", "{\"stop\": \"" + std::string(20'000, 'x') + "\"}");
  in_json("parameters.max_new_tokens is in the request's parameters, too",
          R"({"max_new_tokens": 5})");
  in_json("parameters.layer_top_k must be an integer", R"({"layer_top_k": [1, "x"]})");
}

TEST(OpenInferenceConvertTest, EveryParameterIsAFieldOfAsk) {
  const std::string object = R"({"max_new_tokens": 9, "max_evidence_spans": 0, "stop": ["a", "b"],
    "reading": "chunks", "quality": "high", "priority": "bulk", "disable_reuse": true,
    "no_answer_threshold": -1.5, "exact": true, "top_k": 8, "tail": "none", "layer_top_k": [0, 4], "ffn_top_k": 7,
    "page_budget": 6, "dense_up_to": 9, "max_error": 0.5, "fall_back_to_exact": true, "temperature": 0.5,
    "top_p": 1, "seed": 18446744073709551615})";
  v1::AskRequest expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(inline_text: "d" question: "q" model: "m" max_new_tokens: 9 max_evidence_spans: 0
         stop: "a" stop: "b" reading: READING_CHUNKS quality: QUALITY_HIGH priority: PRIORITY_BULK
         disable_reuse: true no_answer_threshold: -1.5
         attention { exact: true top_k: 8 tail: TAIL_NONE layer_top_k: 0 layer_top_k: 4 ffn_top_k: 7
                     page_budget: 6 dense_up_to: 9 max_error: 0.5 fall_back_to_exact: true }
         sampling { temperature: 0.5 top_p: 1 seed: 18446744073709551615 })",
      &expected));
  ModelInferRequest request;
  request.set_model_name("m");
  AddTyped(request, "question", "q");
  AddTyped(request, "document", "d");
  AddTyped(request, "parameters", object);
  const auto ask = open_inference::AskOf(request);
  ASSERT_TRUE(ask.ok()) << ask.status();
  EXPECT_EQ(ask->SerializeAsString(), expected.SerializeAsString());

  // The parameters in the map, which has no lists.
  request.mutable_inputs()->RemoveLast();
  auto& map = *request.mutable_parameters();
  const json values = json::parse(object);
  for (const auto& [name, value] : values.items()) {
    if (value.is_boolean()) map[name].set_bool_param(value);
    if (value.is_number_unsigned()) map[name].set_uint64_param(value);
    if (value.is_number_float()) map[name].set_double_param(value);
    if (value.is_string()) map[name].set_string_param(value);
  }
  map["stop"].set_string_param("a");
  map["layer_top_k"].set_int64_param(4);
  map["triton_enable_empty_final_response"].set_bool_param(true);  // makes no difference
  expected.mutable_stop()->RemoveLast();
  expected.mutable_attention()->clear_layer_top_k();
  expected.mutable_attention()->add_layer_top_k(4);
  const auto same = open_inference::AskOf(request);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->SerializeAsString(), expected.SerializeAsString());
}

}  // namespace
}  // namespace lectern
