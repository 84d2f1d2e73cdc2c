#include "loadgen/load_client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "base/clock.h"
#include "loadgen/openai_stream.h"

namespace gantry::loadgen {
namespace {

constexpr long kConnectSecondsMax = 10;
constexpr long kModelsSecondsMax = 30;
constexpr size_t kModelsBytesMax = 4u << 20;
constexpr int kPollMsMax = 100;  // how soon an interruption is seen

struct CloseEasy {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};
struct CloseMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, CloseEasy>;
using Multi = std::unique_ptr<CURLM, CloseMulti>;
using Headers = std::unique_ptr<curl_slist, FreeList>;

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  GANTRY_CHECK(started == CURLE_OK);
}

Headers make_headers(const Endpoint& endpoint) {
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  list = curl_slist_append(list, "Expect:");  // no round trip before a large body
  if (!endpoint.api_key.empty())
    list = curl_slist_append(list, ("Authorization: Bearer " + endpoint.api_key).c_str());
  return Headers(list);
}

void set_common(CURL* curl, const std::string& url, const Headers& headers) {
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSecondsMax);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
}

size_t append_limited(char* data, size_t size, size_t count, void* user) {
  auto* body = static_cast<std::string*>(user);
  if (body->size() + size * count > kModelsBytesMax) return 0;
  body->append(data, size * count);
  return size * count;
}

// Thousands of streams need as many descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// One connection's worth of a request; used again for later ones.
struct Transfer {
  Easy curl;
  std::string body;
  OpenAiStream stream;
  LoadRecord record;
  int64_t run_began_ns = 0;

  int64_t now() const { return monotonic_ns() - run_began_ns; }
};

int status_of(CURL* curl) {
  long code = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
  return static_cast<int>(code);
}

size_t on_bytes(char* data, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  const bool go_on = transfer->stream.push({data, size * count}, status_of(transfer->curl.get()),
                                           transfer->now(), transfer->record);
  return go_on ? size * count : 0;
}

class LoadRun {
 public:
  LoadRun(const Endpoint& endpoint, const Workload& workload, const LoadPlan& plan)
      : endpoint_(endpoint),
        workload_(workload),
        plan_(plan),
        url_(endpoint.url + (endpoint.chat ? "/v1/chat/completions" : "/v1/completions")),
        headers_(make_headers(endpoint)),
        multi_(curl_multi_init()),
        random_(plan.seed),
        began_ns_(monotonic_ns()) {
    GANTRY_CHECK(multi_ != nullptr);
    curl_multi_setopt(multi_.get(), CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
  }
  ~LoadRun() {
    for (const auto& transfer : transfers_) curl_multi_remove_handle(multi_.get(), transfer->curl.get());
  }

  Result<std::vector<LoadRecord>> run(const std::atomic<bool>& stop,
                                      const std::function<void(const LoadProgress&)>& on_progress) {
    while (true) {
      if (stop.load()) {
        give_up();
        break;
      }
      start_due();
      int running = 0;
      if (const CURLMcode code = curl_multi_perform(multi_.get(), &running); code != CURLM_OK) {
        return internal_error(fmt::format("libcurl: {}", curl_multi_strerror(code)));
      }
      const size_t before = records_.size();
      collect();
      if (records_.size() > before) {
        on_progress({static_cast<int64_t>(records_.size()), started_, seconds()});
        continue;  // what waited for a place starts at once
      }
      if (active_ == 0 && !more()) break;
      curl_multi_poll(multi_.get(), nullptr, 0, wait_ms(), nullptr);
    }
    return std::move(records_);
  }

 private:
  double seconds() const { return static_cast<double>(monotonic_ns() - began_ns_) * 1e-9; }
  bool more() const {
    if (plan_.requests > 0 && started_ >= plan_.requests) return false;
    return plan_.seconds <= 0 || std::max(next_arrival_s_, seconds()) < plan_.seconds;
  }
  bool has_place() const { return plan_.max_concurrency <= 0 || active_ < plan_.max_concurrency; }

  void start_due() {
    while (more() && has_place() && next_arrival_s_ <= seconds()) {
      start();
      if (std::isinf(plan_.request_rate)) continue;
      // u is in (0, 1].
      const double u = 1.0 - static_cast<double>(random_() >> 11) * 0x1.0p-53;
      next_arrival_s_ -= std::log(u) / plan_.request_rate;
    }
  }

  int wait_ms() const {
    if (!more() || !has_place()) return kPollMsMax;
    const double ms = (next_arrival_s_ - seconds()) * 1e3;
    return static_cast<int>(std::clamp(ms, 0.0, double{kPollMsMax}));
  }

  void start() {
    if (spare_.empty()) {
      transfers_.push_back(std::make_unique<Transfer>());
      transfers_.back()->curl.reset(curl_easy_init());
      GANTRY_CHECK(transfers_.back()->curl != nullptr);
      spare_.push_back(transfers_.back().get());
    }
    Transfer& t = *spare_.back();
    spare_.pop_back();
    t.stream = {};
    t.record = {};
    t.run_began_ns = began_ns_;
    t.record.index = plan_.first_index + started_;
    t.body = request_body(endpoint_, workload_.item(t.record.index));
    CURL* curl = t.curl.get();
    curl_easy_reset(curl);
    set_common(curl, url_, headers_);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, t.body.c_str());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.body.size()));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(endpoint_.timeout_s * 1e3));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, &t);
    ++started_;
    ++active_;
    t.record.sent_ns = t.now();
    GANTRY_CHECK(curl_multi_add_handle(multi_.get(), curl) == CURLM_OK);
  }

  void collect() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      char* user = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
      const CURLcode code = message->data.result;
      end(*reinterpret_cast<Transfer*>(user), code == CURLE_OK ? "" : curl_easy_strerror(code));
    }
  }

  void end(Transfer& t, const std::string& transport_error) {
    CURL* curl = t.curl.get();
    t.stream.finish(transport_error, status_of(curl), t.now(), t.record);
    curl_off_t retry_after = 0;
    if (t.record.outcome == Outcome::kRefused &&
        curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after) == CURLE_OK && retry_after > 0) {
      t.record.retry_after_s = static_cast<int>(std::min<curl_off_t>(retry_after, 1 << 30));
    }
    curl_multi_remove_handle(multi_.get(), curl);
    records_.push_back(std::move(t.record));
    spare_.push_back(&t);
    --active_;
  }

  void give_up() {
    for (const auto& t : transfers_) {
      if (std::find(spare_.begin(), spare_.end(), t.get()) == spare_.end()) end(*t, "interrupted");
    }
  }

  const Endpoint& endpoint_;
  const Workload& workload_;
  const LoadPlan plan_;
  const std::string url_;
  const Headers headers_;
  const Multi multi_;
  std::mt19937_64 random_;
  const int64_t began_ns_;
  double next_arrival_s_ = 0;
  int64_t started_ = 0;
  int32_t active_ = 0;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<Transfer*> spare_;
  std::vector<LoadRecord> records_;
};

}  // namespace

std::string request_body(const Endpoint& endpoint, const WorkloadItem& item) {
  nlohmann::ordered_json body{{"model", endpoint.model}};
  if (!endpoint.chat) {
    body["prompt"] = item.prompt;
  } else if (item.messages) {
    body["messages"] = item.prompt;
  } else {
    body["messages"] = nlohmann::ordered_json::array();
    body["messages"].push_back({{"role", "user"}, {"content", item.prompt}});
  }
  body["max_tokens"] = item.output_tokens;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (endpoint.ignore_eos) body["ignore_eos"] = true;
  if (endpoint.temperature >= 0) body["temperature"] = endpoint.temperature;
  body.update(endpoint.extra);
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<std::string> first_model(const Endpoint& endpoint) {
  start_curl();
  const Easy curl(curl_easy_init());
  const Headers headers = make_headers(endpoint);
  std::string body;
  set_common(curl.get(), endpoint.url + "/v1/models", headers);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append_limited);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kModelsSecondsMax);
  if (const CURLcode code = curl_easy_perform(curl.get()); code != CURLE_OK) {
    return unavailable("no answer from " + endpoint.url + ": " + curl_easy_strerror(code));
  }
  if (const int status = status_of(curl.get()); status != 200)
    return unavailable(error_message(body, status));
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("data") && json["data"].is_array() && !json["data"].empty()) {
    const auto& model = json["data"][0];
    if (model.is_object() && model.contains("id") && model["id"].is_string())
      return model["id"].get<std::string>();
  }
  return unavailable(endpoint.url + " lists no model");
}

Result<std::vector<LoadRecord>> run_load(const Endpoint& endpoint, const Workload& workload,
                                         const LoadPlan& plan, const std::atomic<bool>& stop,
                                         const std::function<void(const LoadProgress&)>& on_progress) {
  GANTRY_CHECK(plan.requests > 0 || plan.seconds > 0);
  start_curl();
  raise_descriptor_limit();
  return LoadRun(endpoint, workload, plan).run(stop, on_progress);
}

}  // namespace gantry::loadgen
