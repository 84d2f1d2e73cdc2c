// The front's HTTP side as one object: what `gantry serve` starts and stops.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/http_server.h"
#include "server/model_registry.h"

namespace gantry {

struct ServerOptions {
  HttpServerOptions http{};
  std::vector<std::string> api_keys{};  // any of them opens every route; empty: no key is asked for
  bool vllm_metric_names = false;       // beside Gantry's own
  int worker_threads = 2;               // for bodies, templates, tokenising
  std::string version{};
};

class Server {
 public:
  // Listens when it returns; models may be added, loaded and published while it answers /health.
  // kInvalidArgument and kUnavailable as HttpServer::start().
  static Result<std::unique_ptr<Server>> start(ServerOptions options);
  ~Server();  // stop(0)

  // add() each model, set_progress() while it loads, publish() or fail() it. What was published outlives the
  // server.
  ModelRegistry& models();
  int port() const;
  // True once every model has generated a token just now; asks idle ones for one, and waits for it up to
  // `limit`.
  bool wait_until_ready(std::chrono::milliseconds limit);
  // Takes no new connection; what runs may end until `drain` is over, then it is cut off. True if nothing
  // was.
  bool stop(std::chrono::milliseconds drain);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry
