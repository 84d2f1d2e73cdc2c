#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/prefill_gemm_launch.h"
#include "kernels/cuda/sm90/prefill_routing.h"

namespace gantry::bench {
namespace {

using namespace sm90;

size_t size(int64_t a, int64_t b) { return static_cast<size_t>(a * b); }
int round_up(int a, int b) { return (a + b - 1) / b * b; }

// Codes over the whole range of e4m3, and scales that bring products of unit rows to about unit size.
struct Weight {
  DeviceBuffer<uint8_t> codes;
  DeviceBuffer<float> scales;
  Weight(int experts, int n, int k, uint64_t seed)
      : codes(size(experts, n) * static_cast<size_t>(k)),
        scales(size(experts, (n + 127) / 128) * static_cast<size_t>(k / 128)) {
    fill_e4m3(codes.get(), codes.size(), seed);
    const float scale = 1.0f / (150.0f * std::sqrt(static_cast<float>(k)));
    fill_f32(scales.get(), scales.size(), 0.5f * scale, 1.5f * scale, seed + 1);
  }
  std::vector<float> values(int expert, int n, int k) const {
    const std::vector<uint8_t> all = codes.download();
    const std::vector<float> all_scales = scales.download();
    return dequantize_blocks(&all[size(expert, n) * static_cast<size_t>(k)],
                             &all_scales[size(expert, (n + 127) / 128) * static_cast<size_t>(k / 128)], n, k);
  }
};

std::vector<float> swiglu(const std::vector<float>& gate_up, int rows, int width) {
  std::vector<float> h(size(rows, width));
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
      const float gate = gate_up[r * 2 * static_cast<size_t>(width) + c];
      const float up = gate_up[(r * 2 + 1) * static_cast<size_t>(width) + c];
      h[r * static_cast<size_t>(width) + c] = gate / (1.0f + std::exp(-gate)) * up;
    }
  }
  return h;
}

std::vector<float> dequantized(const std::vector<uint8_t>& codes, const std::vector<float>& scales, int rows,
                               int width, int stride) {
  std::vector<float> values(size(rows, width));
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < width; ++c) {
      values[size(r, width) + static_cast<size_t>(c)] =
          e4m3_to_f32(codes[size(r, width) + static_cast<size_t>(c)]) *
          scales[size(c / 128, stride) + static_cast<size_t>(r)];
    }
  }
  return values;
}

// All outputs of one shape, with each width of tile.
void check_dense(Report& report, int m, int n, int k) {
  const int rows_max = round_up(m, 128), scale_stride = rows_max;
  const Weight weight(1, n, k, 801);
  const std::vector<float> x = normals(size(m, k), 1.0f, 803);
  const Quantized q = quantize_rows(x, m, k, scale_stride);
  DeviceBuffer<uint8_t> codes(size(rows_max, k));  // rows past m are NaN
  must(cudaMemcpy(codes.get(), q.codes.data(), q.codes.size(), cudaMemcpyHostToDevice));
  const DeviceBuffer<float> scales(q.scales);
  const std::vector<float> expected = reference_linear(q.values, weight.values(0, n, k), m, n, k);
  const std::string what =
      "prefill_gemm " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
  const PrefillGemmShape shape{m, n, k};
  for (const int columns : {128, 256}) {
    PrefillGemmConfig config = prefill_gemm_tiles(columns);
    config.band = m > 1000 ? 4 : 16;
    PrefillGemmArgs args =
        plan_prefill_gemm(shape, config, weight.codes.get(), codes.get(), rows_max).value();
    args.weight_scale = weight.scales.get();
    args.x_scale = scales.get();
    args.x_scale_stride = scale_stride;
    args.out_stride = n;
    DeviceBuffer<float> out(size(m, n));
    args.out_f32 = out.get();
    must(launch_prefill_gemm(args, sm_count(), nullptr));
    must(cudaDeviceSynchronize(), "prefill_gemm");
    // The tensor core adds with 14 bits of mantissa within 128 of K.
    const std::string tile = " [" + to_string(config) + "] ";
    report.check(what + tile + "f32", relative_error(out.download(), expected), 1e-3);
    args.accumulate = true;
    must(launch_prefill_gemm(args, sm_count(), nullptr));
    must(cudaDeviceSynchronize(), "prefill_gemm");
    std::vector<float> twice = expected;
    for (float& v : twice) v *= 2;
    report.check(what + tile + "f32, added", relative_error(out.download(), twice), 1e-3);
    DeviceBuffer<uint16_t> bf16(size(m, n));
    args.accumulate = false;
    args.out_f32 = nullptr;
    args.out = reinterpret_cast<__nv_bfloat16*>(bf16.get());
    must(launch_prefill_gemm(args, sm_count(), nullptr));
    must(cudaDeviceSynchronize(), "prefill_gemm");
    report.check(what + tile + "bf16", relative_error(from_bf16(bf16.download()), expected), 4e-3);
  }
  if (n % 256 != 0) return;
  const PrefillGemmShape gate_up{m, n, k, 1, true};
  PrefillGemmArgs args = plan_prefill_gemm(gate_up, choose_prefill_gemm(gate_up, sm_count()),
                                           weight.codes.get(), codes.get(), rows_max)
                             .value();
  args.weight_scale = weight.scales.get();
  args.x_scale = scales.get();
  args.x_scale_stride = scale_stride;
  DeviceBuffer<uint8_t> h(size(m, n / 2));
  DeviceBuffer<float> h_scale(size(n / 256, scale_stride));
  args.codes = h.get();
  args.code_scale = h_scale.get();
  args.code_scale_stride = scale_stride;
  must(launch_prefill_gemm(args, sm_count(), nullptr));
  must(cudaDeviceSynchronize(), "prefill_gemm");
  // Quantised again: e4m3 has 3 bits, a root mean square error of about 2.6%.
  report.check(what + " SwiGLU",
               relative_error(dequantized(h.download(), h_scale.download(), m, n / 2, scale_stride),
                              swiglu(expected, m, n / 2)),
               3.2e-2);
}

// Picks of `rows` rows: expert 0 gets none, `favourite` (or -1) one of every row's.
std::vector<int32_t> picks_of(const PrefillDispatchShape& s, int favourite, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<int32_t> ids;
  for (int r = 0; r < s.rows; ++r) {
    std::vector<int32_t> row;
    if (favourite >= 0) row.push_back(favourite);
    while (static_cast<int>(row.size()) < s.picks) {
      const auto e = static_cast<int32_t>(1 + engine() % static_cast<uint64_t>(s.experts - 1));
      if (std::find(row.begin(), row.end(), e) == row.end()) row.push_back(e);
    }
    std::sort(row.begin(), row.end());
    ids.insert(ids.end(), row.begin(), row.end());
  }
  return ids;
}

// Device buffers of the experts' way of many rows.
struct Grouped {
  PrefillDispatchShape shape;
  int hidden, inner, slots;
  DeviceBuffer<uint8_t> x, slot_x, h;
  DeviceBuffer<float> x_scale, slot_scale, h_scale, weights, residual;
  DeviceBuffer<int32_t> ids, slot_of, token_of, counts, chunk_count, next_tiles;
  DeviceBuffer<PrefillChunk> chunks;
  DeviceBuffer<uint16_t> y;
  Weight gate_up, down;
  PrefillGemmArgs up_args, down_args;
  Routing routing;
  ExpertShape expert_shape;

  Grouped(const PrefillDispatchShape& s, int hidden_size, int width)
      : shape(s),
        hidden(hidden_size),
        inner(width),
        slots(prefill_slots(s)),
        x(size(s.rows, hidden)),
        slot_x(size(slots, hidden)),
        h(size(slots, inner)),
        x_scale(size(hidden / 128, round_up(s.rows, 128))),
        slot_scale(size(hidden / 128, slots)),
        h_scale(size(inner / 128, slots)),
        weights(size(s.rows, s.picks)),
        residual(size(s.rows, hidden)),
        ids(size(s.rows, s.picks)),
        slot_of(size(s.rows, s.picks)),
        token_of(static_cast<size_t>(slots)),
        counts(static_cast<size_t>(prefill_count_words(s))),
        chunk_count(1),
        next_tiles(2),
        chunks(static_cast<size_t>(prefill_chunks(s))),
        y(size(slots, hidden)),
        gate_up(s.experts, 2 * inner, hidden, 811),
        down(s.experts, hidden, inner, 813),
        routing{
            .ids = ids.get(), .weights = weights.get(), .slot_of = slot_of.get(), .token_of = token_of.get()},
        expert_shape{s.rows, s.experts, s.picks, hidden, inner} {
    fill_f32(weights.get(), weights.size(), 0.1f, 0.5f, 815);
    fill_f32(residual.get(), residual.size(), -1.0f, 1.0f, 816);
    const PrefillGemmShape up{s.rows * s.picks, 2 * inner, hidden, s.experts, true};
    up_args =
        plan_prefill_gemm(up, choose_prefill_gemm(up, sm_count()), gate_up.codes.get(), slot_x.get(), slots)
            .value();
    up_args.weight_scale = gate_up.scales.get();
    up_args.x_scale = slot_scale.get();
    up_args.x_scale_stride = slots;
    up_args.chunks = chunks.get();
    up_args.chunk_count = chunk_count.get();
    up_args.next_tile = next_tiles.get();
    up_args.codes = h.get();
    up_args.code_scale = h_scale.get();
    up_args.code_scale_stride = slots;
    const PrefillGemmShape to_hidden{s.rows * s.picks, hidden, inner, s.experts};
    down_args = plan_prefill_gemm(to_hidden, choose_prefill_gemm(to_hidden, sm_count()), down.codes.get(),
                                  h.get(), slots)
                    .value();
    down_args.weight_scale = down.scales.get();
    down_args.x_scale = h_scale.get();
    down_args.x_scale_stride = slots;
    down_args.chunks = chunks.get();
    down_args.chunk_count = chunk_count.get();
    down_args.next_tile = next_tiles.get() + 1;
    down_args.out = reinterpret_cast<__nv_bfloat16*>(y.get());
    down_args.out_stride = hidden;
  }
  void dispatch(cudaStream_t stream) const {
    must(launch_prefill_dispatch(
        {shape, routing, counts.get(), chunks.get(), chunk_count.get(), next_tiles.get()}, stream));
  }
  void scatter(cudaStream_t stream) const {
    must(launch_prefill_scatter({.shape = shape,
                                 .hidden = hidden,
                                 .x = x.get(),
                                 .x_scale = x_scale.get(),
                                 .x_scale_stride = round_up(shape.rows, 128),
                                 .slots = slot_x.get(),
                                 .slot_scale = slot_scale.get(),
                                 .slot_scale_stride = slots,
                                 .slot_of = slot_of.get()},
                                stream));
  }
  void combine(cudaStream_t stream) const {
    must(launch_combine(
        {.y = down_args.out, .residual = residual.get(), .shape = expert_shape, .routing = routing}, stream));
  }
};

void check_grouped(Report& report, const PrefillDispatchShape& s, int hidden, int inner, int favourite) {
  Grouped layer(s, hidden, inner);
  const int stride = round_up(s.rows, 128);
  const Quantized q = quantize_rows(normals(size(s.rows, hidden), 1.0f, 821), s.rows, hidden, stride);
  const std::vector<int32_t> ids = picks_of(s, favourite, 822);
  must(cudaMemcpy(layer.x.get(), q.codes.data(), q.codes.size(), cudaMemcpyHostToDevice));
  must(cudaMemcpy(layer.x_scale.get(), q.scales.data(), q.scales.size() * 4, cudaMemcpyHostToDevice));
  must(cudaMemcpy(layer.ids.get(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
  const std::vector<float> before = layer.residual.download(), weights = layer.weights.download();
  layer.dispatch(nullptr);
  layer.scatter(nullptr);
  must(launch_prefill_gemm(layer.up_args, sm_count(), nullptr));
  must(launch_prefill_gemm(layer.down_args, sm_count(), nullptr));
  layer.combine(nullptr);
  must(cudaDeviceSynchronize(), "grouped prefill_gemm");
  const std::string what = "prefill experts " + std::to_string(s.rows) + " x top " + std::to_string(s.picks) +
                           " of " + std::to_string(s.experts);

  // Every pick has a slot of its own, and the slot knows its row.
  const std::vector<int32_t> slot_of = layer.slot_of.download(), token_of = layer.token_of.download();
  double wrong = 0;
  std::vector<int> taken(token_of.size());
  for (size_t i = 0; i < slot_of.size(); ++i) {
    const auto slot = static_cast<size_t>(slot_of[i]);
    if (slot >= taken.size() || taken[slot]++ > 0 || token_of[slot] != static_cast<int32_t>(i) / s.picks) {
      ++wrong;
    }
  }
  for (size_t slot = 0; slot < taken.size(); ++slot) wrong += taken[slot] == 0 && token_of[slot] != -1;
  report.check(what + ", slots", wrong, 0);

  std::vector<float> expected(before.size()), actual = layer.residual.download();
  for (int e = 0; e < s.experts; ++e) {
    std::vector<float> rows;
    std::vector<size_t> picks;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] != e) continue;
      picks.push_back(i);
      const auto first = q.values.begin() + static_cast<ptrdiff_t>(i / static_cast<size_t>(s.picks)) * hidden;
      rows.insert(rows.end(), first, first + hidden);
    }
    if (picks.empty()) continue;
    const int count = static_cast<int>(picks.size());
    const std::vector<float> h =
        swiglu(reference_linear(rows, layer.gate_up.values(e, 2 * inner, hidden), count, 2 * inner, hidden),
               count, inner);
    const Quantized hq = quantize_rows(h, count, inner, count);
    const std::vector<float> y =
        reference_linear(hq.values, layer.down.values(e, hidden, inner), count, hidden, inner);
    for (size_t r = 0; r < picks.size(); ++r) {
      const size_t to = picks[r] / static_cast<size_t>(s.picks) * static_cast<size_t>(hidden);
      for (size_t c = 0; c < static_cast<size_t>(hidden); ++c) {
        expected[to + c] += weights[picks[r]] * y[r * static_cast<size_t>(hidden) + c];
      }
    }
  }
  for (size_t i = 0; i < actual.size(); ++i) actual[i] -= before[i];
  report.check(what, relative_error(actual, expected), 2e-2);
}

// sweep: every width of tile and some bands, not the chosen configuration alone.
void time_dense(Report& report, const char* name, int m, int n, int k, bool swiglu, bool sweep) {
  const PrefillGemmShape shape{m, n, k, 1, swiglu};
  std::vector<PrefillGemmConfig> configs = {choose_prefill_gemm(shape, sm_count())};
  if (sweep) {
    configs.clear();
    for (const int columns : {128, 256}) {
      if (swiglu && columns == 128) continue;
      for (const int band : {8, 16, 32}) {
        configs.push_back(prefill_gemm_tiles(columns));
        configs.back().band = band;
      }
    }
  }
  const int rows = round_up(m, 128);
  const Weight weight(1, n, k, 831);
  DeviceBuffer<uint8_t> x(size(rows, k)), codes(swiglu ? size(rows, n / 2) : 0);
  DeviceBuffer<float> x_scale(size(k / 128, rows)), code_scale(swiglu ? size(n / 256, rows) : 0);
  DeviceBuffer<uint16_t> out(swiglu ? 0 : size(m, n));
  fill_e4m3(x.get(), x.size(), 832);
  fill_f32(x_scale.get(), x_scale.size(), 0.005f, 0.01f, 833);
  for (const PrefillGemmConfig& config : configs) {
    PrefillGemmArgs args = plan_prefill_gemm(shape, config, weight.codes.get(), x.get(), rows).value();
    args.weight_scale = weight.scales.get();
    args.x_scale = x_scale.get();
    args.x_scale_stride = rows;
    args.out = reinterpret_cast<__nv_bfloat16*>(out.get());
    args.out_stride = n;
    if (swiglu) {
      args.out = nullptr;
      args.codes = codes.get();
      args.code_scale = code_scale.get();
      args.code_scale_stride = rows;
    }
    const double us =
        time_us(4, [&](int, cudaStream_t t) { must(launch_prefill_gemm(args, sm_count(), t)); });
    report.timing({.kernel = "prefill_gemm",
                   .shape = std::string(name) + " " + std::to_string(m) + " x " + std::to_string(n) + " x " +
                            std::to_string(k),
                   .config = to_string(config),
                   .us = us,
                   .bytes = static_cast<double>(n) * k + static_cast<double>(m) * k +
                            (swiglu ? 0.5 : 2.0) * static_cast<double>(m) * n,
                   .flops = 2.0 * m * static_cast<double>(n) * k},
                  kFp8Peak);
  }
}

void time_grouped(Report& report, int rows) {
  const PrefillDispatchShape s{rows, 256, 8};
  Grouped layer(s, 7168, 2048);
  fill_e4m3(layer.x.get(), layer.x.size(), 841);
  fill_f32(layer.x_scale.get(), layer.x_scale.size(), 0.005f, 0.01f, 842);
  std::mt19937_64 engine(843);
  std::vector<int32_t> ids;
  for (int r = 0; r < rows; ++r) {
    std::vector<int32_t> row;
    while (static_cast<int>(row.size()) < s.picks) {
      const auto e = static_cast<int32_t>(engine() % 256);
      if (std::find(row.begin(), row.end(), e) == row.end()) row.push_back(e);
    }
    ids.insert(ids.end(), row.begin(), row.end());
  }
  must(cudaMemcpy(layer.ids.get(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
  layer.dispatch(nullptr);
  layer.scatter(nullptr);
  must(launch_prefill_gemm(layer.up_args, sm_count(), nullptr));
  must(cudaDeviceSynchronize(), "grouped prefill_gemm");
  const double weights = 256.0 * 7168 * 2048, picks = 8.0 * rows;
  const auto time = [&](const char* name, double bytes, double flops,
                        const std::function<void(cudaStream_t)>& run) {
    const double us = time_us(3, [&](int, cudaStream_t t) { run(t); });
    report.timing({.kernel = name,
                   .shape = "T " + std::to_string(rows) + " top 8 of 256",
                   .config = to_string(layer.up_args.config),
                   .us = us,
                   .bytes = bytes,
                   .flops = flops},
                  kFp8Peak);
  };
  time("prefill_dispatch", picks * 16, 0, [&](cudaStream_t t) { layer.dispatch(t); });
  time("prefill_scatter", picks * 7168 + rows * 7168.0, 0, [&](cudaStream_t t) { layer.scatter(t); });
  time("prefill_gate_up", 2 * weights + picks * (7168 + 2048), picks * 2 * 4096 * 7168, [&](cudaStream_t t) {
    must(cudaMemsetAsync(layer.next_tiles.get(), 0, 8, t));
    must(launch_prefill_gemm(layer.up_args, sm_count(), t));
  });
  time("prefill_down", weights + picks * (2048 + 2 * 7168), picks * 2 * 2048 * 7168, [&](cudaStream_t t) {
    must(cudaMemsetAsync(layer.next_tiles.get(), 0, 8, t));
    must(launch_prefill_gemm(layer.down_args, sm_count(), t));
  });
  time("prefill_combine", picks * 2 * 7168 + rows * 8.0 * 7168, 0, [&](cudaStream_t t) { layer.combine(t); });
}

}  // namespace

void check_prefill_gemm(Report& report) {
  check_dense(report, 256, 256, 256);
  check_dense(report, 1, 8, 128);
  check_dense(report, 65, 200, 384);     // a ragged last tile of rows and of columns
  check_dense(report, 700, 2112, 1536);  // q_a + kv_a
  check_dense(report, 1300, 1280, 2048);
  check_grouped(report, {300, 16, 4}, 1024, 256, -1);
  check_grouped(report, {1, 8, 2}, 256, 128, -1);
  check_grouped(report, {1100, 5, 4}, 512, 384, 3);  // one expert has every row
  check_grouped(report, {513, 256, 8}, 256, 128, -1);
}

void time_prefill_gemm(Report& report, bool sweep) {
  for (const int m : {512, 4096}) {
    time_dense(report, "q_a + kv_a", m, 2112, 7168, false, sweep);
    time_dense(report, "q_b", m, 24576, 1536, false, sweep);
    time_dense(report, "o_proj", m, 7168, 16384, false, sweep);
    time_dense(report, "shared gate+up", m, 4096, 7168, true, sweep);
    time_dense(report, "shared down", m, 7168, 2048, false, sweep);
    time_dense(report, "dense down", m, 7168, 18432, false, sweep);
  }
  for (const int rows : {512, 4096, 16384}) time_grouped(report, rows);
}

}  // namespace gantry::bench
