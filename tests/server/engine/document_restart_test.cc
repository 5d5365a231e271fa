// Documents on disk, seen from the engine: restarts, memory pressure, faults of the disk, owners.
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/server/engine/engine_fixture.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

class DocumentRestartTest : public EngineTest {
 protected:
  void SetUp() override { options_.cache_dir = folder_.path() + "/cache"; }
  void TearDown() override {
    EngineTest::TearDown();
    engine_ = nullptr;  // before the folder
  }
  // Ends the engine as SIGTERM does, which writes what is new, and starts another one.
  void Restart() {
    engine_->Stop();
    engine_ = nullptr;
    Start();
  }
  // Damages the first file with that extension.
  void Damage(const std::string& ending) {
    for (const auto& entry : fs::directory_iterator(options_.cache_dir)) {
      if (entry.path().extension() != ending) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(-1, std::ios::end);
      const char last = static_cast<char>(file.get());
      file.seekp(-1, std::ios::end);
      file.put(static_cast<char>(last ^ 1));
      return;
    }
    FAIL() << "no file *" << ending;
  }
  uint64_t Files() {
    uint64_t files = 0;
    for (const auto& entry : fs::directory_iterator(options_.cache_dir)) {
      if (entry.path().filename() != "lock") ++files;
    }
    return files;
  }
  AskOptions Question(const std::string& id, const std::string& owner = "") {
    return {.document_id = id, .question = "Which valve?", .owner = owner};
  }

  TemporaryFolder folder_;
};

TEST_F(DocumentRestartTest, AnswersAfterARestartComputeTheQuestionAlone) {
  Start();
  const DocumentInfo document = Upload(Text(20), {.title = "Valves", .pinned = true});
  const Answer before = Ask(Question(document.id));
  Restart();
  const auto info = engine_->GetDocument(document.id, "");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->title, "Valves");
  EXPECT_TRUE(info->pinned);
  EXPECT_EQ(info->tokens, document.tokens);
  EXPECT_EQ(info->sha256, document.sha256);
  EXPECT_EQ(info->create_time, document.create_time);
  EXPECT_EQ(info->read_under, document.read_under);
  EXPECT_EQ(info->device_bytes, 0u) << "no page is read before it is asked for";
  EXPECT_EQ(engine_->status().kv_bytes_used, 0u);
  EXPECT_EQ(engine_->ListDocuments(0, "", "", "")->total, 1u);
  const Answer after = Ask(Question(document.id));
  EXPECT_EQ(after.text, before.text);
  EXPECT_EQ(after.usage.tokens_computed, after.usage.question_tokens);
  EXPECT_EQ(after.usage.tokens_reused, after.usage.document_tokens);
  EXPECT_EQ(model_->tokens_computed(),
            static_cast<int64_t>(after.usage.question_tokens + after.usage.generated_tokens));
  EXPECT_EQ(Ask(Question(document.id)).usage.tokens_computed, after.usage.question_tokens);
  EXPECT_EQ(Metric("lectern_document_reload_seconds_count"), 1) << "then it is in memory";
}

TEST_F(DocumentRestartTest, ChunksComeBackToo) {
  model_options_.context_length = 1 << 20;
  options_.kv_bytes = 1 << 24;
  Start();
  const DocumentInfo document = Upload(Text(400), {.reading = ReadingMode::kChunks});
  ASSERT_GT(document.chunks, 1u);
  const Answer before = Ask(Question(document.id));
  Restart();
  EXPECT_EQ(engine_->GetDocument(document.id, "")->chunks, document.chunks);
  EXPECT_EQ(engine_->GetDocument(document.id, "")->reading, ReadingMode::kChunks);
  const Answer after = Ask(Question(document.id));
  EXPECT_EQ(after.text, before.text);
  EXPECT_EQ(after.reading, ReadingMode::kChunks);
  EXPECT_GE(after.usage.tokens_reused, document.tokens);
}

TEST_F(DocumentRestartTest, DamagedPagesAreReadAnewFromTheText) {
  Start();
  const DocumentInfo document = Upload(Text(20));
  const Answer before = Ask(Question(document.id));
  engine_->Stop();
  engine_ = nullptr;
  Damage(".pages");
  Start();
  const Answer after = Ask(Question(document.id));
  EXPECT_EQ(after.text, before.text);
  EXPECT_EQ(after.usage.tokens_reused, 0u);
  EXPECT_EQ(Metric("lectern_document_cache_rejected_total{reason=\"corrupt\"}"), 1);
  Restart();  // they were written anew
  EXPECT_EQ(Ask(Question(document.id)).usage.tokens_reused, after.usage.document_tokens);
}

TEST_F(DocumentRestartTest, ADamagedTextMeansUploadItAgain) {
  Start();
  const DocumentInfo document = Upload(Text(20));
  engine_->Stop();
  engine_ = nullptr;
  Damage(".text");
  Start();
  const auto sink = StartAsk(Question(document.id)).sink;
  EXPECT_EQ(ReasonOf(sink->Status()), "DOCUMENT_EVICTED");
  EXPECT_EQ(ReasonOf(engine_->GetDocument(document.id, "").status()), "DOCUMENT_EVICTED");
  EXPECT_EQ(Upload(Text(20)).id, document.id);
  EXPECT_TRUE(StartAsk(Question(document.id)).sink->Status().ok());
}

TEST_F(DocumentRestartTest, UnderPressureDocumentsMoveToDisk) {
  options_.kv_bytes = 160 << 10;
  Start();
  std::vector<DocumentInfo> documents;
  for (int i = 0; i < 12; ++i) {
    documents.push_back(Upload(Text(12) + "Number " + std::to_string(i) + "."));
    ASSERT_FALSE(documents.back().id.empty());
    // Wait for the saver: a document that is not on disk yet would be lost.
    while (Metric("lectern_documents_resident{tier=\"disk\"}") <= i) std::this_thread::yield();
  }
  EXPECT_GT(Metric("lectern_document_evictions_total{reason=\"pressure\",tier=\"host\"}"), 0);
  EXPECT_EQ(engine_->ListDocuments(0, "", "", "")->total, 12u) << "all are still held";
  for (const DocumentInfo& document : documents) {
    const Answer answer = Ask(Question(document.id));
    EXPECT_EQ(answer.usage.tokens_computed, answer.usage.question_tokens);
  }
}

// A document may not be evicted while it is written. An upload that needs its memory waits, and
// does not fail although no other job could free memory.
TEST_F(DocumentRestartTest, UploadsWaitForTheDocumentThatIsBeingSaved) {
  options_.kv_bytes = 160 << 10;  // one document at a time
  Start();
  for (int i = 0; i < 12; ++i) {
    const Arriving upload = StartUpload(Text(12) + "Number " + std::to_string(i) + ".");
    ASSERT_TRUE(upload.sink->Status().ok()) << i << ": " << upload.sink->Status();
  }
}

TEST_F(DocumentRestartTest, TheDiskHasABudgetToo) {
  options_.cache_bytes = 100 << 10;
  Start();
  std::vector<DocumentInfo> documents;
  for (int i = 0; i < 12; ++i) {
    documents.push_back(Upload(Text(12) + "Number " + std::to_string(i) + "."));
    clock_.Advance(absl::Seconds(1));
  }
  Restart();
  const uint64_t held = engine_->ListDocuments(0, "", "", "")->total;
  EXPECT_GT(held, 0u);
  EXPECT_LT(held, 12u);
  EXPECT_LE(Metric("lectern_document_cache_bytes{tier=\"disk\"}"), 100 << 10);
  EXPECT_TRUE(engine_->GetDocument(documents.back().id, "").ok()) << "the last used stays";
  EXPECT_FALSE(engine_->GetDocument(documents.front().id, "").ok());
}

TEST_F(DocumentRestartTest, TimeRunsOutWhileNothingRuns) {
  Start();
  const std::string dies = Upload(Text(5), {.ttl = absl::Hours(1)}).id;
  const std::string stays = Upload(Text(6), {.ttl = absl::Hours(3)}).id;
  engine_->Stop();
  engine_ = nullptr;
  clock_.Advance(absl::Hours(2));
  Start();
  EXPECT_EQ(ReasonOf(engine_->GetDocument(dies, "").status()), "DOCUMENT_EVICTED");
  EXPECT_TRUE(engine_->GetDocument(stays, "").ok());
  Restart();
  EXPECT_EQ(Files(), 3u) << "meta, text and pages of the one that stays";
}

TEST_F(DocumentRestartTest, DeletedIsDeletedForEver) {
  Start();
  const std::string id = Upload(Text(5)).id;
  Restart();
  EXPECT_TRUE(engine_->DeleteDocument(id, "").ok());
  EXPECT_EQ(Files(), 0u);
  Restart();
  EXPECT_EQ(ReasonOf(engine_->GetDocument(id, "").status()), "DOCUMENT_NOT_FOUND");
}

TEST_F(DocumentRestartTest, AFolderThatCannotBeUsedLeavesMemory) {
  options_.cache_dir = folder_.path() + "/no/such/parent";
  Start();
  const std::string id = Upload(Text(5)).id;
  EXPECT_TRUE(StartAsk(Question(id)).sink->Status().ok());
  EXPECT_EQ(Metric("lectern_document_cache_available"), 0);
  EXPECT_GE(Metric("lectern_cache_disk_errors_total"), 1);
}

TEST_F(DocumentRestartTest, OwnersSeeTheirOwnDocumentsAlone) {
  Start();
  const std::string text = Text(5);
  const std::string id = Upload(text, {.title = "A's", .owner = "a"}).id;
  EXPECT_EQ(ReasonOf(engine_->GetDocument(id, "b").status()), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine_->GetDocument(id, "").status()), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine_->DeleteDocument(id, "b").status()), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(AskRefused(Question(id, "b"))), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(engine_->ListDocuments(0, "", "", "b")->total, 0u);
  // Both owners share the pages; each has its own title and can delete its document.
  EXPECT_EQ(Upload(text, {.title = "B's", .owner = "b"}).id, id);
  Restart();
  EXPECT_EQ(engine_->GetDocument(id, "a")->title, "A's");
  EXPECT_EQ(engine_->GetDocument(id, "b")->title, "B's");
  EXPECT_EQ(*engine_->DeleteDocument(id, "a"), 0u) << "the other owner's still";
  Restart();
  EXPECT_EQ(ReasonOf(engine_->GetDocument(id, "a").status()), "DOCUMENT_NOT_FOUND");
  EXPECT_TRUE(StartAsk(Question(id, "b")).sink->Status().ok());
  EXPECT_GT(*engine_->DeleteDocument(id, "b"), 0u);
  EXPECT_EQ(Files(), 0u);
}

TEST_F(DocumentRestartTest, QuotasCountWhatAnOwnerHolds) {
  options_.tenant_limits = {.bytes = 0, .documents = 2};
  Start();
  const std::string first = Upload(Text(5), {.owner = "a"}).id;
  Upload(Text(6), {.owner = "a"});
  Upload(Text(7), {.owner = "b"});
  const auto refused = [&](const std::string& text, const std::string& owner) {
    auto upload = *engine_->StartUpload({.owner = owner});
    EXPECT_TRUE(upload->Append(text).ok());
    auto sink = std::make_shared<TestUploadSink>();
    const auto job = upload->Finish(sink);
    return job.ok() ? sink->Status() : job.status();
  };
  for (const int text : {8, 7}) {  // a new one, and one that b has
    const ErrorDetails details = GetErrorDetails(refused(Text(text), "a"));
    EXPECT_EQ(details.reason, "CLIENT_QUOTA");
    EXPECT_EQ(details.metadata.at("documents_used"), "2");
    EXPECT_EQ(details.metadata.at("documents_limit"), "2");
    EXPECT_FALSE(details.retry_after.has_value());
  }
  EXPECT_TRUE(refused(Text(6), "a").ok()) << "its own again";
  EXPECT_TRUE(engine_->DeleteDocument(first, "a").ok());
  EXPECT_TRUE(refused(Text(8), "a").ok());
  EXPECT_EQ(Metric("lectern_admission_total{decision=\"rejected\",reason=\"client_quota\"}"), 2);
}

TEST_F(DocumentRestartTest, ManyAtOnce) {
  options_.kv_bytes = 512 << 10;
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      const std::string owner = std::to_string(t % 2);
      for (int i = 0; i < 8; ++i) {
        auto upload = engine_->StartUpload({.owner = owner});
        ASSERT_TRUE(upload.ok());
        ASSERT_TRUE((*upload)->Append(Text(3 + i % 5)).ok());
        auto sink = std::make_shared<TestUploadSink>();
        const auto job = (*upload)->Finish(sink);
        if (!job.ok() || !sink->Status().ok()) continue;
        const std::string id = sink->Document().id;
        auto answer = std::make_shared<TestAskSink>();
        // Another thread of that owner may have deleted it.
        if (engine_->Ask(Question(id, owner), answer).ok()) answer->Status().IgnoreError();
        if (i % 3 == 0) engine_->DeleteDocument(id, owner).status().IgnoreError();
        engine_->ListDocuments(0, "", "", owner).status().IgnoreError();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const uint64_t held =
      engine_->ListDocuments(0, "", "", "0")->total + engine_->ListDocuments(0, "", "", "1")->total;
  Restart();
  EXPECT_EQ(
      engine_->ListDocuments(0, "", "", "0")->total + engine_->ListDocuments(0, "", "", "1")->total,
      held);
}

}  // namespace
}  // namespace lectern
