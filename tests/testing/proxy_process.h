// HAProxy in front of lectern-server processes, for end-to-end tests; ended by pid.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/testing/server_process.h"
#include "tests/testing/temporary_folder.h"

namespace lectern::test {

class ProxyProcess {
 public:
  // Where the program is; "" if it is not installed.
  static std::string Program();

  // Starts it with the file `configuration`, which reads the variables LECTERN_ROUTER_LISTEN,
  // LECTERN_REPLICA_n and LECTERN_REPLICA_n_PROBES. Its port is free and connects from now on.
  ProxyProcess(const std::string& configuration, const std::vector<const ServerProcess*>& replicas);
  ~ProxyProcess();
  ProxyProcess(const ProxyProcess&) = delete;
  ProxyProcess& operator=(const ProxyProcess&) = delete;

  std::string address() const;
  std::string Log() const;

 private:
  TemporaryFolder folder_;
  pid_t pid_ = -1;
  int port_ = 0;
};

}  // namespace lectern::test
