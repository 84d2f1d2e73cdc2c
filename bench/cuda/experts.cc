#include <algorithm>
#include <numeric>
#include <set>
#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/expert_gemm_launch.h"
#include "kernels/ops/gate.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using namespace sm90;

// The device buffers of an expert layer's decode step.
struct Layer {
  ExpertShape shape;
  ExpertConfig config;
  DeviceBuffer<uint8_t> gate_up, down, x, slots, h;
  DeviceBuffer<float> gate_up_scale, down_scale, x_scale, slot_scale, h_scale, weights, logits, residual,
      partial;
  DeviceBuffer<int32_t> ids, slot_of, token_of, expert_slot, counts, flags;
  DeviceBuffer<ExpertChunk> chunks[2];
  DeviceBuffer<uint16_t> y;
  ExpertGemmArgs args;

  explicit Layer(const ExpertShape& s) : shape(s), config(choose_expert_gemm(s)) {
    const auto e = static_cast<size_t>(s.experts), hidden = static_cast<size_t>(s.hidden),
               inner = static_cast<size_t>(s.intermediate), b = static_cast<size_t>(s.tokens),
               picks = static_cast<size_t>(s.experts_per_token),
               slot_count = static_cast<size_t>(slots_max(s));
    gate_up = DeviceBuffer<uint8_t>(e * 2 * inner * hidden);
    down = DeviceBuffer<uint8_t>(e * hidden * inner);
    gate_up_scale = DeviceBuffer<float>(e * 2 * inner / 128 * (hidden / 128));
    down_scale = DeviceBuffer<float>(e * (hidden / 128) * (inner / 128));
    x = DeviceBuffer<uint8_t>(128 * hidden);
    x_scale = DeviceBuffer<float>(hidden / 128 * 128);
    slots = DeviceBuffer<uint8_t>(slot_count * hidden);
    slot_scale = DeviceBuffer<float>(hidden / 128 * slot_count);
    h = DeviceBuffer<uint8_t>(slot_count * inner);
    h_scale = DeviceBuffer<float>(inner / 128 * slot_count);
    y = DeviceBuffer<uint16_t>(slot_count * hidden);
    weights = DeviceBuffer<float>(b * picks);
    ids = DeviceBuffer<int32_t>(b * picks);
    slot_of = DeviceBuffer<int32_t>(b * picks);
    token_of = DeviceBuffer<int32_t>(slot_count);
    expert_slot = DeviceBuffer<int32_t>(e * b);
    counts = DeviceBuffer<int32_t>(2);
    flags = DeviceBuffer<int32_t>(2 * kStreamBlocksMax);
    partial = DeviceBuffer<float>(static_cast<size_t>(stream_partial_floats(config)));
    chunks[0] = DeviceBuffer<ExpertChunk>(static_cast<size_t>(chunks_max(s, config.gate_up_tokens)));
    chunks[1] = DeviceBuffer<ExpertChunk>(static_cast<size_t>(chunks_max(s, config.down_tokens)));
    logits = DeviceBuffer<float>(b * e);
    residual = DeviceBuffer<float>(b * hidden);
    fill_e4m3(gate_up.get(), gate_up.size(), 1);
    fill_e4m3(down.get(), down.size(), 2);
    fill_f32(gate_up_scale.get(), gate_up_scale.size(), 0.5e-4f, 1.5e-4f, 3);
    fill_f32(down_scale.get(), down_scale.size(), 0.5e-4f, 1.5e-4f, 4);

    args.shape = s;
    args.config = config;
    args.weights = {gate_up.get(), gate_up_scale.get(), down.get(), down_scale.get()};
    args.routing = {.ids = ids.get(),
                    .weights = weights.get(),
                    .slot_of = slot_of.get(),
                    .token_of = token_of.get(),
                    .expert_slot = expert_slot.get(),
                    .chunks = {chunks[0].get(), chunks[1].get()},
                    .chunk_counts = counts.get(),
                    .flags = flags.get()};
    args.partial = partial.get();
    args.x = config.gate_up_all ? x.get() : slots.get();
    args.x_rows_max = config.gate_up_all ? 128 : slots_max(s);
    args.x_scale = config.gate_up_all ? x_scale.get() : slot_scale.get();
    args.x_scale_stride = config.gate_up_all ? 128 : slots_max(s);
    args.h = h.get();
    args.h_scale = h_scale.get();
    args.h_scale_stride = slots_max(s);
    args.y = reinterpret_cast<__nv_bfloat16*>(y.get());
    must(plan_expert_gemm(args));
  }

  void permute(cudaStream_t stream) {
    if (config.gate_up_all) return;
    must(launch_permute({.x = x.get(),
                         .x_scale = x_scale.get(),
                         .x_scale_stride = 128,
                         .slots = slots.get(),
                         .slot_scale = slot_scale.get(),
                         .slot_scale_stride = slots_max(shape),
                         .shape = shape,
                         .routing = args.routing},
                        stream));
  }
};

// k distinct experts for each token, ascending; a token's experts lie within half of the groups, as R1's gate
// picks them.
std::vector<int32_t> random_picks(const ExpertShape& s, uint64_t seed) {
  std::vector<float> draws = normals(static_cast<size_t>(s.tokens * s.experts), 1.0f, seed);
  std::vector<int32_t> ids;
  for (int t = 0; t < s.tokens; ++t) {
    std::vector<int32_t> order(static_cast<size_t>(s.experts));
    std::iota(order.begin(), order.end(), 0);
    const float* row = &draws[static_cast<size_t>(t * s.experts)];
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    order.resize(static_cast<size_t>(s.experts_per_token));
    std::sort(order.begin(), order.end());
    ids.insert(ids.end(), order.begin(), order.end());
  }
  return ids;
}

void check_one(Report& report, const ExpertShape& s) {
  Layer layer(s);
  const auto hidden = static_cast<size_t>(s.hidden), inner = static_cast<size_t>(s.intermediate);
  const auto picks = static_cast<size_t>(s.experts_per_token), tokens = static_cast<size_t>(s.tokens);
  const Quantized x = quantize_rows(normals(tokens * hidden, 1.0f, 11), s.tokens, s.hidden, 128);
  std::vector<uint8_t> padded(128 * hidden, 0xff);
  std::copy(x.codes.begin(), x.codes.end(), padded.begin());
  layer.x = DeviceBuffer<uint8_t>(padded);
  layer.x_scale = DeviceBuffer<float>(x.scales);
  if (layer.config.gate_up_all) {
    layer.args.x = layer.x.get();
    layer.args.x_scale = layer.x_scale.get();
  }
  must(plan_expert_gemm(layer.args));
  const std::vector<int32_t> ids = random_picks(s, 12);
  const std::vector<float> weights = normals(tokens * picks, 1.0f, 13),
                           residual = normals(tokens * hidden, 1.0f, 14);
  must(cudaMemcpy(layer.ids.get(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
  must(cudaMemcpy(layer.weights.get(), weights.data(), weights.size() * 4, cudaMemcpyHostToDevice));
  must(cudaMemcpy(layer.residual.get(), residual.data(), residual.size() * 4, cudaMemcpyHostToDevice));
  must(launch_dispatch(s, layer.config, layer.args.routing, nullptr));
  layer.permute(nullptr);
  must(launch_expert_gate_up(layer.args, sm_count(), nullptr));
  must(launch_expert_down(layer.args, sm_count(), nullptr));
  must(launch_combine(
      {.y = layer.args.y, .residual = layer.residual.get(), .shape = s, .routing = layer.args.routing},
      nullptr));
  must(cudaDeviceSynchronize(), "experts");

  const std::vector<uint8_t> gate_up = layer.gate_up.download(), down = layer.down.download();
  const std::vector<float> gate_up_scale = layer.gate_up_scale.download(),
                           down_scale = layer.down_scale.download();
  std::vector<float> expected = residual;
  for (int e = 0; e < s.experts; ++e) {
    std::vector<size_t> of;  // picks of this expert
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == e) of.push_back(i);
    }
    if (of.empty()) continue;
    const auto expert = static_cast<size_t>(e);
    const int count = static_cast<int>(of.size());
    std::vector<float> rows;
    for (const size_t i : of) {
      const auto first = x.values.begin() + static_cast<int64_t>(i / picks * hidden);
      rows.insert(rows.end(), first, first + s.hidden);
    }
    const auto w13 = dequantize_blocks(&gate_up[expert * 2 * inner * hidden],
                                       &gate_up_scale[expert * 2 * inner / 128 * (hidden / 128)],
                                       2 * s.intermediate, s.hidden);
    const auto w2 =
        dequantize_blocks(&down[expert * hidden * inner],
                          &down_scale[expert * (hidden / 128) * (inner / 128)], s.hidden, s.intermediate);
    const std::vector<float> both = reference_linear(rows, w13, count, 2 * s.intermediate, s.hidden);
    std::vector<float> act(of.size() * inner);
    for (size_t r = 0; r < of.size(); ++r) {
      for (size_t c = 0; c < inner; ++c) {
        const float g = both[r * 2 * inner + c];
        act[r * inner + c] = g / (1.0f + std::exp(-g)) * both[r * 2 * inner + inner + c];
      }
    }
    const Quantized h = quantize_rows(act, count, s.intermediate, count);
    const std::vector<float> y = reference_linear(h.values, w2, count, s.hidden, s.intermediate);
    for (size_t r = 0; r < of.size(); ++r) {
      for (size_t c = 0; c < hidden; ++c) {
        expected[of[r] / picks * hidden + c] += weights[of[r]] * y[r * hidden + c];
      }
    }
  }
  // Only what the experts add: the residual would hide them.
  std::vector<float> actual = layer.residual.download(), added = expected;
  for (size_t i = 0; i < added.size(); ++i) {
    added[i] -= residual[i];
    actual[i] -= residual[i];
  }
  // Beside rounding to bf16, an h near the border of two e4m3 codes, 6 to 12% apart, may fall on either side:
  // with the tensor core's 14 bits in sums and __expf, about 1% of them do.
  report.check("experts " + std::to_string(s.tokens) + " x top " + std::to_string(s.experts_per_token) +
                   " of " + std::to_string(s.experts) + " [" + to_string(layer.config) + "]",
               relative_error(actual, added), 2e-2);
}

void check_gate(Report& report, int tokens, bool bias) {
  const ExpertShape s{tokens, 256, 8, 7168, 2048};
  const auto b = static_cast<size_t>(tokens);
  DeviceBuffer<uint16_t> x(b * 7168), weight(256 * 7168);
  fill_bf16(x.get(), x.size(), 1.0f, 21);
  fill_bf16(weight.get(), weight.size(), 0.02f, 22);
  const std::vector<float> biases = normals(256, 0.5f, 23);
  const DeviceBuffer<float> bias_device(biases);
  DeviceBuffer<float> logits(b * 256), weights(b * 8);
  DeviceBuffer<int32_t> ids(b * 8);
  GateArgs args{.x = reinterpret_cast<const __nv_bfloat16*>(x.get()),
                .x_rows_max = tokens,
                .weight = reinterpret_cast<const __nv_bfloat16*>(weight.get()),
                .bias = bias ? bias_device.get() : nullptr,
                .logits = logits.get(),
                .shape = s,
                .groups = 8,
                .topk_group = 4,
                .scaling = 2.5f,
                .routing = {.ids = ids.get(), .weights = weights.get()}};
  must(plan_gate(args, sm_count()));
  must(launch_gate_logits(args, nullptr));
  must(launch_gate_select(args, nullptr));
  must(cudaDeviceSynchronize(), "gate");
  const std::vector<float> actual = logits.download();
  report.check("gate logits of " + std::to_string(tokens) + " rows",
               relative_error(actual, reference_linear(from_bf16(x.download()), from_bf16(weight.download()),
                                                       tokens, 256, 7168)),
               1e-5);
  // The selection, from the device's own logits, equals the CPU's.
  const GateParams params{
      .experts = 256, .experts_per_token = 8, .groups = 8, .topk_group = 4, .scaling = 2.5f};
  std::vector<float> scratch(256), expected_weights(b * 8);
  std::vector<int32_t> expected_ids(b * 8);
  for (size_t t = 0; t < b; ++t) {
    gate_select(params, &actual[t * 256], bias ? biases.data() : nullptr, scratch.data(),
                {&expected_ids[t * 8], 8}, {&expected_weights[t * 8], 8});
  }
  const std::vector<int32_t> picked = ids.download();
  double wrong = 0;
  for (size_t i = 0; i < picked.size(); ++i) wrong += picked[i] == expected_ids[i] ? 0 : 1;
  report.check("gate picks of " + std::to_string(tokens) + " rows", wrong, 0);
  report.check("gate weights of " + std::to_string(tokens) + " rows",
               relative_error(weights.download(), expected_weights), 1e-5);
}

}  // namespace

void check_experts(Report& report) {
  for (const int tokens : {1, 7, 128}) check_gate(report, tokens, tokens != 7);
  for (const int tokens : {1, 5, 8, 13, 32, 33, 64, 128}) check_one(report, {tokens, 16, 4, 1024, 256});
  check_one(report, {3, 8, 1, 256, 128});
  check_one(report, {128, 4, 4, 256, 384});  // every expert takes every token: many chunks of one expert
}

void time_experts(Report& report) {
  for (const int tokens : {1, 8, 32, 64, 128}) {
    const ExpertShape s{tokens, 256, 8, 7168, 2048};
    Layer layer(s);
    fill_e4m3(layer.x.get(), layer.x.size(), 31);
    fill_f32(layer.x_scale.get(), layer.x_scale.size(), 0.01f, 0.02f, 32);
    fill_f32(layer.weights.get(), layer.weights.size(), 0.1f, 0.5f, 33);
    fill_f32(layer.residual.get(), layer.residual.size(), -1.0f, 1.0f, 34);
    const std::vector<int32_t> ids = random_picks(s, 35);
    must(cudaMemcpy(layer.ids.get(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
    const auto hit = static_cast<double>(std::set<int32_t>(ids.begin(), ids.end()).size());
    must(launch_dispatch(s, layer.config, layer.args.routing, nullptr));
    layer.permute(nullptr);
    must(launch_expert_gate_up(layer.args, sm_count(), nullptr));
    must(cudaDeviceSynchronize(), "experts");
    const double gate_up_bytes = hit * 2 * 2048 * 7168, down_bytes = hit * 2048 * 7168;
    const std::string shape =
        "B " + std::to_string(tokens) + ", " + std::to_string(static_cast<int>(hit)) + " experts";
    // At B = 1 the eight experts hit have 352 MB, several times the L2: one set read over and over comes from
    // memory.
    const double gate_up_us = time_us(
        10, [&](int, cudaStream_t stream) { must(launch_expert_gate_up(layer.args, sm_count(), stream)); });
    report.timing({.kernel = "expert_gate_up",
                   .shape = shape,
                   .config = to_string(layer.config),
                   .us = gate_up_us,
                   .bytes = gate_up_bytes,
                   .flops = 2.0 * tokens * 8 * 2 * 2048 * 7168},
                  kFp8Peak);
    const double down_us = time_us(
        10, [&](int, cudaStream_t stream) { must(launch_expert_down(layer.args, sm_count(), stream)); });
    report.timing({.kernel = "expert_down",
                   .shape = shape,
                   .config = to_string(layer.config),
                   .us = down_us,
                   .bytes = down_bytes,
                   .flops = 2.0 * tokens * 8 * 2048 * 7168},
                  kFp8Peak);
    const double all_us = time_us(10, [&](int, cudaStream_t stream) {
      must(launch_dispatch(s, layer.config, layer.args.routing, stream));
      layer.permute(stream);
      must(launch_expert_gate_up(layer.args, sm_count(), stream));
      must(launch_expert_down(layer.args, sm_count(), stream));
      must(launch_combine(
          {.y = layer.args.y, .residual = layer.residual.get(), .shape = s, .routing = layer.args.routing},
          stream));
    });
    report.timing({.kernel = "experts, all",
                   .shape = shape,
                   .config = "dispatch, permute, gate_up, down, combine",
                   .us = all_us,
                   .bytes = gate_up_bytes + down_bytes,
                   .flops = 2.0 * tokens * 8 * 3 * 2048 * 7168},
                  kFp8Peak);
  }
}

}  // namespace gantry::bench
