#include "server/http_server.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "server/http_connection.h"

namespace gantry {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

namespace {
constexpr milliseconds kSweepPeriod{200};
constexpr std::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
}  // namespace

class HttpServer::Impl : public std::enable_shared_from_this<HttpServer::Impl> {
 public:
  Impl(HttpServerOptions options, HttpHandler& handler)
      : state_(std::make_shared<HttpServerState>(std::move(options), handler)),
        acceptor_(asio::make_strand(state_->io)),
        retry_(acceptor_.get_executor()),
        sweep_(asio::make_strand(state_->io)) {}

  Status listen() {
    error_code error;
    const HttpServerOptions& options = state_->options;
    tcp::resolver resolver(state_->io);
    const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                        tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error || found.empty()) {
      return invalid_argument(fmt::format("host '{}' is no address or name of this machine", options.host),
                              "host");
    }
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(4096, error);
    if (error) {
      return unavailable(
          fmt::format("cannot listen on {} port {}: {}", options.host, options.port, error.message()));
    }
    port_ = acceptor_.local_endpoint(error).port();
    return {};
  }

  void run() {
    asio::co_spawn(
        acceptor_.get_executor(), [self = shared_from_this()] { return self->accept(); }, asio::detached);
    asio::co_spawn(
        sweep_.get_executor(), [self = shared_from_this()] { return self->sweep(); }, asio::detached);
    for (int i = 0; i < state_->options.io_threads; ++i) {
      threads_.emplace_back([state = state_] { run_io(*state); });
    }
  }

  int port() const { return port_; }

  size_t connections() const {
    const std::lock_guard lock(state_->mutex);
    return state_->connections.size();
  }

  bool stop(milliseconds drain) {
    if (threads_.empty()) return true;
    state_->draining = true;
    asio::post(acceptor_.get_executor(), [self = shared_from_this()] {
      error_code ignored;
      self->acceptor_.close(ignored);
      self->retry_.cancel();
    });
    for_each([](HttpConnection& connection) { connection.drain(); });
    const bool clean = wait_until_empty(drain);
    if (!clean) {
      for_each([](HttpConnection& connection) { connection.cut(); });
      wait_until_empty(milliseconds(1000));
    }
    stopping_ = true;
    asio::post(sweep_.get_executor(), [self = shared_from_this()] { self->sweep_.cancel(); });
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    state_->stopped = true;
    state_->io.restart();
    state_->io.poll();  // what was posted while the threads ended
    return clean;
  }

 private:
  // A handler that throws (out of memory) costs its own request; the thread goes on.
  static void run_io(HttpServerState& state) {
    while (true) {
      try {
        state.io.run();
        return;
      } catch (const std::exception& error) {
        log::error("an I/O handler failed: {}", error.what());
      }
    }
  }

  template <typename Fn>
  void for_each(Fn fn) {
    const std::lock_guard lock(state_->mutex);
    for (const auto& connection : state_->connections) {
      connection->post([connection, fn] { fn(*connection); });
    }
  }

  bool wait_until_empty(milliseconds limit) {
    std::unique_lock lock(state_->mutex);
    return state_->empty.wait_for(lock, limit, [this] { return state_->connections.empty(); });
  }

  asio::awaitable<void> accept() {
    while (!state_->draining) {
      error_code error;
      tcp::socket socket = co_await acceptor_.async_accept(asio::make_strand(state_->io),
                                                           asio::redirect_error(asio::use_awaitable, error));
      if (state_->draining) break;
      if (error) {
        // Out of file descriptors or memory: connections wait in the backlog meanwhile.
        if (!accept_failing_) log::warn("cannot accept connections: {}", error.message());
        accept_failing_ = true;
        retry_.expires_after(milliseconds(100));
        co_await retry_.async_wait(asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      accept_failing_ = false;
      if (connections() >= static_cast<size_t>(state_->options.connections_max)) {
        socket.non_blocking(true, error);
        socket.write_some(asio::buffer(kFull), error);
        continue;
      }
      auto connection = std::make_shared<HttpConnection>(state_, std::move(socket));
      {
        const std::lock_guard lock(state_->mutex);
        state_->connections.insert(connection);
      }
      connection->start();
    }
  }

  asio::awaitable<void> sweep() {
    while (!stopping_) {
      error_code ignored;
      sweep_.expires_after(kSweepPeriod);
      co_await sweep_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      const int64_t now = monotonic_ns();
      const std::lock_guard lock(state_->mutex);
      for (const auto& connection : state_->connections) connection->expire(now);
    }
  }

  std::shared_ptr<HttpServerState> state_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  asio::steady_timer sweep_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  bool accept_failing_ = false;
  int port_ = 0;
};

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->stop(milliseconds(0)); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options, HttpHandler& handler) {
  auto impl = std::make_shared<Impl>(std::move(options), handler);
  GANTRY_RETURN_IF_ERROR(impl->listen());
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const { return impl_->port(); }
size_t HttpServer::connections() const { return impl_->connections(); }
bool HttpServer::stop(milliseconds drain) { return impl_->stop(drain); }

}  // namespace gantry
