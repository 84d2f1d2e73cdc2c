#include <algorithm>
#include <numeric>
#include <random>
#include <string>

#include "base/limits.h"
#include "bench/cuda/device.h"
#include "bench/cuda/host_math.h"
#include "bench/cuda/suites.h"
#include "kernels/cuda/sm90/mla_decode_launch.h"
#include "kernels/ops/ops.h"
#include "tensor/convert.h"

namespace gantry::bench {
namespace {

using namespace sm90;

constexpr float kScale = 0.135234f;  // R1's (model.md, MLA)

// Splits beyond the chosen ones too: parts without tokens must vanish in the merge.
void check_one(Report& report, int heads, const std::vector<int32_t>& lengths, int splits) {
  const int batch = static_cast<int>(lengths.size());
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  const int blocks = (longest + 63) / 64;
  const auto rows = static_cast<size_t>(batch * heads);
  std::vector<int32_t> tables(static_cast<size_t>(batch * blocks));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937_64(71));
  std::vector<uint16_t> cache(tables.size() * 64 * kMlaKey, 0xffff);  // NaN wherever no token lies
  std::mt19937_64 engine(72);
  std::normal_distribution<float> normal;
  for (int b = 0; b < batch; ++b) {
    for (int t = 0; t < lengths[static_cast<size_t>(b)]; ++t) {
      const auto block = static_cast<size_t>(tables[static_cast<size_t>(b * blocks + t / 64)]);
      uint16_t* key = &cache[(block * 64 + static_cast<size_t>(t % 64)) * kMlaKey];
      for (int d = 0; d < kMlaKey; ++d) key[d] = f32_to_bf16(normal(engine));
    }
  }
  std::vector<float> q = normals(rows * kMlaKey, 1.0f, 73);
  std::vector<uint16_t> q_bits(q.size());
  for (size_t i = 0; i < q.size(); ++i) {
    q_bits[i] = f32_to_bf16(q[i]);
    q[i] = bf16_to_f32(q_bits[i]);
  }

  MlaDecodeArgs args{.shape = {batch, heads, longest}};
  args.config = choose_mla_decode(args.shape, sm_count());
  if (splits > 0) args.config.splits = splits;
  const DeviceBuffer<uint16_t> q_device(q_bits), cache_device(cache);
  const DeviceBuffer<int32_t> table_device(tables), lengths_device(lengths);
  DeviceBuffer<uint16_t> out(rows * kMlaValue);
  const auto parts = static_cast<size_t>(args.config.splits);
  DeviceBuffer<float> partial(parts * rows * kMlaValue), lse(parts * rows);
  args.q = reinterpret_cast<const __nv_bfloat16*>(q_device.get());
  args.cache = reinterpret_cast<const __nv_bfloat16*>(cache_device.get());
  args.cache_blocks = static_cast<int64_t>(tables.size());
  args.block_table = table_device.get();
  args.table_stride = blocks;
  args.lengths = lengths_device.get();
  args.scale = kScale;
  args.partial = partial.get();
  args.partial_lse = lse.get();
  args.out = reinterpret_cast<__nv_bfloat16*>(out.get());
  must(plan_mla_decode(args));
  must(launch_mla_decode(args, nullptr));
  must(cudaDeviceSynchronize(), "mla_decode");

  // The reference's cache has the same layout: [64 tokens, 576] bf16.
  const Backend* backend = cpu_backend("reference").value();
  ThreadPool pool(8);
  std::vector<std::byte> scratch(64 + backend->scratch_bytes({.rows_max = batch,
                                                              .heads = heads,
                                                              .head_dim_max = kMlaKey,
                                                              .context_max = longest,
                                                              .threads = pool.size()}));
  const size_t offset = (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  std::vector<Segment> segments;
  for (int b = 0; b < batch; ++b) {
    segments.push_back({b, 1, lengths[static_cast<size_t>(b)] - 1, &tables[static_cast<size_t>(b * blocks)]});
  }
  const std::vector<float> zeros(kMlaValue);
  const std::vector<TensorView> heads_w_uv(static_cast<size_t>(heads),
                                           {zeros.data(), DType::kF32, Shape{1, kMlaValue}});
  const WeightSpec spec{.parts = heads_w_uv, .batch = heads};
  std::vector<std::byte> storage(backend->packed_bytes(spec));
  const PackedWeight w_uv = backend->prepare(spec, storage).value();
  std::vector<float> attended(rows * kMlaValue), unused(rows);
  ops::mla_attend({backend, &pool, std::span(scratch).subspan(offset)},
                  {.q = q.data(),
                   .rows = batch,
                   .heads = heads,
                   .latent = kMlaValue,
                   .value_dim = 1,
                   .scale = kScale,
                   .w_uv = &w_uv,
                   .segments = segments,
                   .kv = {{DType::kBF16, 1, kMlaKey, 0}, cache.data(), 64 * kMlaKey * 2},
                   .attended = attended.data(),
                   .out = unused.data()});
  // Probabilities and results in bf16: 2^-9 each.
  report.check("mla_decode " + std::to_string(batch) + " x " + std::to_string(heads) + " heads, longest " +
                   std::to_string(longest) + " [" + to_string(args.config) + "]",
               relative_error(from_bf16(out.download()), attended), 5e-3);
}

void time_one(Report& report, int batch, int heads, int context, int splits = 0) {
  MlaDecodeArgs args{.shape = {batch, heads, context}};
  args.config = choose_mla_decode(args.shape, sm_count());
  if (splits > 0) args.config.splits = splits;
  const int blocks = (context + 63) / 64;
  const int needed = batch * blocks;
  // 400 MB of cache or more, read in turns, so that the L2 holds none of it.
  const int sets = std::max(1, 5600 / needed);
  const int pool_blocks = needed * sets;
  DeviceBuffer<uint16_t> cache(static_cast<size_t>(pool_blocks) * 64 * kMlaKey);
  fill_bf16(cache.get(), cache.size(), 1.0f, 74);
  std::vector<int32_t> tables(static_cast<size_t>(pool_blocks));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937_64(75));
  const DeviceBuffer<int32_t> table_device(tables);
  const DeviceBuffer<int32_t> lengths(std::vector<int32_t>(static_cast<size_t>(batch), context));
  const auto rows = static_cast<size_t>(batch * heads);
  DeviceBuffer<uint16_t> q(rows * kMlaKey), out(rows * kMlaValue);
  fill_bf16(q.get(), q.size(), 1.0f, 76);
  const auto parts = static_cast<size_t>(args.config.splits);
  DeviceBuffer<float> partial(parts * rows * kMlaValue), lse(parts * rows);
  args.q = reinterpret_cast<const __nv_bfloat16*>(q.get());
  args.cache = reinterpret_cast<const __nv_bfloat16*>(cache.get());
  args.cache_blocks = pool_blocks;
  args.table_stride = blocks;
  args.lengths = lengths.get();
  args.scale = kScale;
  args.partial = partial.get();
  args.partial_lse = lse.get();
  args.out = reinterpret_cast<__nv_bfloat16*>(out.get());
  must(plan_mla_decode(args));
  const double us = time_us(batch >= 32 ? 8 : 40, [&](int i, cudaStream_t stream) {
    MlaDecodeArgs turn = args;
    turn.block_table = table_device.get() + static_cast<ptrdiff_t>(i % sets) * needed;
    must(launch_mla_decode(turn, stream));
  });
  report.timing({.kernel = "mla_decode",
                 .shape = "B " + std::to_string(batch) + ", " + std::to_string(heads) + " heads, ctx " +
                          std::to_string(context),
                 .config = to_string(args.config),
                 .us = us,
                 .bytes = static_cast<double>(batch) * context * kMlaKey * 2 +
                          static_cast<double>(rows) * (kMlaKey + kMlaValue) * 2,
                 .flops = 2.0 * static_cast<double>(rows) * context * (kMlaKey + kMlaValue)},
                kBf16Peak);
}

}  // namespace

void check_mla_decode(Report& report) {
  for (const int splits : {0, 1, 2, 7, 64}) {
    check_one(report, 128, {1}, splits);
    check_one(report, 128, {1000}, splits);
    check_one(report, 16, {63, 64, 65, 1, 129, 640}, splits);
    check_one(report, 64, {192, 4096, 5}, splits);
    check_one(report, 80, {300, 301}, splits);  // a tile of 16 heads beside a whole one
  }
}

void time_mla_decode(Report& report, bool sweep) {
  if (sweep) {
    for (const int batch : {1, 2, 4, 8, 16, 32}) {
      for (const int splits : {2, 4, 8, 12, 16, 22, 32, 43, 64}) time_one(report, batch, 128, 4096, splits);
    }
  }
  for (const int context : {4096, 16384}) {
    for (const int batch : {1, 8, 32, 64, 128}) time_one(report, batch, 128, context);
  }
  for (const int batch : {1, 32, 128}) time_one(report, batch, 16, 4096);
}

}  // namespace gantry::bench
