#include "server/model/thread_governor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/team_threads.h"

namespace lectern {
namespace {

constexpr double kTolerated = 0.35;  // of a window
constexpr double kSharedCore = 0.5;  // of a window waits a thread whose core another one uses too

class SchedstatWatch : public TeamWatch {
 public:
  int64_t NowNs() override {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  }

  void Start(int threads) override {
    ids_ = kernels::TeamThreadIds(threads);
    before_ = Waited();
  }

  int64_t WaitedNs() override { return Waited() - before_; }

 private:
  // A file holds the nanoseconds on a core, those waiting for one, and a count.
  int64_t Waited() const {
    int64_t sum = 0;
    for (const int id : ids_) {
      std::ifstream file(absl::StrCat("/proc/self/task/", id, "/schedstat"));
      int64_t ran = 0, waited = 0;
      if (file >> ran >> waited) sum += waited;
    }
    return sum;
  }

  std::vector<int> ids_;
  int64_t before_ = 0;
};

}  // namespace

std::unique_ptr<TeamWatch> NewTeamWatch() { return std::make_unique<SchedstatWatch>(); }

ThreadGovernor::ThreadGovernor(std::unique_ptr<TeamWatch> watch) : watch_(std::move(watch)) {}

int ThreadGovernor::Threads(int all) {
  if (all <= 1) return all;
  const int64_t now = watch_->NowNs();
  const int64_t elapsed = now - start_ns_;
  const bool reduced = threads_ < all_;
  if (all == all_ && elapsed < (reduced ? kReducedNs : kWindowNs)) return threads_;
  if (all == all_ && !reduced) {
    const double waited = static_cast<double>(watch_->WaitedNs()) / static_cast<double>(elapsed);
    if (waited > kTolerated) {
      const int shared = std::max(1, static_cast<int>(std::lround(waited / kSharedCore)));
      threads_ = std::max(1, all - shared);
      start_ns_ = now;
      return threads_;
    }
  }
  all_ = threads_ = all;
  watch_->Start(all);
  start_ns_ = watch_->NowNs();
  return all;
}

}  // namespace lectern
