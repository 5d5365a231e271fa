// Tests of jobs that do not end well: cancelled, too late, refused, evicted, drained. After each,
// all pages are back.

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "tests/server/engine/engine_fixture.h"

namespace lectern {
namespace {

// The stage in which a question is held while it is cancelled or its deadline passes.
enum class Hold { kQueue, kTokenizing, kPrefillDocument, kPrefillQuestion, kDecode };

class EngineEndTest : public EngineTest, public testing::WithParamInterface<Hold> {
 protected:
  // A question that is held where the parameter says. Another one runs before it for kQueue.
  Running HeldQuestion(absl::Time deadline) {
    AskOptions options{.document_id = id_, .question = "Which one?", .deadline = deadline};
    if (GetParam() == Hold::kTokenizing || GetParam() == Hold::kPrefillDocument) {
      options.document_id = "";
      options.inline_text = Text(6);
    }
    Gate& gate = GetParam() == Hold::kTokenizing ? model_->tokenizer().gate() : model_->gate();
    gate.Close();
    if (GetParam() == Hold::kQueue) {
      before_ = StartAsk({.document_id = id_, .question = "First?"});
      gate.WaitForVisitor();
    }
    Running running = StartAsk(options);
    gate.WaitForVisitor();
    if (GetParam() == Hold::kPrefillDocument) gate.LetOnePass();
    if (GetParam() == Hold::kDecode) {
      for (int step = 0; step < 3; ++step) gate.LetOnePass();
    }
    return running;
  }
  void Release() {
    model_->gate().Open();
    model_->tokenizer().gate().Open();
  }

  std::string id_;
  Running before_;
};

TEST_P(EngineEndTest, CancelFreesEverything) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  id_ = document.id;
  const Running running = HeldQuestion(absl::InfiniteFuture());
  const int64_t computed = model_->tokens_computed();
  running.job->Cancel();
  running.job->Cancel();
  Release();
  EXPECT_TRUE(absl::IsCancelled(running.sink->Status())) << running.sink->Status();
  if (before_.sink != nullptr) {
    EXPECT_EQ(before_.sink->TheAnswer().text, FakeModel::DefaultAnswer(Text(5), "First?"));
  } else {
    // The step that was held ends, and no other begins.
    EXPECT_LE(model_->tokens_computed() - computed, options_.prefill_slice_tokens);
  }
  EXPECT_EQ(IdleBytes(), document.device_bytes);
  running.job->Cancel();
}

TEST_P(EngineEndTest, DeadlineFreesEverything) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  id_ = document.id;
  const Running running = HeldQuestion(clock_.Now() + absl::Seconds(5));
  clock_.Advance(absl::Seconds(6));
  Release();
  EXPECT_TRUE(absl::IsDeadlineExceeded(running.sink->Status())) << running.sink->Status();
  EXPECT_EQ(ReasonOf(running.sink->Status()), "DEADLINE");
  EXPECT_EQ(IdleBytes(), document.device_bytes);
}

INSTANTIATE_TEST_SUITE_P(Everywhere, EngineEndTest,
                         testing::Values(Hold::kQueue, Hold::kTokenizing, Hold::kPrefillDocument,
                                         Hold::kPrefillQuestion, Hold::kDecode));

// A waiting question ends at once, not when its turn comes.
TEST_F(EngineTest, AWaitingQuestionEndsWhileAnotherRuns) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  model_->gate().Close();
  const Running runs = StartAsk({.document_id = document.id, .question = "First?"});
  const Running waits = StartAsk({.document_id = document.id, .question = "Second?"});
  model_->gate().WaitForVisitor();
  waits.job->Cancel();
  model_->gate().LetOnePass();
  EXPECT_TRUE(absl::IsCancelled(waits.sink->Status()));
  EXPECT_FALSE(runs.sink->ended());
}

TEST_F(EngineTest, CancelledUploadLeavesNothing) {
  Start();
  model_->gate().Close();
  const Arriving upload = StartUpload(Text(6));
  model_->gate().WaitForVisitor();
  upload.job->Cancel();
  model_->gate().Open();
  EXPECT_TRUE(absl::IsCancelled(upload.sink->Status()));
  EXPECT_EQ(IdleBytes(), 0u);
  EXPECT_EQ(engine_->status().documents, 0u);
  EXPECT_EQ(Upload(Text(6)).tokens, Text(6).size());
}

TEST_F(EngineTest, DeletedWhileAnswering) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  model_->gate().Close();
  const Running running = StartAsk({.document_id = document.id, .question = "Q?"});
  model_->gate().WaitForVisitor();
  EXPECT_EQ(*engine_->DeleteDocument(document.id, ""), 0u) << "in use: nothing is free yet";
  EXPECT_EQ(ReasonOf(engine_->GetDocument(document.id, "").status()), "DOCUMENT_NOT_FOUND");
  model_->gate().Open();
  EXPECT_EQ(running.sink->TheAnswer().text, FakeModel::DefaultAnswer(Text(5), "Q?"));
  EXPECT_EQ(IdleBytes(), 0u);
}

TEST_F(EngineTest, DeleteReturnsTheBytesFreed) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  IdleBytes();
  EXPECT_EQ(*engine_->DeleteDocument(document.id, ""), document.device_bytes);
  EXPECT_EQ(engine_->status().kv_bytes_used, 0u);
  EXPECT_EQ(ReasonOf(engine_->DeleteDocument(document.id, "").status()), "DOCUMENT_NOT_FOUND");
}

TEST_F(EngineTest, TheLeastRecentlyUsedIsEvictedAndPinnedStay) {
  options_.kv_bytes = 20 * 4096;  // pages of 16 tokens take one page of the system each
  Start();
  const std::string a(90, 'a'), b(91, 'b'), c(92, 'c'), d(93, 'd');  // 6 pages each
  const std::string pinned = Upload(a, {.pinned = true}).id;
  clock_.Advance(absl::Seconds(1));
  const std::string old = Upload(b).id;
  clock_.Advance(absl::Seconds(1));
  const std::string used = Upload(c).id;
  clock_.Advance(absl::Seconds(1));
  Ask({.document_id = used, .question = "Q?", .max_new_tokens = 4});
  Upload(d);
  EXPECT_EQ(Metric("lectern_kv_cache_evictions_total{model=\"fake\"}"), 1);
  EXPECT_EQ(ReasonOf(engine_->GetDocument(old, "").status()), "DOCUMENT_EVICTED");
  EXPECT_EQ(ReasonOf(AskRefused({.document_id = old, .question = "Q?"})), "DOCUMENT_EVICTED");
  EXPECT_TRUE(engine_->GetDocument(pinned, "").ok());
  EXPECT_TRUE(engine_->GetDocument(used, "").ok());
  EXPECT_EQ(Upload(b).id, old) << "uploaded again, it is here again";
}

TEST_F(EngineTest, ADocumentThatCanNeverFitIsRefusedWithoutRetry) {
  options_.kv_bytes = 4 * 4096;
  Start();
  const absl::Status status = StartUpload(std::string(200, 'x')).sink->Status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(ReasonOf(status), "CACHE_FULL");
  EXPECT_FALSE(GetErrorDetails(status).retry_after.has_value());
  EXPECT_EQ(IdleBytes(), 0u);
}

TEST_F(EngineTest, ADeclaredSizeThatCanNeverFitIsRefusedBeforeTheBytesArrive) {
  options_.kv_bytes = 4 * 4096;  // 64 tokens of one byte each; the prefix takes 3
  options_.tenant_limits.bytes = 3 * 4096;
  Start();
  const absl::Status never = engine_->StartUpload({.expected_bytes = 62}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(never)) << never;
  EXPECT_EQ(ReasonOf(never), "CACHE_FULL");
  EXPECT_EQ(GetErrorDetails(never).metadata["bytes"], std::to_string(5 * 4096));
  EXPECT_EQ(GetErrorDetails(never).metadata["limit"], std::to_string(4 * 4096));
  EXPECT_EQ(GetErrorDetails(never).metadata["used"], "0");
  EXPECT_FALSE(GetErrorDetails(never).retry_after.has_value());
  EXPECT_EQ(Metric("lectern_admission_total{decision=\"rejected\",reason=\"kv_exhausted\"}"), 1);

  const absl::Status quota = engine_->StartUpload({.expected_bytes = 61}).status();
  EXPECT_EQ(ReasonOf(quota), "CLIENT_QUOTA");
  EXPECT_EQ(GetErrorDetails(quota).metadata["bytes_limit"], std::to_string(3 * 4096));
  // A document that may fit is accepted, and fits.
  EXPECT_EQ(Upload(std::string(45, 'x'), {.expected_bytes = 45}).device_bytes, 3 * 4096u);
}

TEST_F(EngineTest, DocumentsExpire) {
  Start();
  const std::string id = Upload(Text(3), {.ttl = absl::Seconds(60)}).id;
  const std::string stays = Upload(Text(4)).id;
  clock_.Advance(absl::Seconds(59));
  EXPECT_TRUE(engine_->GetDocument(id, "").ok());
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(ReasonOf(engine_->GetDocument(id, "").status()), "DOCUMENT_EVICTED");
  EXPECT_TRUE(engine_->GetDocument(stays, "").ok());
}

TEST_F(EngineTest, AFullQueueRefuses) {
  options_.limits.queue.waiting = 2;
  Start();
  const std::string id = Upload(Text(3)).id;
  model_->gate().Close();
  const Running runs = StartAsk({.document_id = id, .question = "Q?"});
  model_->gate().WaitForVisitor();
  const Running first = StartAsk({.document_id = id, .question = "Q?"});
  const Running second = StartAsk({.document_id = id, .question = "Q?"});
  const absl::Status status = AskRefused({.document_id = id, .question = "Q?"});
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(ReasonOf(status), "QUEUE_REQUESTS");
  EXPECT_TRUE(GetErrorDetails(status).retry_after.has_value());
  model_->gate().Open();
  EXPECT_FALSE(second.sink->TheAnswer().text.empty());
  EXPECT_LE(second.sink->queued.at(0), 2u);
}

TEST_F(EngineTest, DrainAnswersWhatRunsAndRefusesTheRest) {
  Start();
  const std::string id = Upload(Text(3)).id;
  model_->gate().Close();
  const Running runs = StartAsk({.document_id = id, .question = "Q?"});
  const Running waits = StartAsk({.document_id = id, .question = "Q?"});
  engine_->StopAccepting();
  EXPECT_EQ(ReasonOf(AskRefused({.document_id = id, .question = "Q?"})), "DRAINING");
  EXPECT_EQ(ReasonOf(engine_->StartUpload({}).status()), "DRAINING");
  EXPECT_FALSE(engine_->WaitUntilIdle(absl::Now()));
  model_->gate().Open();
  EXPECT_TRUE(engine_->WaitUntilIdle(absl::InfiniteFuture()));
  EXPECT_TRUE(runs.sink->Status().ok());
  EXPECT_TRUE(waits.sink->Status().ok());
}

TEST_F(EngineTest, StopEndsEverythingAsDraining) {
  model_options_.answer = [](auto&, auto&) { return std::string(3000, 'a'); };
  options_.limits.max_new_tokens = 3000;
  Start();
  const std::string id = Upload(Text(3)).id;
  model_->gate().Close();
  const Running runs = StartAsk({.document_id = id, .question = "Q?", .max_new_tokens = 3000});
  const Running waits = StartAsk({.document_id = id, .question = "Q?", .max_new_tokens = 3000});
  model_->gate().WaitForVisitor();
  // A step a millisecond: the answers take seconds, so that Stop() reaches them before they end.
  std::atomic<bool> stopped = false;
  std::thread steps([&] {
    while (!stopped) {
      absl::SleepFor(absl::Milliseconds(1));
      model_->gate().AllowOne();
    }
  });
  engine_->Stop();
  stopped = true;
  steps.join();
  EXPECT_EQ(ReasonOf(waits.sink->Status()), "DRAINING");
  EXPECT_TRUE(absl::IsUnavailable(runs.sink->Status())) << runs.sink->Status();
}

TEST_F(EngineTest, TheWindowIsACountedLimit) {
  model_options_.context_length = 300;
  Start();
  const absl::Status upload =
      StartUpload(std::string(280, 'x'), {.reading = ReadingMode::kWhole}).sink->Status();
  EXPECT_EQ(ReasonOf(upload), "DOCUMENT_TOO_LONG");
  EXPECT_EQ(GetErrorDetails(upload).metadata["limit"], "300");
  EXPECT_EQ(GetErrorDetails(upload).metadata["document_tokens"], "283");

  const std::string id = Upload(std::string(97, 'x')).id;  // 100 with the prefix
  AskOptions options{.document_id = id, .question = std::string(98, 'q'), .max_new_tokens = 100};
  EXPECT_FALSE(Ask(options).text.empty());  // 100 + 100 + 100
  options.question += "q";
  const absl::Status ask = AskRefused(options);
  EXPECT_EQ(ReasonOf(ask), "DOCUMENT_TOO_LONG");
  EXPECT_EQ(GetErrorDetails(ask).metadata["tokens"], "301");
}

TEST_F(EngineTest, ListsByIdInPages) {
  Start();
  std::vector<std::string> ids;
  for (int i = 1; i <= 5; ++i) ids.push_back(Upload(Text(i)).id);
  std::sort(ids.begin(), ids.end());
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = engine_->ListDocuments(2, token, "", "");
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->total, 5u);
    for (const DocumentInfo& document : page->documents) listed.push_back(document.id);
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(listed, ids);
  for (const char* bad : {"nonsense", "doc-", "doc-ABCDEFABCDEFABCDEFABCDEFABCDEFAB"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(engine_->ListDocuments(2, bad, "", "").status())) << bad;
  }
  EXPECT_EQ(ReasonOf(engine_->ListDocuments(2, "", "other", "").status()), "MODEL_NOT_FOUND");
}

TEST_F(EngineTest, ManyAtOnce) {
  Start();
  const std::string id = Upload(Text(5)).id;
  const uint64_t held = IdleBytes();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const Running running = StartAsk({.document_id = id, .question = "Q?"});
        if ((i + t) % 3 == 0) running.job->Cancel();
        const absl::Status& status = running.sink->Status();
        EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
        engine_->status();
        metrics_.Render();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(IdleBytes(), held);
}

}  // namespace
}  // namespace lectern
