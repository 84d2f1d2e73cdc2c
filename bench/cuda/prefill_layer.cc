// A whole MoE layer's prefill through the ops of the CUDA backend: against the reference's, and its time.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/mla_decode.h"
#include "kernels/ops/ops.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using sm90::kMlaKey;
using sm90::kMlaValue;

constexpr int kNope = 128, kRope = 64, kValue = 128;
constexpr float kScale = 0.135234f;  // R1's (model.md, MLA)

struct LayerDims {
  int hidden = 7168, heads = 128, q_lora = 1536, experts = 256, picks = 8, groups = 8, topk_group = 4,
      width = 2048;
};

enum class Kind { kFp8, kBf16, kF32 };

// One weight on the device, and on the host for the reference.
struct LayerWeight {
  DeviceBuffer<uint8_t> codes;
  DeviceBuffer<float> f32;  // scales, or the weight
  DeviceBuffer<uint16_t> bf16;
  PackedWeight device, host;
  std::vector<float> values;
  std::vector<std::byte> storage;

  // parts: rows of each; the device stacks them.
  LayerWeight(Kind kind, std::vector<int64_t> parts, int64_t cols, int64_t batch, uint64_t seed,
              bool with_host) {
    const int64_t rows = std::accumulate(parts.begin(), parts.end(), int64_t{0});
    device = {.rows = rows,
              .cols = cols,
              .batch = batch,
              .compute = kind == Kind::kF32 ? Compute::kF32 : Compute::kAuto,
              .part_count = 1};
    PackedWeight::Part& part = device.parts[0];
    part.rows = rows;
    const auto count = static_cast<size_t>(batch * rows * cols);
    const float unit = 1.0f / std::sqrt(static_cast<float>(cols));
    if (kind == Kind::kFp8) {
      const int64_t scales = scale_blocks(rows) * scale_blocks(cols);
      codes = DeviceBuffer<uint8_t>(count);
      f32 = DeviceBuffer<float>(static_cast<size_t>(batch * scales));
      fill_e4m3(codes.get(), count, seed);
      fill_f32(f32.get(), f32.size(), 0.5f * unit / 150.0f, 1.5f * unit / 150.0f, seed + 1);
      part.dtype = DType::kF8E4M3;
      part.data = codes.get();
      part.batch_stride = rows * cols;
      part.scales = f32.get();
      part.scale_batch_stride = scales;
    } else if (kind == Kind::kBf16) {
      bf16 = DeviceBuffer<uint16_t>(count);
      fill_bf16(bf16.get(), count, unit, seed);
      part.dtype = DType::kBF16;
      part.data = bf16.get();
      part.batch_stride = rows * cols * 2;
    } else {
      f32 = DeviceBuffer<float>(count);
      fill_f32(f32.get(), count, -2.0f * unit, 2.0f * unit, seed);
      part.dtype = DType::kF32;
      part.data = f32.get();
      part.batch_stride = rows * cols * 4;
    }
    if (!with_host) return;
    if (kind == Kind::kFp8) {
      const std::vector<uint8_t> c = codes.download();
      const std::vector<float> s = f32.download();
      for (int64_t b = 0; b < batch; ++b) {
        const std::vector<float> w = dequantize_blocks(&c[static_cast<size_t>(b * rows * cols)],
                                                       &s[static_cast<size_t>(b * part.scale_batch_stride)],
                                                       static_cast<int>(rows), static_cast<int>(cols));
        values.insert(values.end(), w.begin(), w.end());
      }
    } else {
      values = kind == Kind::kBf16 ? from_bf16(bf16.download()) : f32.download();
    }
    std::vector<TensorView> views;
    const float* at = values.data();
    for (int64_t b = 0; b < batch; ++b) {
      for (const int64_t part_rows : parts) {
        views.push_back({at, DType::kF32, Shape{part_rows, cols}});
        at += part_rows * cols;
      }
    }
    const WeightSpec spec{.parts = views, .compute = Compute::kF32, .batch = batch};
    const Backend* backend = cpu_backend("reference").value();
    storage.resize(backend->packed_bytes(spec));
    host = backend->prepare(spec, storage).value();
  }
  const PackedWeight* on(bool gpu) const { return gpu ? &device : &host; }
};

struct Gain {
  DeviceBuffer<float> device;
  std::vector<float> host;
  Gain(int width, uint64_t seed) : device(static_cast<size_t>(width)) {
    fill_f32(device.get(), device.size(), 0.5f, 1.5f, seed);
    host = device.download();
  }
  Norm on(bool gpu) const { return {gpu ? device.get() : host.data(), 1e-6f}; }
};

struct Layer {
  LayerDims d;
  LayerWeight q_a_kv_a, q_b, w_uk, w_uv, o_proj, gate, gate_up, down, shared_gate_up, shared_down;
  Gain input, q_a, kv_a, post;

  Layer(const LayerDims& dims, uint64_t seed, bool with_host)
      : d(dims),
        q_a_kv_a(Kind::kFp8, {d.q_lora, kMlaKey}, d.hidden, 1, seed, with_host),
        q_b(Kind::kFp8, {d.heads * (kNope + kRope)}, d.q_lora, 1, seed + 2, with_host),
        w_uk(Kind::kBf16, {kMlaValue}, kNope, d.heads, seed + 4, with_host),
        w_uv(Kind::kBf16, {kValue}, kMlaValue, d.heads, seed + 5, with_host),
        o_proj(Kind::kFp8, {d.hidden}, d.heads * kValue, 1, seed + 6, with_host),
        gate(Kind::kF32, {d.experts}, d.hidden, 1, seed + 8, with_host),
        gate_up(Kind::kFp8, {d.width, d.width}, d.hidden, d.experts, seed + 10, with_host),
        down(Kind::kFp8, {d.hidden}, d.width, d.experts, seed + 12, with_host),
        shared_gate_up(Kind::kFp8, {d.width, d.width}, d.hidden, 1, seed + 14, with_host),
        shared_down(Kind::kFp8, {d.hidden}, d.width, 1, seed + 16, with_host),
        input(d.hidden, seed + 18),
        q_a(d.q_lora, seed + 19),
        kv_a(kMlaValue, seed + 20),
        post(d.hidden, seed + 21) {}
};

// New rows of a sequence and what is cached before them.
struct Extent {
  int rows, cached;
};

// A batch's inputs and buffers, of the GPU or of the host.
struct Batch {
  bool gpu;
  LayerDims d;
  int64_t rows = 0;
  int longest = 0;
  std::vector<Segment> segments;
  std::vector<std::vector<int32_t>> tables;
  int32_t blocks = 0;
  std::vector<float> cos, sin;
  std::vector<DeviceBuffer<float>> device;
  std::vector<std::vector<float>> host;
  DeviceBuffer<std::byte> device_scratch, device_cache;
  std::vector<std::byte> host_scratch, host_cache;
  ThreadPool pool;
  std::unique_ptr<BackendState> state;
  OpContext context;
  KvView kv;
  float *x, *q, *attended, *values, *out, *workspace;

  float* take(int64_t floats) {
    if (gpu) {
      device.emplace_back(static_cast<size_t>(floats));
      return device.back().get();
    }
    host.emplace_back(static_cast<size_t>(floats));
    return host.back().data();
  }

  Batch(const LayerDims& dims, const std::vector<Extent>& extents, bool on_gpu)
      : gpu(on_gpu), d(dims), pool(on_gpu ? 1 : 16) {
    std::mt19937_64 engine(951);
    for (const Extent& e : extents) blocks += (e.rows + e.cached + 63) / 64;
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    auto next = order.begin();
    for (const Extent& e : extents) {
      const int count = (e.rows + e.cached + 63) / 64;
      tables.emplace_back(next, next + count);
      next += count;
    }
    for (size_t s = 0; s < extents.size(); ++s) {
      const Extent& e = extents[s];
      segments.push_back({static_cast<int32_t>(rows), e.rows, e.cached, tables[s].data()});
      for (int r = 0; r < e.rows; ++r) {
        for (int i = 0; i < kRope / 2; ++i) {
          const double angle = (e.cached + r) * std::pow(10000.0, -2.0 * i / kRope);
          cos.push_back(static_cast<float>(std::cos(angle)));
          sin.push_back(static_cast<float>(std::sin(angle)));
        }
      }
      rows += e.rows;
      longest = std::max(longest, e.rows + e.cached);
    }
    const Backend* backend = backend_by_name(gpu ? "cuda" : "reference").value();
    const ScratchSpec spec{.rows_max = rows,
                           .width_max = std::max({d.hidden, d.heads * (kNope + kRope), 2 * d.width}),
                           .hidden = d.hidden,
                           .experts = d.experts,
                           .experts_per_token = d.picks,
                           .expert_width = d.width,
                           .heads = d.heads,
                           .head_dim_max = kMlaKey,
                           .context_max = longest,
                           .threads = pool.size(),
                           .logit_rows_max = 1,
                           .vocab = 1,
                           .rope_pairs_max = kRope / 2};
    const size_t bytes = backend->scratch_bytes(spec);
    kv.layout = {DType::kBF16, 1, kMlaKey, 0};
    kv.block_stride = static_cast<int64_t>(backend->kv_block_bytes(kv.layout));
    kv.blocks = blocks;
    context = {backend, &pool, {}, nullptr};
    if (gpu) {
      device_scratch = DeviceBuffer<std::byte>(bytes);
      device_cache = DeviceBuffer<std::byte>(static_cast<size_t>(blocks * kv.block_stride));
      kv.base = device_cache.get();
      context.scratch = {device_scratch.get(), bytes};
      state = backend->create_state(spec).value();
      context.state = state.get();
    } else {
      host_scratch.resize(bytes + 64);
      const size_t offset = (64 - reinterpret_cast<uintptr_t>(host_scratch.data()) % 64) % 64;
      context.scratch = std::span(host_scratch).subspan(offset, bytes);
      host_cache.resize(static_cast<size_t>(blocks * kv.block_stride));
      kv.base = host_cache.data();
    }
    x = take(rows * d.hidden);
    q = take(rows * d.heads * kMlaKey);
    attended = take(rows * d.heads * kMlaValue);
    values = take(rows * d.heads * kValue);
    out = take(rows * d.hidden);
    workspace = take(rows * std::max(2 * d.q_lora + kMlaKey + d.heads * (kNope + kRope) + d.hidden,
                                     2 * d.width + d.hidden));
  }
  RopeRows rope() const { return {cos.data(), sin.data(), kRope / 2, true}; }
  void begin() { ops::begin_step(context, {.segments = segments, .rope = rope()}); }
  void finish() { ops::finish(context); }

  void project(const Layer& l) {
    ops::mla_project(context, {.x = x,
                               .rows = rows,
                               .norm = l.input.on(gpu),
                               .q_a_kv_a = l.q_a_kv_a.on(gpu),
                               .q_a_norm = l.q_a.on(gpu),
                               .q_b = l.q_b.on(gpu),
                               .kv_a_norm = l.kv_a.on(gpu),
                               .w_uk = l.w_uk.on(gpu),
                               .heads = d.heads,
                               .q_lora = d.q_lora,
                               .latent = kMlaValue,
                               .nope = kNope,
                               .rope_dim = kRope,
                               .rope = rope(),
                               .segments = segments,
                               .kv = kv,
                               .q = q,
                               .workspace = workspace});
  }
  void attend(const Layer& l) {
    ops::mla_attend(context, {.q = q,
                              .rows = rows,
                              .heads = d.heads,
                              .latent = kMlaValue,
                              .value_dim = kValue,
                              .scale = kScale,
                              .w_uk = l.w_uk.on(gpu),
                              .w_uv = l.w_uv.on(gpu),
                              .segments = segments,
                              .kv = kv,
                              .attended = attended,
                              .out = values});
  }
  void output(const Layer& l, float* to, bool accumulate) {
    ops::norm_linear(
        context,
        {.x = values, .rows = rows, .weight = l.o_proj.on(gpu), .out = to, .accumulate = accumulate});
  }
  void experts(const Layer& l, float* to) {
    ops::moe(context, {.x = x,
                       .rows = rows,
                       .hidden = d.hidden,
                       .norm = l.post.on(gpu),
                       .gate_weight = l.gate.on(gpu),
                       .gate = {.experts = d.experts,
                                .experts_per_token = d.picks,
                                .groups = d.groups,
                                .topk_group = d.topk_group,
                                .scaling = 2.5f},
                       .gate_up = l.gate_up.on(gpu),
                       .down = l.down.on(gpu),
                       .shared_gate_up = l.shared_gate_up.on(gpu),
                       .shared_down = l.shared_down.on(gpu),
                       .workspace = workspace,
                       .out = to});
  }
  void layer(const Layer& l) {
    project(l);
    attend(l);
    output(l, x, true);
    experts(l, x);
  }
};

// Both halves of a layer apart, from the same rows. The reference multiplies f32 activations: rounding them to e4m3 adds
// 2 to 3% at every product.
void check_layer(Report& report, const std::vector<Extent>& extents) {
  const LayerDims dims{.hidden = 1024,
                       .heads = 4,
                       .q_lora = 256,
                       .experts = 16,
                       .picks = 4,
                       .groups = 4,
                       .topk_group = 2,
                       .width = 256};
  const Layer layer(dims, 960, true);
  Batch gpu(dims, extents, true), host(dims, extents, false);
  std::string what;
  for (const Extent& e : extents) what += " " + std::to_string(e.rows) + "+" + std::to_string(e.cached);
  const std::vector<float> x = normals(static_cast<size_t>(gpu.rows * dims.hidden), 1.0f, 961);
  must(cudaMemcpy(gpu.x, x.data(), x.size() * 4, cudaMemcpyHostToDevice));
  std::copy(x.begin(), x.end(), host.x);
  const std::vector<float> cached = normals(gpu.device_cache.size() / 2, 1.0f, 962);
  std::vector<uint16_t> bits(cached.size());
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = f32_to_bf16(cached[i]);
  must(cudaMemcpy(gpu.device_cache.get(), bits.data(), bits.size() * 2, cudaMemcpyHostToDevice));
  std::memcpy(host.host_cache.data(), bits.data(), bits.size() * 2);
  const auto out_of = [&](Batch& b) {
    std::vector<float> out(static_cast<size_t>(b.rows * dims.hidden));
    if (b.gpu) {
      must(cudaMemcpy(out.data(), b.out, out.size() * 4, cudaMemcpyDeviceToHost));
    } else {
      std::copy(b.out, b.out + out.size(), out.begin());
    }
    return out;
  };
  for (Batch* b : {&gpu, &host}) {
    b->begin();
    b->project(layer);
    b->attend(layer);
    b->output(layer, b->out, false);
    b->finish();
  }
  report.check("prefill_layer attention" + what, relative_error(out_of(gpu), out_of(host)), 0.1);
  for (Batch* b : {&gpu, &host}) {
    std::vector<float> zeros(static_cast<size_t>(b->rows * dims.hidden));
    if (b->gpu) {
      must(cudaMemcpy(b->out, zeros.data(), zeros.size() * 4, cudaMemcpyHostToDevice));
    } else {
      std::copy(zeros.begin(), zeros.end(), b->out);
    }
    b->begin();
    b->experts(layer, b->out);
    b->finish();
  }
  report.check("prefill_layer experts" + what, relative_error(out_of(gpu), out_of(host)), 0.1);
}

double median_ms(int repeats, const std::function<void()>& run) {
  std::vector<double> ms;
  for (int i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2];
}

void time_layer(Report& report, const std::vector<std::unique_ptr<Layer>>& layers,
                const std::vector<Extent>& extents) {
  const LayerDims& d = layers[0]->d;
  Batch batch(d, extents, true);
  fill_f32(batch.x, static_cast<size_t>(batch.rows * d.hidden), -1.0f, 1.0f, 971);
  fill_bf16(batch.device_cache.get(), batch.device_cache.size() / 2, 1.0f, 972);
  must(cudaDeviceSynchronize());
  const auto run = [&](int count) {
    batch.begin();
    for (int i = 0; i < count; ++i) batch.layer(*layers[static_cast<size_t>(i) % layers.size()]);
    batch.finish();
  };
  run(2);
  // The difference of two layer counts leaves out what a step costs once.
  const double us = (median_ms(5, [&] { run(5); }) - median_ms(5, [&] { run(1); })) / 4 * 1e3;
  double pairs = 0, cached = 0;
  for (const Extent& e : extents) {
    pairs += static_cast<double>(e.rows) * e.cached + e.rows * (e.rows + 1.0) / 2;
    cached += e.cached;
  }
  const auto tokens = static_cast<double>(batch.rows);
  const double attention = 81920.0 * pairs;
  const double gemms = 2 * tokens * (187.1e6 + 1.835e6 + 9 * 44.04e6);
  // roofline.py's practical floor: 1350 TFLOPS in FP8, 640 in bf16.
  const double practical_us = gemms / 1350e6 + attention / 640e6;
  report.timing({.kernel = "prefill_layer",
                 .shape = std::to_string(extents.size()) + " x " + std::to_string(extents[0].rows) +
                          " after " + std::to_string(extents[0].cached),
                 .config = "through the ops; " + std::to_string(practical_us * 1e-3).substr(0, 5) +
                           " ms at 1350 / 640 TFLOPS",
                 .us = us,
                 .bytes = 11.5e9 + 1152 * (tokens + cached),
                 .flops = gemms + 2 * attention},
                kFp8Peak);
  // Each op by itself, waited for: where the time goes.
  const Layer& l = *layers[0];
  const auto alone = [&](const std::function<void()>& op) {
    const auto times = [&](int n) {
      return median_ms(3, [&] {
        batch.begin();
        for (int i = 0; i < n; ++i) op();
        batch.finish();
      });
    };
    return (times(4) - times(1)) / 3;
  };
  const double project = alone([&] { batch.project(l); }), attend = alone([&] { batch.attend(l); }),
               output = alone([&] { batch.output(l, batch.x, true); }),
               experts = alone([&] { batch.experts(l, batch.x); });
  std::printf("  mla_project %.2f, mla_attend %.2f, o_proj %.2f, moe %.2f ms\n", project, attend, output,
              experts);
}

}  // namespace

void check_prefill_layer(Report& report) {
  check_layer(report, {{300, 0}});
  check_layer(report, {{1, 299}, {1, 64}, {300, 100}, {7, 20}, {513, 0}, {1, 0}});
}

void time_prefill_layer(Report& report) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (uint64_t i = 0; i < 2; ++i)
    layers.push_back(std::make_unique<Layer>(LayerDims{}, 980 + 40 * i, false));
  time_layer(report, layers, {{512, 3584}});
  time_layer(report, layers, {{4096, 0}});
  time_layer(report, layers, {{4096, 0}, {4096, 0}, {4096, 0}, {4096, 0}});
  time_layer(report, layers, {{16384, 0}});
}

}  // namespace gantry::bench
