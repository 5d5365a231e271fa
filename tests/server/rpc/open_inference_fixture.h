// The Open Inference Protocol over a real socket, with the real engine and a fake model.
#pragma once

#include <inference/open_inference.grpc.pb.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/rpc/service_fixture.h"

namespace lectern {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;

inline constexpr char kDocument[] = "A short document. It has TWO sentences.";

inline std::string Raw(const std::string& element) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) {
    bytes.push_back(static_cast<char>(element.size() >> shift));
  }
  return bytes + element;
}

inline ModelInferRequest::InferInputTensor* AddInput(ModelInferRequest& request,
                                                     const std::string& name) {
  auto* input = request.add_inputs();
  input->set_name(name);
  input->set_datatype("BYTES");
  input->add_shape(1);
  return input;
}

inline void AddRaw(ModelInferRequest& request, const std::string& name,
                   const std::string& element) {
  AddInput(request, name);
  request.add_raw_input_contents(Raw(element));
}

inline void AddTyped(ModelInferRequest& request, const std::string& name,
                     const std::string& element) {
  AddInput(request, name)->mutable_contents()->add_bytes_contents(element);
}

inline ModelInferRequest Question(const std::string& question, const std::string& id = "") {
  ModelInferRequest request;
  request.set_model_name("fake");
  request.set_id(id);
  AddRaw(request, "question", question);
  AddRaw(request, "document", kDocument);
  (*request.mutable_parameters())["max_new_tokens"].set_int64_param(500);
  return request;
}

// The outputs of a response by name, as text; "" and "\1" are false and true.
inline std::map<std::string, std::string> Outputs(const ModelInferResponse& response) {
  std::map<std::string, std::string> outputs;
  for (int i = 0; i < response.outputs_size(); ++i) {
    const auto& output = response.outputs(i);
    EXPECT_THAT(output.shape(), testing::ElementsAre(1)) << output.name();
    const auto& contents = output.contents();
    std::string& value = outputs[output.name()];
    if (response.raw_output_contents_size() > 0) {
      EXPECT_EQ(response.raw_output_contents_size(), response.outputs_size());
      EXPECT_FALSE(output.has_contents());
      const std::string& raw = response.raw_output_contents(i);
      if (output.datatype() == "BYTES") {
        value = raw.substr(4);
        EXPECT_EQ(raw, Raw(value));
      } else if (output.datatype() == "BOOL") {
        EXPECT_EQ(raw.size(), 1u);
        value = raw == std::string(1, '\0') ? "false" : "true";
      } else {
        EXPECT_EQ(output.datatype(), "FP32");
        float number = 0;
        EXPECT_EQ(raw.size(), sizeof number);
        std::memcpy(&number, raw.data(), sizeof number);
        value = std::to_string(number);
      }
    } else if (output.datatype() == "BYTES") {
      value = contents.bytes_contents(0);
    } else if (output.datatype() == "BOOL") {
      value = contents.bool_contents(0) ? "true" : "false";
    } else {
      value = std::to_string(contents.fp32_contents(0));
    }
  }
  return outputs;
}

class OpenInferenceTest : public ServiceTest {
 protected:
  explicit OpenInferenceTest(RpcEnvironment environment = {})
      : ServiceTest(std::move(environment)) {}

  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse* response,
                     const std::string& tenant = "") {
    grpc::ClientContext context;
    if (!tenant.empty()) context.AddMetadata("x-lectern-tenant", tenant);
    return infer_->ModelInfer(&context, request, response);
  }
  grpc::Status Infer(const ModelInferRequest& request) {
    ModelInferResponse response;
    return Infer(request, &response);
  }

  // Sends all, closes, and reads to the end.
  std::vector<ModelStreamInferResponse> Stream(const std::vector<ModelInferRequest>& requests) {
    grpc::ClientContext context;
    auto stream = infer_->ModelStreamInfer(&context);
    for (const ModelInferRequest& request : requests) EXPECT_TRUE(stream->Write(request));
    stream->WritesDone();
    std::vector<ModelStreamInferResponse> responses;
    for (ModelStreamInferResponse response; stream->Read(&response);) {
      responses.push_back(response);
    }
    EXPECT_TRUE(stream->Finish().ok());
    return responses;
  }

  bool ServerReady() {
    grpc::ClientContext context;
    inference::ServerReadyResponse response;
    EXPECT_TRUE(infer_->ServerReady(&context, {}, &response).ok());
    return response.ready();
  }
  bool ModelReady(const std::string& name, const std::string& version = "") {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name(name);
    request.set_version(version);
    inference::ModelReadyResponse response;
    EXPECT_TRUE(infer_->ModelReady(&context, request, &response).ok());
    return response.ready();
  }
  grpc::Status Metadata(const std::string& name, const std::string& version,
                        inference::ModelMetadataResponse* response) {
    grpc::ClientContext context;
    inference::ModelMetadataRequest request;
    request.set_name(name);
    request.set_version(version);
    return infer_->ModelMetadata(&context, request, response);
  }

  std::unique_ptr<inference::GRPCInferenceService::Stub> infer_ =
      inference::GRPCInferenceService::NewStub(channel_);
};

}  // namespace lectern
