// An engine with the fake model, and sinks that record their events.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error_details.h"
#include "base/mutex.h"
#include "base/utf8.h"
#include "server/engine/engine.h"
#include "server/metrics/server_metrics.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_model.h"
#include "tests/testing/own_copy.h"

namespace lectern {

inline std::string ReasonOf(const absl::Status& status) { return GetErrorDetails(status).reason; }

// Returns the value of a series in the output of ServerMetrics::Render().
inline double MetricIn(const std::string& rendered, const std::string& series) {
  const size_t at = ("\n" + rendered).find("\n" + series + " ");
  EXPECT_NE(at, std::string::npos) << series;
  return at == std::string::npos ? 0 : std::stod(rendered.substr(at + series.size() + 1));
}

class TestAskSink : public AskSink {
 public:
  void OnQueued(uint32_t position, std::optional<absl::Duration>) override {
    MutexLock lock(&mutex_);
    queued.push_back(position);
  }
  void OnProgress(AskStage stage, uint64_t done, uint64_t total) override {
    MutexLock lock(&mutex_);
    EXPECT_LE(done, total);
    stages.push_back(stage);
    totals[stage] = total;
  }
  void OnText(std::string_view text, uint32_t tokens) override {
    MutexLock lock(&mutex_);
    deltas.emplace_back(text);
    text_tokens += tokens;
  }
  void OnAnswer(const Answer& given) override { End(given, absl::OkStatus()); }
  void OnError(const absl::Status& given) override { End({}, given); }

  // Waits for the end.
  absl::Status Status() {
    MutexLock lock(&mutex_);
    mutex_.Await([this] { return ended_; });
    return OwnCopy(status_);
  }
  const Answer& TheAnswer() {
    EXPECT_TRUE(Status().ok()) << Status();
    return answer_;
  }
  bool ended() {
    MutexLock lock(&mutex_);
    return ended_;
  }

  std::vector<uint32_t> queued;  // these: read after the end
  std::vector<AskStage> stages;
  std::map<AskStage, uint64_t> totals;  // of each stage's progress
  std::vector<std::string> deltas;
  uint64_t text_tokens = 0;

 private:
  void End(const Answer& answer, const absl::Status& status) {
    MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "a sink hears of the end once";
    answer_ = answer;
    status_ = OwnCopy(status);
    ended_ = true;
  }

  Mutex mutex_;
  bool ended_ = false;
  Answer answer_;
  absl::Status status_;
};

class TestUploadSink : public UploadSink {
 public:
  void OnProgress(UploadStage stage, uint64_t done, uint64_t total) override {
    MutexLock lock(&mutex_);
    stages.push_back(stage);
  }
  void OnDocument(const DocumentInfo& given) override { End(given, absl::OkStatus()); }
  void OnError(const absl::Status& given) override { End({}, given); }

  absl::Status Status() {
    MutexLock lock(&mutex_);
    mutex_.Await([this] { return ended_; });
    return OwnCopy(status_);
  }
  const DocumentInfo& Document() {
    EXPECT_TRUE(Status().ok()) << Status();
    return document_;
  }
  bool ended() {
    MutexLock lock(&mutex_);
    return ended_;
  }

  std::vector<UploadStage> stages;  // read after the end

 private:
  void End(const DocumentInfo& document, const absl::Status& status) {
    MutexLock lock(&mutex_);
    EXPECT_FALSE(ended_) << "a sink hears of the end once";
    document_ = document;
    status_ = OwnCopy(status);
    ended_ = true;
  }

  Mutex mutex_;
  bool ended_ = false;
  DocumentInfo document_;
  absl::Status status_;
};

class EngineTest : public testing::Test {
 protected:
  struct Running {
    std::shared_ptr<Job> job;
    std::shared_ptr<TestAskSink> sink;
  };
  struct Arriving {
    std::shared_ptr<Job> job;
    std::shared_ptr<TestUploadSink> sink;
  };

  void Start() {
    model_ = std::make_shared<FakeModel>(model_options_);
    engine_ = Engine::Create(options_, {model_}, &clock_, &metrics_);
  }
  void TearDown() override {
    if (engine_ == nullptr) return;
    model_->gate().Open();
    model_->tokenizer().gate().Open();
    engine_->Stop();
  }

  Arriving StartUpload(const std::string& text, const UploadOptions& options = {}) {
    auto upload = engine_->StartUpload(options);
    EXPECT_TRUE(upload.ok()) << upload.status();
    EXPECT_TRUE((*upload)->Append(text).ok());
    Arriving arriving{.sink = std::make_shared<TestUploadSink>()};
    auto job = (*upload)->Finish(arriving.sink);
    EXPECT_TRUE(job.ok()) << job.status();
    arriving.job = *job;
    return arriving;
  }
  DocumentInfo Upload(const std::string& text, const UploadOptions& options = {}) {
    return StartUpload(text, options).sink->Document();
  }
  Running StartAsk(const AskOptions& options) {
    Running running{.sink = std::make_shared<TestAskSink>()};
    auto job = engine_->Ask(options, running.sink);
    EXPECT_TRUE(job.ok()) << job.status();
    if (job.ok()) running.job = *job;
    return running;
  }
  Answer Ask(const AskOptions& options) { return StartAsk(options).sink->TheAnswer(); }
  absl::Status AskRefused(const AskOptions& options) {
    auto sink = std::make_shared<TestAskSink>();
    const absl::Status status = engine_->Ask(options, sink).status();
    EXPECT_FALSE(status.ok());
    EXPECT_TRUE(sink->queued.empty()) << "a refused question's sink is not called";
    EXPECT_FALSE(sink->ended());
    return status;
  }

  // Waits until no job runs and returns the bytes in use.
  uint64_t IdleBytes() {
    EXPECT_TRUE(engine_->WaitUntilIdle(absl::InfiniteFuture()));
    return engine_->status().kv_bytes_used;
  }
  double Metric(const std::string& series) { return MetricIn(metrics_.Render(), series); }

  FakeModelOptions model_options_;
  EngineOptions options_{.kv_bytes = 1 << 20, .prefill_slice_tokens = 32};
  FakeClock clock_;
  ServerMetrics metrics_{{"fake"}};
  std::shared_ptr<FakeModel> model_;
  std::unique_ptr<Engine> engine_;
};

inline std::string Text(int sentences) {
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    text += "Valve " + std::to_string(i) + " was opened by hand. ";
  }
  return text;
}

}  // namespace lectern
