// An HTTP/2 client that obeys no rule except the layout of frames; the test decides which it sends.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace lectern::e2e {

class RawHttp2 {
 public:
  enum Type : uint8_t { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kGoAway = 7 };
  static constexpr uint8_t kEndHeaders = 4;

  // Connects to ADDRESS:PORT and sends the preface and empty settings.
  explicit RawHttp2(const std::string& address) {
    const size_t colon = address.rfind(':');
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &peer.sin_addr);
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    open_ = connect(fd_, reinterpret_cast<sockaddr*>(&peer), sizeof peer) == 0;
    fcntl(fd_, F_SETFL, O_NONBLOCK);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, ""));
  }
  ~RawHttp2() { close(fd_); }
  RawHttp2(const RawHttp2&) = delete;
  RawHttp2& operator=(const RawHttp2&) = delete;

  static std::string Number(uint32_t value) {
    return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
            static_cast<char>(value >> 8), static_cast<char>(value)};
  }
  static std::string Frame(Type type, uint8_t flags, uint32_t stream, const std::string& payload) {
    return Number(static_cast<uint32_t>(payload.size())).substr(1) + static_cast<char>(type) +
           static_cast<char>(flags) + Number(stream) + payload;
  }
  void AcknowledgeSettings() { Send(Frame(kSettings, /*ACK*/ 1, 0, "")); }
  // Sends the headers that start a gRPC call, in HPACK with only the static table.
  static std::string Call(uint32_t stream, const std::string& path) {
    const auto text = [](const std::string& s) { return static_cast<char>(s.size()) + s; };
    const auto literal = [&](const std::string& name, const std::string& value) {
      return std::string(1, '\0') + text(name) + text(value);
    };
    return Frame(kHeaders, kEndHeaders, stream,
                 "\x83\x86\x04" + text(path) + "\x01" + text("test") + literal("te", "trailers") +
                     literal("content-type", "application/grpc"));
  }
  static std::string Cancel(uint32_t stream) { return Frame(kReset, 0, stream, Number(8)); }

  // Sends all of `bytes`, and reads what arrives meanwhile. False once the server has hung up.
  bool Send(const std::string& bytes) {
    size_t sent = 0;
    while (open_ && sent < bytes.size()) {
      pollfd ready{fd_, POLLIN | POLLOUT, 0};
      poll(&ready, 1, 10'000);
      if ((ready.revents & POLLIN) != 0) Receive();
      if ((ready.revents & POLLOUT) == 0) continue;
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0 && errno != EAGAIN) open_ = false;
    }
    return open_;
  }
  // Reads until a frame of `type` has come or the server has hung up; false after 30 s.
  bool Await(Type type) {
    while (open_ && frames_[type] == 0) {
      pollfd ready{fd_, POLLIN, 0};
      if (poll(&ready, 1, 30'000) != 1) return false;
      Receive();
    }
    return true;
  }

  bool open() const { return open_; }

 private:
  void Receive() {
    char buffer[1 << 14];
    ssize_t n;
    while ((n = recv(fd_, buffer, sizeof buffer, 0)) > 0) in_.append(buffer, n);
    if (n == 0 || (n < 0 && errno != EAGAIN)) open_ = false;
    size_t at = 0;
    while (in_.size() - at >= 9) {
      const auto byte = [&](size_t i) { return static_cast<uint8_t>(in_[at + i]); };
      const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (in_.size() - at < 9 + size) break;
      ++frames_[byte(3)];
      at += 9 + size;
    }
    in_.erase(0, at);
  }

  int fd_ = -1;
  bool open_ = false;
  std::string in_;
  std::map<int, int> frames_;
};

}  // namespace lectern::e2e
