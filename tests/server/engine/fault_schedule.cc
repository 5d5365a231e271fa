#include "tests/server/engine/fault_schedule.h"

#include <atomic>
#include <random>
#include <utility>

#include "absl/time/clock.h"

namespace lectern {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);
// One visit in this many is delayed, and by at most this long.
constexpr uint64_t kOneIn = 8;
constexpr int64_t kMostMicroseconds = 1000;

std::atomic<FaultSchedule*> at_work{nullptr};

}  // namespace

absl::Status InjectedFault(Fault point) {
  FaultSchedule* const schedule = at_work;
  return schedule == nullptr ? absl::OkStatus() : schedule->Reach(point);
}

FaultSchedule::FaultSchedule(uint64_t seed) : seed_(seed) { at_work = this; }

FaultSchedule::~FaultSchedule() { at_work = nullptr; }

void FaultSchedule::HoldAt(Fault point, int visit) {
  MutexLock lock(&mutex_);
  hold_ = Hold{.point = point, .visits_left = visit};
}

bool FaultSchedule::WaitUntilHeld() {
  MutexLock lock(&mutex_);
  return mutex_.AwaitUntil(absl::Now() + kPatience,
                           [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return hold_->held; });
}

void FaultSchedule::Release(absl::Status result) {
  MutexLock lock(&mutex_);
  hold_->result = std::move(result);
}

// Depends on the seed, the point, and the number of earlier visits, but not on the order of
// threads.
absl::Duration FaultSchedule::NextDelay(Fault point) {
  const auto index = static_cast<size_t>(point);
  std::mt19937_64 random((seed_ * kPoints + index) * 1'000'003 + visits_[index]++);
  random.discard(2);
  if (random() % kOneIn != 0) return absl::ZeroDuration();
  return absl::Microseconds(static_cast<int64_t>(random() % kMostMicroseconds));
}

absl::Status FaultSchedule::Reach(Fault point) {
  absl::Duration delay;
  {
    MutexLock lock(&mutex_);
    if (hold_ && hold_->point == point && --hold_->visits_left == 0) {
      hold_->held = true;
      mutex_.Await([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return hold_->result.has_value(); });
      return *hold_->result;
    }
    delay = NextDelay(point);
  }
  if (delay > absl::ZeroDuration()) absl::SleepFor(delay);
  return absl::OkStatus();
}

}  // namespace lectern
