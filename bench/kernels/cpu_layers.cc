// The ops of a Llama of SmolLM2-135M's shape, called as the model calls them, over random weights: for each
// op the time of a step, its bytes a second as a share of the read bandwidth measured in the same run, and
// its operations a second.
#include <fmt/format.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "kernels/ops/ops.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct ModelShape {
  int layers = 30;
  int hidden = 576;
  int heads = 9;
  int kv_heads = 3;
  int head_dim = 64;
  int intermediate = 1536;
  int vocab = 49152;
};

// Zeroed memory on huge pages: with 4 KiB pages one core reads half as fast here.
class Mapping {
 public:
  explicit Mapping(size_t size) : size_((size + kHuge - 1) / kHuge * kHuge + kHuge) {
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    GANTRY_CHECK(base_ != MAP_FAILED);
    madvise(base_, size_, MADV_HUGEPAGE);
  }
  ~Mapping() { munmap(base_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  // The next `bytes`, 64-byte aligned.
  std::span<std::byte> take(size_t bytes) {
    const auto start = (reinterpret_cast<uintptr_t>(base_) + kHuge - 1) / kHuge * kHuge;
    GANTRY_CHECK(start + used_ + bytes <= reinterpret_cast<uintptr_t>(base_) + size_);
    auto* at = reinterpret_cast<std::byte*>(start + used_);
    used_ += (bytes + 63) / 64 * 64;
    return {at, bytes};
  }

 private:
  static constexpr size_t kHuge = 2 << 20;
  void* base_ = nullptr;
  size_t size_;
  size_t used_ = 0;
};

// Random codes under small scales.
std::vector<std::byte> random_weight(DType dtype, int64_t elements, std::mt19937_64& random) {
  std::vector<std::byte> bytes(bytes_of(dtype, static_cast<uint64_t>(elements)).value());
  const auto put = [&](size_t at, uint16_t v) { std::memcpy(&bytes[at], &v, sizeof(v)); };
  if (!is_quantized(dtype)) {
    std::normal_distribution<float> normal(0.0f, 0.03f);
    for (size_t i = 0; i < static_cast<size_t>(elements); ++i) {
      const float value = normal(random);
      if (dtype == DType::kF32) std::memcpy(&bytes[i * 4], &value, 4);
      if (dtype == DType::kF16) put(i * 2, f32_to_f16(value));
      if (dtype == DType::kBF16) put(i * 2, f32_to_bf16(value));
    }
    return bytes;
  }
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  const bool has_min = dtype != DType::kQ4_0 && dtype != DType::kQ5_0 && dtype != DType::kQ8_0;
  for (size_t b = 0; b < bytes.size(); b += static_cast<size_t>(dtype_info(dtype).block_bytes)) {
    put(b + (dtype == DType::kQ6_K ? 208 : 0), f32_to_f16(1e-4f));
    if (has_min && dtype != DType::kQ6_K) put(b + 2, f32_to_f16(-1e-4f));
  }
  return bytes;
}

// A weight's bytes in the file's format, to be packed once the size of all is known.
struct FileWeight {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorView> parts;
  Compute compute;
  WeightSpec spec() const { return {.parts = parts, .compute = compute}; }
};

struct Layer {
  PackedWeight qkv, o, gate_up, down;
  void* kv = nullptr;
};

struct Scenario {
  std::string name;
  int streams = 1;
  int rows = 1;   // of each stream
  int depth = 0;  // positions before
};

struct OpCost {
  double seconds = 0;
  double bytes = 0;
  double operations = 0;
};

class Bench {
 public:
  Bench(const Backend& backend, ThreadPool& pool, DType format, DType head_format, Compute compute,
        DType kv_dtype, int positions_max, int streams_max)
      : backend_(backend), pool_(pool), positions_max_(positions_max) {
    std::mt19937_64 random(1);
    const int64_t h = shape_.hidden, q = int64_t{shape_.heads} * shape_.head_dim,
                  kv = int64_t{shape_.kv_heads} * shape_.head_dim, i = shape_.intermediate;
    layout_ = {kv_dtype, shape_.kv_heads, shape_.head_dim, shape_.head_dim};
    block_bytes_ = (backend.kv_block_bytes(layout_) + 63) / 64 * 64;
    blocks_per_stream_ = (positions_max + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens;
    const auto file = [&](DType dtype, const std::vector<int64_t>& rows, int64_t cols) {
      FileWeight weight;
      weight.compute = compute;
      for (const int64_t n : rows) weight.bytes.push_back(random_weight(dtype, n * cols, random));
      for (size_t p = 0; p < rows.size(); ++p) {
        weight.parts.push_back({weight.bytes[p].data(), dtype, Shape{rows[p], cols}});
      }
      return weight;
    };
    const FileWeight files[] = {file(format, {q, kv, kv}, h), file(format, {h}, q), file(format, {i, i}, h),
                                file(format, {h}, i), file(head_format, {shape_.vocab}, h)};
    size_t weight_bytes = 0;
    for (size_t f = 0; f < 5; ++f) {
      weight_bytes +=
          (backend.packed_bytes(files[f].spec()) + 64) * static_cast<size_t>(f < 4 ? shape_.layers : 1);
    }
    weights_ = std::make_unique<Mapping>(weight_bytes);
    const auto pack = [&](const FileWeight& weight) {
      return backend.prepare(weight.spec(), weights_->take(backend.packed_bytes(weight.spec()))).value();
    };
    const size_t kv_bytes = block_bytes_ * static_cast<size_t>(blocks_per_stream_ * streams_max);
    kv_ = std::make_unique<Mapping>(kv_bytes * static_cast<size_t>(shape_.layers));
    for (int l = 0; l < shape_.layers; ++l) {
      layers_.push_back(
          {pack(files[0]), pack(files[1]), pack(files[2]), pack(files[3]), kv_->take(kv_bytes).data()});
    }
    head_ = pack(files[4]);
    for (int b = 0; b < blocks_per_stream_ * streams_max; ++b) table_.push_back(b);
    gain_.assign(static_cast<size_t>(h), 1.0f);
  }

  std::map<std::string, OpCost> step(const Scenario& scenario) {
    const int64_t rows = int64_t{scenario.streams} * scenario.rows;
    const auto r = static_cast<size_t>(rows);
    const auto hidden = static_cast<size_t>(shape_.hidden);
    std::vector<Segment> segments;
    std::vector<int32_t> head_rows;
    for (int s = 0; s < scenario.streams; ++s) {
      segments.push_back({s * scenario.rows, scenario.rows, scenario.depth,
                          &table_[static_cast<size_t>(s * blocks_per_stream_)]});
      head_rows.push_back((s + 1) * scenario.rows - 1);
    }
    const size_t width = hidden + 2 * static_cast<size_t>(shape_.kv_heads * shape_.head_dim);
    std::vector<float> x(r * hidden, 0.5f), q(r * hidden), qkv(r * width), attended(r * hidden);
    for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k % 17) - 8.0f;
    std::vector<float> gate_up(r * 2 * static_cast<size_t>(shape_.intermediate));
    std::vector<float> cos(r * static_cast<size_t>(shape_.head_dim / 2), 1.0f), sin(cos.size(), 0.0f);
    std::vector<float> head_workspace(head_rows.size() * hidden);
    std::vector<float> logits(head_rows.size() * static_cast<size_t>(shape_.vocab));
    const OpContext context{&backend_, &pool_, scratch(rows)};
    const Norm norm{gain_.data(), 1e-5f};

    std::map<std::string, OpCost> costs;
    const auto timed = [&](const char* name, double bytes, double operations, auto&& run) {
      const auto start = Clock::now();
      run();
      OpCost& cost = costs[name];
      cost.seconds += seconds_since(start);
      cost.bytes += bytes;
      cost.operations += operations;
    };
    const auto linear_cost = [&](const PackedWeight& w) {
      return 2.0 * static_cast<double>(w.rows) * static_cast<double>(w.cols) * static_cast<double>(rows);
    };
    const double seen = scenario.depth + (scenario.rows + 1) / 2.0;
    const double element = dtype_info(layout_.dtype).block_bytes;
    const double attend_operations = 4.0 * static_cast<double>(rows) * seen * shape_.heads * shape_.head_dim;
    const double attend_bytes = 2.0 * scenario.streams * (scenario.depth + scenario.rows) * shape_.kv_heads *
                                shape_.head_dim * element;
    for (Layer& layer : layers_) {
      const KvView kv{layout_, layer.kv, static_cast<int64_t>(block_bytes_)};
      timed("1 qkv", static_cast<double>(layer.qkv.bytes), linear_cost(layer.qkv), [&] {
        ops::qkv_project(context, {.x = x.data(),
                                   .rows = rows,
                                   .norm = norm,
                                   .weight = &layer.qkv,
                                   .heads = shape_.heads,
                                   .kv_heads = shape_.kv_heads,
                                   .head_dim = shape_.head_dim,
                                   .rope = {cos.data(), sin.data(), shape_.head_dim / 2, false},
                                   .segments = segments,
                                   .kv = kv,
                                   .q = q.data(),
                                   .qkv = qkv.data()});
      });
      timed("2 attend", attend_bytes, attend_operations, [&] {
        ops::attend(context, {.q = q.data(),
                              .rows = rows,
                              .heads = shape_.heads,
                              .scale = 0.125f,
                              .segments = segments,
                              .kv = kv,
                              .out = attended.data()});
      });
      timed("3 o", static_cast<double>(layer.o.bytes), linear_cost(layer.o), [&] {
        ops::norm_linear(
            context,
            {.x = attended.data(), .rows = rows, .weight = &layer.o, .out = x.data(), .accumulate = true});
      });
      timed("4 mlp", static_cast<double>(layer.gate_up.bytes + layer.down.bytes),
            linear_cost(layer.gate_up) + linear_cost(layer.down), [&] {
              ops::mlp(context, {.x = x.data(),
                                 .rows = rows,
                                 .norm = norm,
                                 .gate_up = &layer.gate_up,
                                 .down = &layer.down,
                                 .workspace = gate_up.data(),
                                 .out = x.data(),
                                 .accumulate = true});
            });
    }
    timed("5 head", static_cast<double>(head_.bytes),
          linear_cost(head_) / static_cast<double>(rows) * static_cast<double>(head_rows.size()), [&] {
            ops::head(context, {.x = x.data(),
                                .rows = head_rows,
                                .norm = norm,
                                .weight = &head_,
                                .workspace = head_workspace.data(),
                                .out = logits.data()});
          });
    OpCost total;
    for (const auto& [name, cost] : costs) {
      total.seconds += cost.seconds;
      total.bytes += cost.bytes;
      total.operations += cost.operations;
    }
    costs["6 step"] = total;
    return costs;
  }

 private:
  std::span<std::byte> scratch(int64_t rows) {
    const size_t bytes = backend_.scratch_bytes({.rows_max = rows,
                                                 .width_max = shape_.intermediate,
                                                 .heads = shape_.heads,
                                                 .head_dim_max = shape_.head_dim,
                                                 .context_max = positions_max_,
                                                 .threads = pool_.size()});
    if (bytes > scratch_.size()) {
      scratch_owner_ = std::make_unique<Mapping>(bytes);
      scratch_ = scratch_owner_->take(bytes);
    }
    return scratch_;
  }

  const Backend& backend_;
  ThreadPool& pool_;
  ModelShape shape_;
  int positions_max_;
  int blocks_per_stream_ = 0;
  size_t block_bytes_ = 0;
  KvLayout layout_;
  std::unique_ptr<Mapping> weights_, kv_;
  std::vector<Layer> layers_;
  PackedWeight head_;
  std::vector<int32_t> table_;
  std::vector<float> gain_;
  std::unique_ptr<Mapping> scratch_owner_;
  std::span<std::byte> scratch_;
};

// Bytes a second that the pool's threads read from memory; the best of some passes over 256 MiB.
double read_bandwidth(ThreadPool& pool) {
  using Line = uint64_t __attribute__((vector_size(64)));
  constexpr int64_t kLines = (256 << 20) / 64;
  static Mapping owner(kLines * 64);
  static const std::span<std::byte> buffer = owner.take(kLines * 64);
  if (buffer[0] == std::byte{0}) std::memset(buffer.data(), 1, buffer.size());
  const auto* lines = reinterpret_cast<const Line*>(buffer.data());
  double best = 0;
  for (int pass = 0; pass < 6; ++pass) {
    std::atomic<uint64_t> sink{0};
    const auto start = Clock::now();
    pool.parallel_for(kLines, 16384, [&](int64_t begin, int64_t end, int) {
      Line sums[4] = {};
      for (int64_t i = begin; i < end; i += 4) {
        for (int j = 0; j < 4; ++j) sums[j] += lines[i + j];
      }
      const Line sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      sink += sum[0] + sum[7];
    });
    best = std::max(best, kLines * 64 / seconds_since(start));
  }
  return best;
}

int run(int argc, char** argv) {
  std::string backend_name = "auto", format_name = "Q4_1", head_name = "Q8_0", kv_name = "F16";
  int threads = 2, steps = 15;
  bool f32 = false;
  std::vector<std::string> only;
  CLI::App app("Times the CPU ops on a model of SmolLM2-135M's shape");
  app.add_option("--backend", backend_name, "auto, generic, avx2, avx512");
  app.add_option("--format", format_name, "of the layers' weights");
  app.add_option("--head", head_name, "format of the head");
  app.add_option("--kv", kv_name, "F16, BF16, F32");
  app.add_option("--threads", threads);
  app.add_option("--steps", steps, "steps of each scenario; the median counts");
  app.add_option("--only", only,
                 "scenarios: decode1, decode1@2048, decode16, decode32, prefill512, prefill2048");
  app.add_flag("--f32", f32, "f32 activations throughout");
  CLI11_PARSE(app, argc, argv);

  const auto dtype_of = [](const std::string& name) {
    for (int i = 0; i <= static_cast<int>(DType::kQ6_K); ++i) {
      if (to_string(static_cast<DType>(i)) == name) return static_cast<DType>(i);
    }
    fmt::print(stderr, "no such format: {}\n", name);
    std::exit(2);
  };
  const auto backend = cpu_backend(backend_name);
  if (!backend.ok()) {
    fmt::print(stderr, "{}\n", backend.status().message());
    return 2;
  }
  ThreadPool pool(threads, true);
  const Scenario scenarios[] = {{"decode1", 1, 1, 64},     {"decode1@2048", 1, 1, 2048},
                                {"decode16", 16, 1, 64},   {"decode32", 32, 1, 64},
                                {"prefill512", 1, 512, 0}, {"prefill2048", 1, 2048, 0}};
  Bench bench(**backend, pool, dtype_of(format_name), dtype_of(head_name),
              f32 ? Compute::kF32 : Compute::kAuto, dtype_of(kv_name), 2112, 32);
  fmt::print("{} {}, head {}, KV {}, {} threads\n", (*backend)->name, format_name, head_name, kv_name,
             threads);
  for (const Scenario& scenario : scenarios) {
    if (!only.empty() && std::find(only.begin(), only.end(), scenario.name) == only.end()) continue;
    const double bandwidth = read_bandwidth(pool);
    std::vector<std::map<std::string, OpCost>> runs;
    const int count = scenario.rows > 1 ? std::max(3, steps / 4) : steps * 4;
    for (int i = 0; i < count; ++i) runs.push_back(bench.step(scenario));
    std::sort(runs.begin(), runs.end(),
              [](const auto& a, const auto& b) { return a.at("6 step").seconds < b.at("6 step").seconds; });
    const auto& median = runs[runs.size() / 2];
    const double tokens = scenario.streams * scenario.rows;
    fmt::print("{:14} {:8.1f} tok/s median, {:8.1f} best; read bandwidth {:.1f} GB/s\n", scenario.name,
               tokens / median.at("6 step").seconds, tokens / runs[0].at("6 step").seconds, bandwidth / 1e9);
    for (const auto& [name, cost] : median) {
      fmt::print("    {:9} {:9.1f} us {:6.1f} GB/s {:4.0f}% of bandwidth {:7.1f} GOP/s\n", name,
                 cost.seconds * 1e6, cost.bytes / cost.seconds / 1e9,
                 100 * cost.bytes / cost.seconds / bandwidth, cost.operations / cost.seconds / 1e9);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gantry::bench

int main(int argc, char** argv) { return gantry::bench::run(argc, argv); }
