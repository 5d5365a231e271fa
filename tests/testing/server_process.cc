#include "tests/testing/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace lectern::test {
namespace {

using std::chrono::milliseconds;
constexpr int kStartSeconds = 60;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void Nap() { std::this_thread::sleep_for(milliseconds(20)); }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::string DefaultModelPath() {
  const std::string given = Environment("LECTERN_MODEL");
  if (!given.empty()) return given;
  return Environment("LECTERN_DEPS_DIR") + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

ServerProcess::ServerProcess(std::vector<std::string> flags, const std::string& model) {
  const std::string program = Environment("LECTERN_BIN_DIR") + "/lectern-server";
  std::vector<std::string> arguments = {program, "--port_file=" + folder_.path() + "/ports.json"};
  for (const std::string name : {"--listen=", "--metrics_listen="}) {
    const auto names_it = [&](const std::string& flag) { return flag.rfind(name, 0) == 0; };
    if (std::none_of(flags.begin(), flags.end(), names_it)) {
      arguments.push_back(name + "127.0.0.1:0");
    }
  }
  if (!model.empty()) arguments.push_back("--model=test=" + model);
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string log = folder_.path() + "/log";
  pid_ = fork();
  if (pid_ == 0) {
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, 1);
    dup2(file, 2);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  for (int i = 0; i < kStartSeconds * 50 && !ReadPorts() && WaitForExit(0) < 0; ++i) Nap();
}

ServerProcess::~ServerProcess() {
  if (!ended_) {
    kill(pid_, SIGKILL);
    WaitForExit(10);
  }
}

bool ServerProcess::ReadPorts() {
  const std::string text = ReadFile(folder_.path() + "/ports.json");
  if (text.empty()) return false;
  const auto ports = nlohmann::json::parse(text);
  grpc_port_ = ports["grpc"];
  http_port_ = ports["http"];
  return true;
}

std::string ServerProcess::grpc_address() const {
  return "127.0.0.1:" + std::to_string(grpc_port_);
}

std::string ServerProcess::http_address() const {
  return "127.0.0.1:" + std::to_string(http_port_);
}

std::string ServerProcess::Get(const std::string& path, int* code) const {
  if (code != nullptr) *code = 0;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(http_port_));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    const std::string request =
        "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
      char buffer[4096];
      for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) reply.append(buffer, n);
    }
  }
  close(fd);
  const size_t body = reply.find("\r\n\r\n");
  if (body == std::string::npos) return "";
  if (code != nullptr) *code = std::atoi(reply.c_str() + reply.find(' '));
  return reply.substr(body + 4);
}

double ServerProcess::Metric(const std::string& series) const {
  const std::string text = "\n" + Get("/metrics");
  const size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::atof(text.c_str() + at + series.size() + 2);
}

bool ServerProcess::WaitUntilReady() {
  for (int i = 0; i < kStartSeconds * 50; ++i) {
    int code = 0;
    Get("/readyz", &code);
    if (code == 200) return true;
    if (WaitForExit(0) >= 0) return false;
    Nap();
  }
  return false;
}

void ServerProcess::Signal(int number) const { kill(pid_, number); }

int ServerProcess::WaitForExit(int seconds) {
  for (int i = 0; !ended_; ++i) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      ended_ = true;
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      break;
    }
    if (i >= seconds * 50) return -1;
    Nap();
  }
  return exit_code_;
}

std::string ServerProcess::Log() const { return ReadFile(folder_.path() + "/log"); }

}  // namespace lectern::test
