// Two replicas are restarted in turn while questions are asked through the client library: no
// question fails, and every answer is the whole answer, once.
//
// LECTERN_ROLLING_RESTARTS: how many restarts (3; the bar is 20), and a third as many kills.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lectern/client.h"
#include "tests/testing/golden.h"
#include "tests/testing/server_process.h"

namespace lectern::e2e {
namespace {

constexpr int kAskers = 4;
constexpr int kExitSeconds = 60;

int Restarts() {
  const char* value = std::getenv("LECTERN_ROLLING_RESTARTS");
  return value == nullptr ? 3 : std::atoi(value);
}

std::string Report() {
  std::string text = "The night operator on duty that week was called Clara Jensen. ";
  for (int i = 0; i < 12; ++i) {
    text += "Entry " + std::to_string(i) + " of the log says that the water level was normal. ";
  }
  return text;
}

class RollingRestartTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string model = test::DefaultModelPath();
    LECTERN_REQUIRE_FILE(std::filesystem::exists(model), model);
    for (auto& replica : replicas_) {
      if (replica == nullptr) replica = std::make_unique<test::ServerProcess>(Flags());
    }
    for (auto& replica : replicas_) ASSERT_TRUE(replica->WaitUntilReady()) << replica->Log();
    client_ =
        std::make_unique<Client>(replicas_[0]->grpc_address() + "," + replicas_[1]->grpc_address());
    source_ = TextSource(Report());
    request_.set_question("What was the night operator called? Tell what the log says, too.");
    request_.set_max_new_tokens(32);
  }

  static void TearDownTestSuite() {
    for (auto& replica : replicas_) replica.reset();
  }

  void TearDown() override {
    stop_ = true;
    for (std::thread& asker : askers_) asker.join();
  }

  // Asks until TearDown(), each time for the whole of the text.
  void StartAsking() {
    for (int i = 0; i < kAskers; ++i) {
      askers_.emplace_back([this] {
        while (!stop_) AskOnce();
      });
    }
  }

  void AskOnce() {
    std::string streamed;
    CallOptions options;
    options.timeout = absl::Minutes(2);
    options.document = &source_;
    options.on_retry = [this](const RetryNotice&) { ++retries_; };
    const auto answer = client_->Ask(request_, options,
                                     [&](const auto& event) { streamed += event.delta().text(); });
    ++asked_;
    const std::lock_guard lock(mutex_);
    if (!answer.ok()) {
      failures_.push_back(answer.status().ToString());
      return;
    }
    if (expected_.empty()) expected_ = answer->text();
    if (answer->text() != expected_ || streamed != expected_) failures_.push_back(streamed);
  }

  // Ends one replica by `signal` and starts it again on its port.
  void Restart(int index, int signal, int expected_exit) {
    std::unique_ptr<test::ServerProcess>& replica = replicas_[index];
    const std::string address = replica->grpc_address();
    replica->Signal(signal);
    ASSERT_EQ(replica->WaitForExit(kExitSeconds), expected_exit) << replica->Log();
    std::vector<std::string> flags = Flags();
    flags.push_back("--listen=" + address);
    replica = std::make_unique<test::ServerProcess>(flags);
    ASSERT_TRUE(replica->WaitUntilReady()) << replica->Log();
    ASSERT_EQ(replica->grpc_address(), address);
  }

  // Waits until further questions have been answered.
  void WaitForAnswers(int count) {
    const int before = asked_;
    while (asked_ < before + count) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  void ExpectNoneFailed() {
    const std::lock_guard lock(mutex_);
    EXPECT_THAT(failures_, testing::IsEmpty());
    RecordProperty("asked", asked_);
    RecordProperty("retries", retries_);
    std::printf("%d asked, %zu failed, %d retries\n", asked_.load(), failures_.size(),
                retries_.load());
  }

  static std::vector<std::string> Flags() { return {"--threads=1", "--kv_bytes=128MiB"}; }

  static inline std::unique_ptr<test::ServerProcess> replicas_[2];
  std::unique_ptr<Client> client_;
  DocumentSource source_;
  lectern::v1::AskRequest request_;
  std::vector<std::thread> askers_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> asked_ = 0;
  std::atomic<int> retries_ = 0;
  std::mutex mutex_;
  std::string expected_;
  std::vector<std::string> failures_;
};

TEST_F(RollingRestartTest, NoQuestionFailsWhileReplicasAreReplaced) {
  AskOnce();
  StartAsking();
  for (int i = 0; i < Restarts(); ++i) {
    ASSERT_NO_FATAL_FAILURE(Restart(i % 2, SIGTERM, 0));
    WaitForAnswers(1);
  }
  ExpectNoneFailed();
}

TEST_F(RollingRestartTest, AnswersOfAReplicaThatIsKilledGoOnElsewhere) {
  AskOnce();
  StartAsking();
  for (int i = 0; i < (Restarts() + 1) / 3; ++i) {
    WaitForAnswers(kAskers);
    ASSERT_NO_FATAL_FAILURE(Restart(i % 2, SIGKILL, 128 + SIGKILL));
  }
  ExpectNoneFailed();
  EXPECT_GT(retries_, 0);
}

}  // namespace
}  // namespace lectern::e2e
