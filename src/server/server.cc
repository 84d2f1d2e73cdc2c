#include "server/server.h"

#include <condition_variable>
#include <mutex>

#include "server/api_handler.h"
#include "server/metrics.h"
#include "server/work_pool.h"

namespace gantry {

struct Server::Impl {
  explicit Impl(const ServerOptions& options)
      : metrics(options.vllm_metric_names),
        registry(metrics),
        work(std::make_unique<WorkPool>(options.worker_threads)),
        handler({.api_keys = options.api_keys, .version = options.version}, registry, metrics, *work) {}

  Metrics metrics;
  ModelRegistry registry;
  std::unique_ptr<WorkPool> work;
  ApiHandler handler;
  std::unique_ptr<HttpServer> http;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  stop(std::chrono::milliseconds(0));
  impl_->http.reset();
  impl_->work.reset();  // its tasks use the handler
}

Result<std::unique_ptr<Server>> Server::start(ServerOptions options) {
  auto impl = std::make_unique<Impl>(options);
  GANTRY_ASSIGN_OR_RETURN(impl->http, HttpServer::start(options.http, impl->handler));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

ModelRegistry& Server::models() { return impl_->registry; }
int Server::port() const { return impl_->http->port(); }

bool Server::wait_until_ready(std::chrono::milliseconds limit) {
  struct Signal {
    std::mutex mutex;
    std::condition_variable changed;
    bool rung = false;
  };
  const auto signal = std::make_shared<Signal>();
  const auto end = std::chrono::steady_clock::now() + limit;
  Readiness& readiness = impl_->handler.readiness();
  while (!readiness.state().ready) {
    const bool asked = readiness.probe([signal] {
      const std::lock_guard lock(signal->mutex);
      signal->rung = true;
      signal->changed.notify_all();
    });
    std::unique_lock lock(signal->mutex);
    if (asked) signal->changed.wait_until(lock, end, [&] { return signal->rung; });
    signal->rung = false;
    // A model that refuses is not asked again at once.
    const auto next = std::min(end, std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
    signal->changed.wait_until(lock, next, [&] { return readiness.state().ready; });
    if (std::chrono::steady_clock::now() >= end) return readiness.state().ready;
  }
  return true;
}

bool Server::stop(std::chrono::milliseconds drain) {
  impl_->handler.set_draining();
  return impl_->http->stop(drain);
}

}  // namespace gantry
