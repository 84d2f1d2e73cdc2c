// Times forward passes of a checkpoint without the server: model_bench MODEL [threads] [backend] [streams].
// Reads `prefill N`, `decode STREAMS TOKENS DEPTH` and `bandwidth` on standard input and answers one JSON line for each,
// so that a driver can interleave it with another engine in one run.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "model/model.h"

namespace gantry {
namespace {

constexpr int kRowsMax = 512;
constexpr int kContext = 4224;
constexpr int kBlocksPerSequence = kContext / limits::kKvBlockTokens;

class Bench {
 public:
  Bench(const Model& model, Model& mutable_model, const KvStore& kv, int streams)
      : model_(mutable_model),
        kv_(kv),
        vocab_(model.config().vocab),
        logits_(static_cast<size_t>(vocab_) * static_cast<size_t>(streams)) {
    tables_.resize(static_cast<size_t>(streams));
    for (int s = 0; s < streams; ++s) {
      for (int b = 0; b < kBlocksPerSequence; ++b) {
        tables_[static_cast<size_t>(s)].push_back((s * kBlocksPerSequence + b) % kv.blocks());
      }
    }
  }

  // Rows first .. first + count - 1 of one stream; logits of the last row.
  void run_prompt(int stream, int first, int count) {
    ids_.resize(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) ids_[static_cast<size_t>(i)] = 100 + (first + i) % 1000;
    const Segment segment{0, count, first, tables_[static_cast<size_t>(stream)].data()};
    const int32_t last = count - 1;
    forward({ids_, {&segment, 1}, {&last, 1}});
  }

  void forward(const ForwardBatch& batch) {
    const Status status = model_.forward(batch, kv_, logits_.data());
    GANTRY_CHECK(status.ok()) << status.message();
  }

  void run_step(int streams, int position) {
    ids_.resize(static_cast<size_t>(streams));
    segments_.resize(static_cast<size_t>(streams));
    rows_.resize(static_cast<size_t>(streams));
    for (int s = 0; s < streams; ++s) {
      const auto i = static_cast<size_t>(s);
      ids_[i] = 200 + (position * 7 + s) % 1000;
      segments_[i] = {s, 1, position, tables_[i].data()};
      rows_[i] = s;
    }
    forward({ids_, segments_, rows_});
    checksum_ += *std::max_element(logits_.begin(), logits_.begin() + vocab_);
  }

  double prefill(int count) {
    const int64_t start = monotonic_ns();
    for (int first = 0; first < count; first += kRowsMax)
      run_prompt(0, first, std::min(kRowsMax, count - first));
    return static_cast<double>(monotonic_ns() - start) * 1e-9;
  }

  double decode(int streams, int count, int depth) {
    for (int s = 0; s < streams; ++s) {
      for (int first = 0; first < depth; first += kRowsMax)
        run_prompt(s, first, std::min(kRowsMax, depth - first));
    }
    const int64_t start = monotonic_ns();
    for (int step = 0; step < count; ++step) run_step(streams, depth + step);
    return static_cast<double>(monotonic_ns() - start) * 1e-9;
  }

  double checksum() const { return checksum_; }

 private:
  Model& model_;
  const KvStore& kv_;
  int32_t vocab_;
  std::vector<float> logits_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<int32_t> ids_;
  std::vector<Segment> segments_;
  std::vector<int32_t> rows_;
  double checksum_ = 0;
};

// Bytes per second of a summing read over 512 MiB with every thread of the pool: the ceiling that decode is held against.
double read_bandwidth(ThreadPool& pool) {
  static const std::vector<uint64_t> data((512u << 20) / 8, 1);
  std::vector<uint64_t> sums(static_cast<size_t>(pool.size()) * 8);
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const int64_t start = monotonic_ns();
    pool.parallel_for(static_cast<int64_t>(data.size()), 1 << 17,
                      [&](int64_t begin, int64_t end, int thread) {
                        sums[static_cast<size_t>(thread) * 8] +=
                            std::accumulate(data.begin() + begin, data.begin() + end, uint64_t{0});
                      });
    best = std::max(
        best, static_cast<double>(data.size() * 8) / (static_cast<double>(monotonic_ns() - start) * 1e-9));
  }
  return best;
}

int run(const std::string& path, int threads, const std::string& backend_name, int streams_max) {
  auto source = open_weights(path);
  auto backend = backend_by_name(backend_name);
  for (const Status& status : {source.status(), backend.status()}) {
    if (!status.ok()) return std::fprintf(stderr, "model_bench: %s\n", status.message().c_str()), 1;
  }
  ThreadPool pool(threads);
  auto loaded = load_model(**source, {.backend = *backend,
                                      .pool = &pool,
                                      .kv_dtype = (*backend)->kv_dtype,
                                      .rows_max = kRowsMax,
                                      .logit_rows_max = streams_max,
                                      .context_max = kContext,
                                      .on_progress = {}});
  if (!loaded.ok()) return std::fprintf(stderr, "model_bench: %s\n", loaded.status().message().c_str()), 1;
  Model& model = **loaded;
  auto kv = KvStore::create(**backend, model.kv_layouts(), streams_max * kBlocksPerSequence);
  if (!kv.ok()) return std::fprintf(stderr, "model_bench: %s\n", kv.status().message().c_str()), 1;
  Bench bench(model, model, **kv, streams_max);
  std::printf("{\"engine\": \"gantry\", \"backend\": \"%s\", \"weight_bytes\": %llu}\n",
              std::string((*backend)->name).c_str(), static_cast<unsigned long long>(model.weight_bytes()));
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    double seconds = 0;
    if (verb == "prefill") {
      int count = 0;
      words >> count;
      if (!words || count < 1 || count > kContext) return 2;
      seconds = bench.prefill(count);
    } else if (verb == "decode") {
      int streams = 0, count = 0, depth = 0;
      words >> streams >> count >> depth;
      if (!words || streams < 1 || streams > streams_max || depth < 0 || count < 1 ||
          depth + count > kContext)
        return 2;
      seconds = bench.decode(streams, count, depth);
    } else if (verb == "bandwidth") {
      std::printf("{\"bytes_per_second\": %.0f}\n", read_bandwidth(pool));
      std::fflush(stdout);
      continue;
    } else {
      return 2;
    }
    std::printf("{\"seconds\": %.6f, \"checksum\": %.3f}\n", seconds, bench.checksum());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: model_bench MODEL [threads] [backend] [streams]\n");
    return 2;
  }
  return gantry::run(argv[1], argc > 2 ? std::atoi(argv[2]) : 2, argc > 3 ? argv[3] : "auto",
                     argc > 4 ? std::clamp(std::atoi(argv[4]), 1, 512) : 16);
}
