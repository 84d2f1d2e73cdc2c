// A whole MoE layer: against the reference's ops, and its time with all gaps.
#include <algorithm>
#include <set>
#include <string>

#include "bench/cuda/host_math.h"
#include "bench/cuda/moe_layer.h"
#include "bench/cuda/suites.h"
#include "kernels/ops/ops.h"

namespace gantry::bench {
namespace {

using namespace sm90;

// A weight of the reference: f32 values and what packs them.
struct HostWeight {
  std::vector<float> values;
  std::vector<std::byte> storage;
  PackedWeight packed;

  HostWeight(std::vector<float> v, const std::vector<Shape>& parts, int64_t batch = 1)
      : values(std::move(v)) {
    std::vector<TensorView> views;
    const float* at = values.data();
    for (int64_t b = 0; b < batch; ++b) {
      for (const Shape& shape : parts) {
        views.push_back({at, DType::kF32, shape});
        at += shape.elements();
      }
    }
    const WeightSpec spec{.parts = views, .compute = Compute::kF32, .batch = batch};
    const Backend* backend = cpu_backend("reference").value();
    storage.resize(backend->packed_bytes(spec));
    packed = backend->prepare(spec, storage).value();
  }
};

std::vector<float> dequantize(const DeviceBuffer<uint8_t>& codes, const DeviceBuffer<float>& scales,
                              int matrices, int rows, int cols) {
  const std::vector<uint8_t> c = codes.download();
  const std::vector<float> s = scales.download();
  std::vector<float> all;
  const size_t step = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  const size_t scale_step = static_cast<size_t>((rows + 127) / 128) * static_cast<size_t>(cols / 128);
  for (size_t m = 0; m < static_cast<size_t>(matrices); ++m) {
    const std::vector<float> w = dequantize_blocks(&c[m * step], &s[m * scale_step], rows, cols);
    all.insert(all.end(), w.begin(), w.end());
  }
  return all;
}

void check_layer(Report& report, const LayerShape& s) {
  Activations act(s);
  const MoeLayer layer(act, 600);
  const std::vector<float> before = act.residual.download();
  std::vector<uint16_t> cache = layer.cache.download();
  for (const MoeLayer::Step& step : layer.steps()) step.launch(nullptr);
  must(cudaDeviceSynchronize(), "layer");
  const std::vector<float> after = act.residual.download();

  const int head = LayerShape::kNope + LayerShape::kRope, values = s.heads * LayerShape::kValue;
  const HostWeight a(dequantize(layer.q_a_kv_a, layer.q_a_kv_a_scale, 1, s.q_lora + kMlaKey, s.hidden),
                     {Shape{s.q_lora, s.hidden}, Shape{kMlaKey, s.hidden}});
  const HostWeight q_b(dequantize(layer.q_b, layer.q_b_scale, 1, s.heads * head, s.q_lora),
                       {Shape{s.heads * head, s.q_lora}});
  const HostWeight o(dequantize(layer.o_proj, layer.o_proj_scale, 1, s.hidden, values),
                     {Shape{s.hidden, values}});
  const std::vector<float> gate_up =
      dequantize(layer.gate_up, layer.gate_up_scale, s.experts + 1, 2 * s.intermediate, s.hidden);
  const std::vector<float> down =
      dequantize(layer.down, layer.down_scale, s.experts + 1, s.hidden, s.intermediate);
  const auto routed_up = gate_up.end() - int64_t{2} * s.intermediate * s.hidden;
  const auto routed_down = down.end() - int64_t{1} * s.intermediate * s.hidden;
  const std::vector<Shape> two(2, Shape{s.intermediate, s.hidden}), one(1, Shape{s.hidden, s.intermediate});
  const HostWeight experts_up({gate_up.begin(), routed_up}, two, s.experts);
  const HostWeight experts_down({down.begin(), routed_down}, one, s.experts);
  const HostWeight shared_up({routed_up, gate_up.end()}, two), shared_down({routed_down, down.end()}, one);
  const HostWeight w_uk(from_bf16(layer.w_uk.download()), {Shape{kMlaValue, LayerShape::kNope}}, s.heads);
  const HostWeight w_uv(from_bf16(layer.w_uv.download()), {Shape{LayerShape::kValue, kMlaValue}}, s.heads);
  const HostWeight gate(from_bf16(layer.gate.download()), {Shape{s.experts, s.hidden}});
  const std::vector<float> bias = layer.gate_bias.download();
  const std::vector<float> in_gain = layer.input_gain.download(), q_gain = layer.q_a_gain.download(),
                           kv_gain = layer.kv_gain.download(), post_gain = layer.post_gain.download();
  const std::vector<float> cos = act.cos.download(), sin = act.sin.download();

  const Backend* backend = cpu_backend("reference").value();
  ThreadPool pool(8);
  std::vector<std::byte> scratch(64 +
                                 backend->scratch_bytes({.rows_max = s.batch,
                                                         .width_max = std::max(s.hidden, s.heads * kMlaKey),
                                                         .experts = s.experts,
                                                         .experts_per_token = s.experts_per_token,
                                                         .expert_width = s.intermediate,
                                                         .heads = s.heads,
                                                         .head_dim_max = kMlaKey,
                                                         .context_max = s.context,
                                                         .threads = pool.size()}));
  const size_t offset = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  const OpContext context{backend, &pool, std::span(scratch).subspan(offset)};
  std::vector<Segment> segments;
  for (int b = 0; b < s.batch; ++b) {
    segments.push_back({b, 1, s.context - 1, &act.table[static_cast<size_t>(b * act.table_stride)]});
  }
  const KvView kv{{DType::kBF16, 1, kMlaKey, 0}, cache.data(), 64 * kMlaKey * 2};
  const auto batch = static_cast<size_t>(s.batch);
  std::vector<float> residual = before, q(batch * static_cast<size_t>(s.heads * kMlaKey));
  std::vector<float> workspace(batch * static_cast<size_t>(2 * s.q_lora + kMlaKey + s.heads * head +
                                                           2 * s.hidden + 2 * s.intermediate));
  ops::mla_project(context, {.x = residual.data(),
                             .rows = s.batch,
                             .norm = {in_gain.data(), 1e-6f},
                             .q_a_kv_a = &a.packed,
                             .q_a_norm = {q_gain.data(), 1e-6f},
                             .q_b = &q_b.packed,
                             .kv_a_norm = {kv_gain.data(), 1e-6f},
                             .w_uk = &w_uk.packed,
                             .heads = s.heads,
                             .q_lora = s.q_lora,
                             .latent = kMlaValue,
                             .nope = LayerShape::kNope,
                             .rope_dim = LayerShape::kRope,
                             .rope = {cos.data(), sin.data(), LayerShape::kRope / 2, true},
                             .segments = segments,
                             .kv = kv,
                             .q = q.data(),
                             .workspace = workspace.data()});
  std::vector<float> attended(batch * static_cast<size_t>(s.heads * kMlaValue)),
      out(batch * static_cast<size_t>(values));
  ops::mla_attend(context, {.q = q.data(),
                            .rows = s.batch,
                            .heads = s.heads,
                            .latent = kMlaValue,
                            .value_dim = LayerShape::kValue,
                            .scale = 0.135234f,
                            .w_uv = &w_uv.packed,
                            .segments = segments,
                            .kv = kv,
                            .attended = attended.data(),
                            .out = out.data()});
  ops::norm_linear(
      context,
      {.x = out.data(), .rows = s.batch, .weight = &o.packed, .out = residual.data(), .accumulate = true});
  ops::moe(context, {.x = residual.data(),
                     .rows = s.batch,
                     .hidden = s.hidden,
                     .norm = {post_gain.data(), 1e-6f},
                     .gate_weight = &gate.packed,
                     .gate_bias = bias.data(),
                     .gate = {.experts = s.experts,
                              .experts_per_token = s.experts_per_token,
                              .groups = s.groups,
                              .topk_group = s.topk_group,
                              .scaling = 2.5f},
                     .gate_up = &experts_up.packed,
                     .down = &experts_down.packed,
                     .shared_gate_up = &shared_up.packed,
                     .shared_down = &shared_down.packed,
                     .workspace = workspace.data(),
                     .out = residual.data()});
  std::vector<float> actual(after), expected(residual);
  for (size_t i = 0; i < before.size(); ++i) {
    actual[i] -= before[i];
    expected[i] -= before[i];
  }
  // Activations are quantised to e4m3 (3 bits of mantissa) five times on the way: 3% each at most. A router
  // logit that this moves past another's changes an expert; wrong wiring gives an error of about 1.
  report.check("layer of " + std::to_string(s.batch) + " rows, context " + std::to_string(s.context),
               relative_error(actual, expected), 0.2);
}

void time_layer(Report& report, int batch, int context, int layers) {
  const LayerShape s{.batch = batch, .context = context};
  Activations act(s);
  std::vector<std::unique_ptr<MoeLayer>> all;
  for (int i = 0; i < layers; ++i)
    all.push_back(std::make_unique<MoeLayer>(act, 1000 * static_cast<uint64_t>(i + 1)));
  // The first `steps` kernels of `count` layers.
  const size_t whole = all[0]->steps().size();
  auto run = [&](int count, size_t steps) {
    return count * time_us(count, [&](int i, cudaStream_t stream) {
             const auto& layer = all[static_cast<size_t>(i % layers)]->steps();
             for (size_t k = 0; k < steps; ++k) layer[k].launch(stream);
           });
  };
  // The difference of two layer counts leaves out what a graph costs once.
  const int few = layers, many = 3 * layers;
  auto per_layer = [&](size_t steps) { return (run(many, steps) - run(few, steps)) / (many - few); };
  const double us = per_layer(whole);
  const std::vector<int32_t> ids = act.ids.download();
  const double hit =
      static_cast<double>(std::set<int32_t>(ids.begin(), ids.end()).size()) - 1;  // without the shared
  report.timing({.kernel = "moe_layer",
                 .shape = "B " + std::to_string(batch) + ", ctx " + std::to_string(context) + ", " +
                          std::to_string(static_cast<int>(hit)) + " experts",
                 .config = std::to_string(layers) + " layers in turn",
                 .us = us,
                 .bytes = 234.8e6 + 44.04e6 * hit + 1152.0 * batch * context,  // roofline.py's
                 .flops = 278528.0 * batch * context},
                kBf16Peak);
  // What each kernel adds to those before it, overlap included: a layer cut off after it, less one cut off
  // before.
  std::printf("  ");
  double before = 0;
  for (size_t steps = 1; steps <= whole; ++steps) {
    const double now = steps < whole ? per_layer(steps) : us;
    std::printf("%s %.1f%s", all[0]->steps()[steps - 1].name, now - before, steps < whole ? ", " : " us\n");
    before = now;
  }
}

}  // namespace

void check_layer(Report& report) {
  const LayerShape small{.hidden = 1024,
                         .heads = 8,
                         .q_lora = 256,
                         .experts = 16,
                         .experts_per_token = 4,
                         .groups = 4,
                         .topk_group = 2,
                         .intermediate = 256};
  for (const auto& [batch, context] : {std::pair{1, 100}, {1, 1}, {7, 700}, {33, 64}, {128, 129}}) {
    LayerShape s = small;
    s.batch = batch;
    s.context = context;
    check_layer(report, s);
  }
}

void time_layer(Report& report) {
  size_t free_bytes = 0, total_bytes = 0;
  must(cudaMemGetInfo(&free_bytes, &total_bytes));
  // 11.6 GB of weights and up to 0.6 GB of cache a layer.
  const int layers = static_cast<int>(std::min<size_t>(4, free_bytes / (size_t{13} << 30)));
  for (const int batch : {1, 8, 32, 64, 128}) time_layer(report, batch, 4096, layers);
}

}  // namespace gantry::bench
