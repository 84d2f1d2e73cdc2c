// `gantry bench latency` and `throughput`: the engine alone, in this process, without HTTP or text.
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <set>

#include "base/clock.h"
#include "base/log.h"
#include "cli/bench.h"
#include "cli/command_line.h"
#include "cli/model_host.h"
#include "cli/progress.h"
#include "loadgen/report.h"

namespace gantry::cli {
namespace {

using loadgen::LoadRecord;

struct BenchEngineOptions {
  ServeOptions engine;
  loadgen::RandomLengths lengths;
  int32_t batch_size = 8;
  int32_t iterations = 30;
  int32_t warmup_iterations = 3;
  int32_t requests = 1000;
  std::string result_path;
};

// Fills one record per request, on the engine's thread.
class Batch {
 public:
  class Sink : public StreamSink {
   public:
    Sink(Batch& batch, size_t index) : batch_(batch), index_(index) {}
    void on_prompt_logprobs(PromptLogprobs&& /*logprobs*/) override {}
    void on_token(TokenEvent&& event) override { batch_.take(index_, event); }
    void on_refused(const Status& status) override {
      TokenEvent event;
      event.finish = FinishReason::kError;
      event.error = status.message();
      batch_.take(index_, event);
    }

   private:
    Batch& batch_;
    size_t index_;
  };

  explicit Batch(size_t requests) : began_ns_(monotonic_ns()), records_(requests), open_(requests) {}

  LoadRecord& start(size_t index) {
    LoadRecord& record = records_[index];
    record.index = static_cast<int64_t>(index);
    record.sent_ns = monotonic_ns() - began_ns_;
    return record;
  }
  // When `on_done` is called with how many have ended, the lock is held.
  std::vector<LoadRecord> wait(const std::function<void(size_t done)>& on_done) {
    std::unique_lock lock(mutex_);
    while (open_ > 0) {
      changed_.wait(lock);
      on_done(records_.size() - open_);
    }
    return std::move(records_);
  }

 private:
  void take(size_t index, const TokenEvent& event) {
    LoadRecord& record = records_[index];
    const int64_t now = monotonic_ns() - began_ns_;
    if (event.token >= 0) {
      if (record.first_ns == 0) {
        record.first_ns = now;
      } else {
        record.gap_ns.push_back(now - record.last_ns);
      }
      record.last_ns = now;
      ++record.output_tokens;
    }
    record.cached_tokens += event.cached_prompt_tokens;
    if (event.finish == FinishReason::kNone) return;
    record.end_ns = now;
    record.error = event.error;
    const bool good = event.finish == FinishReason::kStop || event.finish == FinishReason::kLength;
    record.outcome = good ? loadgen::Outcome::kCompleted : loadgen::Outcome::kFailed;
    record.http_status = 200;
    const std::lock_guard lock(mutex_);
    --open_;
    changed_.notify_one();
  }

  const int64_t began_ns_;
  std::vector<LoadRecord> records_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t open_;  // under mutex_
};

class Engine {
 public:
  Status load(const ServeOptions& options) {
    GANTRY_RETURN_IF_ERROR(validate(options));
    ServeOptions unbounded = options;  // all requests come at once
    unbounded.max_queued_requests = 1 << 20;
    unbounded.max_queue_wait_s = unbounded.max_prefill_wait_s = 0;
    if (options.models.size() > 1) return invalid_argument("bench measures one model at a time", "models");
    init_log(options.log_level);
    GANTRY_ASSIGN_OR_RETURN(const ResolvedModel model, resolve_model(options.models.front()));
    uint64_t kv_bytes = 0;
    if (!options.kv_cache_memory.empty()) {
      GANTRY_ASSIGN_OR_RETURN(kv_bytes, parse_bytes(options.kv_cache_memory));
    }
    ComputeResources resources{.pool_turn = &pool_turn_};
    GANTRY_ASSIGN_OR_RETURN(const DeviceChoice device, device_backend(options.device));
    if (!device.note.empty()) log::warn("measuring the CPU: {}", device.note);
    resources.backend = device.backend;
    pool_ = std::make_unique<ThreadPool>(threads_per_rank(options));
    resources.pool = pool_.get();
    Progress progress("loading " + model.id);
    auto host = ModelHost::load(model, unbounded, kv_bytes, resources,
                                [&](uint64_t done, uint64_t total) { progress.update(done, total); });
    progress.finish();
    GANTRY_RETURN_IF_ERROR(host.status());
    host_ = std::move(host).value();
    model_id_ = model.id;
    return {};
  }
  const std::string& model_id() const { return model_id_; }

  // Requests [first, first + count) of the workload at once.
  Result<std::vector<LoadRecord>> run(const loadgen::Workload& workload, int64_t first, int32_t count,
                                      const std::function<void(size_t done)>& on_done) {
    Front& front = *host_->served().front;
    // Shared with the sinks: after an error some of them are still called.
    const auto batch = std::make_shared<Batch>(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; ++i) {
      const loadgen::WorkloadItem item = workload.item(first + i);
      GenerateRequest request;
      request.id = front.next_id();
      request.prompt = item.prompt.get<std::vector<TokenId>>();
      request.params.max_tokens = item.output_tokens;
      request.params.temperature = 0;
      request.params.ignore_eos = true;
      LoadRecord& record = batch->start(static_cast<size_t>(i));
      record.prompt_tokens = static_cast<int64_t>(request.prompt.size());
      auto sink = std::make_unique<Batch::Sink>(*batch, static_cast<size_t>(i));
      GANTRY_RETURN_IF_ERROR(front.open(
          std::move(request),
          std::shared_ptr<StreamSink>(sink.release(), [batch](StreamSink* gone) { delete gone; })));
    }
    return batch->wait(on_done);
  }

 private:
  FairMutex pool_turn_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<ModelHost> host_;
  std::string model_id_;
};

nlohmann::ordered_json describe(const char* mode, const BenchEngineOptions& o, const Engine& engine) {
  return {{"mode", mode},
          {"gantry_version", GANTRY_VERSION},
          {"unix_seconds", unix_seconds()},
          {"model", engine.model_id()},
          {"input_len", o.lengths.input_tokens},
          {"output_len", o.lengths.output_tokens},
          {"range_ratio", o.lengths.range_ratio},
          {"prefix_len", o.lengths.prefix_tokens},
          {"seed", o.lengths.seed},
          {"threads", o.engine.threads},
          {"max_num_seqs", o.engine.max_num_seqs},
          {"max_num_batched_tokens", o.engine.max_num_batched_tokens}};
}

Status check_count(const char* flag, int32_t value, int32_t low) {
  if (value >= low && value <= (1 << 20)) return {};
  return invalid_argument(fmt::format("{} is {}, it must be {} to {}", flag, value, low, 1 << 20), flag);
}

Status run_latency(const BenchEngineOptions& o) {
  GANTRY_RETURN_IF_ERROR(check_count("--batch-size", o.batch_size, 1));
  GANTRY_RETURN_IF_ERROR(check_count("--num-iters", o.iterations, 1));
  GANTRY_RETURN_IF_ERROR(check_count("--num-iters-warmup", o.warmup_iterations, 0));
  GANTRY_ASSIGN_OR_RETURN(const auto workload, loadgen::make_random_workload(o.lengths));
  Engine engine;
  GANTRY_RETURN_IF_ERROR(engine.load(o.engine));
  std::vector<double> batch_seconds;
  std::vector<LoadRecord> all;
  Progress progress("batches", 0, Progress::Unit::kRequests);
  const int32_t total = o.warmup_iterations + o.iterations;
  for (int32_t i = 0; i < total; ++i) {
    // Every batch has prompts of its own, so that no prefix cache knows them.
    GANTRY_ASSIGN_OR_RETURN(auto records,
                            engine.run(*workload, int64_t{i} * o.batch_size, o.batch_size, [](size_t) {}));
    progress.update(static_cast<uint64_t>(i) + 1, static_cast<uint64_t>(total));
    if (i < o.warmup_iterations) continue;
    batch_seconds.push_back(loadgen::summarize(records, {}).seconds);
    all.insert(all.end(), records.begin(), records.end());
  }
  progress.finish();
  const loadgen::Distribution d = loadgen::distribution(batch_seconds);
  const loadgen::LoadReport report = loadgen::summarize(all, {});
  std::printf("latency of a batch of %d, s: mean %.4f p50 %.4f p90 %.4f p99 %.4f\n", o.batch_size, d.mean,
              d.p50, d.p90, d.p99);
  std::printf("TTFT ms: mean %.2f p50 %.2f p99 %.2f; TPOT ms: mean %.2f p50 %.2f p99 %.2f\n",
              report.ttft_ms.mean, report.ttft_ms.p50, report.ttft_ms.p99, report.tpot_ms.mean,
              report.tpot_ms.p50, report.tpot_ms.p99);
  nlohmann::ordered_json result = describe("latency", o, engine);
  result["batch_size"] = o.batch_size;
  result["avg_latency"] = d.mean;
  result["percentiles"] = {{"50", d.p50}, {"90", d.p90}, {"99", d.p99}};
  result["latencies"] = batch_seconds;
  result["ttft_ms"] = loadgen::to_json(report)["ttft_ms"];
  result["tpot_ms"] = loadgen::to_json(report)["tpot_ms"];
  return write_result(o.result_path, result);
}

Status run_throughput(const BenchEngineOptions& o) {
  GANTRY_RETURN_IF_ERROR(check_count("--num-prompts", o.requests, 1));
  GANTRY_ASSIGN_OR_RETURN(const auto workload, loadgen::make_random_workload(o.lengths));
  Engine engine;
  GANTRY_RETURN_IF_ERROR(engine.load(o.engine));
  // The first touch of memory is no part of the measure; a prompt that is not asked for again.
  GANTRY_RETURN_IF_ERROR(engine.run(*workload, o.requests, 1, [](size_t) {}).status());
  Progress progress("requests", 0, Progress::Unit::kRequests);
  GANTRY_ASSIGN_OR_RETURN(const auto records, engine.run(*workload, 0, o.requests, [&](size_t done) {
    progress.update(done, static_cast<uint64_t>(o.requests));
  }));
  progress.finish();
  const loadgen::LoadReport report = loadgen::summarize(records, {});
  std::printf("throughput: %.2f requests/s, %.1f total tokens/s, %.1f output tokens/s\n",
              report.requests_per_s, report.total_tokens_per_s, report.output_tokens_per_s);
  nlohmann::ordered_json result = describe("throughput", o, engine);
  result.update(loadgen::to_json(report));
  return write_result(o.result_path, result);
}

std::shared_ptr<BenchEngineOptions> add_engine_bench(CLI::App& command) {
  auto o = std::make_shared<BenchEngineOptions>();
  add_engine_flags(command, o->engine);
  add_length_flags(command, o->lengths);
  add_flag(command, "--save-result", o->result_path, "JSON file of the figures");
  return o;
}

}  // namespace

void add_bench_latency(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand("latency", "Time batches of requests through the engine");
  auto o = add_engine_bench(*command);
  add_flag(*command, "--batch-size", o->batch_size, "Requests of a batch");
  add_flag(*command, "--num-iters", o->iterations, "Batches");
  add_flag(*command, "--num-iters-warmup", o->warmup_iterations, "Batches before them that do not count");
  command->callback([o, &exit_code] {
    const Status status = run_latency(*o);
    exit_code = status.ok() ? 0 : print_failure(status);
  });
}

void add_bench_throughput(CLI::App& bench, int& exit_code) {
  auto* command =
      bench.add_subcommand("throughput", "Run many requests through the engine as fast as it can");
  auto o = add_engine_bench(*command);
  add_flag(*command, "--num-prompts", o->requests, "Requests, all at once");
  command->callback([o, &exit_code] {
    const Status status = run_throughput(*o);
    exit_code = status.ok() ? 0 : print_failure(status);
  });
}

}  // namespace gantry::cli
