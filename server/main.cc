// lectern-server: flags -> options -> server -> exit code.
#include <cstdio>
#include <string>
#include <vector>

#include "base/allocator.h"
#include "base/log.h"
#include "server/app/options.h"
#include "server/app/server.h"
#include "server/app/shutdown.h"

namespace {

lectern::LogLevel LevelOf(const std::string& name) {
  if (name == "debug") return lectern::LogLevel::kDebug;
  if (name == "warning") return lectern::LogLevel::kWarning;
  return name == "error" ? lectern::LogLevel::kError : lectern::LogLevel::kInfo;
}

}  // namespace

int main(int argc, char** argv) {
  lectern::ConfigureMalloc();
  const auto options = lectern::ParseOptions(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) {
    std::fprintf(stderr, "lectern-server: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(lectern::HelpText().c_str(), stdout);
    return 0;
  }
  if (options->version) {
    std::printf("lectern-server %s\n", lectern::kVersion);
    return 0;
  }
  lectern::InitLogging(options->log_json, LevelOf(options->log_level));
  lectern::ShutdownSignals signals;
  return lectern::RunServer(*options, signals);
}
