#include "server/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>

#include "base/clock.h"
#include "base/log.h"
#include "server/api_error.h"
#include "server/http_text.h"

namespace gantry {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

int64_t seconds_from_now(int seconds) { return monotonic_ns() + int64_t{seconds} * 1'000'000'000; }

constexpr size_t kReadBytes = 4096;          // at a time, of heads and what is read ahead
constexpr size_t kBodyReadBytes = 64 << 10;  // at a time, of bodies

// Counts a body that is being received against limits::kHttpBodiesBytesMax.
class BodyBytes {
 public:
  explicit BodyBytes(std::atomic<size_t>& total) : total_(total) {}
  ~BodyBytes() { total_ -= held_; }
  BodyBytes(const BodyBytes&) = delete;
  BodyBytes& operator=(const BodyBytes&) = delete;
  bool grow_to(size_t bytes) {
    if (bytes <= held_) return true;
    const size_t more = bytes - held_;
    held_ = bytes;
    return total_.fetch_add(more) + more <= limits::kHttpBodiesBytesMax;
  }

 private:
  std::atomic<size_t>& total_;
  size_t held_ = 0;
};

class Exchange : public HttpExchange {
 public:
  Exchange(std::shared_ptr<HttpConnection> connection, uint64_t id, HttpRequest request)
      : connection_(std::move(connection)), id_(id), request_(std::move(request)) {}
  ~Exchange() override {
    connection_->post([connection = connection_, id = id_] { connection->abandon(id); });
  }
  void post(std::function<void()> fn) override { connection_->post(std::move(fn)); }
  HttpRequest& request() override { return request_; }
  void respond(HttpResponse response) override { connection_->respond(id_, std::move(response)); }
  void start_stream(HttpResponse head) override { connection_->start_stream(id_, std::move(head)); }
  bool write(std::string_view data) override { return connection_->write(id_, data); }
  void end_stream() override { connection_->end_stream(id_); }
  void abort() override { connection_->abort(id_); }
  void on_client_gone(std::function<void()> fn) override { connection_->on_client_gone(id_, std::move(fn)); }
  void run_after(int64_t milliseconds, std::function<void()> fn) override {
    connection_->run_after(id_, milliseconds, std::move(fn));
  }

 private:
  std::shared_ptr<HttpConnection> connection_;
  uint64_t id_;
  HttpRequest request_;
};

}  // namespace

HttpConnection::HttpConnection(std::shared_ptr<HttpServerState> state, tcp::socket socket)
    : state_(std::move(state)), socket_(std::move(socket)), answered_(socket_.get_executor()) {}

void HttpConnection::start() {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  const auto ended = [self = shared_from_this()](const std::exception_ptr& failure) {
    if (failure) log::error("a connection ended on an exception");
    self->cut();
    const std::lock_guard lock(self->state_->mutex);
    self->state_->connections.erase(self);
    if (self->state_->connections.empty()) self->state_->empty.notify_all();
  };
  asio::co_spawn(socket_.get_executor(), [self = shared_from_this()] { return self->run(); }, ended);
}

void HttpConnection::post(std::function<void()> fn) {
  if (!state_->stopped) asio::post(socket_.get_executor(), std::move(fn));
}

HttpConnection::Awaitable<void> HttpConnection::run() {
  while (!dead_ && !close_after_) {
    HttpRequest request;
    if (!co_await read_head(request)) break;
    head_only_ = request.head.method == "HEAD";
    request_id_ = request.id;
    close_after_ = !request.head.keep_alive;
    unread_body_ = request.head.has_body();
    streaming_ = false;
    complete_ = false;
    ++exchange_;
    if (std::optional<HttpResponse> refusal = state_->handler.check(request.head)) {
      close_after_ = close_after_ || unread_body_;
      send(std::move(*refusal));
    } else {
      if (!co_await read_body(request)) break;
      unread_body_ = false;
      phase_ = Phase::kHandling;
      chunked_ = request.head.version_minor == 1;
      state_->handler.handle(std::make_shared<Exchange>(shared_from_this(), exchange_, std::move(request)));
    }
    co_await answered();
  }
  if (!dead_) co_await linger();
}

// Waits until the answer has been sent, watching for the client's going away.
HttpConnection::Awaitable<void> HttpConnection::answered() {
  phase_ = Phase::kHandling;
  error_code ignored;
  while (!dead_ && !(complete_ && !writing_ && out_.empty())) {
    watch_client();
    answered_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await answered_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  while (watching_) {
    stop_watching_.emit(asio::cancellation_type::all);
    answered_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await answered_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  on_gone_ = nullptr;
  timer_fn_ = nullptr;
  timer_ns_ = 0;
  if (state_->draining) close_after_ = true;
}

void HttpConnection::wake() { answered_.cancel(); }

// Appends what the peer sends to in_. False when it ended, failed, or ran into the read deadline.
HttpConnection::Awaitable<bool> HttpConnection::read_more(size_t bytes_max) {
  const size_t old = in_.size();
  in_.resize(old + bytes_max);
  error_code error;
  const size_t n = co_await socket_.async_read_some(asio::buffer(in_.data() + old, bytes_max),
                                                    asio::redirect_error(asio::use_awaitable, error));
  in_.resize(old + n);
  co_return !error && !timed_out_ && !dead_;
}

HttpConnection::Awaitable<bool> HttpConnection::read_head(HttpRequest& request) {
  HeadScanner scanner;
  if (in_.empty()) {
    in_ = std::string();  // an idle connection holds no buffer
    phase_ = Phase::kIdle;
    if (state_->draining) co_return false;
    read_deadline_ns_ = seconds_from_now(state_->options.idle_seconds_max);
    error_code error;
    co_await socket_.async_wait(tcp::socket::wait_read, asio::redirect_error(asio::use_awaitable, error));
    if (error || dead_ || timed_out_) co_return false;
  }
  phase_ = Phase::kHead;
  read_deadline_ns_ = seconds_from_now(state_->options.header_seconds_max);
  while (true) {
    if (const HttpError error = scanner.scan(in_)) {
      co_await refuse(error);
      co_return false;
    }
    if (scanner.done()) break;
    const bool more = co_await read_more(std::min(kReadBytes, limits::kHttpHeaderBytesMax - in_.size() + 1));
    if (timed_out_ && !in_.empty()) co_await refuse({408, "the request's head took too long"});
    if (!more) co_return false;
  }
  const HttpError error = parse_head(std::string_view(in_).substr(0, scanner.size()), request.head);
  in_.erase(0, scanner.size());
  request.id = request_id(request.head.find("x-request-id"));
  request.arrival_ns = monotonic_ns();
  if (error) {
    request_id_ = request.id;
    head_only_ = request.head.method == "HEAD";
    unread_body_ = true;
    co_await refuse(error);
    co_return false;
  }
  read_deadline_ns_ = 0;
  co_return true;
}

HttpConnection::Awaitable<bool> HttpConnection::read_body(HttpRequest& request) {
  const RequestHead& head = request.head;
  if (!head.has_body()) co_return true;
  if (head.content_length.value_or(0) > state_->options.body_bytes_max) {
    co_await refuse({413, "the request body is too large"});
    co_return false;
  }
  phase_ = Phase::kBody;
  const int64_t limit = seconds_from_now(state_->options.body_seconds_max);
  read_deadline_ns_ = std::min(limit, seconds_from_now(state_->options.body_idle_seconds_max));
  if (head.expect_continue && in_.empty()) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code error;
    co_await asio::async_write(socket_, asio::buffer(kContinue),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
  }
  ChunkedDecoder decoder(state_->options.body_bytes_max);
  BodyBytes held(state_->body_bytes);
  const size_t length = head.content_length.value_or(0);
  while (true) {
    if (head.chunked) {
      size_t used = 0;
      if (const HttpError error = decoder.push(in_, used, request.body)) {
        co_await refuse(error);
        co_return false;
      }
      in_.erase(0, used);
      if (decoder.done()) break;
    } else {
      const size_t take = std::min(in_.size(), length - request.body.size());
      request.body.append(in_, 0, take);
      in_.erase(0, take);
      if (request.body.size() == length) break;
    }
    if (!held.grow_to(request.body.capacity() + in_.capacity())) {
      co_await refuse({503, "too many requests are being received"});
      co_return false;
    }
    const size_t missing = head.chunked ? kBodyReadBytes : length - request.body.size();
    const bool more = co_await read_more(std::min(kBodyReadBytes, missing));
    if (timed_out_) co_await refuse({408, "the request body took too long"});
    if (!more) co_return false;
    read_deadline_ns_ = std::min(limit, seconds_from_now(state_->options.body_idle_seconds_max));
  }
  read_deadline_ns_ = 0;
  if (in_.size() < kReadBytes) in_.shrink_to_fit();
  co_return true;
}

// Answers an error of framing; the connection ends with it.
HttpConnection::Awaitable<void> HttpConnection::refuse(HttpError error) {
  read_deadline_ns_ = 0;
  timed_out_ = false;
  if (request_id_.empty()) request_id_ = request_id(nullptr);
  close_after_ = true;
  unread_body_ = true;
  complete_ = false;
  ++exchange_;
  in_.clear();
  send(error_response(error.status, error.text));
  phase_ = Phase::kHandling;
  error_code ignored;
  while (!dead_ && (writing_ || !out_.empty())) {
    answered_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await answered_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

// Closing with unread bytes makes the kernel send a reset, which can destroy the answer on its way: so read
// on for a short while (RFC 9112, 9.6).
HttpConnection::Awaitable<void> HttpConnection::linger() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  if (!unread_body_) co_return;
  phase_ = Phase::kIdle;
  read_deadline_ns_ = seconds_from_now(limits::kHttpLingerSecondsMax);
  timed_out_ = false;
  do {
    in_.clear();
  } while (co_await read_more(kBodyReadBytes));
}

void HttpConnection::expire(int64_t now_ns) {
  const auto passed = [now_ns](const std::atomic<int64_t>& deadline) {
    const int64_t at = deadline.load(std::memory_order_relaxed);
    return at != 0 && at <= now_ns;
  };
  if (!passed(read_deadline_ns_) && !passed(write_deadline_ns_) && !passed(timer_ns_)) return;
  post([self = shared_from_this(), passed] {
    if (self->dead_) return;
    if (passed(self->write_deadline_ns_)) return self->cut();
    if (passed(self->read_deadline_ns_)) {
      self->read_deadline_ns_ = 0;
      self->timed_out_ = true;
      error_code ignored;
      self->socket_.cancel(ignored);
    }
    if (passed(self->timer_ns_)) {
      self->timer_ns_ = 0;
      if (const auto fn = std::exchange(self->timer_fn_, nullptr)) fn();
    }
  });
}

void HttpConnection::drain() {
  if (phase_ == Phase::kIdle) cut();
}

void HttpConnection::cut() {
  if (dead_) return;
  dead_ = true;
  error_code ignored;
  socket_.close(ignored);
  read_deadline_ns_ = write_deadline_ns_ = timer_ns_ = 0;
  timer_fn_ = nullptr;
  if (const auto fn = std::exchange(on_gone_, nullptr); fn && !complete_) fn();
  wake();
}

void HttpConnection::watch_client() {
  if (watching_ || dead_ || in_.size() >= limits::kHttpReadAheadBytesMax) return;
  watching_ = true;
  socket_.async_wait(
      tcp::socket::wait_read,
      asio::bind_cancellation_slot(stop_watching_.slot(), [self = shared_from_this()](error_code error) {
        self->watching_ = false;
        if (!error) self->read_ahead();
        self->wake();
      }));
}

// The next request's bytes, or the end of the connection. A peer that has shut down its sending side counts
// as gone: HTTP clients do that only when they leave.
void HttpConnection::read_ahead() {
  const size_t old = in_.size();
  in_.resize(old + kReadBytes);
  error_code error;
  const size_t n = socket_.read_some(asio::buffer(in_.data() + old, kReadBytes), error);
  in_.resize(old + n);
  if (error && error != asio::error::would_block && error != asio::error::interrupted) {
    if (complete_) {
      close_after_ = true;  // the answer may still be read
    } else {
      cut();
    }
  }
}

void HttpConnection::send(HttpResponse response) {
  if (state_->draining) close_after_ = true;
  ResponseHeadInfo info{
      .request_id = request_id_, .content_length = response.body.size(), .close = close_after_};
  out_ += format_head(response, info);
  if (!head_only_) {
    if (out_.capacity() - out_.size() < response.body.size() && !writing_) {
      out_.reserve(out_.size() + response.body.size());
    }
    out_ += response.body;
  }
  finish_answer();
}

void HttpConnection::finish_answer() {
  complete_ = true;
  on_gone_ = nullptr;
  timer_ns_ = 0;
  timer_fn_ = nullptr;
  flush();
}

void HttpConnection::flush() {
  if (writing_ || dead_) return;
  if (out_.empty()) {
    if (complete_) wake();
    return;
  }
  in_flight_.swap(out_);
  out_.clear();
  written_ = 0;
  writing_ = true;
  write_some();
}

void HttpConnection::write_some() {
  write_deadline_ns_ = seconds_from_now(state_->options.write_seconds_max);
  socket_.async_write_some(asio::buffer(in_flight_.data() + written_, in_flight_.size() - written_),
                           [self = shared_from_this()](error_code error, size_t n) {
                             self->write_deadline_ns_ = 0;
                             if (self->dead_) return;
                             if (error) return self->cut();
                             self->written_ += n;
                             if (self->written_ < self->in_flight_.size()) return self->write_some();
                             self->writing_ = false;
                             if (self->in_flight_.capacity() > kReadBytes) self->in_flight_ = std::string();
                             self->flush();
                           });
}

void HttpConnection::respond(uint64_t exchange, HttpResponse response) {
  if (current(exchange) && !streaming_) send(std::move(response));
}

void HttpConnection::start_stream(uint64_t exchange, HttpResponse head) {
  if (!current(exchange) || streaming_) return;
  streaming_ = true;
  if (!chunked_ || state_->draining) close_after_ = true;
  out_ += format_head(
      head, {.request_id = request_id_, .content_length = {}, .chunked = chunked_, .close = close_after_});
  flush();
}

bool HttpConnection::write(uint64_t exchange, std::string_view data) {
  if (!current(exchange) || !streaming_) return false;
  if (out_.size() > limits::kStreamBufferedBytesMax) {
    cut();
    return false;
  }
  if (data.empty()) return true;
  if (chunked_) {
    fmt::format_to(std::back_inserter(out_), "{:x}\r\n", data.size());
    out_.append(data).append("\r\n");
  } else {
    out_ += data;
  }
  flush();
  return !dead_;
}

void HttpConnection::end_stream(uint64_t exchange) {
  if (!current(exchange) || !streaming_) return;
  if (chunked_) out_ += "0\r\n\r\n";
  finish_answer();
}

void HttpConnection::abort(uint64_t exchange) {
  if (!current(exchange)) return;
  on_gone_ = nullptr;
  cut();
}

void HttpConnection::on_client_gone(uint64_t exchange, std::function<void()> fn) {
  if (current(exchange)) {
    on_gone_ = std::move(fn);
  } else if (exchange == exchange_ && dead_ && !complete_) {
    fn();
  }
}

void HttpConnection::run_after(uint64_t exchange, int64_t milliseconds, std::function<void()> fn) {
  if (!current(exchange)) return;
  timer_ns_ = fn ? monotonic_ns() + milliseconds * 1'000'000 : 0;
  timer_fn_ = std::move(fn);
}

void HttpConnection::abandon(uint64_t exchange) {
  if (!current(exchange)) return;
  if (streaming_) return cut();
  send(error_response(500, "the server dropped the request; its id is " + request_id_));
}

}  // namespace gantry
