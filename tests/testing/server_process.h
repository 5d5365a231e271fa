// A lectern-server process for end-to-end tests: started on free ports of 127.0.0.1, ended by pid.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/testing/temporary_folder.h"

namespace lectern::test {

// $LECTERN_MODEL, or the default model among the unpacked dependencies; it may be absent.
std::string DefaultModelPath();

class ServerProcess {
 public:
  // Starts the program with `flags` on free ports (unless they name some) and waits until it
  // listens; `model` may be "".
  explicit ServerProcess(std::vector<std::string> flags = {},
                         const std::string& model = DefaultModelPath());
  ~ServerProcess();  // kills what still runs
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  std::string grpc_address() const;
  std::string http_address() const;
  // Body of GET `path` from the HTTP port; `code` gets the status.
  std::string Get(const std::string& path, int* code = nullptr) const;
  // The value of a series of /metrics, or -1.
  double Metric(const std::string& series) const;
  // True once /readyz says so; false after a minute or if the process has ended.
  bool WaitUntilReady();

  void Signal(int number) const;
  // The exit code, or 128 + signal. Waits at most `seconds`, then -1.
  int WaitForExit(int seconds);
  std::string Log() const;

 private:
  bool ReadPorts();
  TemporaryFolder folder_;
  pid_t pid_ = -1;
  int exit_code_ = -1;
  bool ended_ = false;
  int grpc_port_ = 0;
  int http_port_ = 0;
};

}  // namespace lectern::test
