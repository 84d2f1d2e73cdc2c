// A blocking HTTP client for the server's tests: raw bytes out, parsed answers in. Every wait has a deadline.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace gantry {

struct TestAnswer {
  int status = 0;  // 0: none came
  std::map<std::string, std::string> fields;
  std::string body;
};

class TestClient {
 public:
  static constexpr int kWaitSeconds = 120;  // under a thread sanitizer on a busy machine 20 were too few

  explicit TestClient(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~TestClient() { close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  // With a reset instead of an orderly end.
  void reset() {
    const linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close();
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  bool post(const std::string& path, const std::string& body, const std::string& fields = {}) {
    return send("POST " + path + " HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n" + fields +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  bool get(const std::string& path, const std::string& fields = {}) {
    return send("GET " + path + " HTTP/1.1\r\nHost: t\r\n" + fields + "\r\n");
  }

  // Until the pattern is in what was received; false at the end of the connection or the deadline.
  bool wait_for(std::string_view pattern) {
    while (in_.find(pattern) == std::string::npos) {
      if (!receive()) return false;
    }
    return true;
  }
  // True if the server ends the connection before the deadline.
  bool wait_for_end() {
    while (receive()) {
    }
    return ended_;
  }
  const std::string& received() const { return in_; }

  // The next answer. head_only: to a HEAD request.
  TestAnswer answer(bool head_only = false) {
    TestAnswer out;
    if (!wait_for("\r\n\r\n")) return out;
    const size_t end = in_.find("\r\n\r\n");
    const std::string head = in_.substr(0, end);
    in_.erase(0, end + 4);
    if (head.size() < 12) return out;
    out.status = std::atoi(head.c_str() + 9);
    for (size_t pos = head.find("\r\n"); pos != std::string::npos;) {
      const size_t next = head.find("\r\n", pos + 2);
      const std::string line = head.substr(pos + 2, next == std::string::npos ? next : next - pos - 2);
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) out.fields[line.substr(0, colon)] = line.substr(colon + 2);
      pos = next;
    }
    if (out.status == 100) return answer(head_only);
    if (head_only) return out;
    if (out.fields.contains("Transfer-Encoding")) {
      out.body = chunked_body();
    } else if (out.fields.contains("Content-Length")) {
      const size_t length = std::stoul(out.fields["Content-Length"]);
      while (in_.size() < length && receive()) {
      }
      out.body = in_.substr(0, length);
      in_.erase(0, length);
    } else {
      wait_for_end();
      out.body = std::exchange(in_, {});
    }
    return out;
  }

 private:
  std::string chunked_body() {
    std::string body;
    while (true) {
      while (in_.find("\r\n") == std::string::npos) {
        if (!receive()) return body;
      }
      const size_t line = in_.find("\r\n");
      const size_t size = std::stoul(in_.substr(0, line), nullptr, 16);
      while (in_.size() < line + 2 + size + 2) {
        if (!receive()) return body;
      }
      body += in_.substr(line + 2, size);
      in_.erase(0, line + 2 + size + 2);
      if (size == 0) return body;
    }
  }

  bool receive() {
    if (fd_ < 0) return false;
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, kWaitSeconds * 1000) <= 0) return false;
    char buffer[16384];
    const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) {
      ended_ = true;
      return false;
    }
    in_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string in_;
};

// Polls until the condition holds; false after `seconds`.
template <typename Condition>
bool eventually(Condition condition, int seconds = TestClient::kWaitSeconds) {
  const int64_t end = monotonic_ns() + int64_t{seconds} * 1'000'000'000;
  while (!condition()) {
    if (monotonic_ns() > end) return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

}  // namespace gantry
