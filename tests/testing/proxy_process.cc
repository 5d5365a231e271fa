#include "tests/testing/proxy_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace lectern::test {
namespace {

constexpr int kListener = 3;  // the descriptor by which the proxy gets its socket

// A socket that listens on a free port of 127.0.0.1.
int Listen(int& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 128) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port = ntohs(address.sin_port);
  return fd;
}

std::string PortOf(const std::string& address) { return address.substr(address.rfind(':') + 1); }

}  // namespace

std::string ProxyProcess::Program() {
  for (const char* path : {"/usr/sbin/haproxy", "/usr/local/sbin/haproxy"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

ProxyProcess::ProxyProcess(const std::string& configuration,
                           const std::vector<const ServerProcess*>& replicas) {
  const std::string log = folder_.path() + "/log", program = Program();
  std::vector<std::string> variables = {"LECTERN_ROUTER_LISTEN=fd@" + std::to_string(kListener)};
  for (size_t i = 0; i < replicas.size(); ++i) {
    const std::string name = "LECTERN_REPLICA_" + std::to_string(i + 1);
    variables.push_back(name + "=" + replicas[i]->grpc_address());
    variables.push_back(name + "_PROBES=" + PortOf(replicas[i]->http_address()));
  }
  std::vector<char*> environment;
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  const char* arguments[] = {program.c_str(), "-f", configuration.c_str(), nullptr};
  const int listener = Listen(port_);
  pid_ = fork();
  if (pid_ == 0) {
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, 1);
    dup2(file, 2);
    // dup2() of a descriptor onto itself would leave it close-on-exec.
    if (listener == kListener) fcntl(listener, F_SETFD, 0);
    dup2(listener, kListener);
    execve(program.c_str(), const_cast<char**>(arguments), environment.data());
    _exit(127);
  }
  close(listener);
}

ProxyProcess::~ProxyProcess() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string ProxyProcess::address() const { return "127.0.0.1:" + std::to_string(port_); }

std::string ProxyProcess::Log() const {
  std::ifstream file(folder_.path() + "/log");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace lectern::test
