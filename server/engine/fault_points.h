// Names the engine's hand-overs between a caller's thread, the queue, the worker, the background
// thread, the document store and the sinks, so that a test can delay or fail the engine at each of
// them. Compiled in with LECTERN_FAULT_POINTS only, which tests/server/engine defines. A server
// contains none of it; no_fault_points_test checks that.
#pragma once

#include "absl/status/status.h"

namespace lectern {

enum class Fault {
  kArriving,        // bytes of an upload have arrived; on the caller's thread
  kAccepted,        // a job has passed the checks and is not queued yet; on the caller's thread
  kCancelled,       // the client has left, and the job does not know yet; on any thread
  kTaken,           // a job was taken from the queue and has not begun
  kEnding,          // a job was taken from the queue to be ended; its sink has not been called
  kBeforeStep,      // a model step has been put together
  kAfterStep,       // the step is computed; its results have not been handed out
  kBackground,      // a piece of work has reached the background thread
  kBackgroundDone,  // its result is there; the job that waits for it has not been woken
  kPublish,         // a document's pages are computed and not yet in the store
  kRelease,         // pages go back to the pool; on any thread
  kTell,            // a job has given everything back; its sink has not been called
};

#ifdef LECTERN_FAULT_POINTS
// Defined by the test; called on any thread.
absl::Status InjectedFault(Fault point);
inline absl::Status FaultPoint(Fault point) { return InjectedFault(point); }
inline void DelayPoint(Fault point) { (void)InjectedFault(point); }
#else
// A point that may fail, and a point that may only be delayed.
inline absl::Status FaultPoint(Fault) { return absl::OkStatus(); }
constexpr void DelayPoint(Fault) {}
#endif

}  // namespace lectern
