#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/quantize.h"
#include "kernels/cuda/sm90/routing.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using namespace sm90;

std::vector<float> dequantized(const std::vector<uint8_t>& codes, const std::vector<float>& scales, int rows,
                               int width, int stride) {
  std::vector<float> v(codes.size());
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < width; ++c) {
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(width) + static_cast<size_t>(c);
      v[at] = e4m3_to_f32(codes[at]) * scales[static_cast<size_t>(c / 128 * stride + r)];
    }
  }
  return v;
}

std::vector<uint16_t> to_bf16(std::vector<float>& v) {  // rounds v too
  std::vector<uint16_t> bits(v.size());
  for (size_t i = 0; i < v.size(); ++i) {
    bits[i] = f32_to_bf16(v[i]);
    v[i] = bf16_to_f32(bits[i]);
  }
  return bits;
}

void check_norm(Report& report, int rows, int width, bool with_delta) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(width);
  const std::vector<float> residual = normals(count, 3.0f, 41),
                           gain = normals(static_cast<size_t>(width), 1.0f, 42);
  std::vector<float> delta = normals(count, 1.0f, 43);
  const DeviceBuffer<uint16_t> delta_device(to_bf16(delta));
  const DeviceBuffer<float> residual_device(residual), gain_device(gain);
  DeviceBuffer<uint8_t> out(count);
  DeviceBuffer<float> scale(static_cast<size_t>(width / 128 * 128));
  DeviceBuffer<uint16_t> normed(count);
  must(launch_norm_quantize(
      {.residual = residual_device.get(),
       .delta = with_delta ? reinterpret_cast<const __nv_bfloat16*>(delta_device.get()) : nullptr,
       .weight = gain_device.get(),
       .rows = rows,
       .width = width,
       .out = out.get(),
       .scale = scale.get(),
       .scale_stride = 128,
       .normed = reinterpret_cast<__nv_bfloat16*>(normed.get())},
      nullptr));
  must(cudaDeviceSynchronize(), "norm_quantize");
  std::vector<float> sums = residual, expected(count);
  for (int r = 0; r < rows; ++r) {
    double squares = 0;
    const size_t first = static_cast<size_t>(r) * static_cast<size_t>(width);
    for (size_t i = first; i < first + static_cast<size_t>(width); ++i) {
      if (with_delta) sums[i] += delta[i];
      squares += static_cast<double>(sums[i]) * static_cast<double>(sums[i]);
    }
    const double factor = 1.0 / std::sqrt(squares / width + 1e-6);
    for (size_t i = first; i < first + static_cast<size_t>(width); ++i) {
      expected[i] = static_cast<float>(static_cast<double>(sums[i]) * factor) * gain[i - first];
    }
  }
  const std::string what = "norm_quantize " + std::to_string(rows) + " x " + std::to_string(width);
  report.check(what + " bf16", relative_error(from_bf16(normed.download()), expected), 3e-3);
  report.check(what + " residual", relative_error(residual_device.download(), sums), 1e-7);
  const std::vector<float> actual = dequantized(out.download(), scale.download(), rows, width, 128);
  report.check(what + " e4m3 against the host's",
               relative_error(actual, quantize_rows(expected, rows, width, 128).values), 5e-3);
}

void check_quantize(Report& report, int rows, int width) {
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(width);
  std::vector<float> x = normals(2 * count, 2.0f, 51);
  for (size_t i = 0; i < 128; ++i) x[i] = 0.0f;  // a group of zeros: no division by zero
  const DeviceBuffer<uint16_t> x_device(to_bf16(x));
  DeviceBuffer<uint8_t> out(count);
  DeviceBuffer<float> scale(static_cast<size_t>(width / 128 * 128));
  const QuantizeArgs args{.x = reinterpret_cast<const __nv_bfloat16*>(x_device.get()),
                          .rows = rows,
                          .width = width,
                          .out = out.get(),
                          .scale = scale.get(),
                          .scale_stride = 128};
  must(launch_quantize(args, nullptr));
  must(cudaDeviceSynchronize(), "quantize");
  const std::vector<float> first(x.begin(), x.begin() + static_cast<int64_t>(count));
  const std::string what = std::to_string(rows) + " x " + std::to_string(width);
  report.check("quantize " + what,
               relative_error(dequantized(out.download(), scale.download(), rows, width, 128),
                              quantize_rows(first, rows, width, 128).values),
               5e-3);
  out.poison();
  scale.poison();
  must(launch_swiglu_quantize(args, nullptr));
  must(cudaDeviceSynchronize(), "swiglu_quantize");
  std::vector<float> act(count);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < width; ++c) {
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(width) + static_cast<size_t>(c);
      const size_t gate = 2 * static_cast<size_t>(r) * static_cast<size_t>(width) + static_cast<size_t>(c);
      act[at] = x[gate] / (1.0f + std::exp(-x[gate])) * x[gate + static_cast<size_t>(width)];
    }
  }
  report.check("swiglu_quantize " + what,
               relative_error(dequantized(out.download(), scale.download(), rows, width, 128),
                              quantize_rows(act, rows, width, 128).values),
               5e-3);
}

}  // namespace

void check_elementwise(Report& report) {
  for (const int rows : {1, 3, 128}) {
    for (const int width : {128, 384, 1536, 7168}) {
      check_norm(report, rows, width, rows != 3);
      check_quantize(report, rows, width);
    }
  }
}

void time_elementwise(Report& report) {
  for (const int rows : {1, 8, 32, 128}) {
    const size_t count = static_cast<size_t>(rows) * 16384;
    DeviceBuffer<float> residual(count), gain(16384), scale(128 * 128);
    DeviceBuffer<uint16_t> x(count), normed(count), gate(256 * 7168);
    DeviceBuffer<uint8_t> out(count);
    DeviceBuffer<int32_t> ids(128 * 8);
    DeviceBuffer<float> logits(128 * 256), weights(128 * 8), bias(256);
    fill_f32(residual.get(), count, -1.0f, 1.0f, 61);
    fill_f32(gain.get(), 16384, 0.5f, 1.5f, 62);
    fill_f32(bias.get(), 256, -1.0f, 1.0f, 63);
    fill_bf16(x.get(), count, 0.01f, 64);
    fill_bf16(gate.get(), gate.size(), 0.02f, 65);
    const auto* x_bf16 = reinterpret_cast<const __nv_bfloat16*>(x.get());
    const std::string shape = "B " + std::to_string(rows);
    const NormQuantizeArgs norm{.residual = residual.get(),
                                .delta = x_bf16,
                                .weight = gain.get(),
                                .rows = rows,
                                .width = 7168,
                                .out = out.get(),
                                .scale = scale.get(),
                                .scale_stride = 128,
                                .normed = reinterpret_cast<__nv_bfloat16*>(normed.get())};
    report.timing({.kernel = "norm_quantize",
                   .shape = shape + " x 7168",
                   .config = "add, norm, e4m3 and bf16 out",
                   .us = time_us(40, [&](int, cudaStream_t s) { must(launch_norm_quantize(norm, s)); }),
                   .bytes = rows * 7168.0 * (4 + 4 + 2 + 1 + 2)},
                  kBf16Peak);
    const QuantizeArgs quantize{.x = x_bf16,
                                .rows = rows,
                                .width = 16384,
                                .out = out.get(),
                                .scale = scale.get(),
                                .scale_stride = 128};
    report.timing({.kernel = "quantize",
                   .shape = shape + " x 16384",
                   .config = "bf16 to e4m3",
                   .us = time_us(40, [&](int, cudaStream_t s) { must(launch_quantize(quantize, s)); }),
                   .bytes = rows * 16384.0 * 3},
                  kBf16Peak);
    GateArgs gate_args{.x = x_bf16,
                       .x_rows_max = rows,
                       .weight = reinterpret_cast<const __nv_bfloat16*>(gate.get()),
                       .bias = bias.get(),
                       .logits = logits.get(),
                       .shape = {rows, 256, 8, 7168, 2048},
                       .groups = 8,
                       .topk_group = 4,
                       .scaling = 2.5f,
                       .routing = {.ids = ids.get(), .weights = weights.get()}};
    must(plan_gate(gate_args, sm_count()));
    report.timing({.kernel = "gate_logits",
                   .shape = shape + " x 256 x 7168",
                   .config = to_string(gate_args.gemm.config) + ", weights in the L2",
                   .us = time_us(40, [&](int, cudaStream_t s) { must(launch_gate_logits(gate_args, s)); }),
                   .bytes = 256 * 7168 * 2.0,
                   .flops = 2.0 * rows * 256 * 7168},
                  kBf16Peak);
    report.timing({.kernel = "gate_select",
                   .shape = shape + ", 8 of 256",
                   .config = "4 of 8 groups",
                   .us = time_us(40, [&](int, cudaStream_t s) { must(launch_gate_select(gate_args, s)); }),
                   .bytes = rows * 256 * 4.0},
                  kBf16Peak);
  }
}

}  // namespace gantry::bench
