// lectern-server: flags -> options -> server -> exit code.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/allocator.h"
#include "base/log.h"
#include "server/app/check.h"
#include "server/app/options.h"
#include "server/app/server.h"
#include "server/app/shutdown.h"
#include "server/app/version.h"

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
  if (options->check) return lectern::RunCheck(*options, std::cin, std::cout, std::cerr);
  lectern::InitLogging(options->log.json, options->log.level);
  lectern::ShutdownSignals signals;
  return lectern::RunServer(*options, signals);
}
