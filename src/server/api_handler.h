// The routes: which there are, who may use them, and what each does.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation.h"
#include "server/http.h"
#include "server/json_reader.h"
#include "server/metrics.h"
#include "server/model_registry.h"
#include "server/readiness.h"
#include "server/work_pool.h"

namespace gantry {

struct ApiOptions {
  std::vector<std::string> api_keys;  // empty: no key is asked for
  std::string version;
};

// A route of the table. Routes need a key unless they are open: a new one is closed until someone decides.
struct Route {
  std::string_view method;
  std::string_view path;  // a trailing "/*" stands for the rest of the path
  bool open;
};
const std::vector<Route>& routes();

class ApiHandler : public HttpHandler {
 public:
  // What is referred to outlives this.
  ApiHandler(ApiOptions options, ModelRegistry& registry, Metrics& metrics, WorkPool& work);

  std::optional<HttpResponse> check(const RequestHead& head) override;
  void handle(std::shared_ptr<HttpExchange> exchange) override;
  void set_draining() { draining_ = true; }
  Readiness& readiness() { return readiness_; }

 private:
  using Exchange = std::shared_ptr<HttpExchange>;

  HttpResponse counted(HttpResponse response);
  bool authorized(const RequestHead& head) const;
  // Parses the body on a worker and runs fn there; fn's error is answered.
  template <typename Fn>
  void with_body(const Exchange& exchange, Fn fn);
  template <typename Read>
  void generate(const Exchange& exchange, Read read, MakeReply make_reply, const char* id_prefix);

  HttpResponse list_models();
  HttpResponse show_model(std::string_view encoded_id);
  HttpResponse health();
  HttpResponse metrics();
  void ready(const Exchange& exchange);
  void answer_ready(const Exchange& exchange);

  ApiOptions options_;
  ModelRegistry& registry_;
  Metrics& metrics_;
  WorkPool& work_;
  Readiness readiness_;
  std::atomic<bool> draining_{false};
};

}  // namespace gantry
