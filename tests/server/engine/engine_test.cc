// Tests of documents and answers: which tokens are computed, which are reused, and what it costs.

#include <atomic>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/server/engine/engine_fixture.h"

namespace lectern {
namespace {

TEST_F(EngineTest, UploadThenAsk) {
  Start();
  const std::string text = Text(5);
  const DocumentInfo document = Upload(text, {.title = "valves"});
  EXPECT_EQ(document.id.size(), 36u);
  EXPECT_EQ(document.title, "valves");
  EXPECT_EQ(document.bytes, text.size());
  EXPECT_EQ(document.tokens, text.size());  // of the text alone
  EXPECT_EQ(document.read_under.size(), 1u);
  EXPECT_EQ(document.device_bytes, IdleBytes());

  const Running running = StartAsk({.document_id = document.id, .question = "Which one?"});
  const Answer& answer = running.sink->TheAnswer();
  EXPECT_EQ(answer.text, FakeModel::DefaultAnswer(text, "Which one?"));
  EXPECT_EQ(answer.finish_reason, FinishReason::kStop);
  EXPECT_EQ(answer.document_id, document.id);
  std::string joined;
  for (const std::string& delta : running.sink->deltas) joined += delta;
  EXPECT_EQ(joined, answer.text);
  EXPECT_EQ(running.sink->text_tokens, answer.usage.generated_tokens);
  EXPECT_EQ(running.sink->queued.size(), 1u);
  EXPECT_EQ(answer.usage.document_tokens, text.size() + 3);
  EXPECT_EQ(answer.usage.question_tokens, 12u);
  EXPECT_EQ(answer.usage.tokens_reused, answer.usage.document_tokens);
  EXPECT_EQ(answer.usage.tokens_computed, answer.usage.question_tokens);
  EXPECT_EQ(answer.exactness.policy, model_->info().default_policy);
  EXPECT_DOUBLE_EQ(answer.exactness.kept_mass_min, 8.0 / 9);
  EXPECT_NEAR(answer.exactness.kept_mass_mean, 8.0 / 9, 1e-12);
  EXPECT_EQ(IdleBytes(), document.device_bytes) << "an answer's pages are free when it ends";
}

// The fake model walks every page: a question that wrote into a shared page would break the next.
TEST_F(EngineTest, EveryLengthOfTheLastPage) {
  Start();
  for (int extra = 0; extra < 2 * model_->info().page_tokens; ++extra) {
    const std::string text(20 + extra, 'a');
    const DocumentInfo document = Upload(text);
    for (const char* question : {"one?", "another, longer question?", "one?"}) {
      EXPECT_EQ(Ask({.document_id = document.id, .question = question}).text,
                FakeModel::DefaultAnswer(text, question));
    }
  }
}

TEST_F(EngineTest, TheSameContentIsReadOnce) {
  Start();
  const DocumentInfo first = Upload(Text(5));
  const int64_t computed = model_->tokens_computed();
  EXPECT_EQ(Upload(Text(5)).id, first.id);
  EXPECT_EQ(model_->tokens_computed(), computed);
  EXPECT_NE(Upload(Text(6)).id, first.id);
}

TEST_F(EngineTest, TheSameContentAtTheSameTimeIsReadOnce) {
  Start();
  model_->gate().Close();
  const Arriving one = StartUpload(Text(5));
  const Arriving two = StartUpload(Text(5));
  model_->gate().Open();
  EXPECT_EQ(one.sink->Document().id, two.sink->Document().id);
  EXPECT_EQ(model_->tokens_computed(), static_cast<int64_t>(Text(5).size()) + 3);
  EXPECT_EQ(engine_->status().documents, 1u);
}

TEST_F(EngineTest, AnotherPolicyIsReadOnceMoreAndKept) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  AskOptions options{.document_id = document.id, .question = "Q?"};
  options.attention.overrides.Set(&AttentionPolicy::top_k, 4);
  model_->gate().Close();
  const Running first = StartAsk(options);
  const Running second = StartAsk(options);  // admitted before the first has read anything
  model_->gate().Open();
  EXPECT_EQ(first.sink->TheAnswer().usage.tokens_reused, 0u);
  EXPECT_EQ(first.sink->TheAnswer().exactness.policy.top_k, 4);
  EXPECT_THAT(first.sink->stages, testing::Contains(AskStage::kPrefillDocument));
  EXPECT_EQ(second.sink->TheAnswer().usage.tokens_reused, document.tokens + 3);
  EXPECT_EQ(engine_->GetDocument(document.id, "")->read_under.size(), 2u);
  EXPECT_EQ(IdleBytes(), 2 * document.device_bytes);
}

TEST_F(EngineTest, AtMostFourPoliciesAreKept) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  for (int k = 1; k <= 6; ++k) {
    AskOptions options{.document_id = document.id, .question = "Q?"};
    options.attention.overrides.Set(&AttentionPolicy::top_k, k);
    Ask(options);
  }
  EXPECT_EQ(engine_->GetDocument(document.id, "")->read_under.size(), 4u);
  EXPECT_EQ(IdleBytes(), 4 * document.device_bytes);
}

TEST_F(EngineTest, ExactLeavesNothingOut) {
  Start();
  AskOptions options{.document_id = Upload(Text(5)).id, .question = "Q?"};
  options.attention.exact = true;
  const Answer answer = Ask(options);
  EXPECT_TRUE(answer.exactness.exact);
  EXPECT_EQ(answer.exactness.kept_mass_min, 1);
  EXPECT_EQ(answer.exactness.policy, AttentionPolicy::Exact());
}

TEST_F(EngineTest, ReuseDoesNotChangeTheAnswer) {
  Start();
  const DocumentInfo document = Upload(Text(5));
  AskOptions options{.document_id = document.id, .question = "Which VALVE 3?"};
  options.sampling = {.temperature = 1.5, .top_p = 0.9, .seed = 7};
  const Answer reused = Ask(options);
  options.disable_reuse = true;
  const Answer again = Ask(options);
  EXPECT_EQ(again.text, reused.text);
  EXPECT_EQ(again.exactness.kept_mass_mean, reused.exactness.kept_mass_mean);
  EXPECT_EQ(again.evidence_strength, reused.evidence_strength);
  EXPECT_EQ(again.usage.tokens_reused, 0u);
  EXPECT_EQ(again.usage.tokens_computed, reused.usage.tokens_computed + document.tokens + 3);
  EXPECT_EQ(IdleBytes(), document.device_bytes);
}

TEST_F(EngineTest, InlineTextIsNotKept) {
  Start();
  const Answer answer = Ask({.inline_text = Text(4), .question = "Q?"});
  EXPECT_EQ(answer.text, FakeModel::DefaultAnswer(Text(4), "Q?"));
  EXPECT_EQ(answer.document_id, "");
  EXPECT_EQ(IdleBytes(), 0u);
  EXPECT_EQ(engine_->status().documents, 0u);
}

TEST_F(EngineTest, InlineTextThatIsStoredIsReused) {
  Start();
  const DocumentInfo document = Upload(Text(4));
  const Answer answer = Ask({.inline_text = Text(4), .question = "Q?"});
  EXPECT_EQ(answer.usage.tokens_reused, document.tokens + 3);
  EXPECT_EQ(answer.document_id, "");
}

TEST_F(EngineTest, TheSameSeedGivesTheSameAnswer) {
  Start();
  AskOptions options{.document_id = Upload(Text(4)).id, .question = "Q?", .max_new_tokens = 24};
  options.sampling = {.temperature = 2, .top_p = 1, .seed = 1};
  const std::string first = Ask(options).text;
  EXPECT_EQ(Ask(options).text, first);
  options.sampling.seed = 2;
  EXPECT_NE(Ask(options).text, first);
}

TEST_F(EngineTest, StopsBeforeAStopStringAcrossDeltas) {
  model_options_.answer = [](auto&, auto&) { return "One two three four."; };
  Start();
  const Running running =
      StartAsk({.inline_text = "x", .question = "Q?", .stop = {"four", "o three"}});
  const Answer& answer = running.sink->TheAnswer();
  EXPECT_EQ(answer.text, "One tw");
  EXPECT_EQ(answer.stop_string, "o three");
  EXPECT_EQ(answer.finish_reason, FinishReason::kStopString);
  std::string joined;
  for (const std::string& delta : running.sink->deltas) joined += delta;
  EXPECT_EQ(joined, answer.text) << "nothing of a stop string is ever streamed";
}

TEST_F(EngineTest, EndsAtEachOfTheModelsEndTokens) {
  const std::vector<int32_t> ends = {FakeTokenizer::kEos, FakeTokenizer::kPrefix, 'Z'};
  for (const int32_t end : ends) {
    model_options_.end_ids = {'Z', FakeTokenizer::kEos, FakeTokenizer::kPrefix};
    model_options_.end_id = end;
    model_options_.answer = [](auto&, auto&) { return "It is."; };
    Start();
    const Answer answer = Ask({.inline_text = "x", .question = "Q?", .max_new_tokens = 20});
    EXPECT_EQ(answer.finish_reason, FinishReason::kStop) << end;
    EXPECT_EQ(answer.text, "It is.") << end;
    TearDown();
    engine_.reset();
  }
}

TEST_F(EngineTest, GoesOnAfterOtherTokens) {
  model_options_.end_ids = {FakeTokenizer::kPrefix};
  model_options_.answer = [](auto&, auto&) { return "It is."; };
  Start();  // the model writes kEos, which is not one of its end tokens
  const Answer answer = Ask({.inline_text = "x", .question = "Q?", .max_new_tokens = 20});
  EXPECT_EQ(answer.finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, EndsBeforeTheModelsEndText) {
  model_options_.answer = [](auto&, auto&) { return "It is.<|user|>And now?"; };
  model_options_.end_text = "<|user|>";
  Start();
  const Running running = StartAsk({.inline_text = "x", .question = "Q?", .stop = {"now"}});
  const Answer& answer = running.sink->TheAnswer();
  EXPECT_EQ(answer.text, "It is.");
  EXPECT_EQ(answer.finish_reason, FinishReason::kStop);
  EXPECT_EQ(answer.stop_string, "") << "no stop string of the request was found";
  std::string joined;
  for (const std::string& delta : running.sink->deltas) joined += delta;
  EXPECT_EQ(joined, answer.text);
}

TEST_F(EngineTest, StreamsWholeCharacters) {
  model_options_.answer = [](auto&, auto&) { return "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80!"; };
  Start();
  const Running running = StartAsk({.inline_text = "x", .question = "Q?"});
  EXPECT_EQ(running.sink->TheAnswer().text, "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80!");
  for (const std::string& delta : running.sink->deltas) EXPECT_TRUE(IsValidUtf8(delta)) << delta;
}

TEST_F(EngineTest, EndsAtTheLimitOfTokens) {
  Start();
  const Answer answer = Ask({.inline_text = "x", .question = "Q?", .max_new_tokens = 5});
  EXPECT_EQ(answer.finish_reason, FinishReason::kLength);
  EXPECT_EQ(answer.usage.generated_tokens, 5u);
  EXPECT_EQ(answer.text, "It is");
}

TEST_F(EngineTest, EvidenceIsTheSentenceAttendedTo) {
  Start();
  const std::string text = "Nothing here. The pump Z7 failed at noon. Nothing there either.";
  const Answer answer =
      Ask({.inline_text = text, .question = "what about Z7?", .max_evidence_spans = 2});
  ASSERT_EQ(answer.evidence.size(), 2u);
  EXPECT_EQ(answer.evidence[0].text, "The pump Z7 failed at noon.");
  EXPECT_GT(answer.evidence[0].attention, answer.evidence[1].attention);
  EXPECT_EQ(answer.evidence_strength, answer.evidence[0].attention);
  for (const EvidenceSpan& span : answer.evidence) {
    EXPECT_EQ(text.substr(span.begin_byte, span.end_byte - span.begin_byte), span.text);
  }
}

TEST_F(EngineTest, MaxErrorRefusesOrFallsBack) {
  Start();
  AskOptions options{.document_id = Upload(Text(4)).id, .question = "Q?"};
  options.attention.max_error = 0.05;  // the fake model drops 1/9
  const absl::Status refused = StartAsk(options).sink->Status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(refused), "EXACTNESS");
  const std::string checks = "lectern_exactness_checks_total{result=\"";
  EXPECT_EQ(Metric(checks + "violated\"}"), 1);
  options.attention.fall_back_to_exact = true;
  const Answer answer = Ask(options);
  EXPECT_TRUE(answer.exactness.fell_back_to_exact);
  EXPECT_TRUE(answer.exactness.exact);
  EXPECT_EQ(Metric(checks + "violated\"}"), 2);
  options.attention = {.max_error = 0.5};
  Ask(options);
  EXPECT_EQ(Metric(checks + "within_bound\"}"), 1);
  EXPECT_EQ(answer.usage.tokens_computed + answer.usage.tokens_reused,
            answer.usage.document_tokens + answer.usage.question_tokens);
}

TEST_F(EngineTest, AFailedStepFailsItsOwnQuestionOnly) {
  Start();
  const DocumentInfo document = Upload(Text(4));
  model_->FailNext(absl::InternalError("kernel"));
  EXPECT_TRUE(
      absl::IsInternal(StartAsk({.document_id = document.id, .question = "Q?"}).sink->Status()));
  EXPECT_EQ(IdleBytes(), document.device_bytes);
  EXPECT_EQ(Ask({.document_id = document.id, .question = "Q?"}).text,
            FakeModel::DefaultAnswer(Text(4), "Q?"));
}

TEST_F(EngineTest, MixedStepsCountPrefillAndDecodeTokensSeparately) {
  options_.kv_bytes = 4 << 20;
  // The question is answered for as long as the upload lasts, at most 500 tokens a second.
  absl::Notification decodes;
  std::atomic<bool> uploaded = false;
  model_options_.answer = [&](const std::string&, const std::string&) {
    if (!decodes.HasBeenNotified()) decodes.Notify();
    if (!uploaded) absl::SleepFor(absl::Milliseconds(2));
    return std::string(uploaded ? 1 : 4000, 'x');
  };
  Start();
  const Running asked =
      StartAsk({.inline_text = "A document.", .question = "Q?", .max_new_tokens = 1000});
  decodes.WaitForNotification();
  const Arriving upload = StartUpload(Text(60));
  upload.sink->Document();
  uploaded = true;
  const double generated = static_cast<double>(asked.sink->TheAnswer().usage.generated_tokens);
  EXPECT_TRUE(engine_->WaitUntilIdle(absl::InfiniteFuture()));
  const double decoded = Metric(R"(lectern_engine_tokens_total{phase="decode"})");
  EXPECT_EQ(decoded, generated);
  EXPECT_EQ(Metric(R"(lectern_engine_tokens_total{phase="prefill"})"),
            static_cast<double>(model_->tokens_computed()) - decoded);
  EXPECT_GT(Metric(R"(lectern_engine_step_seconds_count{phase="mixed"})"), 0);
}

TEST_F(EngineTest, MetricsMove) {
  Start();
  const DocumentInfo document = Upload(Text(4));
  const Answer answer = Ask({.document_id = document.id, .question = "Q?"});
  IdleBytes();
  EXPECT_EQ(Metric("lectern_requests_finished_total{finish_reason=\"stop\",model=\"fake\"}"), 1);
  EXPECT_EQ(Metric("lectern_generation_tokens_total{model=\"fake\"}"),
            static_cast<double>(answer.usage.generated_tokens));
  EXPECT_EQ(Metric("lectern_prefill_tokens_total{model=\"fake\",source=\"document_cache\"}"),
            static_cast<double>(document.tokens + 3));
  EXPECT_EQ(Metric("lectern_documents_resident{tier=\"host\"}"), 1);
  EXPECT_EQ(Metric("lectern_ffn_active_ratio_sum{model=\"fake\"}"), 1) << "no top-k there";
  EXPECT_EQ(Metric("lectern_admission_total{decision=\"accepted\",reason=\"none\"}"), 2);
  EXPECT_EQ(Metric("lectern_requests_running"), 0);
  engine_->Stop();  // The gauge is set at each turn of the worker, and when it ends.
  EXPECT_DOUBLE_EQ(Metric("lectern_kv_cache_usage_ratio"),
                   static_cast<double>(document.device_bytes) / (1 << 20));
}

}  // namespace
}  // namespace lectern
