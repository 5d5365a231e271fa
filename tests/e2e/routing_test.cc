// Two replicas behind HAProxy as deploy/routing configures it: calls about a document reach the
// replica that holds it, and a replica that dies or drains costs no question.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <lectern/v1/document_qa.grpc.pb.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lectern/client.h"
#include "tests/testing/golden.h"
#include "tests/testing/proxy_process.h"
#include "tests/testing/server_process.h"

namespace lectern::e2e {
namespace {

constexpr int kDocuments = 6;
constexpr int kAskers = 3;
constexpr int kExitSeconds = 60;

std::string TextOf(int number) {
  return "The night operator of pumping station number " + std::to_string(number) +
         " was called Clara Jensen. Entry 1 of the log says that no alarm was raised.";
}

class RoutingTest : public testing::Test {
 protected:
  void SetUp() override {
    LECTERN_REQUIRE_FILE(!test::ProxyProcess::Program().empty(), "haproxy");
    for (int index : {0, 1}) {
      auto& replica = replicas_[index];
      if (replica == nullptr) replica = StartReplica(Flags(index));
    }
    for (auto& replica : replicas_) ASSERT_TRUE(replica->WaitUntilReady()) << replica->Log();
    if (proxy_ == nullptr) {
      proxy_ = std::make_unique<test::ProxyProcess>(
          std::string(std::getenv("LECTERN_SOURCE_DIR")) + "/deploy/routing/haproxy.cfg",
          std::vector<const test::ServerProcess*>{replicas_[0].get(), replicas_[1].get()});
    }
    WaitForBoth();
  }

  static void TearDownTestSuite() {
    proxy_.reset();
    for (auto& replica : replicas_) replica.reset();
  }

  void TearDown() override {
    stop_ = true;
    for (std::thread& asker : askers_) asker.join();
    if (HasFailure() && proxy_ != nullptr) std::printf("%s\n", proxy_->Log().c_str());
  }

  // A small model: the test is about where questions go, not about their answers.
  static std::unique_ptr<test::ServerProcess> StartReplica(const std::vector<std::string>& flags) {
    return std::make_unique<test::ServerProcess>(flags,
                                                 test::FixtureDir() / "llama_tiny/tied.Q8_0.gguf");
  }

  // The capacity identifies the replica that has answered.
  static std::vector<std::string> Flags(int index) {
    return {"--threads=1", "--kv_bytes=128MiB", "--lame_duck=2s",
            "--queue_capacity=" + std::to_string(64 + index)};
  }

  // Until the proxy sends calls that name no document to each of the two in turn.
  void WaitForBoth() {
    const auto stub = Stub();
    std::set<uint64_t> seen;
    for (int i = 0; i < 600 && seen.size() < 2; ++i) {
      grpc::ClientContext context;
      v1::ServerStatus status;
      if (stub->GetServerStatus(&context, {}, &status).ok()) {
        seen.insert(status.queue_capacity());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ASSERT_EQ(seen.size(), 2u) << proxy_->Log();
  }

  std::unique_ptr<v1::DocumentQA::Stub> Stub() {
    return v1::DocumentQA::NewStub(
        grpc::CreateChannel(proxy_->address(), grpc::InsecureChannelCredentials()));
  }

  // Whether replica `index` itself says that it has the document.
  static bool Holds(int index, const std::string& id) {
    return Client(replicas_[index]->grpc_address()).GetDocument(id, {}).ok();
  }

  // Within a minute: while others are asked about, it may take some time.
  static bool WillHold(int index, const std::string& id) {
    for (int i = 0; i < 600 && !Holds(index, id); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return Holds(index, id);
  }

  static v1::AskRequest Question(const std::string& id) {
    v1::AskRequest request;
    request.set_document_id(id);
    request.set_question("What was she called?");
    request.set_max_new_tokens(200);
    return request;
  }

  std::vector<std::string> UploadAll() {
    std::vector<std::string> ids;
    for (int i = 0; i < kDocuments; ++i) {
      const auto document = Client(proxy_->address()).Upload(TextOf(i), {}, {}, nullptr);
      EXPECT_TRUE(document.ok()) << document.status();
      if (document.ok()) ids.push_back(document->id());
    }
    return ids;
  }

  // Asks about all documents in turn until TearDown(), with their texts at hand.
  void StartAsking(const std::vector<std::string>& ids) {
    client_ = std::make_unique<Client>(proxy_->address());
    for (int asker = 0; asker < kAskers; ++asker) {
      askers_.emplace_back([this, ids, asker] {
        for (int i = asker; !stop_; i = (i + 1) % kDocuments) AskOnce(ids[i], TextOf(i));
      });
    }
  }

  void AskOnce(const std::string& id, const std::string& text) {
    const DocumentSource source = TextSource(text);
    CallOptions options;
    options.timeout = absl::Minutes(2);
    options.document = &source;
    options.on_retry = [this](const RetryNotice& notice) {
      ++(notice.uploads ? uploads_ : retries_);
    };
    const auto answer = client_->Ask(Question(id), options, nullptr);
    ++asked_;
    if (answer.ok()) return;
    const std::lock_guard lock(mutex_);
    failures_.push_back(answer.status().ToString());
  }

  void WaitForAnswers(int count) {
    const int before = asked_;
    while (asked_ < before + count) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  // Starts replica `index` again on its ports.
  void StartAgain(int index) {
    std::vector<std::string> flags = Flags(index);
    flags.push_back("--listen=" + replicas_[index]->grpc_address());
    flags.push_back("--metrics_listen=" + replicas_[index]->http_address());
    replicas_[index] = StartReplica(flags);
    ASSERT_TRUE(replicas_[index]->WaitUntilReady()) << replicas_[index]->Log();
    WaitForBoth();
  }

  void ExpectNoneFailed() {
    const std::lock_guard lock(mutex_);
    EXPECT_THAT(failures_, testing::IsEmpty());
    std::printf("%d asked, %zu failed, %d retries, %d uploads again\n", asked_.load(),
                failures_.size(), retries_.load(), uploads_.load());
  }

  static inline std::unique_ptr<test::ServerProcess> replicas_[2];
  static inline std::unique_ptr<test::ProxyProcess> proxy_;
  std::unique_ptr<Client> client_;
  std::vector<std::thread> askers_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> asked_ = 0;
  std::atomic<int> retries_ = 0;
  std::atomic<int> uploads_ = 0;
  std::mutex mutex_;
  std::vector<std::string> failures_;
};

TEST_F(RoutingTest, CallsAboutADocumentReachTheReplicaThatHoldsIt) {
  const std::vector<std::string> ids = UploadAll();
  ASSERT_EQ(ids.size(), static_cast<size_t>(kDocuments));
  int held[2] = {0, 0};
  for (const std::string& id : ids) {
    EXPECT_NE(Holds(0, id), Holds(1, id)) << id;
    for (int index : {0, 1}) held[index] += Holds(index, id) ? 1 : 0;
  }
  EXPECT_GT(held[0], 0);
  EXPECT_GT(held[1], 0);
  for (const std::string& id : ids) {
    for (int i = 0; i < 2; ++i) {
      Client client(proxy_->address());  // a separate connection
      EXPECT_TRUE(client.GetDocument(id, {}).ok()) << id;
      const auto answer = client.Ask(Question(id), {}, nullptr);  // it has no text to send again
      EXPECT_TRUE(answer.ok()) << answer.status();
      const auto answers = client.AskMany({Question(id)}, {}, nullptr);
      EXPECT_TRUE(answers[0].ok()) << answers[0].status();
    }
  }
  EXPECT_TRUE(Client(proxy_->address()).DeleteDocument(ids[0], {}).ok());
  EXPECT_FALSE(Holds(0, ids[0]) || Holds(1, ids[0]));
}

TEST_F(RoutingTest, WithoutItsNameADocumentIsFoundByChanceOnly) {
  const auto document = Client(proxy_->address()).Upload(TextOf(0), {}, {}, nullptr);
  ASSERT_TRUE(document.ok()) << document.status();
  const auto stub = Stub();
  int found = 0;
  for (int i = 0; i < 8; ++i) {
    grpc::ClientContext context;
    v1::GetDocumentRequest request;
    request.set_id(document->id());
    v1::Document got;
    found += stub->GetDocument(&context, request, &got).ok() ? 1 : 0;
  }
  EXPECT_GT(found, 0);
  EXPECT_LT(found, 8);
}

TEST_F(RoutingTest, TheCommandLineFindsItsFileAgain) {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("routing_" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/text.txt") << TextOf(100);
  const std::string command = std::string(std::getenv("LECTERN_BIN_DIR")) +
                              "/lectern --server=" + proxy_->address() + " ask --file=" + folder +
                              "/text.txt --max_new_tokens=4 'Who?' >" + folder + "/out 2>" +
                              folder + "/err";
  const auto errors = [&folder] {
    std::ifstream file(folder + "/err");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  // The proxy logs a call when it has ended, uploads therefore before the questions after them.
  const auto count = [this](const std::string& method) {
    const std::string log = proxy_->Log(), call = "/lectern.v1.DocumentQA/" + method + " ";
    int found = 0;
    for (size_t at = log.find(call); at != log.npos; at = log.find(call, at + 1)) ++found;
    return found;
  };
  const int asks_before = count("Ask"), uploads_before = count("UploadDocument");
  for (int asked = 1; asked <= 4; ++asked) {
    EXPECT_EQ(std::system(command.c_str()), 0) << errors();
    for (int i = 0; i < 100 && count("Ask") - asks_before < asked; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    ASSERT_EQ(count("Ask") - asks_before, asked);
    EXPECT_EQ(count("UploadDocument") - uploads_before, 1)
        << "the text is sent for the first question only";
  }
  std::filesystem::remove_all(folder);
}

TEST_F(RoutingTest, AKilledReplicaCostsUploadsButNoQuestion) {
  const std::vector<std::string> ids = UploadAll();
  std::string on_first;
  for (const std::string& id : ids) {
    if (Holds(0, id)) on_first = id;
  }
  ASSERT_NE(on_first, "");
  StartAsking(ids);
  WaitForAnswers(2 * kDocuments);
  replicas_[0]->Signal(SIGKILL);
  ASSERT_EQ(replicas_[0]->WaitForExit(kExitSeconds), 128 + SIGKILL);
  WaitForAnswers(2 * kDocuments);
  EXPECT_TRUE(WillHold(1, on_first));
  EXPECT_GT(uploads_, 0);
  ASSERT_NO_FATAL_FAILURE(StartAgain(0));
  WaitForAnswers(3 * kDocuments);
  EXPECT_TRUE(WillHold(0, on_first));  // and home again
  WaitForAnswers(kDocuments);
  ExpectNoneFailed();
}

TEST_F(RoutingTest, AReplicaThatDrainsCostsNoQuestion) {
  StartAsking(UploadAll());
  WaitForAnswers(kDocuments);
  replicas_[1]->Signal(SIGTERM);
  ASSERT_EQ(replicas_[1]->WaitForExit(kExitSeconds), 0) << replicas_[1]->Log();
  WaitForAnswers(kDocuments);
  ASSERT_NO_FATAL_FAILURE(StartAgain(1));
  WaitForAnswers(kDocuments);
  ExpectNoneFailed();
}

}  // namespace
}  // namespace lectern::e2e
