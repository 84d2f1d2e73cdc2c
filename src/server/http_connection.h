// One connection of the HTTP server. Internal to http_server.cc and http_connection.cc.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "server/http_server.h"

namespace gantry {

class HttpConnection;

// What the connections of a server share.
struct HttpServerState {
  HttpServerState(HttpServerOptions o, HttpHandler& h)
      : options(std::move(o)), handler(h), io(options.io_threads) {}

  HttpServerOptions options;
  HttpHandler& handler;
  boost::asio::io_context io;
  std::atomic<bool> draining{false};
  std::atomic<bool> stopped{false};
  std::atomic<size_t> body_bytes{0};  // of requests that are being received
  std::mutex mutex;
  std::condition_variable empty;
  std::unordered_set<std::shared_ptr<HttpConnection>> connections;  // under mutex
};

// Everything but expire() and post() runs on the connection's strand.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(std::shared_ptr<HttpServerState> state, boost::asio::ip::tcp::socket socket);

  // Serves the connection until it ends; then it leaves state->connections.
  void start();
  // Any thread: acts on deadlines that have passed.
  void expire(int64_t now_ns);
  void post(std::function<void()> fn);
  // Closes the connection if it is idle, or else at the end of its answer.
  void drain();
  // The client has gone, or is not worth waiting for.
  void cut();

  // Of the exchange numbered `exchange`; nothing if that is over.
  void respond(uint64_t exchange, HttpResponse response);
  void start_stream(uint64_t exchange, HttpResponse head);
  bool write(uint64_t exchange, std::string_view data);
  void end_stream(uint64_t exchange);
  void abort(uint64_t exchange);
  void on_client_gone(uint64_t exchange, std::function<void()> fn);
  void run_after(uint64_t exchange, int64_t milliseconds, std::function<void()> fn);
  // The exchange's owner dropped it without an answer.
  void abandon(uint64_t exchange);

 private:
  enum class Phase { kIdle, kHead, kBody, kHandling };
  template <typename T>
  using Awaitable = boost::asio::awaitable<T>;

  Awaitable<void> run();
  Awaitable<bool> read_head(HttpRequest& request);
  Awaitable<bool> read_body(HttpRequest& request);
  Awaitable<bool> read_more(size_t bytes_max);
  Awaitable<void> refuse(HttpError error);
  Awaitable<void> answered();
  Awaitable<void> linger();
  void send(HttpResponse response);
  void finish_answer();
  void flush();
  void write_some();
  void watch_client();
  void read_ahead();
  void wake();
  bool current(uint64_t exchange) const { return exchange == exchange_ && !complete_ && !dead_; }

  std::shared_ptr<HttpServerState> state_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer answered_;  // cancelled when the answer has been sent, or never will be
  boost::asio::cancellation_signal stop_watching_;
  std::string in_;         // received, not yet used
  std::string out_;        // to be written after in_flight_
  std::string in_flight_;  // being written
  size_t written_ = 0;     // of in_flight_
  std::string request_id_;
  std::function<void()> on_gone_;
  std::function<void()> timer_fn_;
  std::atomic<int64_t> read_deadline_ns_{0};  // 0: none
  std::atomic<int64_t> write_deadline_ns_{0};
  std::atomic<int64_t> timer_ns_{0};
  uint64_t exchange_ = 0;
  Phase phase_ = Phase::kIdle;
  bool head_only_ = false;  // HEAD
  bool chunked_ = false;    // how the stream is framed
  bool streaming_ = false;
  bool complete_ = true;  // the answer is in out_, or sent
  bool writing_ = false;
  bool watching_ = false;
  bool close_after_ = false;
  bool unread_body_ = false;
  bool timed_out_ = false;
  bool dead_ = false;
};

}  // namespace gantry
