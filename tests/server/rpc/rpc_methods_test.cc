#include "server/metrics/rpc_methods.h"

#include <google/protobuf/descriptor.h>
#include <grpc/health/v1/health.grpc.pb.h>
#include <gtest/gtest.h>
#include <inference/open_inference.grpc.pb.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <set>
#include <string>

namespace lectern {
namespace {

// Every method of every service has a label, and every label but one is a method.
TEST(RpcMethodTest, TheLabelsAreTheMethodsOfTheServices) {
  // Link the descriptors of the services. document_qa.proto has no message that would.
  EXPECT_STREQ(descriptor_table_lectern_2fv1_2fdocument_5fqa_2eproto.filename,
               "lectern/v1/document_qa.proto");
  EXPECT_NE(inference::ServerLiveRequest::descriptor(), nullptr);
  EXPECT_NE(grpc::health::v1::HealthCheckRequest::descriptor(), nullptr);
  std::set<std::string> methods = {"other"}, labels;
  for (const std::string service :
       {v1::DocumentQA::service_full_name(), inference::GRPCInferenceService::service_full_name(),
        grpc::health::v1::Health::service_full_name()}) {
    const auto* descriptor =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
    ASSERT_NE(descriptor, nullptr) << service;
    for (int i = 0; i < descriptor->method_count(); ++i) {
      methods.insert(service + "/" + descriptor->method(i)->name());
    }
  }
  for (const auto& label : kMethodLabels) labels.insert(label.name);
  EXPECT_EQ(labels, methods);
}

}  // namespace
}  // namespace lectern
