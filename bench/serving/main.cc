// load_client: one phase of load on a running server. --help describes it.
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/serving/driver.h"

int main(int argc, char** argv) {
  using namespace lectern::bench;
  const auto options = ParseLoadOptions(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) {
    std::fprintf(stderr, "load_client: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(LoadHelpText().c_str(), stdout);
    return 0;
  }
  if (!options->crash_with.empty()) {
    AskAndCrash(*options);
    return 0;
  }
  if (options->leak > 0) {
    HoldStreams(*options);
    return 0;
  }
  char path[PATH_MAX] = {};
  if (readlink("/proc/self/exe", path, sizeof path - 1) < 0) return 1;
  Driver driver(*options, path);
  if (const absl::Status status = driver.Prepare(); !status.ok()) {
    std::fprintf(stderr, "load_client: %s\n", status.ToString().c_str());
    return 1;
  }
  std::printf("%s\n", driver.Run().dump().c_str());
  return 0;
}
