// lectern: the command line of the service. A plain gRPC client.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/options.h"

namespace {

// Turns the first SIGINT or SIGTERM into a cancelled call; the second one ends the process.
void WatchSignals(lectern::Canceller& canceller) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, &canceller] {
    int signal = 0;
    sigwait(&signals, &signal);
    canceller.Cancel();
    sigwait(&signals, &signal);
    _exit(lectern::kExitInterrupted);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  // Errors are reported below; gRPC's own messages on stderr appear only on request.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const auto options =
      lectern::ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc),
                                [](const char* name) { return std::getenv(name); });
  if (!options.ok()) {
    std::fprintf(stderr, "lectern: %s\nlectern --help shows the usage.\n",
                 std::string(options.status().message()).c_str());
    return lectern::kExitUsage;
  }
  if (options->help) {
    std::fputs(lectern::HelpText(options->command).c_str(), stdout);
    return lectern::kExitOk;
  }
  // Lives as long as the thread that watches for signals, which is never joined.
  static auto& canceller = *new lectern::Canceller;
  WatchSignals(canceller);
  return lectern::RunCommand(*options, stdout, stderr, isatty(STDERR_FILENO) == 1, canceller);
}
