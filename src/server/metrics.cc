#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

namespace gantry {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;
using Labels = std::map<std::string, std::string>;

const Buckets kLatencyBuckets = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                                 0.75,  1.0,   2.5,  5.0,  7.5,  10,   20,   40,  80,   160};
const Buckets kTokenLatencyBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                      0.15,  0.2,    0.3,   0.4,  0.5,   0.75, 1.0,   2.5};
const Buckets kRequestBuckets = {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2,   2.5,
                                 5,    10,   15,  20,  30,  40,  60,  120, 240, 960};
const Buckets kTokenCountBuckets = {1,   2,    5,    10,   20,     50,     100,    200,
                                    500, 1000, 2000, 5000, 10'000, 20'000, 50'000, 100'000};

constexpr const char* kKvBlocksTotal = "gantry_kv_blocks_total";

// Ours, and the names under which vllm's dashboards look for the same thing.
struct Alias {
  std::string_view name;
  std::string_view vllm;
};
constexpr std::array kAliases = {
    Alias{"gantry_num_requests_running", "vllm:num_requests_running"},
    Alias{"gantry_num_requests_waiting", "vllm:num_requests_waiting"},
    Alias{"gantry_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
    Alias{"gantry_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"},
    Alias{"gantry_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
    Alias{"gantry_prompt_tokens_total", "vllm:prompt_tokens_total"},
    Alias{"gantry_generation_tokens_total", "vllm:generation_tokens_total"},
    Alias{"gantry_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    Alias{"gantry_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    Alias{"gantry_request_time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds"},
    Alias{"gantry_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    Alias{"gantry_request_queue_time_seconds", "vllm:request_queue_time_seconds"},
    Alias{"gantry_request_prefill_time_seconds", "vllm:request_prefill_time_seconds"},
    Alias{"gantry_request_decode_time_seconds", "vllm:request_decode_time_seconds"},
    Alias{"gantry_request_prompt_tokens", "vllm:request_prompt_tokens"},
    Alias{"gantry_request_generation_tokens", "vllm:request_generation_tokens"},
    Alias{"gantry_request_success_total", "vllm:request_success_total"},
    Alias{"gantry_num_preemptions_total", "vllm:num_preemptions_total"},
    Alias{"gantry_spec_drafted_steps_total", "vllm:spec_decode_num_drafts_total"},
    Alias{"gantry_spec_draft_tokens_total", "vllm:spec_decode_num_draft_tokens_total"},
    Alias{"gantry_spec_accepted_tokens_total", "vllm:spec_decode_num_accepted_tokens_total"},
    Alias{"gantry_spec_accepted_total", "vllm:spec_decode_num_accepted_tokens_per_pos_total"},
};

class PrometheusModelMetrics : public ModelMetrics {
 public:
  PrometheusModelMetrics(prometheus::Registry& registry, const std::string& model)
      : registry_(registry), labels_{{"model_name", model}} {}

  void prompt_tokens(int64_t count) override { prompt_tokens_.Increment(static_cast<double>(count)); }
  void generation_tokens(int64_t count) override { generation_tokens_.Increment(static_cast<double>(count)); }
  void time_to_first_token(double seconds) override { ttft_.Observe(seconds); }
  void inter_token_latency(double seconds) override { itl_.Observe(seconds); }
  void queue_time(double seconds) override { queue_.Observe(seconds); }
  void prefill_time(double seconds) override { prefill_.Observe(seconds); }
  void decode_time(double seconds) override { decode_.Observe(seconds); }
  void time_per_output_token(double seconds) override { tpot_.Observe(seconds); }

  void request_end(RequestEnd end, double seconds) override {
    ends_[static_cast<size_t>(end)]->Increment();
    if (end == RequestEnd::kStop || end == RequestEnd::kLength) e2e_.Observe(seconds);
  }

  void request_size(int64_t prompt_count, int64_t generated_count) override {
    prompt_length_.Observe(static_cast<double>(prompt_count));
    generation_length_.Observe(static_cast<double>(generated_count));
  }

  void replica(const ReplicaStats& stats) override {
    running_.Set(stats.running);
    waiting_.Set(stats.waiting);
    kv_used_.Set(static_cast<double>(stats.kv_blocks_used));
    kv_total_.Set(static_cast<double>(stats.kv_blocks_total));
    kv_usage_.Set(stats.kv_blocks_total > 0
                      ? static_cast<double>(stats.kv_blocks_used) / static_cast<double>(stats.kv_blocks_total)
                      : 0);
    const std::lock_guard lock(mutex_);
    advance(steps_, seen_.steps, stats.steps);
    advance(cache_queries_, seen_.prefix_queries, stats.prefix_queries);
    advance(cache_hits_, seen_.prefix_hits, stats.prefix_hits);
    advance(preemptions_, seen_.preemptions, stats.preemptions);
    advance(drafted_steps_, seen_.drafted_steps, stats.drafted_steps);
    advance(drafts_, seen_.drafts, stats.drafts);
    for (size_t i = 0; i < accepted_by_place_.size(); ++i) {
      int64_t seen = seen_.accepted_drafts[i];
      advance(accepted_drafts_, seen, stats.accepted_drafts[i]);
      advance(*accepted_by_place_[i], seen_.accepted_drafts[i], stats.accepted_drafts[i]);
    }
  }

  void health(std::span<const ReplicaHealth> replicas) override {
    const std::lock_guard lock(mutex_);
    for (const ReplicaHealth& replica : replicas) {
      Labels labels = labels_;
      labels["replica"] = replica.id;
      ready_.Add(labels).Set(replica.state == "ready" ? 1 : 0);
      age_.Add(labels).Set(replica.age_seconds);
      int64_t& seen = restarts_seen_[replica.id];
      advance(restarts_.Add(labels), seen, replica.restarts);
      for (const RankHealth& rank : replica.ranks) {
        labels["rank"] = std::to_string(rank.rank);
        rank_ready_.Add(labels).Set(rank.state == "ready" ? 1 : 0);
      }
    }
  }

 private:
  // A replica that was replaced counts from zero again; ours go on.
  static void advance(Counter& counter, int64_t& seen, int64_t now) {
    counter.Increment(static_cast<double>(now >= seen ? now - seen : now));
    seen = now;
  }
  Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels_);
  }
  Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels_);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels_, buckets);
  }
  Counter* accepted_counter(int32_t place) {
    Labels labels = labels_;
    labels["position"] = std::to_string(place);
    return &prometheus::BuildCounter()
                .Name("gantry_spec_accepted_total")
                .Help("Drafts that were the model's own token, by place after the last known token, from 0.")
                .Register(registry_)
                .Add(labels);
  }
  Counter* end_counter(const char* reason) {
    Labels labels = labels_;
    labels["finished_reason"] = reason;
    return &prometheus::BuildCounter()
                .Name("gantry_request_success_total")
                .Help("Requests by how they ended.")
                .Register(registry_)
                .Add(labels);
  }

  prometheus::Registry& registry_;
  Labels labels_;
  Gauge& running_ = gauge("gantry_num_requests_running", "Sequences in the batch.");
  Gauge& waiting_ = gauge("gantry_num_requests_waiting", "Sequences that wait for the batch.");
  Gauge& kv_used_ = gauge("gantry_kv_blocks_used", "KV blocks in use.");
  Gauge& kv_total_ = gauge(kKvBlocksTotal, "KV blocks there are.");
  Gauge& kv_usage_ = gauge("gantry_kv_cache_usage_ratio", "KV blocks in use, 1 is all.");
  Counter& steps_ = counter("gantry_engine_steps_total", "Steps of the engine.");
  Counter& prompt_tokens_ =
      counter("gantry_prompt_tokens_total", "Prompt tokens of requests that began to answer.");
  Counter& generation_tokens_ = counter("gantry_generation_tokens_total", "Generated tokens.");
  Counter& cache_queries_ =
      counter("gantry_prefix_cache_queries_total", "Prompt tokens that were looked up in the prefix cache.");
  Counter& cache_hits_ =
      counter("gantry_prefix_cache_hits_total", "Prompt tokens that the prefix cache held.");
  Counter& preemptions_ = counter("gantry_num_preemptions_total", "Sequences put back to be computed again.");
  Counter& drafted_steps_ =
      counter("gantry_spec_drafted_steps_total", "Steps of a sequence that had drafts to verify.");
  Counter& drafts_ = counter("gantry_spec_draft_tokens_total", "Drafts that were verified.");
  Counter& accepted_drafts_ =
      counter("gantry_spec_accepted_tokens_total", "Drafts that were the model's own token.");
  std::array<Counter*, kDraftsMax> accepted_by_place_ = {accepted_counter(0), accepted_counter(1),
                                                         accepted_counter(2)};
  Histogram& ttft_ = histogram("gantry_time_to_first_token_seconds",
                               "From a request's arrival to its first token.", kLatencyBuckets);
  Histogram& itl_ = histogram("gantry_inter_token_latency_seconds", "Between two tokens of a choice.",
                              kTokenLatencyBuckets);
  Histogram& tpot_ = histogram("gantry_request_time_per_output_token_seconds",
                               "Mean time per token after the first, of a choice.", kTokenLatencyBuckets);
  Histogram& e2e_ = histogram("gantry_e2e_request_latency_seconds", "From a request's arrival to its end.",
                              kRequestBuckets);
  Histogram& queue_ =
      histogram("gantry_request_queue_time_seconds", "Waiting for the batch.", kRequestBuckets);
  Histogram& prefill_ = histogram("gantry_request_prefill_time_seconds",
                                  "In the batch until the first token.", kRequestBuckets);
  Histogram& decode_ =
      histogram("gantry_request_decode_time_seconds", "From the first token to the last.", kRequestBuckets);
  Histogram& prompt_length_ =
      histogram("gantry_request_prompt_tokens", "Prompt tokens of a request.", kTokenCountBuckets);
  Histogram& generation_length_ =
      histogram("gantry_request_generation_tokens", "Generated tokens of a request.", kTokenCountBuckets);
  std::array<Counter*, 4> ends_ = {end_counter("stop"), end_counter("length"), end_counter("abort"),
                                   end_counter("error")};
  prometheus::Family<Gauge>& ready_ = prometheus::BuildGauge()
                                          .Name("gantry_replica_ready")
                                          .Help("1 while the replica's processes serve.")
                                          .Register(registry_);
  prometheus::Family<Gauge>& rank_ready_ = prometheus::BuildGauge()
                                               .Name("gantry_rank_ready")
                                               .Help("1 while the rank's process serves.")
                                               .Register(registry_);
  prometheus::Family<Gauge>& age_ = prometheus::BuildGauge()
                                        .Name("gantry_replica_age_seconds")
                                        .Help("Since the replica's processes were started.")
                                        .Register(registry_);
  prometheus::Family<Counter>& restarts_ = prometheus::BuildCounter()
                                               .Name("gantry_replica_restarts_total")
                                               .Help("Starts of the replica's processes after the first.")
                                               .Register(registry_);
  std::mutex mutex_;
  ReplicaStats seen_;                             // under mutex_
  std::map<std::string, int64_t> restarts_seen_;  // under mutex_, by replica
};

}  // namespace

struct Metrics::Impl {
  bool vllm_names = false;
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  prometheus::Family<Counter>& answers = prometheus::BuildCounter()
                                             .Name("gantry_http_responses_total")
                                             .Help("HTTP answers of the API by status.")
                                             .Register(*registry);
  mutable std::mutex mutex;
  std::map<std::string, std::unique_ptr<PrometheusModelMetrics>> models;  // under mutex
};

Metrics::Metrics(bool vllm_names) : impl_(std::make_unique<Impl>()) { impl_->vllm_names = vllm_names; }
Metrics::~Metrics() = default;

ModelMetrics& Metrics::model(const std::string& model_name) {
  const std::lock_guard lock(impl_->mutex);
  auto& model = impl_->models[model_name];
  if (!model) model = std::make_unique<PrometheusModelMetrics>(*impl_->registry, model_name);
  return *model;
}

void Metrics::http_answer(int status) {
  impl_->answers.Add({{"status", std::to_string(status)}}).Increment();
}

std::string Metrics::text() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry->Collect();
  for (prometheus::MetricFamily& family : families) {
    // A constant; promtool wants counters, and nothing else, to end in _total.
    if (family.name != kKvBlocksTotal) continue;
    family.type = prometheus::MetricType::Counter;
    for (prometheus::ClientMetric& metric : family.metric) metric.counter.value = metric.gauge.value;
  }
  if (impl_->vllm_names) {
    const size_t own = families.size();
    for (size_t i = 0; i < own; ++i) {
      const auto alias = std::find_if(kAliases.begin(), kAliases.end(),
                                      [&](const Alias& a) { return a.name == families[i].name; });
      if (alias == kAliases.end()) continue;
      prometheus::MetricFamily copy = families[i];
      copy.name = alias->vllm;
      families.push_back(std::move(copy));
    }
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace gantry
