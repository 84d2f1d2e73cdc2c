#include "server/api_handler.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/limits.h"
#include "server/api_error.h"
#include "server/chat_request.h"
#include "server/completion_request.h"
#include "server/health_json.h"
#include "server/tokenize_routes.h"

namespace gantry {
namespace {

bool matches(const Route& route, std::string_view path) {
  if (!route.path.ends_with("/*")) return route.path == path;
  const std::string_view stem = route.path.substr(0, route.path.size() - 1);
  return path.size() > stem.size() && path.starts_with(stem);
}

// HEAD is GET without the body.
bool takes(const Route& route, std::string_view method) {
  return route.method == method || (route.method == "GET" && method == "HEAD");
}

const Route* find_route(std::string_view method, std::string_view path) {
  for (const Route& route : routes()) {
    if (matches(route, path) && takes(route, method)) return &route;
  }
  return nullptr;
}

std::string allowed_methods(std::string_view path) {
  std::string allowed;
  for (const Route& route : routes()) {
    if (!matches(route, path)) continue;
    if (!allowed.empty()) allowed += ", ";
    allowed += route.method == "GET" ? "GET, HEAD" : route.method;
  }
  return allowed;
}

bool is_json(const std::string* content_type) {
  if (content_type == nullptr) return true;
  std::string_view type = std::string_view(*content_type).substr(0, content_type->find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  static constexpr std::string_view kJson = "application/json";
  return type.size() == kJson.size() && std::equal(type.begin(), type.end(), kJson.begin(),
                                                   [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

constexpr std::string_view kScheme = "bearer ";

// Of a request that is authorized.
std::string key_of(const RequestHead& head) { return head.find("authorization")->substr(kScheme.size()); }

// Time that does not depend on where two keys differ.
bool same_key(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]);
  }
  return difference == 0;
}

// X-Request-Timeout-Ms: how long the client will wait. 0 is no limit.
Result<int64_t> deadline_of(const HttpRequest& request) {
  const std::string* field = request.head.find("x-request-timeout-ms");
  if (field == nullptr) return int64_t{0};
  int64_t milliseconds = 0;
  const char* end = field->data() + field->size();
  const auto parsed = std::from_chars(field->data(), end, milliseconds);
  constexpr int64_t kDay = 24 * 60 * 60 * 1000;
  if (parsed.ec != std::errc() || parsed.ptr != end || milliseconds < 1 || milliseconds > kDay) {
    return invalid_argument(fmt::format("X-Request-Timeout-Ms must be between 1 and {}", kDay),
                            "X-Request-Timeout-Ms");
  }
  return request.arrival_ns + milliseconds * 1'000'000;
}

HttpResponse json_response(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

}  // namespace

const std::vector<Route>& routes() {
  static const std::vector<Route> kRoutes = {
      {"POST", "/v1/chat/completions", false},
      {"POST", "/v1/completions", false},
      {"POST", "/tokenize", false},
      {"POST", "/detokenize", false},
      {"GET", "/v1/models", false},
      {"GET", "/v1/models/*", false},
      {"GET", "/health", true},
      {"GET", "/ready", true},
      {"GET", "/metrics", true},
      {"GET", "/version", true},
  };
  return kRoutes;
}

ApiHandler::ApiHandler(ApiOptions options, ModelRegistry& registry, Metrics& metrics, WorkPool& work)
    : options_(std::move(options)),
      registry_(registry),
      metrics_(metrics),
      work_(work),
      readiness_(registry) {}

HttpResponse ApiHandler::counted(HttpResponse response) {
  metrics_.http_answer(response.status);
  return response;
}

bool ApiHandler::authorized(const RequestHead& head) const {
  if (options_.api_keys.empty()) return true;
  const std::string* field = head.find("authorization");
  if (field == nullptr) return false;
  if (field->size() <= kScheme.size() || !std::equal(kScheme.begin(), kScheme.end(), field->begin(),
                                                     [](char a, char b) { return a == (b | 0x20); })) {
    return false;
  }
  bool found = false;
  for (const std::string& key : options_.api_keys) {
    found = same_key(std::string_view(*field).substr(kScheme.size()), key) || found;
  }
  return found;
}

std::optional<HttpResponse> ApiHandler::check(const RequestHead& head) {
  const std::string allowed = allowed_methods(head.path);
  if (allowed.empty()) return counted(error_response(404, "there is no such route"));
  const Route* route = find_route(head.method, head.path);
  if (route == nullptr) {
    HttpResponse response = error_response(405, "the route does not take this method; it takes " + allowed);
    response.headers.push_back({"Allow", allowed});
    return counted(std::move(response));
  }
  if (!route->open && !authorized(head))
    return counted(error_response(401, "the API key is missing or wrong"));
  if (route->method != "POST") return std::nullopt;
  if (!is_json(head.find("content-type"))) {
    return counted(error_response(415, "the body must be application/json"));
  }
  const std::string* encoding = head.find("content-encoding");
  if (encoding != nullptr && *encoding != "identity") {
    return counted(error_response(415, "the body must not be compressed"));
  }
  return std::nullopt;
}

template <typename Fn>
void ApiHandler::with_body(const Exchange& exchange, Fn fn) {
  const size_t bytes = exchange->request().body.size();
  const bool queued = work_.submit(bytes, [this, exchange, fn] {
    std::string text = std::move(exchange->request().body);
    Status status;
    if (Result<Json> body = read_json_object(text); body.ok()) {
      text = std::string();
      status = fn(*body);
    } else {
      status = body.status();
    }
    if (status.ok()) return;
    exchange->post([this, exchange, status] {
      exchange->respond(counted(error_response(status, exchange->request().id)));
    });
  });
  if (!queued) exchange->respond(counted(error_response(503, "too many requests wait to be read")));
}

template <typename Read>
void ApiHandler::generate(const Exchange& exchange, Read read, MakeReply make_reply, const char* id_prefix) {
  Result<int64_t> deadline = deadline_of(exchange->request());
  if (!deadline.ok()) {
    return exchange->respond(counted(error_response(deadline.status(), exchange->request().id)));
  }
  with_body(exchange,
            [this, exchange, read, make_reply, id_prefix, deadline = *deadline](const Json& body) -> Status {
              Result<GenerationSpec> parsed = read(body, registry_);
              if (!parsed.ok()) return parsed.status();
              auto spec = std::make_shared<GenerationSpec>(std::move(parsed).value());
              spec->arrival_ns = exchange->request().arrival_ns;
              spec->deadline_ns = deadline;
              // Clients may name themselves at will; a key they cannot choose.
              if (!options_.api_keys.empty()) spec->tenant = key_of(exchange->request().head);
              exchange->post([exchange, spec, make_reply, id_prefix] {
                Generation::start(exchange, std::move(*spec), make_reply, id_prefix);
              });
              return {};
            });
}

void ApiHandler::handle(Exchange exchange) {
  const RequestHead& head = exchange->request().head;
  const std::string& path = head.path;
  if (path == "/v1/chat/completions")
    return generate(exchange, read_chat_request, make_chat_reply, "chatcmpl-");
  if (path == "/v1/completions")
    return generate(exchange, read_completion_request, make_completion_reply, "cmpl-");
  if (path == "/tokenize" || path == "/detokenize") {
    const auto convert = path == "/tokenize" ? tokenize : detokenize;
    return with_body(exchange, [this, exchange, convert](const Json& body) -> Status {
      Result<std::string> text = convert(body, registry_);
      if (!text.ok()) return text.status();
      auto response = std::make_shared<HttpResponse>(json_response(std::move(text).value()));
      exchange->post([this, exchange, response] { exchange->respond(counted(std::move(*response))); });
      return {};
    });
  }
  if (path == "/ready") return ready(exchange);
  if (path == "/v1/models") return exchange->respond(counted(list_models()));
  if (path == "/health") return exchange->respond(counted(health()));
  if (path == "/metrics") return exchange->respond(counted(metrics()));
  if (path == "/version") {
    std::string body;
    JsonWriter(body).object().key("version").value(options_.version).end_object();
    return exchange->respond(counted(json_response(std::move(body))));
  }
  exchange->respond(counted(show_model(std::string_view(path).substr(sizeof("/v1/models/") - 1))));
}

HttpResponse ApiHandler::list_models() {
  const auto models = registry_.loaded();
  if (models.empty()) return error_response(503, "no model is loaded yet");
  std::string body;
  JsonWriter json(body);
  json.object().key("object").value("list").key("data").array();
  for (const auto& model : models) write_model(json, *model);
  json.end_array().end_object();
  return json_response(std::move(body));
}

HttpResponse ApiHandler::show_model(std::string_view encoded_id) {
  const std::optional<std::string> id = percent_decode(encoded_id);
  if (!id)
    return error_response(400, "the model's name is not percent-encoded correctly", {.param = "model"});
  Result<std::shared_ptr<const LoadedModel>> model = registry_.find(*id);
  if (!model.ok()) return error_response(model.status(), {});
  std::string body;
  JsonWriter json(body);
  write_model(json, **model);
  return json_response(std::move(body));
}

HttpResponse ApiHandler::health() { return json_response(health_json(registry_.health(), draining_)); }

HttpResponse ApiHandler::metrics() {
  for (const auto& model : registry_.loaded()) {
    model->metrics->replica(model->served.front->stats());
    model->metrics->health(replicas_of(*model));
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics_.text();
  return response;
}

// Waits for the tokens that it asks for, within limits::kReadyProbeSecondsMax.
void ApiHandler::ready(const Exchange& exchange) {
  if (draining_ || readiness_.state().ready) return answer_ready(exchange);
  const bool waiting = readiness_.probe([this, weak = std::weak_ptr(exchange)] {
    const Exchange alive = weak.lock();
    if (!alive) return;
    alive->post([this, alive] {
      if (readiness_.state().ready) answer_ready(alive);
    });
  });
  if (!waiting) return answer_ready(exchange);
  exchange->run_after(int64_t{limits::kReadyProbeSecondsMax} * 1000,
                      [this, exchange] { answer_ready(exchange); });
}

void ApiHandler::answer_ready(const Exchange& exchange) {
  const Readiness::State state = readiness_.state();
  if (draining_) return exchange->respond(counted(error_response(503, "the server is shutting down")));
  if (!state.ready) {
    const std::string names = state.waiting_for.empty() ? "the models" : state.waiting_for;
    return exchange->respond(counted(error_response(503, "no token was generated just now by " + names)));
  }
  std::string body;
  JsonWriter(body).object().key("status").value("ready").end_object();
  exchange->respond(counted(json_response(std::move(body))));
}

}  // namespace gantry
