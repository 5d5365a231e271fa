// Models that offload int8 products to a device, and failures of the device, with the plug-in of
// tests/testing/fake_int8_device.h.
#include "server/model/device/int8_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/plugin_library.h"
#include "server/model/loading/model_loader.h"
#include "tests/server/model/invariance.h"
#include "tests/testing/fake_int8_device.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using testing::HasSubstr;
using Numerics = ModelLoadOptions::Numerics;

constexpr char kFakeLibrary[] = "liblectern_fake_cuda.so";

FakeInt8Device& Fake() {
  static FakeInt8Device* const fake = [] {
    const auto function = LoadPluginFunction(kFakeLibrary, kFakeInt8DeviceFunction);
    EXPECT_TRUE(function.ok()) << function.status();
    return reinterpret_cast<FakeInt8DeviceFunction*>(*function)();
  }();
  return *fake;
}

class Int8DeviceTest : public testing::Test {
 protected:
  void SetUp() override { Fake() = {.version = kernels::kInt8PluginVersion}; }
  void TearDown() override {
    EXPECT_EQ(Fake().open_devices, 0);
    EXPECT_EQ(Fake().matrices, 0);
  }

  absl::StatusOr<std::shared_ptr<Int8Device>> Open() {
    return Int8Device::Open(kFakeLibrary,
                            [this](std::string_view code) { codes_.emplace_back(code); });
  }

  std::shared_ptr<const Model> Load(const std::string& path,
                                    std::shared_ptr<Int8Device> device) const {
    const auto model = LoadModel({.name = "tiny",
                                  .path = path,
                                  .numerics = Numerics::kInt8Rotated,
                                  .threads = 2,
                                  .device = std::move(device)});
    EXPECT_TRUE(model.ok()) << model.status();
    return *model;
  }

  std::shared_ptr<const Model> LoadWithDevice(const std::string& path) {
    const auto device = Open();
    EXPECT_TRUE(device.ok()) << device.status();
    return Load(path, *device);
  }

  const std::string tiny_ = FixtureDir() / "llama_tiny" / "tied";
  const std::string t5_ = FixtureDir() / "t5_tiny" / "v1_1";
  const std::string bert_ = FixtureDir() / "bert_qa_tiny" / "model";
  std::vector<std::string> codes_;  // what the observer was told
};

std::vector<int32_t> Tokens(int64_t count) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>(1 + i * 37 % 200);
  return tokens;
}

// Compares logits, keys and values of a prompt, in slices, and of the token after it.
void ExpectSameAnswers(const Model& got, const Model& want, int64_t slice_tokens) {
  const std::vector<int32_t> tokens = Tokens(150), next = {5};
  Sequence got_sequence(got), want_sequence(want);
  ExpectSame(Feed(got, got_sequence, tokens, slice_tokens),
             Feed(want, want_sequence, tokens, slice_tokens));
  ExpectSame(Feed(got, got_sequence, next), Feed(want, want_sequence, next));
  ExpectSamePages(got, got_sequence, want_sequence);
}

// An encoder's window.
std::vector<float> Encoded(const Model& model, int64_t hidden) {
  const std::vector<int32_t> tokens = Tokens(40);
  Sequence sequence(model);
  std::vector<float> encoded(tokens.size() * hidden);
  ForwardSlice slice = sequence.Next(tokens);
  slice.encode = true;
  slice.document_begin = 9;
  slice.encoded = encoded.data();
  const auto workspace = model.NewWorkspace();
  const absl::Status status = model.Forward({&slice, 1}, *workspace);
  EXPECT_TRUE(status.ok()) << status;
  return encoded;
}

TEST_F(Int8DeviceTest, LlamaGivesTheSameBits) {
  const auto want = Load(tiny_, nullptr);
  const auto got = LoadWithDevice(tiny_);
  EXPECT_EQ(got->info().fingerprint, want->info().fingerprint);
  EXPECT_EQ(got->info().numerics, "int8-rotated");
  EXPECT_GT(Fake().matrices, 0);
  ExpectSameAnswers(*got, *want, 64);
  EXPECT_GT(Fake().multiplications, 0);
  EXPECT_EQ(Fake().most_rows, 64);
  EXPECT_TRUE(codes_.empty());
}

TEST_F(Int8DeviceTest, FewRowsStayOnTheCpu) {
  const auto want = Load(tiny_, nullptr);
  const auto got = LoadWithDevice(tiny_);
  ExpectSameAnswers(*got, *want, kMinDeviceRows - 1);
  EXPECT_EQ(Fake().multiplications, 0);
  // 150 tokens are nine slices of 16 and a rest of 6.
  ExpectSameAnswers(*got, *want, kMinDeviceRows);
  EXPECT_GT(Fake().multiplications, 0);
  EXPECT_EQ(Fake().fewest_rows, kMinDeviceRows);
}

TEST_F(Int8DeviceTest, EncodersGiveTheSameBits) {
  for (const auto& [path, hidden] : {std::pair{t5_, 64}, {bert_, 64}}) {
    const auto want = Load(path, nullptr);
    const auto got = LoadWithDevice(path);
    const int64_t before = Fake().multiplications;
    EXPECT_EQ(Difference(Encoded(*got, hidden), Encoded(*want, hidden)), "") << path;
    EXPECT_GT(Fake().multiplications, before);
  }
}

// Whichever product fails, half of its rows added to or not, the answer is the same, and the device
// is not asked again.
TEST_F(Int8DeviceTest, FailureIsTheCpusWorkFromThenOn) {
  const auto want = Load(tiny_, nullptr);
  for (const int64_t fails_at : {1, 2, 3, 4, 11}) {
    Fake().fails_at = fails_at;
    Fake().multiplications = 0;
    codes_.clear();
    const auto got = LoadWithDevice(tiny_);
    ExpectSameAnswers(*got, *want, 50);
    EXPECT_EQ(Fake().multiplications, fails_at);
    EXPECT_EQ(codes_, std::vector<std::string>{"cudaErrorLaunchFailure"});
  }
}

// More rows than the staging buffers hold go in parts; a part that fails is not added twice.
TEST_F(Int8DeviceTest, PartsOfAProduct) {
  const int64_t n = 4096, k = 40, m = 70;
  ASSERT_EQ(kFakeStagingWords / n, 64);  // rows that fit
  std::vector<float> w(n * k), x(m * k), scale(n);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 251) - 125;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 241) - 120;
  std::vector<int32_t> row_sum(n);
  AlignedBuffer<int8_t> packed(kernels::PackedInt8Bytes(n, k));
  ASSERT_TRUE(
      Ok(kernels::PackInt8Rows(w.data(), 0, n, n, k, packed.data(), scale.data(), row_sum.data())));
  const kernels::Int8Matrix matrix{n, k, packed.data(), scale.data(), row_sum.data()};
  const kernels::LinearInput input{.x = x.data(), .m = m, .stride = k};
  const kernels::ExecutionContext execution{.num_threads = 2};
  std::vector<float> want(m * n, 1.0f);
  ASSERT_TRUE(Ok(kernels::Int8Linear(input, matrix, want.data(), n, true, execution)));
  for (const int64_t fails_at : {0, 1, 2}) {
    Fake().fails_at = fails_at;
    Fake().multiplications = 0;
    const auto device = Open();
    ASSERT_TRUE(device.ok()) << device.status();
    const auto on_device = (*device)->Upload(matrix);
    ASSERT_TRUE(on_device.ok()) << on_device.status();
    std::vector<float> got(m * n, 1.0f);
    ASSERT_TRUE(on_device->Multiply(input, matrix, got.data(), n, true, execution).ok());
    EXPECT_EQ(Difference(got, want), "") << fails_at;
    EXPECT_EQ(Fake().multiplications, fails_at == 1 ? 1 : 2);
  }
}

// Threads that share a device wait for each other; none sees another's rows.
TEST_F(Int8DeviceTest, ThreadsShareADevice) {
  const auto want = Load(tiny_, nullptr);
  const auto device = Open();
  ASSERT_TRUE(device.ok()) << device.status();
  const auto one = Load(tiny_, *device), two = Load(tiny_, *device);
  std::vector<std::thread> threads;
  for (const auto& model : {one, two, one}) {
    threads.emplace_back([&, model] { ExpectSameAnswers(*model, *want, 50); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Int8DeviceTest, OpeningFailsWithAReason) {
  Fake().version = kernels::kInt8PluginVersion + 1;
  auto device = Open();
  EXPECT_EQ(device.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("version"));

  SetUp();
  Fake().present = false;
  device = Open();
  EXPECT_EQ(device.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("cudaErrorNoDevice"));

  device = Int8Device::Open("liblectern_no_such.so", nullptr);
  EXPECT_EQ(device.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("liblectern_no_such.so"));
}

TEST_F(Int8DeviceTest, AModelThatDoesNotFitIsNotLoaded) {
  Fake().full = true;
  for (const std::string& path : {tiny_, t5_, bert_}) {
    const auto device = Open();
    ASSERT_TRUE(device.ok()) << device.status();
    const auto model = LoadModel({.name = "tiny", .path = path, .device = *device});
    EXPECT_EQ(model.status().code(), absl::StatusCode::kResourceExhausted) << model.status();
    EXPECT_THAT(std::string(model.status().message()), HasSubstr("--device"));
  }
}

TEST_F(Int8DeviceTest, OtherNumericsAreRefused) {
  const auto device = Open();
  ASSERT_TRUE(device.ok()) << device.status();
  const std::string blocks = FixtureDir() / "llama_tiny" / "tied.Q8_0.gguf";
  for (const Numerics numerics : {Numerics::kF32, Numerics::kBlocks}) {
    const auto model =
        LoadModel({.name = "tiny", .path = blocks, .numerics = numerics, .device = *device});
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << model.status();
    EXPECT_THAT(std::string(model.status().message()), HasSubstr("device"));
  }
  const auto model = LoadModel({.name = "tiny", .path = blocks, .device = *device});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().numerics, "int8-rotated");
}

}  // namespace
}  // namespace lectern::test
