// The numbers of /metrics (Prometheus text format). Names start with gantry_; the vllm: names of dashboards
// that exist come beside them on request.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "protocol/replica_client.h"
#include "server/replica_health.h"

namespace gantry {

enum class RequestEnd { kStop, kLength, kAbort, kError };

// Of one model. Thread-safe.
class ModelMetrics {
 public:
  virtual ~ModelMetrics() = default;
  virtual void prompt_tokens(int64_t count) = 0;
  virtual void generation_tokens(int64_t count) = 0;
  virtual void time_to_first_token(double seconds) = 0;
  virtual void inter_token_latency(double seconds) = 0;
  // From the engine, once per choice.
  virtual void queue_time(double seconds) = 0;
  virtual void prefill_time(double seconds) = 0;
  virtual void decode_time(double seconds) = 0;
  // Once per request.
  virtual void request_end(RequestEnd end, double seconds) = 0;
  virtual void request_size(int64_t prompt_tokens, int64_t generated_tokens) = 0;
  virtual void time_per_output_token(double seconds) = 0;
  // Of the replica, before each scrape.
  virtual void replica(const ReplicaStats& stats) = 0;
  // Of each of its replicas, before each scrape.
  virtual void health(std::span<const ReplicaHealth> replicas) = 0;
};

class Metrics {
 public:
  explicit Metrics(bool vllm_names);
  ~Metrics();
  // The same object for the same name; it lives as long as this.
  ModelMetrics& model(const std::string& model_name);
  void http_answer(int status);
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry
