// HTTP/1.1 over TCP: connections, deadlines, bodies, pipelining, streams. Requests of one connection are
// answered in order, one at a time.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/limits.h"
#include "base/status.h"
#include "server/http.h"

namespace gantry {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address or a name of this machine
  int port = 8000;                 // 0 picks a free one
  int io_threads = 1;
  int connections_max = limits::kHttpConnectionsMax;
  size_t body_bytes_max = limits::kHttpBodyBytesMax;
  int header_seconds_max = limits::kHttpHeaderSecondsMax;
  int body_seconds_max = limits::kHttpBodySecondsMax;
  int body_idle_seconds_max = limits::kHttpBodyIdleSecondsMax;
  int idle_seconds_max = limits::kHttpIdleSecondsMax;
  int write_seconds_max = limits::kHttpWriteSecondsMax;
};

class HttpServer {
 public:
  // Listens when it returns. The handler outlives the server. kInvalidArgument for an address that is none,
  // kUnavailable if the port cannot be had.
  static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, HttpHandler& handler);
  ~HttpServer();  // stop(0)

  int port() const;
  size_t connections() const;
  // Takes no new connection and closes idle ones; what runs may end until the time is up, then it is cut off.
  // True if nothing had to be cut off. Once.
  bool stop(std::chrono::milliseconds drain);

 private:
  class Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace gantry
