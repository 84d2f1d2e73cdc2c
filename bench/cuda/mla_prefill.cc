#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "base/limits.h"
#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/mla_decode.h"
#include "kernels/cuda/sm90/mla_prefill_launch.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using namespace sm90;

constexpr float kScale = 0.135234f;  // R1's (model.md, MLA)
constexpr int kQuery = kMlaPrefillNope + kMlaPrefillRope;

struct Extent {
  int rows;    // new
  int cached;  // before them
};

std::vector<uint16_t> rounded(const std::vector<float>& v) {
  std::vector<uint16_t> bits(v.size());
  for (size_t i = 0; i < v.size(); ++i) bits[i] = f32_to_bf16(v[i]);
  return bits;
}

// One layer's buffers for a batch of sequences, blocks in random order.
struct Batch {
  int heads, rows = 0, table_stride = 0;
  int64_t keys = 0;
  std::vector<MlaPrefillSequence> sequences;
  std::vector<int32_t> tables;
  DeviceBuffer<int32_t> table;
  DeviceBuffer<uint16_t> q, cache, w_uk, w_uv, latents, k, v;
  DeviceBuffer<float> out;
  MlaPrefillArgs args;

  Batch(const std::vector<Extent>& extents, int head_count, int turn_heads) : heads(head_count) {
    for (const Extent& e : extents) table_stride = std::max(table_stride, (e.rows + e.cached + 63) / 64);
    for (const Extent& e : extents) {
      sequences.push_back(
          {rows, e.rows, e.cached, static_cast<int32_t>(sequences.size()), static_cast<int32_t>(keys)});
      rows += e.rows;
      keys += mla_prefill_keys(e.rows + e.cached);
    }
    tables.resize(extents.size() * static_cast<size_t>(table_stride));
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), std::mt19937_64(901));
    const auto h = static_cast<size_t>(heads);
    table = DeviceBuffer<int32_t>(tables);
    q = DeviceBuffer<uint16_t>(static_cast<size_t>(rows) * h * kQuery);
    cache = DeviceBuffer<uint16_t>(tables.size() * 64 * kMlaKey);
    w_uk = DeviceBuffer<uint16_t>(h * kMlaValue * kMlaPrefillNope);
    w_uv = DeviceBuffer<uint16_t>(h * kMlaValue * kMlaPrefillValue);
    latents = DeviceBuffer<uint16_t>(static_cast<size_t>(keys) * kMlaKey);
    k = DeviceBuffer<uint16_t>(static_cast<size_t>(keys) * static_cast<size_t>(turn_heads) * kMlaPrefillNope);
    v = DeviceBuffer<uint16_t>(static_cast<size_t>(keys) * static_cast<size_t>(turn_heads) *
                               kMlaPrefillValue);
    out = DeviceBuffer<float>(static_cast<size_t>(rows) * h * kMlaPrefillValue);
    fill_bf16(q.get(), q.size(), 1.0f, 902);
    fill_bf16(w_uk.get(), w_uk.size(), 1.0f / std::sqrt(512.0f), 903);
    fill_bf16(w_uv.get(), w_uv.size(), 1.0f / std::sqrt(512.0f), 904);
    args.config = choose_mla_prefill(heads, keys, turn_heads * keys * kMlaPrefillKeyBytes);
    args.heads = heads;
    args.sequences = sequences;
    args.keys = keys;
    args.q = bf16(q);
    args.q_rows = rows;
    args.cache = bf16(cache);
    args.block_table = table.get();
    args.table_stride = table_stride;
    args.w_uk = bf16(w_uk);
    args.w_uv = bf16(w_uv);
    args.scale = kScale;
    args.latents = bf16(latents);
    args.k = bf16(k);
    args.v = bf16(v);
    args.out = out.get();
  }
  static __nv_bfloat16* bf16(const DeviceBuffer<uint16_t>& b) {
    return reinterpret_cast<__nv_bfloat16*>(b.get());
  }
};

// Against f32 over all keys, from the same bf16 inputs.
void check_one(Report& report, const std::vector<Extent>& extents, int heads, int turn_heads) {
  Batch batch(extents, heads, turn_heads);
  // NaN wherever no token lies.
  std::vector<uint16_t> cache(batch.cache.size(), 0xffff);
  std::mt19937_64 engine(911);
  std::normal_distribution<float> normal;
  for (size_t s = 0; s < extents.size(); ++s) {
    for (int t = 0; t < extents[s].rows + extents[s].cached; ++t) {
      const auto block = static_cast<size_t>(
          batch.tables[s * static_cast<size_t>(batch.table_stride) + static_cast<size_t>(t / 64)]);
      for (size_t d = 0; d < kMlaKey; ++d) {
        cache[(block * 64 + static_cast<size_t>(t % 64)) * kMlaKey + d] = f32_to_bf16(normal(engine));
      }
    }
  }
  must(cudaMemcpy(batch.cache.get(), cache.data(), cache.size() * 2, cudaMemcpyHostToDevice));
  must(launch_mla_prefill(batch.args, sm_count(), nullptr));
  must(cudaDeviceSynchronize(), "mla_prefill");
  const std::vector<float> q = from_bf16(batch.q.download()), w_uk = from_bf16(batch.w_uk.download()),
                           w_uv = from_bf16(batch.w_uv.download()), actual = batch.out.download();
  std::vector<float> expected(actual.size());
  for (size_t s = 0; s < extents.size(); ++s) {
    const int length = extents[s].rows + extents[s].cached;
    std::vector<float> latent, rope;
    for (int t = 0; t < length; ++t) {
      const auto block = static_cast<size_t>(
          batch.tables[s * static_cast<size_t>(batch.table_stride) + static_cast<size_t>(t / 64)]);
      const uint16_t* row = &cache[(block * 64 + static_cast<size_t>(t % 64)) * kMlaKey];
      for (int d = 0; d < kMlaKey; ++d) (d < kMlaValue ? latent : rope).push_back(bf16_to_f32(row[d]));
    }
    for (int h = 0; h < heads; ++h) {
      // W_UK transposed, for the product with rows of latents.
      std::vector<float> uk(static_cast<size_t>(kMlaValue * kMlaPrefillNope));
      for (int l = 0; l < kMlaValue; ++l) {
        for (int n = 0; n < kMlaPrefillNope; ++n) {
          uk[static_cast<size_t>(n * kMlaValue + l)] =
              w_uk[static_cast<size_t>((h * kMlaValue + l) * kMlaPrefillNope + n)];
        }
      }
      const auto at = w_uv.begin() + static_cast<ptrdiff_t>(h) * kMlaPrefillValue * kMlaValue;
      const std::vector<float> uv(at, at + static_cast<ptrdiff_t>(kMlaPrefillValue) * kMlaValue);
      // Keys and values are bf16 as the kernel stores them.
      const std::vector<float> k =
          from_bf16(rounded(reference_linear(latent, uk, length, kMlaPrefillNope, kMlaValue)));
      const std::vector<float> v =
          from_bf16(rounded(reference_linear(latent, uv, length, kMlaPrefillValue, kMlaValue)));
      std::vector<float> keys, queries;
      for (int t = 0; t < length; ++t) {
        keys.insert(keys.end(), k.begin() + t * kMlaPrefillNope, k.begin() + (t + 1) * kMlaPrefillNope);
        keys.insert(keys.end(), rope.begin() + t * kMlaPrefillRope, rope.begin() + (t + 1) * kMlaPrefillRope);
      }
      const int first = batch.sequences[s].first_row;
      for (int r = 0; r < extents[s].rows; ++r) {
        const auto from = q.begin() + (static_cast<ptrdiff_t>(first + r) * heads + h) * kQuery;
        queries.insert(queries.end(), from, from + kQuery);
      }
      const std::vector<float> scores = reference_linear(queries, keys, extents[s].rows, length, kQuery);
      for (int r = 0; r < extents[s].rows; ++r) {
        const float* row = &scores[static_cast<size_t>(r) * static_cast<size_t>(length)];
        const int visible = extents[s].cached + r + 1;
        const float most = *std::max_element(row, row + visible);
        double total = 0;
        std::vector<double> sum(kMlaPrefillValue);
        for (int t = 0; t < visible; ++t) {
          const double weight = std::exp(static_cast<double>(row[t] - most) * kScale);
          total += weight;
          for (size_t d = 0; d < kMlaPrefillValue; ++d) {
            sum[d] += weight * v[static_cast<size_t>(t) * kMlaPrefillValue + d];
          }
        }
        float* to =
            &expected[(static_cast<size_t>(first + r) * static_cast<size_t>(heads) + static_cast<size_t>(h)) *
                      kMlaPrefillValue];
        for (size_t d = 0; d < kMlaPrefillValue; ++d) to[d] = static_cast<float>(sum[d] / total);
      }
    }
  }
  std::string what = "mla_prefill " + std::to_string(heads) + " heads [" + to_string(batch.args.config) + "]";
  for (const Extent& e : extents) what += " " + std::to_string(e.rows) + "+" + std::to_string(e.cached);
  // Probabilities in bf16: 2^-9.
  report.check(what, relative_error(actual, expected), 5e-3);
}

void check_rope(Report& report, bool interleaved) {
  constexpr int kRows = 37, kHeads = 5, kPairs = kMlaPrefillRope / 2;
  DeviceBuffer<uint16_t> q(static_cast<size_t>(kRows * kHeads * kQuery));
  fill_bf16(q.get(), q.size(), 1.0f, 921);
  const std::vector<float> before = from_bf16(q.download());
  DeviceBuffer<float> cos(static_cast<size_t>(kRows * kPairs)), sin(static_cast<size_t>(kRows * kPairs));
  fill_f32(cos.get(), cos.size(), -1.0f, 1.0f, 922);
  fill_f32(sin.get(), sin.size(), -1.0f, 1.0f, 923);
  must(launch_mla_prefill_rope({Batch::bf16(q), kRows, kHeads, cos.get(), sin.get(), interleaved}, nullptr));
  must(cudaDeviceSynchronize(), "rope");
  const std::vector<float> c = cos.download(), s = sin.download();
  std::vector<float> expected = before;
  for (int r = 0; r < kRows; ++r) {
    for (int h = 0; h < kHeads; ++h) {
      for (int i = 0; i < kPairs; ++i) {
        const size_t x = static_cast<size_t>((r * kHeads + h) * kQuery + kMlaPrefillNope);
        const size_t first = x + static_cast<size_t>(interleaved ? 2 * i : i);
        const size_t second = x + static_cast<size_t>(interleaved ? 2 * i + 1 : i + kPairs);
        const auto at = static_cast<size_t>(r * kPairs + i);
        expected[first] = before[first] * c[at] - before[second] * s[at];
        expected[second] = before[second] * c[at] + before[first] * s[at];
      }
    }
  }
  report.check(std::string("mla_prefill rope, ") + (interleaved ? "interleaved" : "halves"),
               relative_error(from_bf16(q.download()), expected), 4e-3);
}

void time_one(Report& report, const std::vector<Extent>& extents) {
  Batch batch(extents, 128, 128);
  fill_bf16(batch.cache.get(), batch.cache.size(), 1.0f, 931);
  double pairs = 0, tokens = 0;
  std::string shape;
  for (const Extent& e : extents) {
    pairs += static_cast<double>(e.rows) * e.cached + e.rows * (e.rows + 1.0) / 2;
    tokens += e.rows + e.cached;
  }
  shape = std::to_string(extents.size()) + " x " + std::to_string(extents[0].rows) + " after " +
          std::to_string(extents[0].cached);
  const double us =
      time_us(3, [&](int, cudaStream_t stream) { must(launch_mla_prefill(batch.args, sm_count(), stream)); });
  const double expand = tokens * 2 * 512 * 256 * 128;
  report.timing(
      {.kernel = "mla_prefill",
       .shape = shape,
       .config = "gather, expand, attend; " + to_string(batch.args.config),
       .us = us,
       .bytes = tokens * kMlaKey * 2 + static_cast<double>(batch.rows) * 128 * (kQuery * 2 + 128 * 4),
       .flops = pairs * 2 * 128 * (kQuery + kMlaPrefillValue) + expand},
      kBf16Peak);
}

}  // namespace

void check_mla_prefill(Report& report) {
  check_rope(report, true);
  check_rope(report, false);
  check_one(report, {{128, 0}}, 2, 2);
  check_one(report, {{1, 0}}, 1, 1);
  check_one(report, {{300, 0}}, 3, 2);  // a turn of two heads, one of one
  check_one(report, {{1, 500}, {129, 63}, {64, 64}, {257, 1000}, {200, 0}}, 4, 4);
  check_one(report, {{65, 1}, {2, 127}, {2, 126}}, 5, 3);
}

void time_mla_prefill(Report& report) {
  time_one(report, {{4096, 0}});
  time_one(report, {{4096, 0}, {4096, 0}, {4096, 0}, {4096, 0}});
  time_one(report, {{16384, 0}});
  time_one(report, {{512, 3584}});
  time_one(report, {{4096, 12288}});
}

}  // namespace gantry::bench
