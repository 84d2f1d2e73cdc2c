#include <algorithm>
#include <set>
#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/decode_gemm_launch.h"

namespace gantry::bench {
namespace {

using namespace sm90;

std::string name(const DecodeGemmShape& s) {
  return std::to_string(s.m) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k);
}

// Every configuration that the kernel accepts for the shape.
std::vector<DecodeGemmConfig> configurations(const DecodeGemmShape& shape) {
  std::vector<DecodeGemmConfig> all;
  const DecodeGemmConfig chosen = choose_decode_gemm(shape, sm_count());
  for (const int rows : {64, 128}) {
    for (const int split : {1, 2, 4, 8}) {
      for (const int budget : {72 << 10, 110 << 10, 220 << 10}) {
        if (split > shape.k / 128) continue;
        const DecodeGemmConfig c =
            with_stages({.tokens = chosen.tokens, .rows = rows, .split = split}, budget, shape.k / 128);
        if (std::find(all.begin(), all.end(), c) == all.end()) all.push_back(c);
      }
    }
  }
  return all;
}

void check_one(Report& report, const DecodeGemmShape& s, const DecodeGemmConfig& config, bool f32_out) {
  const auto n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k), m = static_cast<size_t>(s.m);
  DeviceBuffer<uint8_t> weight(n * k);
  DeviceBuffer<float> weight_scale((n + 127) / 128 * (k / 128));
  fill_e4m3(weight.get(), n * k, 3);
  fill_f32(weight_scale.get(), weight_scale.size(), 0.5e-4f, 1.5e-4f, 4);
  const Quantized x = quantize_rows(normals(m * k, 2.0f, 5), s.m, s.k, 128);
  // Rows past M hold NaN codes: they may be read, they must not be used.
  std::vector<uint8_t> padded(128 * k, 0xff);
  std::copy(x.codes.begin(), x.codes.end(), padded.begin());
  const DeviceBuffer<uint8_t> codes(padded);
  const DeviceBuffer<float> scales(x.scales);
  DeviceBuffer<uint16_t> out(m * n);
  DeviceBuffer<float> out_f32(m * n);
  DecodeGemmArgs args = plan_decode_gemm(s, config, weight.get(), codes.get(), 128).value();
  args.weight_scale = weight_scale.get();
  args.x_scale = scales.get();
  args.x_scale_stride = x.stride;
  if (f32_out) {
    args.out_f32 = out_f32.get();
  } else {
    args.out = reinterpret_cast<__nv_bfloat16*>(out.get());
  }
  must(launch_decode_gemm(args, nullptr));
  must(cudaDeviceSynchronize(), "decode_gemm");

  // The reference takes some rows of every tile: a whole matrix would take minutes.
  const std::vector<uint8_t> all_codes = weight.download();
  const std::vector<float> all_scales = weight_scale.download();
  std::vector<size_t> rows;
  for (size_t r = 0; r < n; r += s.n > 2048 ? 29 : 1) rows.push_back(r);
  rows.push_back(n - 1);
  float table[256];
  for (int c = 0; c < 256; ++c) table[c] = e4m3_to_f32(static_cast<uint8_t>(c));
  std::vector<float> w(rows.size() * k);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t c = 0; c < k; ++c) {
      w[i * k + c] = table[all_codes[rows[i] * k + c]] * all_scales[rows[i] / 128 * (k / 128) + c / 128];
    }
  }
  const std::vector<float> expected = reference_linear(x.values, w, s.m, static_cast<int>(rows.size()), s.k);
  const std::vector<float> result = f32_out ? out_f32.download() : from_bf16(out.download());
  std::vector<float> actual(expected.size());
  for (size_t t = 0; t < m; ++t) {
    for (size_t i = 0; i < rows.size(); ++i) actual[t * rows.size() + i] = result[t * n + rows[i]];
  }
  // The tensor core keeps about 14 bits while it adds up 128 products; bf16 output adds 2^-9.
  report.check("decode_gemm " + name(s) + " [" + to_string(config) + "]", relative_error(actual, expected),
               f32_out ? 1e-3 : 4e-3);
  double unwritten = 0;
  for (const float v : result) unwritten += std::isfinite(v) ? 0 : 1;
  report.check("decode_gemm " + name(s) + " every element written", unwritten, 0);
}

void check_bf16(Report& report, int m, int n, int k) {
  const DecodeGemmShape shape{m, n, k, GemmType::kBf16};
  const DecodeGemmConfig config = choose_decode_gemm(shape, sm_count());
  const auto rows = static_cast<size_t>(m), width = static_cast<size_t>(n), depth = static_cast<size_t>(k);
  DeviceBuffer<uint16_t> weight(width * depth), x(128 * depth), out(rows * width);
  DeviceBuffer<float> out_f32(rows * width);
  fill_bf16(weight.get(), weight.size(), 0.05f, 6);
  fill_bf16(x.get(), rows * depth, 1.0f, 7);  // the rows past M stay NaN
  std::vector<uint16_t> x_bits = x.download();
  x_bits.resize(rows * depth);
  const std::vector<float> expected =
      reference_linear(from_bf16(x_bits), from_bf16(weight.download()), m, n, k);
  for (const bool f32 : {false, true}) {
    DecodeGemmArgs args = plan_decode_gemm(shape, config, weight.get(), x.get(), 128).value();
    if (f32) {
      args.out_f32 = out_f32.get();
    } else {
      args.out = reinterpret_cast<__nv_bfloat16*>(out.get());
    }
    must(launch_decode_gemm(args, nullptr));
    must(cudaDeviceSynchronize(), "decode_gemm");
    report.check("bf16 " + name(shape) + (f32 ? " to f32 [" : " to bf16 [") + to_string(config) + "]",
                 relative_error(f32 ? out_f32.download() : from_bf16(out.download()), expected),
                 f32 ? 1e-5 : 4e-3);
  }
}

struct Named {
  const char* what;
  int n, k;
};
constexpr Named kShapes[] = {
    {"q_a+kv_a", 2112, 7168},       {"q_b", 24576, 1536},        {"o_proj", 7168, 16384},
    {"shared gate+up", 4096, 7168}, {"shared down", 7168, 2048}, {"dense gate+up", 36864, 7168},
    {"dense down", 7168, 18432},
};

}  // namespace

void check_decode_gemm(Report& report) {
  for (const DecodeGemmShape& shape :
       {DecodeGemmShape{1, 2112, 7168}, DecodeGemmShape{5, 200, 256}, DecodeGemmShape{8, 1024, 896},
        DecodeGemmShape{13, 328, 1536}, DecodeGemmShape{32, 2112, 1024}, DecodeGemmShape{57, 512, 2048},
        DecodeGemmShape{128, 1000, 1152}}) {
    for (const DecodeGemmConfig& config : configurations(shape))
      check_one(report, shape, config, shape.m % 2 == 1);
  }
  for (const int m : {1, 9, 31, 33, 128}) {
    check_bf16(report, m, 256, 7168);
    check_bf16(report, m, 960, 576);
    check_bf16(report, m, 1000, 64);
  }
  for (const Named& s : kShapes) {
    for (const int m : {1, 8, 32, 128}) {
      const DecodeGemmShape shape{m, s.n, s.k};
      check_one(report, shape, choose_decode_gemm(shape, sm_count()), false);
    }
  }
}

void time_decode_gemm(Report& report, bool sweep) {
  for (const Named& s : kShapes) {
    const size_t n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k);
    // Enough copies of the weights that none is in the L2 when its turn comes.
    const int copies = static_cast<int>(std::max<size_t>(2, (size_t{400} << 20) / (n * k) + 1));
    std::vector<DeviceBuffer<uint8_t>> weights;
    DeviceBuffer<float> weight_scale((n + 127) / 128 * (k / 128));
    fill_f32(weight_scale.get(), weight_scale.size(), 0.5e-4f, 1.5e-4f, 4);
    for (int i = 0; i < copies; ++i) {
      weights.emplace_back(n * k);
      fill_e4m3(weights.back().get(), n * k, static_cast<uint64_t>(i) + 1);
    }
    DeviceBuffer<uint8_t> x(128 * k);
    DeviceBuffer<float> x_scale(k / 128 * 128);
    fill_e4m3(x.get(), 128 * k, 99);
    fill_f32(x_scale.get(), x_scale.size(), 0.01f, 0.02f, 98);
    DeviceBuffer<uint16_t> out(128 * n);
    for (const int m : {1, 8, 32, 128}) {
      const DecodeGemmShape shape{m, s.n, s.k};
      const DecodeGemmConfig chosen = choose_decode_gemm(shape, sm_count());
      for (const DecodeGemmConfig& config :
           sweep ? configurations(shape) : std::vector<DecodeGemmConfig>{chosen}) {
        std::vector<DecodeGemmArgs> args;
        for (const auto& weight : weights) {
          args.push_back(plan_decode_gemm(shape, config, weight.get(), x.get(), 128).value());
          args.back().weight_scale = weight_scale.get();
          args.back().x_scale = x_scale.get();
          args.back().x_scale_stride = 128;
          args.back().out = reinterpret_cast<__nv_bfloat16*>(out.get());
        }
        const double us = time_us(40, [&](int i, cudaStream_t stream) {
          must(launch_decode_gemm(args[static_cast<size_t>(i) % args.size()], stream));
        });
        report.timing({.kernel = config == chosen ? "decode_gemm*" : "decode_gemm",
                       .shape = std::string(s.what) + " " + name(shape),
                       .config = to_string(config),
                       .us = us,
                       .bytes = static_cast<double>(n * k + static_cast<size_t>(m) * (k + 2 * n)),
                       .flops = 2.0 * m * s.n * s.k},
                      kFp8Peak);
      }
    }
  }
}

}  // namespace gantry::bench
