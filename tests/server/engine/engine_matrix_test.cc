// The engine gives back everything it takes, however and whenever work ends: every end (success,
// cancellation, deadline, client gone, drain, failure) in every stage (upload, queue, prefill,
// decode). In each cell a call is held at each hand-over of its stage and made to end there, while
// other calls run and every hand-over is delayed a little. Afterwards each call has received one
// end, the engine's state is as before the first call, and all its room can be used again.

#include <algorithm>
#include <atomic>
#include <map>
#include <ostream>
#include <thread>
#include <tuple>

#include "absl/time/clock.h"
#include "base/hashing/sha256.h"
#include "server/engine/documents/document.h"
#include "tests/server/engine/engine_fixture.h"
#include "tests/server/engine/fault_schedule.h"
#include "tests/server/engine/test_call.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

constexpr uint64_t kSchedules = 2;
constexpr uint64_t kDocuments = 4;       // of a tenant
constexpr uint64_t kUploadBytes = 4096;  // that may be arriving
constexpr char kInjected[] = "injected";

enum class How { kOk, kCancel, kDeadline, kDisconnect, kDrain, kFailure };
enum class Where { kUpload, kQueue, kPrefill, kDecode };

enum class Kind { kUpload, kAsk, kAskInline, kAskExactly, kAskFromDisk };
// The effect of an end on the call that is held at a place.
enum class Effect { kCertain, kRace, kTooLate };

// A hand-over at which the call is held: the visit-th to the point.
struct Place {
  Kind kind;
  Fault point;
  int visit = 1;
  Effect effect = Effect::kCertain;  // kRace: a cancellation may come too late, nothing else
  bool can_fail = true;
  bool queued = false;  // a call of its kind is held there, and it waits for that one
};

std::vector<Place> PlacesIn(Where where) {
  constexpr bool kCannotFail = false;
  switch (where) {
    case Where::kUpload:
      return {{Kind::kUpload, Fault::kArriving, 2},
              {Kind::kUpload, Fault::kAccepted, 1, Effect::kRace},
              {Kind::kUpload, Fault::kTaken},
              {Kind::kUpload, Fault::kBackground},
              {Kind::kUpload, Fault::kBackgroundDone, 1, Effect::kCertain, kCannotFail},
              {Kind::kUpload, Fault::kBeforeStep, 1},
              {Kind::kUpload, Fault::kBeforeStep, 3},
              {Kind::kUpload, Fault::kAfterStep, 2},
              {Kind::kUpload, Fault::kPublish, 1, Effect::kTooLate},
              {Kind::kUpload, Fault::kTell, 1, Effect::kTooLate, kCannotFail}};
    case Where::kQueue:
      return {{Kind::kAsk, Fault::kAccepted, 1, Effect::kRace},
              {Kind::kAsk, Fault::kTaken},
              {Kind::kAsk, Fault::kBeforeStep, 1, Effect::kCertain, kCannotFail, true},
              {Kind::kUpload, Fault::kBeforeStep, 1, Effect::kCertain, kCannotFail, true}};
    case Where::kPrefill:
      return {{Kind::kAsk, Fault::kBeforeStep, 1},
              {Kind::kAsk, Fault::kAfterStep, 2},
              {Kind::kAskInline, Fault::kBackground},
              {Kind::kAskInline, Fault::kBackgroundDone, 1, Effect::kCertain, kCannotFail},
              {Kind::kAskInline, Fault::kBeforeStep, 2},
              {Kind::kAskExactly, Fault::kAfterStep, 1},
              {Kind::kAskExactly, Fault::kPublish, 1, Effect::kCertain, kCannotFail},
              // The text comes back from disk, then the pages.
              {Kind::kAskFromDisk, Fault::kBackground, 1},
              {Kind::kAskFromDisk, Fault::kBackgroundDone, 1, Effect::kCertain, kCannotFail},
              {Kind::kAskFromDisk, Fault::kBackground, 2},
              {Kind::kAskFromDisk, Fault::kBackgroundDone, 2, Effect::kCertain, kCannotFail},
              {Kind::kAskFromDisk, Fault::kBeforeStep}};
    case Where::kDecode:
      return {{Kind::kAsk, Fault::kBeforeStep, 6},
              {Kind::kAsk, Fault::kAfterStep, 6},
              {Kind::kAskExactly, Fault::kAfterStep, 15},
              {Kind::kAsk, Fault::kRelease, 1, Effect::kTooLate, kCannotFail},
              {Kind::kAsk, Fault::kTell, 1, Effect::kTooLate, kCannotFail}};
  }
  return {};
}

// One engine, in which one call is held at a place and ends in one of the ways.
class Scene {
 public:
  Scene(How how, const Place& place, uint64_t seed)
      : how_(how),
        place_(place),
        lets_finish_(seed % 2 == 0),
        faults_(seed),
        model_(std::make_shared<FakeModel>()) {
    StartEngine();
  }

  void Play() {
    const std::map<std::string, double> before = State();
    Open({Kind::kUpload, StoredText(), "stored"}).join();
    ASSERT_TRUE(endings_["stored"]->Wait());
    if (has_disk()) {  // after a restart the document is only there
      calls_.clear();
      engine_ = nullptr;
      StartEngine();
    }
    faults_.HoldAt(place_.point, place_.visit);
    if (place_.queued) {
      Open({place_.kind, Text(6), "before"}).join();
      EXPECT_TRUE(faults_.WaitUntilHeld());
    }
    std::thread caller = Open({place_.kind, Text(7), "held", clock_.Now() + absl::Seconds(5)});
    if (place_.queued) caller.join();
    EXPECT_TRUE(faults_.WaitUntilHeld());
    // These come after the held call and must not be affected.
    Open({Kind::kAsk, "", "asks"}).join();
    Open({Kind::kAskExactly, "", "asks exactly"}).join();
    Open({Kind::kUpload, Text(8), "uploads"}).join();
    BringAbout();
    faults_.Release(how_ == How::kFailure ? absl::InternalError(kInjected) : absl::OkStatus());
    if (caller.joinable()) caller.join();
    CheckEnds();
    CheckState(before);
    if (how_ != How::kDrain) CheckRoom();
  }

 private:
  struct Start {
    Kind kind;
    std::string text;  // of an upload or an inline question
    std::string name;
    absl::Time deadline = absl::InfiniteFuture();
  };
  static std::string StoredText() { return Text(5); }

  bool has_disk() const { return place_.kind == Kind::kAskFromDisk; }

  void StartEngine() {
    EngineOptions options{.kv_bytes = 1 << 20, .upload_bytes = kUploadBytes};
    options.prefill_slice_tokens = 32;
    options.tenant_limits.documents = kDocuments;
    if (place_.queued)
      options.limits.queue.running_questions = options.limits.queue.running_uploads = 1;
    if (has_disk()) options.cache_dir = folder_.path();
    engine_ = Engine::Create(options, {model_}, &clock_, &metrics_);
  }

  // Makes a call on a new thread.
  std::thread Open(const Start& start) {
    const auto ending = endings_[start.name] = std::make_shared<Ending>();
    const auto call = calls_[start.name] = std::make_shared<Call>(&open_, ending);
    return std::thread([this, call, start] {
      if (start.kind == Kind::kUpload) {
        return call->Upload(*engine_, {.deadline = start.deadline}, start.text);
      }
      AskOptions options{.question = "Which one?", .deadline = start.deadline};
      if (start.kind == Kind::kAskInline) {
        options.inline_text = start.text;
      } else {
        options.document_id = stored_id_;
      }
      options.attention.exact = start.kind == Kind::kAskExactly;
      call->Ask(*engine_, options);
    });
  }

  void BringAbout() {
    switch (how_) {
      case How::kOk:
      case How::kFailure:
        return;
      case How::kCancel:
        return calls_["held"]->Cancel();
      case How::kDisconnect:  // gRPC lets go of the call, the engine may hold it longer
        calls_["held"]->Cancel();
        calls_.erase("held");
        return;
      case How::kDeadline:
        return clock_.Advance(absl::Seconds(6));
      case How::kDrain:
        drain_ = std::thread([this] {
          engine_->StopAccepting();
          if (lets_finish_) engine_->WaitUntilIdle(absl::InfiniteFuture());
          engine_->Stop();
        });
        while (engine_->StartUpload({}).ok()) absl::SleepFor(absl::Milliseconds(1));
    }
  }

  bool IsBeforeTheQueue() const {
    return place_.point == Fault::kArriving || place_.point == Fault::kAccepted;
  }

  void CheckHeld(const absl::Status& status) const {
    const bool may_be_ok = place_.effect == Effect::kTooLate;
    switch (how_) {
      case How::kOk:
        EXPECT_TRUE(status.ok()) << status;
        break;
      case How::kFailure:
        EXPECT_EQ(status, absl::InternalError(kInjected));
        break;
      case How::kCancel:
      case How::kDisconnect:
        if (place_.effect == Effect::kRace && status.ok()) break;
        EXPECT_EQ(status.ok(), may_be_ok);
        EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
        break;
      case How::kDeadline:
        EXPECT_EQ(status.ok(), may_be_ok);
        EXPECT_TRUE(status.ok() || absl::IsDeadlineExceeded(status)) << status;
        EXPECT_EQ(ReasonOf(status), status.ok() ? "" : "DEADLINE");
        break;
      case How::kDrain:
        if (IsBeforeTheQueue()) {
          EXPECT_EQ(ReasonOf(status), "DRAINING") << status;
        } else {
          CheckOther(status);
        }
    }
  }
  // Checks a call that was left alone.
  void CheckOther(const absl::Status& status) const {
    const bool may_be_ended = how_ == How::kDrain && !lets_finish_;
    EXPECT_TRUE(status.ok() || (may_be_ended && ReasonOf(status) == "DRAINING")) << status;
  }

  void CheckEnds() {
    for (const auto& [name, ending] : endings_) EXPECT_TRUE(ending->Wait()) << name;
    if (drain_.joinable()) drain_.join();
    EXPECT_TRUE(engine_->WaitUntilIdle(absl::Now() + kMostPatience));
    for (const auto& [name, ending] : endings_) {
      SCOPED_TRACE(name);
      EXPECT_EQ(ending->times(), 1);
      name == "held" ? CheckHeld(ending->status()) : CheckOther(ending->status());
    }
    calls_.clear();
    EXPECT_EQ(open_, 0) << "somebody still holds a call that has ended";
  }

  std::map<std::string, double> State() {
    const EngineStatus status = engine_->status();
    const std::string metrics = metrics_.Render();
    std::map<std::string, double> state = {
        {"running", status.running},
        {"waiting", status.waiting},
        {"documents", static_cast<double>(status.documents)},
        {"kv_bytes_used", static_cast<double>(status.kv_bytes_used)}};
    std::vector<std::string> gauges = {"lectern_requests_running",
                                       "lectern_requests_waiting",
                                       "lectern_prefill_tokens_waiting",
                                       "lectern_prefill_tokens_running",
                                       "lectern_documents_resident{tier=\"host\"}",
                                       "lectern_documents_resident{tier=\"disk\"}",
                                       "lectern_document_cache_bytes{tier=\"host\"}",
                                       "lectern_document_cache_bytes{tier=\"disk\"}"};
    // The worker, which keeps this one up to date, ends before the thread that writes to disk.
    if (!has_disk() || how_ != How::kDrain) gauges.push_back("lectern_kv_cache_usage_ratio");
    for (const std::string& gauge : gauges) state[gauge] = MetricIn(metrics, gauge);
    return state;
  }

  std::vector<DocumentInfo> Documents() const {
    return engine_->ListDocuments(0, "", "", "")->documents;
  }
  uint64_t BytesOfDocuments() const {
    uint64_t bytes = 0;
    for (const DocumentInfo& document : Documents()) {
      bytes += document.device_bytes;
    }
    return bytes;
  }

  // Work that nobody waits for any more may go on in the background for a while.
  template <typename Condition>
  static bool Comes(const Condition& condition) {
    const absl::Time until = absl::Now() + kMostPatience;
    while (!condition()) {
      if (absl::Now() > until) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  }

  // All pages in use are those of documents, no document is in use, and nothing else is left.
  void CheckState(const std::map<std::string, double>& before) {
    uint64_t documents = 0;
    for (const char* name : {"stored", "before", "uploads", "held"}) {
      const bool uploads = (std::string(name) != "held" && std::string(name) != "before") ||
                           place_.kind == Kind::kUpload;
      if (endings_.contains(name) && uploads && endings_[name]->status().ok()) ++documents;
    }
    EXPECT_EQ(Documents().size(), documents);
    EXPECT_TRUE(Comes([this] { return engine_->status().kv_bytes_used == BytesOfDocuments(); }))
        << engine_->status().kv_bytes_used << " in use, documents: " << BytesOfDocuments();
    for (const DocumentInfo& document : Documents()) {
      const uint64_t freed = *engine_->DeleteDocument(document.id, "");
      // The thread that writes to disk may be using it.
      EXPECT_TRUE(has_disk() || freed == document.device_bytes) << "in use";
    }
    // The idle worker brings gauges up to date from time to time.
    if (Comes([&] { return State() == before; })) return;
    EXPECT_EQ(State(), before);
  }

  // Every place of the quota, the texts (nobody is thought to be reading one of them), and the
  // memory for texts that arrive.
  void CheckRoom() {
    const std::vector<std::string> texts = {StoredText(), Text(6), Text(7), Text(8)};
    ASSERT_EQ(texts.size(), kDocuments);
    for (const std::string& text : texts) {
      Open({Kind::kUpload, text, text}).join();
      ASSERT_TRUE(endings_[text]->Wait());
      EXPECT_TRUE(endings_[text]->status().ok()) << endings_[text]->status();
    }
    const auto upload = engine_->StartUpload({});
    ASSERT_TRUE(upload.ok()) << upload.status();
    EXPECT_TRUE((*upload)->Append(std::string(kUploadBytes, 'x')).ok());
  }

  const How how_;
  const Place place_;
  const bool lets_finish_;  // a drain
  TemporaryFolder folder_;
  FaultSchedule faults_;
  FakeClock clock_;
  ServerMetrics metrics_{{"fake"}};
  const std::shared_ptr<FakeModel> model_;
  const std::string stored_id_ = DocumentId(*model_, Sha256Hex(StoredText()));
  std::atomic<int> open_{0};
  std::map<std::string, std::shared_ptr<Ending>> endings_;
  std::map<std::string, std::shared_ptr<Call>> calls_;
  std::unique_ptr<Engine> engine_;
  std::thread drain_;
};

class EngineMatrixTest : public testing::TestWithParam<std::tuple<How, Where>> {};

TEST_P(EngineMatrixTest, GivesBackWhatItTook) {
  const auto [how, where] = GetParam();
  int scenes = 0;
  for (const Place& place : PlacesIn(where)) {
    if (how == How::kFailure && !place.can_fail) continue;
    for (uint64_t seed = 1; seed <= kSchedules; ++seed) {
      SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(place.kind) << ", point "
                                      << static_cast<int>(place.point) << ", visit " << place.visit
                                      << ", queued " << place.queued << ", seed " << seed);
      Scene(how, place, seed).Play();
      if (HasFailure()) return;
      ++scenes;
    }
  }
  EXPECT_GE(scenes, 4);
}

std::string CellName(const testing::TestParamInfo<std::tuple<How, Where>>& cell) {
  static const char* const kHow[] = {"Ok", "Cancel", "Deadline", "Disconnect", "Drain", "Failure"};
  static const char* const kWhere[] = {"Upload", "Queue", "Prefill", "Decode"};
  return std::string(kHow[static_cast<int>(std::get<0>(cell.param))]) + "In" +
         kWhere[static_cast<int>(std::get<1>(cell.param))];
}

INSTANTIATE_TEST_SUITE_P(Cells, EngineMatrixTest,
                         testing::Combine(testing::Values(How::kOk, How::kCancel, How::kDeadline,
                                                          How::kDisconnect, How::kDrain,
                                                          How::kFailure),
                                          testing::Values(Where::kUpload, Where::kQueue,
                                                          Where::kPrefill, Where::kDecode)),
                         CellName);

}  // namespace
}  // namespace lectern
