// `gantry status`: what a running server serves, and how each replica and rank of it is.
#include "base/status.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/commands.h"

namespace gantry::cli {
namespace {

using nlohmann::json;

constexpr size_t kAnswerBytesMax = 16u << 20;
constexpr long kAnswerSecondsMax = 10;  // /ready asks for a token, and waits for it

struct Answer {
  long status = 0;
  std::string body;
};

size_t append(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > kAnswerBytesMax) return 0;
  body->append(data, size * count);
  return size * count;
}

Result<Answer> get(const std::string& url) {
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  if (initialized != CURLE_OK || curl == nullptr) return internal_error("libcurl cannot be used");
  Answer answer;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kAnswerSecondsMax);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer.body);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK)
    return unavailable(fmt::format("no server answers at {}: {}", url, curl_easy_strerror(code)));
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

// /health, with "url" and "ready".
Result<json> ask(const std::string& url) {
  GANTRY_ASSIGN_OR_RETURN(const Answer health, get(url + "/health"));
  json state = json::parse(health.body, nullptr, /*allow_exceptions=*/false);
  if (health.status != 200 || !state.is_object() || !state.contains("models")) {
    return data_loss(fmt::format("{} is no server of Gantry's: /health gives {}", url, health.status));
  }
  GANTRY_ASSIGN_OR_RETURN(const Answer ready, get(url + "/ready"));
  state["url"] = url;
  state["ready"] = ready.status == 200;
  return state;
}

std::string text_at(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end()) return "";
  return it->is_string() ? it->get<std::string>() : it->dump();
}

std::string age(const json& object) {
  const auto seconds = static_cast<int64_t>(object.value("age_seconds", 0.0));
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  return fmt::format("{} h", seconds / 3600);
}

// A row for each rank, the replica's and model's columns in the first.
std::vector<std::vector<std::string>> rows_of(const json& state) {
  std::vector<std::vector<std::string>> rows{
      {"MODEL", "STATE", "REPLICA", "STATE", "AGE", "RESTARTS", "RANK", "HOST", "PID", "STATE"}};
  for (const json& model : state["models"]) {
    std::vector<std::string> row{text_at(model, "id"), text_at(model, "state")};
    if (model["replicas"].empty()) rows.push_back(row);
    for (const json& replica : model["replicas"]) {
      row.resize(2);
      for (const char* key : {"id", "state"}) row.push_back(text_at(replica, key));
      row.push_back(age(replica));
      row.push_back(text_at(replica, "restarts"));
      for (const json& rank : replica["ranks"]) {
        row.resize(6);
        for (const char* key : {"rank", "host", "pid", "state"}) row.push_back(text_at(rank, key));
        rows.push_back(row);
        row.assign(6, "");
      }
      row.assign(2, "");
    }
  }
  return rows;
}

void print_table(const json& state) {
  fmt::print("{}  {}, {}, process {}\n", text_at(state, "url"), text_at(state, "status"),
             state["ready"] == true ? "ready" : "not ready", text_at(state, "pid"));
  const auto rows = rows_of(state);
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.resize(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
  for (const json& model : state["models"]) {
    for (const json& replica : model["replicas"]) {
      const std::string cause = text_at(replica, "cause");
      if (!cause.empty()) fmt::print("{} was started again: {}\n", text_at(replica, "id"), cause);
    }
  }
}

int run(std::string url, bool as_json) {
  while (url.ends_with('/')) url.pop_back();
  Result<json> state = json();
  try {
    state = ask(url);
    if (state.ok()) {
      if (as_json) {
        fmt::print("{}\n", state->dump(2, ' ', false, json::error_handler_t::replace));
      } else {
        print_table(*state);
      }
      return (*state)["ready"] == true ? 0 : 1;
    }
  } catch (const json::exception&) {
    state = data_loss(url + " is no server of this version: /health has another form");
  }
  fmt::print(stderr, "gantry status: {}\n", state.status().message());
  return 2;
}

}  // namespace

void add_status_command(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("status",
                         "How a running server is: models, replicas, ranks. Exit code 0: ready, 1: "
                         "not ready, 2: no server answers");
  auto url = std::make_shared<std::string>("http://127.0.0.1:8000");
  auto as_json = std::make_shared<bool>(false);
  add_flag(*command, "--url", *url, "The server");
  command->add_flag("--json", *as_json, "The state as JSON: /health with \"url\" and \"ready\"");
  command->callback([url, as_json, &exit_code] { exit_code = run(*url, *as_json); });
}

}  // namespace gantry::cli
