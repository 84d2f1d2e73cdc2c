// HTTP as the routes see it: no sockets, no threads to mind.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_parser.h"

namespace gantry {

struct HttpRequest {
  RequestHead head;
  std::string body;
  std::string id;  // X-Request-Id: the client's if it is valid, else a new one; every answer carries it
  int64_t arrival_ns = 0;  // monotonic; when the head was complete
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<HttpHeader>
      headers;  // beside those that the server adds: Date, Content-Length, X-Request-Id, ...
  std::string body;
};

// One request and its answer: respond() once, or start_stream(), write() ..., end_stream().
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  // Any thread: runs fn where the functions below may be called. Dropped once the server has stopped.
  virtual void post(std::function<void()> fn) = 0;

  // The rest is for HttpHandler::handle() and for functions given to post(), on_client_gone() and run_after()
  // only: these never run at the same time. After the answer, or once the client has gone, they do nothing.
  virtual HttpRequest& request() = 0;
  virtual void respond(HttpResponse response) = 0;
  // The body is ignored.
  virtual void start_stream(HttpResponse head) = 0;
  // False if the client has gone, or reads so slowly that limits::kStreamBufferedBytesMax bytes wait already:
  // then the stream is aborted.
  virtual bool write(std::string_view data) = 0;
  virtual void end_stream() = 0;
  // Closes the connection without the end of the answer.
  virtual void abort() = 0;
  // Called once if the client goes away before the answer is complete.
  virtual void on_client_gone(std::function<void()> fn) = 0;
  // One timer, of about 0.2 s resolution: a new call replaces the last; null stops it.
  virtual void run_after(int64_t milliseconds, std::function<void()> fn) = 0;
};

// Called on I/O threads, for several connections at a time: must not block or compute for long.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Before the body is read: an answer here refuses the request, and a body on its way is not read.
  virtual std::optional<HttpResponse> check(const RequestHead& head) = 0;
  virtual void handle(std::shared_ptr<HttpExchange> exchange) = 0;
};

}  // namespace gantry
