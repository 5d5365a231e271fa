// --device=cuda: a server without the library or without a GPU says so and ends; one with a library
// that computes as the GPU would (tests/testing/fake_int8_device.h) answers as one without, also
// when that fails.
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/e2e/security_fixture.h"

namespace lectern::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class DeviceE2eTest : public SecurityE2eTest {
 protected:
  static std::string Environment(const char* name) { return std::getenv(name); }

  // Uses the program in a separate folder, where the library is `library` or absent.
  void UseLibrary(const fs::path& library) {
    const fs::path bin = Path("bin"), program = fs::path(bin_) / "lectern-server";
    fs::create_directories(bin);
    fs::copy_file(program, bin / "lectern-server");
    if (!library.empty()) fs::copy_file(library, bin / "liblectern_cuda.so");
    setenv("LECTERN_BIN_DIR", bin.c_str(), 1);
  }
  void TearDown() override {
    setenv("LECTERN_BIN_DIR", bin_.c_str(), 1);
    unsetenv("LECTERN_FAKE_DEVICE_FAILS_AT");
  }

  std::string FailsToStart(int exit_code) const {
    test::ServerProcess server({"--device=cuda"}, TinyModelPath());
    EXPECT_EQ(server.WaitForExit(60), exit_code) << server.Log();
    return server.Log();
  }

  std::string Answer(const std::vector<std::string>& flags) {
    Serve(flags);
    grpc::ClientContext context;
    v1::AskRequest request;
    for (int i = 0; i < 40; ++i) request.mutable_inline_text()->append("The valve is shut. ");
    request.set_question("Which valve is shut?");
    request.set_max_new_tokens(12);
    const auto stub = Plain();
    const auto stream = stub->Ask(&context, request);
    std::string answer;
    for (v1::AskResponse response; stream->Read(&response);) {
      if (response.has_answer()) answer = response.answer().text();
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer;
  }

  const std::string bin_ = Environment("LECTERN_BIN_DIR");
  // Next to this test's folder of programs, where the tests' libraries are.
  const fs::path fake_ = fs::path(bin_) / "../tests/liblectern_fake_cuda.so";
  const std::string failures_ = "lectern_cuda_errors_total{code=\"cudaErrorLaunchFailure\"}";
};

TEST_F(DeviceE2eTest, WithoutTheLibrary) {
  UseLibrary("");
  const std::string log = FailsToStart(1);
  EXPECT_THAT(log, HasSubstr("--device=cuda: needs liblectern_cuda.so"));
}

TEST_F(DeviceE2eTest, WithoutAGpu) {
  const fs::path library = fs::path(bin_) / "liblectern_cuda.so";
  LECTERN_REQUIRE_FILE(fs::exists(library), library.string());
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has a GPU";
  UseLibrary(library);
  EXPECT_THAT(FailsToStart(1), HasSubstr("--device=cuda: no device: cudaError"));
}

TEST_F(DeviceE2eTest, AnswersAreTheSameWithADeviceAndAfterItsFailure) {
  const std::string want = Answer({"--numerics=int8"});
  EXPECT_FALSE(want.empty());
  UseLibrary(fake_);
  EXPECT_EQ(Answer({"--device=cuda"}), want);
  EXPECT_THAT(server_->Log(), HasSubstr("device opened"));
  EXPECT_EQ(Metric(failures_), 0);
  setenv("LECTERN_FAKE_DEVICE_FAILS_AT", "20", 1);
  EXPECT_EQ(Answer({"--device=cuda"}), want);
  EXPECT_EQ(Metric(failures_), 1);
  EXPECT_THAT(server_->Log(), HasSubstr("falling back to the CPU"));
}

}  // namespace
}  // namespace lectern::e2e
