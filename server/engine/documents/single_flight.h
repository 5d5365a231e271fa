// Reads a document once for all jobs that want it: the first one computes its pages, the others
// wait and then find them.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/api.h"
#include "server/engine/scheduling/scheduler.h"
#include "server/engine/scheduling/task.h"
#include "server/model/attention_policy.h"

namespace lectern {

// Used by the engine's worker alone.
class SingleFlight {
 public:
  // Identifies the pages of a document, read in one way under one policy.
  struct Key {
    std::string document_id;
    ReadingMode reading = ReadingMode::kWhole;
    AttentionPolicy policy;
    bool operator==(const Key&) const = default;
  };

  // The right to compute, which one job at a time has for a key. While it lives, the others wait;
  // when it is destroyed, whether or not the job succeeded, they look for the result, and if there
  // is none the next of them gets the right. Move-only; the SingleFlight must outlive it.
  class Turn {
   public:
    Turn() = default;
    Turn(Turn&& other) noexcept
        : flights_(std::exchange(other.flights_, nullptr)), key_(std::move(other.key_)) {}
    Turn& operator=(Turn&& other) noexcept {
      std::swap(flights_, other.flights_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~Turn() {
      if (flights_ != nullptr) std::erase(flights_->keys_, key_);
    }
    // False: there is nothing to compute.
    explicit operator bool() const { return flights_ != nullptr; }

   private:
    friend class SingleFlight;
    Turn(SingleFlight* flights, Key key) : flights_(flights), key_(std::move(key)) {}
    SingleFlight* flights_ = nullptr;
    Key key_;
  };

  explicit SingleFlight(Scheduler* scheduler) : scheduler_(scheduler) {}

  // Waits until `find` returns true, which means that there is a result: then the turn is empty; or
  // until no other job has the turn: then this job has it. Returns the error of `find`, or of the
  // job that should stop.
  Task<absl::StatusOr<Turn>> FindOrBegin(Key key, std::function<absl::StatusOr<bool>()> find,
                                         StepOwner owner);

 private:
  bool IsTaken(const Key& key) const;

  Scheduler* const scheduler_;
  std::vector<Key> keys_;  // of the turns that jobs have
};

}  // namespace lectern
