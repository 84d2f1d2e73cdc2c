#include "cli/plan_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/system_memory.h"
#include "cli/command_line.h"
#include "cli/model_host.h"
#include "engine/local_replica.h"
#include "plan/deployment_plan.h"

namespace gantry::cli {
namespace {

constexpr int kLengthDefault = 1024;
constexpr int kRowsDefault = 512;
constexpr int kDecodedTokens = 32;  // of each sequence

// Counts the ends of streams, and adds up the times that the engine reports.
class Ends : public FrameSink {
 public:
  void on_frame(StepFrame&& frame) override {
    const std::lock_guard lock(mutex_);
    for (const TokenEvent& event : frame.tokens) {
      if (event.index == 0) first_token_ns_ = std::max(first_token_ns_, event.prefill_ns);
      if (event.finish == FinishReason::kNone) continue;
      if (event.finish != FinishReason::kLength)
        error_ = event.error.empty() ? "a stream ended early" : event.error;
      decode_ns_ = std::max(decode_ns_, event.decode_ns);
      ++ended_;
    }
    changed_.notify_all();
  }
  // From prompt to first token, and from there to the last, of the slowest stream.
  struct Times {
    double first_token_s = 0;
    double decode_s = 0;
  };
  Result<Times> wait_for(int streams) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ >= streams || !error_.empty(); });
    if (!error_.empty()) return internal_error(error_);
    ended_ = 0;
    return Times{static_cast<double>(std::exchange(first_token_ns_, 0)) * 1e-9,
                 static_cast<double>(std::exchange(decode_ns_, 0)) * 1e-9};
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int ended_ = 0;
  int64_t first_token_ns_ = 0;
  int64_t decode_ns_ = 0;
  std::string error_;
};

// Bytes per second of a summing read with every thread of the pool, the best of three.
double read_bandwidth(ThreadPool& pool) {
  const std::vector<uint64_t> data((256u << 20) / sizeof(uint64_t), 1);
  std::vector<uint64_t> sums(static_cast<size_t>(pool.size()) * 8);
  int64_t best_ns = std::numeric_limits<int64_t>::max();
  for (int round = 0; round < 3; ++round) {
    const int64_t start = monotonic_ns();
    pool.parallel_for(static_cast<int64_t>(data.size()), 1 << 17,
                      [&](int64_t begin, int64_t end, int thread) {
                        sums[static_cast<size_t>(thread) * 8] +=
                            std::accumulate(data.begin() + begin, data.begin() + end, uint64_t{0});
                      });
    best_ns = std::min(best_ns, monotonic_ns() - start);
  }
  GANTRY_CHECK(sums[0] > 0);
  return static_cast<double>(data.size() * sizeof(uint64_t)) / (static_cast<double>(best_ns) * 1e-9);
}

// Sequences of prompt tokens that differ, so that no prefix is shared.
Status submit(ReplicaClient& replica, uint64_t first_id, int sequences, int prompt, int output) {
  for (int s = 0; s < sequences; ++s) {
    GenerateRequest request;
    request.id = {first_id + static_cast<uint64_t>(s)};
    for (int i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<TokenId>((i * 31 + s * 17 + 1) % replica.info().vocab_size));
    }
    request.cache_salt = std::to_string(first_id + static_cast<uint64_t>(s));
    request.params.temperature = 0;
    request.params.max_tokens = output;
    request.params.ignore_eos = true;
    GANTRY_RETURN_IF_ERROR(replica.submit(std::move(request)));
  }
  return {};
}

struct Measured {
  ReplicaMemory planned;
  uint64_t program = 0;  // pages of the program that running brought in
  uint64_t used = 0;     // peak resident memory less that before loading and the program's
  double load_s = 0;
  uint64_t file_bytes = 0;
  double first_token_s = 0;  // of all sequences' prompts
  int prompt = 0, sequences = 0;
  double bandwidth = 0;
  double floor_s = 0;  // of a decode step: weights and cache over bandwidth
  double step_s = 0;
};

// Bytes of weights that a decode step of `rows` sequences reads, experts hit as if at random.
double step_read_bytes(const ReplicaMemory& planned, const PlannedModel& model, int rows) {
  double experts = 0, all = 0;
  for (const CheckpointTensor& tensor : model.tensors) {
    if (tensor.place == CheckpointTensor::Place::kMtp) continue;
    all += static_cast<double>(tensor.bytes());
    if (tensor.expert >= 0) experts += static_cast<double>(tensor.bytes());
  }
  const auto step = static_cast<double>(planned.step_bytes);
  if (!model.config.moe || all == 0) return step;
  const double chosen = model.config.moe->experts_per_token, of = model.config.moe->experts;
  return step * (1 - experts / all * std::pow(1 - chosen / of, rows));
}

Result<Measured> measure(const MeasureOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source,
                          open_source(options.path, options.load_format));
  GANTRY_ASSIGN_OR_RETURN(const PlannedModel model, planned_model(options.path, *source));
  ThreadPool pool(options.threads > 0 ? options.threads : usable_cores());
  ReplicaOptions replica_options;
  replica_options.model_id = options.path;
  replica_options.pool = &pool;
  GANTRY_ASSIGN_OR_RETURN(replica_options.backend, cpu_backend("auto"));
  replica_options.max_model_len =
      options.max_model_len > 0 ? options.max_model_len : std::min(kLengthDefault, model.config.max_position);
  replica_options.max_num_seqs = options.max_num_seqs;
  replica_options.max_num_batched_tokens =
      std::max(options.max_num_seqs,
               options.max_num_batched_tokens > 0 ? options.max_num_batched_tokens : kRowsDefault);
  // All of the cache is to be used: as large as the sequences need.
  replica_options.kv_cache_bytes = std::numeric_limits<int64_t>::max();
  Measured out;
  out.bandwidth = read_bandwidth(pool);
  GANTRY_ASSIGN_OR_RETURN(out.planned, plan_replica_memory(*source, replica_options));
  out.file_bytes = source->total_bytes();
  out.sequences = options.max_num_seqs;
  out.prompt = out.planned.max_model_len - std::min(kDecodedTokens, out.planned.max_model_len / 2);
  const int output = out.planned.max_model_len - out.prompt;

  if (!reset_peak_memory()) return unavailable("the peak of resident memory cannot be read here (/proc)");
  const ResidentMemory before = resident_memory();
  const int64_t start = monotonic_ns();
  Ends ends;
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ReplicaClient> replica,
                          start_local_replica(*source, replica_options));
  out.load_s = static_cast<double>(monotonic_ns() - start) * 1e-9;
  replica->set_sink(&ends);
  GANTRY_RETURN_IF_ERROR(submit(*replica, 1, out.sequences, out.prompt, output));
  GANTRY_ASSIGN_OR_RETURN(const Ends::Times times, ends.wait_for(out.sequences));
  const ResidentMemory after = resident_memory();
  // Code pages come and never go while it runs: at the peak there were no more of them.
  out.program = after.files - std::min(after.files, before.files);
  out.used = after.peak - before.now - out.program;
  out.first_token_s = times.first_token_s;
  out.step_s = times.decode_s / std::max(1, output - 1);
  out.floor_s =
      (step_read_bytes(out.planned, model, out.sequences) + static_cast<double>(out.planned.kv_cache)) /
      out.bandwidth;
  replica->set_sink(nullptr);
  return out;
}

std::string table(const MeasureOptions& options, const Measured& m) {
  const auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  const double off = 100 * (static_cast<double>(m.planned.total()) / static_cast<double>(m.used) - 1);
  std::string out = fmt::format("{} on this machine, {} sequences of {} tokens\n", options.path, m.sequences,
                                m.planned.max_model_len);
  out += fmt::format(
      "  memory   planned {:.1f} MiB (weights {:.1f}, activations {:.1f}, KV cache {:.1f}, logits {:.1f})\n"
      "           used {:.1f} MiB: peak resident memory less that before loading and {:.1f} MiB of the "
      "program's "
      "code; planned is {:+.1f}%\n",
      mib(m.planned.total()), mib(m.planned.weights), mib(m.planned.activations), mib(m.planned.kv_cache),
      mib(m.planned.logits), mib(m.used), mib(m.program), off);
  out += fmt::format("  load     {:.1f} MiB in {:.2f} s: {:.0f} MiB/s\n", mib(m.file_bytes), m.load_s,
                     mib(m.file_bytes) / m.load_s);
  out += fmt::format("  prefill  {} x {} tokens in {:.2f} s: {:.0f} tok/s\n", m.sequences, m.prompt,
                     m.first_token_s, m.sequences * m.prompt / m.first_token_s);
  out += fmt::format(
      "  decode   {:.2f} ms a step, {:.1f} tok/s; floor {:.2f} ms (weights and cache at the measured {:.1f} "
      "GB/s): {:.0f}% of it\n",
      m.step_s * 1e3, m.sequences / m.step_s, m.floor_s * 1e3, m.bandwidth / 1e9, 100 * m.floor_s / m.step_s);
  return out;
}

std::string json(const MeasureOptions& options, const Measured& m) {
  const nlohmann::ordered_json out{{"model", options.path},
                                   {"sequences", m.sequences},
                                   {"max_model_len", m.planned.max_model_len},
                                   {"planned_bytes",
                                    {{"total", m.planned.total()},
                                     {"weights", m.planned.weights},
                                     {"activations", m.planned.activations},
                                     {"kv_cache", m.planned.kv_cache},
                                     {"logits", m.planned.logits}}},
                                   {"used_bytes", m.used},
                                   {"program_bytes", m.program},
                                   {"file_bytes", m.file_bytes},
                                   {"load_s", m.load_s},
                                   {"prompt_tokens", m.prompt},
                                   {"prefill_s", m.first_token_s},
                                   {"bandwidth", m.bandwidth},
                                   {"decode_step_s", m.step_s},
                                   {"decode_floor_s", m.floor_s}};
  return out.dump(1) + "\n";
}

}  // namespace

Result<std::string> measure_plan(const MeasureOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const Measured measured, measure(options));
  return options.json ? json(options, measured) : table(options, measured);
}

}  // namespace gantry::cli
