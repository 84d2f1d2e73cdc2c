// Decode steps as the engine hands them over, drawn on the device: steps a second, each step's time on the device, and
// the gap between one step and the next, from events:
//   gantry_bench_steps MODEL BATCH[,BATCH...] DEPTH [STEPS] [temperature] [ahead]
// ahead 0: a step is collected before the next is launched. Prints a JSON line for each batch.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "formats/weight_source.h"
#include "kernels/cuda/state.h"
#include "model/model.h"

namespace gantry {
namespace {

constexpr int kRowsMax = 512;

struct Options {
  std::vector<int32_t> batches;
  int32_t depth = 0, steps = 200;
  float temperature = 0;
  bool ahead = true;
};

class Decode {
 public:
  Decode(Model& model, const KvStore& kv, const Options& options)
      : model_(model),
        kv_(kv),
        options_(options),
        batches_max_(*std::max_element(options.batches.begin(), options.batches.end())),
        blocks_(kv.blocks() / batches_max_) {
    tables_.resize(static_cast<size_t>(kv.blocks()));
    std::iota(tables_.begin(), tables_.end(), 0);
  }

  // The first sequence's cache by its prompt, the others' as copies.
  void fill() {
    for (int32_t first = 0; first < options_.depth; first += kRowsMax) {
      const int32_t count = std::min(kRowsMax, options_.depth - first);
      ids_.resize(static_cast<size_t>(count));
      for (int32_t i = 0; i < count; ++i) ids_[static_cast<size_t>(i)] = 100 + (first + i) % 1000;
      const Segment segment{0, count, first, table(0)};
      must(model_.launch({.ids = ids_, .segments = {&segment, 1}}, kv_));
      model_.collect();
    }
    for (size_t layer = 0; layer < model_.kv_layouts().size(); ++layer) {
      const KvView view = kv_.layer(static_cast<int>(layer));
      auto* const base = static_cast<std::byte*>(view.base);
      const int64_t bytes = blocks_ * view.block_stride;
      for (int32_t s = 1; s < batches_max_; ++s) {
        GANTRY_CHECK(cudaMemcpy(base + s * bytes, base, static_cast<size_t>(bytes),
                                cudaMemcpyDeviceToDevice) == cudaSuccess);
      }
    }
  }

  void launch(int32_t step, int32_t batch) {
    ids_.resize(static_cast<size_t>(batch));
    segments_.clear();
    rows_.clear();
    draws_.clear();
    for (int32_t s = 0; s < batch; ++s) {
      ids_[static_cast<size_t>(s)] = step == 0 ? 200 + s : last_drawn(s);
      segments_.push_back({s, 1, options_.depth + step, table(s)});
      rows_.push_back(s);
      draws_.push_back({.uniform = 0.37,
                        .slot = s,
                        .top_p = options_.temperature > 0 ? 0.95f : 1.0f,
                        .inverse_temperature = options_.temperature > 0 ? 1 / options_.temperature : 0});
    }
    must(model_.launch({.ids = ids_, .segments = segments_, .logit_rows = rows_, .draws = draws_}, kv_));
  }

  // Seconds of all steps.
  double run(int32_t batch) {
    const int64_t start = monotonic_ns();
    const int32_t ahead = options_.ahead ? 1 : 0;
    for (int32_t step = 0; step < options_.steps + ahead; ++step) {
      if (step < options_.steps) launch(step, batch);
      if (step >= ahead) checksum_ += model_.collect()[0].token;
    }
    return static_cast<double>(monotonic_ns() - start) * 1e-9;
  }
  int64_t checksum() const { return checksum_; }

 private:
  static void must(const Status& status) { GANTRY_CHECK(status.ok()) << status.message(); }
  const int32_t* table(int32_t sequence) const {
    return tables_.data() + static_cast<size_t>(sequence) * static_cast<size_t>(blocks_);
  }

  Model& model_;
  const KvStore& kv_;
  Options options_;
  int32_t batches_max_, blocks_;
  std::vector<int32_t> tables_;
  std::vector<int32_t> ids_;
  std::vector<Segment> segments_;
  std::vector<int32_t> rows_;
  std::vector<DrawRow> draws_;
  int64_t checksum_ = 0;
};

float at(std::vector<float> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

int run(const std::string& path, const Options& options) {
  std::vector<cuda::StepTime> times;
  times.reserve(1 << 20);
  cuda::State::watched = &times;
  auto source = open_weights(path);
  const auto backend = backend_by_name("cuda");
  for (const Status& status : {source.status(), backend.status()}) {
    if (!status.ok()) return std::fprintf(stderr, "gantry_bench_steps: %s\n", status.message().c_str()), 1;
  }
  ThreadPool pool(8);
  const int32_t most = *std::max_element(options.batches.begin(), options.batches.end());
  const int32_t context = options.depth + options.steps + 1;
  auto model = load_model(**source, {.backend = *backend,
                                     .pool = &pool,
                                     .kv_dtype = (*backend)->kv_dtype,
                                     .rows_max = kRowsMax,
                                     .logit_rows_max = most,
                                     .context_max = context,
                                     .slots = most,
                                     .on_progress = {}});
  if (!model.ok())
    return std::fprintf(stderr, "gantry_bench_steps: %s\n", model.status().message().c_str()), 1;
  const int32_t blocks = (context + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens;
  auto kv = KvStore::create(**backend, (*model)->kv_layouts(), most * blocks);
  if (!kv.ok()) return std::fprintf(stderr, "gantry_bench_steps: %s\n", kv.status().message().c_str()), 1;
  Decode decode(**model, **kv, options);
  decode.fill();
  for (const int32_t batch : options.batches) {
    decode.run(batch);  // records the steps
    times.clear();
    const double seconds = decode.run(batch);
    std::vector<float> steps, gaps;
    for (size_t i = 1; i < times.size(); ++i) {
      steps.push_back(times[i].step_us);
      gaps.push_back(times[i].gap_us);
    }
    std::printf(
        "{\"model\": \"%s\", \"batch\": %d, \"depth\": %d, \"temperature\": %g, \"ahead\": %d, "
        "\"us_a_step\": %.2f, "
        "\"device_us_a_step\": %.2f, \"gap_us\": {\"median\": %.2f, \"p99\": %.2f, \"max\": %.2f}, "
        "\"checksum\": %lld}\n",
        path.c_str(), batch, options.depth, static_cast<double>(options.temperature), options.ahead,
        seconds * 1e6 / options.steps, static_cast<double>(at(steps, 0.5)),
        static_cast<double>(at(gaps, 0.5)), static_cast<double>(at(gaps, 0.99)),
        static_cast<double>(at(gaps, 1)), static_cast<long long>(decode.checksum()));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: gantry_bench_steps MODEL BATCH[,BATCH...] DEPTH [STEPS] [temperature] [ahead]\n");
    return 2;
  }
  gantry::Options options;
  for (const char* text = argv[2]; text != nullptr && *text != '\0'; text = std::strchr(text, ',')) {
    if (*text == ',') ++text;
    options.batches.push_back(std::clamp(std::atoi(text), 1, 256));
  }
  options.depth = std::clamp(std::atoi(argv[3]), 0, 1 << 16);
  if (argc > 4) options.steps = std::clamp(std::atoi(argv[4]), 2, 10'000);
  if (argc > 5) options.temperature = std::strtof(argv[5], nullptr);
  if (argc > 6) options.ahead = std::atoi(argv[6]) != 0;
  return gantry::run(argv[1], options);
}
