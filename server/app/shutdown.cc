#include "server/app/shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"

namespace lectern {
namespace {

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

ShutdownSignals::ShutdownSignals() {
  const sigset_t set = Signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A client that disconnects must not end the server.
  signal(SIGPIPE, SIG_IGN);
  listener_ = std::thread([this] { Listen(); });
}

ShutdownSignals::~ShutdownSignals() {
  stop_ = true;
  pthread_kill(listener_.native_handle(), SIGTERM);
  listener_.join();
}

void ShutdownSignals::Listen() {
  const sigset_t set = Signals();
  while (true) {
    int number = 0;
    if (sigwait(&set, &number) != 0 || stop_) return;
    bool second = false;
    {
      absl::MutexLock lock(&mutex_);
      second = requested_;
      requested_ = true;
    }
    if (second) {
      LogWarning("second signal; exiting at once");
      _exit(1);
    }
    if (!draining_) {
      LogInfo("stopped before serving");
      _exit(0);
    }
  }
}

void ShutdownSignals::Wait() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&requested_));
}

bool ShutdownSignals::requested() const {
  absl::MutexLock lock(&mutex_);
  return requested_;
}

}  // namespace lectern
