// Attention policies from the RPC to the model: quality presets and every field of the policy.
#include <google/protobuf/descriptor.h>
#include <inference/open_inference.grpc.pb.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/engine/documents/disk/cache_file.h"
#include "tests/server/rpc/service_fixture.h"

namespace lectern {
namespace {

std::shared_ptr<FakeModel> ModelWith(const std::string& name, const AttentionPolicy& policy) {
  FakeModelOptions options;
  options.name = name;
  options.fingerprint = name + "-fingerprint";
  options.default_policy = policy;
  return std::make_shared<FakeModel>(options);
}

// One engine with two models whose default policies differ, in either order.
class QualityTest : public RpcFixture, public testing::WithParamInterface<bool> {
 protected:
  QualityTest() {
    std::vector<std::shared_ptr<const Model>> models = {ModelWith("sparse", kSparse),
                                                        ModelWith("dense", kDense)};
    if (GetParam()) std::swap(models[0], models[1]);
    EngineOptions options;
    options.kv_bytes = 64 << 20;
    engine_ = Engine::Create(options, std::move(models), &Clock::Real(), &metrics_);
    Serve(engine_.get());
  }
  ~QualityTest() override {
    StopServer();
    engine_->Stop();
  }

  // The policy that an answer of `model` was computed under.
  v1::AttentionPolicy PolicyOf(const std::string& model, v1::AskRequest::Quality quality) {
    v1::AskRequest request = Inline("q");
    request.set_model(model);
    request.set_quality(quality);
    grpc::ClientContext context;
    auto stream = stub_->Ask(&context, request);
    v1::AttentionPolicy policy;
    for (v1::AskResponse event; stream->Read(&event);) {
      if (event.has_answer()) policy = event.answer().exactness().policy();
    }
    EXPECT_TRUE(stream->Finish().ok());
    return policy;
  }

  const AttentionPolicy kSparse{
      .top_k = 128, .layer_k = {0, 32}, .tail = AttentionPolicy::Tail::kMean, .dense_up_to = 1024};
  const AttentionPolicy kDense = AttentionPolicy::Exact();
  std::unique_ptr<Engine> engine_;
};

TEST_P(QualityTest, HighDoublesTheDefaultOfTheModelThatAnswers) {
  const v1::AttentionPolicy sparse = PolicyOf("sparse", v1::AskRequest::QUALITY_HIGH);
  EXPECT_EQ(sparse.top_k(), 256u);
  EXPECT_THAT(sparse.layer_top_k(), testing::ElementsAre(0, 64));
  EXPECT_EQ(sparse.dense_up_to(), 1024u);
  EXPECT_EQ(sparse.tail(), v1::AttentionPolicy::TAIL_MEAN);
  EXPECT_TRUE(PolicyOf("dense", v1::AskRequest::QUALITY_HIGH).exact());
}

TEST_P(QualityTest, ExactIsExactOnEveryModel) {
  EXPECT_TRUE(PolicyOf("sparse", v1::AskRequest::QUALITY_EXACT).exact());
  EXPECT_TRUE(PolicyOf("dense", v1::AskRequest::QUALITY_EXACT).exact());
}

TEST_P(QualityTest, UnspecifiedIsTheDefault) {
  EXPECT_EQ(PolicyOf("sparse", v1::AskRequest::QUALITY_UNSPECIFIED).top_k(), 128u);
  EXPECT_TRUE(PolicyOf("dense", v1::AskRequest::QUALITY_UNSPECIFIED).exact());
}

TEST_P(QualityTest, IsRefusedTogetherWithAttention) {
  v1::AskRequest request = Inline("q");
  request.set_quality(v1::AskRequest::QUALITY_HIGH);
  request.mutable_attention()->set_top_k(8);
  grpc::ClientContext context;
  auto stream = stub_->Ask(&context, request);
  v1::AskResponse event;
  EXPECT_FALSE(stream->Read(&event));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              testing::HasSubstr("quality must not be set together with attention"));
}

// Every row of the policy table, from both protocols to the model and the cache.
class PolicyFieldTest : public RpcFixture, public testing::WithParamInterface<size_t> {
 protected:
  PolicyFieldTest() {
    FakeModelOptions options;
    options.default_policy = DefaultPolicy();
    options.ffn_units = 64;
    model_ = std::make_shared<FakeModel>(options);
    EngineOptions engine_options;
    engine_options.kv_bytes = 64 << 20;
    engine_ = Engine::Create(engine_options, {model_}, &Clock::Real(), &metrics_);
    Serve(engine_.get());
  }
  ~PolicyFieldTest() override {
    StopServer();
    engine_->Stop();
  }

  const PolicyField& row() const { return kPolicyFields[GetParam()]; }
  std::string name() const { return std::string(row().name); }
  bool is_enumeration() const { return row().kind == PolicyField::Kind::kEnumeration; }
  // A value that requests may give and the default does not have.
  int64_t OtherValue() const {
    const std::vector<int64_t> fallback = row().Values(model_->info().default_policy);
    return fallback == std::vector<int64_t>{row().most} ? row().least : row().most;
  }

  const google::protobuf::FieldDescriptor* Field() const {
    return v1::AttentionPolicy::descriptor()->FindFieldByName(name());
  }
  v1::AttentionPolicy PolicyWith(int64_t value) const {
    v1::AttentionPolicy policy;
    const google::protobuf::Reflection& reflection = *policy.GetReflection();
    if (row().is_list()) {
      reflection.AddUInt32(&policy, Field(), static_cast<uint32_t>(value));
    } else if (is_enumeration()) {
      reflection.SetEnumValue(&policy, Field(), static_cast<int>(value) + 1);
    } else {
      reflection.SetUInt32(&policy, Field(), static_cast<uint32_t>(value));
    }
    return policy;
  }
  grpc::Status Ask(const std::string& document_id, int64_t value) {
    v1::AskRequest request;
    request.set_document_id(document_id);
    request.set_question("q");
    *request.mutable_attention() = PolicyWith(value);
    grpc::ClientContext context;
    auto stream = stub_->Ask(&context, request);
    for (v1::AskResponse event; stream->Read(&event);) {
    }
    return stream->Finish();
  }
  grpc::Status Infer(const std::string& document_id, int64_t value) {
    inference::ModelInferRequest request;
    request.set_model_name("fake");
    for (const auto& [input, text] :
         {std::pair<std::string, std::string>{"question", "q"}, {"document_id", document_id}}) {
      auto* added = request.add_inputs();
      added->set_name(input);
      added->set_datatype("BYTES");
      added->add_shape(1);
      added->mutable_contents()->add_bytes_contents(text);
    }
    inference::InferParameter& parameter = (*request.mutable_parameters())[name()];
    if (is_enumeration()) {
      const auto* choice = Field()->enum_type()->FindValueByNumber(static_cast<int>(value) + 1);
      std::string word = choice == nullptr ? "no such value" : choice->name();
      word = absl::AsciiStrToLower(word.substr(word.find('_') + 1));
      parameter.set_string_param(word);
    } else {
      parameter.set_int64_param(value);
    }
    grpc::ClientContext context;
    inference::ModelInferResponse response;
    return inference::GRPCInferenceService::NewStub(channel_)->ModelInfer(&context, request,
                                                                          &response);
  }

  std::string Upload(const std::string& text) {
    grpc::ClientContext context;
    auto stream = stub_->UploadDocument(&context);
    v1::UploadDocumentRequest metadata, data;
    metadata.mutable_metadata();
    data.set_data(text);
    stream->Write(metadata);
    stream->Write(data);
    stream->WritesDone();
    std::string id;
    for (v1::UploadDocumentResponse response; stream->Read(&response);) {
      if (response.has_document()) id = response.document().id();
    }
    EXPECT_TRUE(stream->Finish().ok());
    return id;
  }
  // Whether the document has been read under a policy with `value` in this field.
  bool WasReadWith(const std::string& document_id, int64_t value) const {
    const absl::StatusOr<DocumentInfo> document = engine_->GetDocument(document_id, "");
    EXPECT_TRUE(document.ok()) << document.status();
    if (!document.ok()) return false;
    for (const AttentionPolicy& policy : document->read_under) {
      if (row().Values(policy) == std::vector<int64_t>{value}) return true;
    }
    return false;
  }

  std::shared_ptr<FakeModel> model_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(PolicyFieldTest, IsAFieldOfTheProtoInItsRange) {
  ASSERT_NE(Field(), nullptr);
  EXPECT_EQ(Field()->is_repeated(), row().is_list());
  EXPECT_EQ(Field()->enum_type() != nullptr, is_enumeration());
  if (is_enumeration()) {
    EXPECT_EQ(row().most - row().least + 2, Field()->enum_type()->value_count());
  }
}

TEST_P(PolicyFieldTest, ReachesTheModelFromAskAndFromOpenInference) {
  const int64_t value = OtherValue();
  const std::string asked = Upload("A short document.");
  EXPECT_FALSE(WasReadWith(asked, value));
  const grpc::Status answered = Ask(asked, value);
  EXPECT_TRUE(answered.ok()) << answered.error_message();
  EXPECT_TRUE(WasReadWith(asked, value));
  const std::string inferred = Upload("Another short document.");
  const grpc::Status answer = Infer(inferred, value);
  EXPECT_TRUE(answer.ok()) << answer.error_message();
  EXPECT_TRUE(WasReadWith(inferred, value));
}

TEST_P(PolicyFieldTest, OutOfRangeNamesTheFieldAndItsLimits) {
  const std::string id = Upload("A short document.");
  std::vector<int64_t> values = {row().most + 1};
  if (row().least > 0) values.push_back(row().least - 1);
  const std::string range = absl::StrCat(row().is_list() ? " entries must be " : " must be ",
                                         row().least, " to ", row().most);
  for (const int64_t value : values) {
    const grpc::Status asked = Ask(id, value), inferred = Infer(id, value);
    EXPECT_EQ(asked.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(inferred.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(asked.error_message(), testing::StartsWith("attention." + name()));
    EXPECT_THAT(inferred.error_message(), testing::StartsWith("parameters." + name()));
    if (is_enumeration()) continue;
    EXPECT_THAT(asked.error_message(), testing::HasSubstr(range));
    EXPECT_THAT(inferred.error_message(), testing::HasSubstr(range));
  }
}

TEST_P(PolicyFieldTest, ChangesTheCacheKeyAndComesBackFromAFile) {
  const std::string id = Upload("A short document.");
  AttentionPolicy policy = model_->info().default_policy;
  const std::string before = PagesName(id, ReadingMode::kWhole, policy);
  const std::vector<int64_t> values = {OtherValue()};
  row().Set(values, policy);
  EXPECT_NE(PagesName(id, ReadingMode::kWhole, policy), before);
  const CachePages pages{.identity = {id, "fingerprint"}, .policy = policy};
  CachePages read;
  EXPECT_EQ(DecodeHeader(EncodeHeader(pages), &read), CacheFileError::kNone);
  EXPECT_EQ(read.policy, policy);
}

std::vector<size_t> RequestRows() {
  std::vector<size_t> rows;
  for (size_t i = 0; i < kPolicyFields.size(); ++i) {
    if (kPolicyFields[i].set_by == PolicyField::SetBy::kRequests) rows.push_back(i);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(EveryRow, PolicyFieldTest, testing::ValuesIn(RequestRows()),
                         [](const auto& info) {
                           return std::string(kPolicyFields[info.param].name);
                         });

INSTANTIATE_TEST_SUITE_P(BothOrders, QualityTest, testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "DenseModelFirst" : "SparseModelFirst");
});

}  // namespace
}  // namespace lectern
