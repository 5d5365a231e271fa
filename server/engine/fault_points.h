// The engine's hand-overs, named, so that a test can delay or fail it at each of them: between a
// caller's thread, the queue, the worker, the background thread, the document store and the sinks.
// Compiled into the engine with LECTERN_FAULT_POINTS alone, which tests/server/engine does; a
// server holds none of it (no_fault_points_test looks).
#pragma once

#include "absl/status/status.h"

namespace lectern {

enum class Fault {
  kArriving,        // bytes of an upload came; the caller's thread
  kAccepted,        // a job was found good, and is not queued yet; the caller's thread
  kCancelled,       // the client has left, and the job cannot know; any thread
  kTaken,           // a job was taken from the queue, and has not begun
  kEnding,          // a job was taken from the queue to be ended, and its sink not told
  kBeforeStep,      // a model step was put together
  kAfterStep,       // it was computed, and its results not given out
  kBackground,      // a piece of work reached the background thread
  kBackgroundDone,  // its result is there, and the job that waits for it not woken
  kPublish,         // a document's pages are computed, and not in the store
  kRelease,         // pages go back to the pool; any thread
  kTell,            // a job has given everything back, and its sink does not know of the end
};

#ifdef LECTERN_FAULT_POINTS
// Defined by the test. Called on any thread.
absl::Status InjectedFault(Fault point);
inline absl::Status FaultPoint(Fault point) { return InjectedFault(point); }
inline void DelayPoint(Fault point) { (void)InjectedFault(point); }
#else
// A place that may fail, and one that may only take long.
inline absl::Status FaultPoint(Fault) { return absl::OkStatus(); }
constexpr void DelayPoint(Fault) {}
#endif

}  // namespace lectern
