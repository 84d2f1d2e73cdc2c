#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/cuda/mla_prefill.h"
#include "kernels/cuda/sm90/mla_prefill_launch.h"
#include "kernels/ops/scratch.h"

namespace gantry::cuda {
namespace {

constexpr int64_t kLatentBytes = 2 * sm90::kMlaKey;
// Keys of so many heads at once let a chunk of 512 rows fill the machine.
constexpr int64_t kHeadsWanted = 32;
// What scratch goes to keys: more makes turns fewer, and saves nothing else.
constexpr int64_t kBytesWanted = int64_t{1} << 30;
constexpr int64_t kSlack = 4 * 256;

}  // namespace

PrefillHeads prefill_heads(const MlaAttendArgs& args) {
  GANTRY_CHECK(args.w_uk != nullptr) << "mla_attend without W_UK";
  return {args.heads, static_cast<int32_t>(args.w_uk->cols), args.kv.layout.key_dim - args.latent};
}

Status rope_prefill_queries(State& state, __nv_bfloat16* q, RowRun run, const MlaProjectArgs& args) {
  if (args.rope.pairs != sm90::kMlaPrefillRope / 2) {
    return unimplemented("rope on " + std::to_string(2 * args.rope.pairs) + " of " +
                         std::to_string(sm90::kMlaPrefillRope) + " values: the CUDA backend supports all");
  }
  const int64_t angle = run.first_row * args.rope.pairs;
  return sm90::launch_mla_prefill_rope({.q = q,
                                        .rows = run.rows,
                                        .heads = args.heads,
                                        .cos = state.step().cos + angle,
                                        .sin = state.step().sin + angle,
                                        .interleaved = args.rope.interleaved},
                                       state.stream());
}

size_t prefill_attention_bytes(const ScratchSpec& spec) {
  if (spec.head_dim_max != sm90::kMlaKey || !sm90::takes_mla_prefill(spec.rows_max, spec.rows_max)) return 0;
  // The longest sequence, or the step's new tokens in sequences of whole tiles.
  const int64_t keys = std::max(sm90::mla_prefill_keys(spec.context_max), 2 * spec.rows_max);
  const int64_t least = keys * (kLatentBytes + sm90::kMlaPrefillKeyBytes);
  const int64_t all = keys * (kLatentBytes + spec.heads * sm90::kMlaPrefillKeyBytes);
  return static_cast<size_t>(std::max(least, std::min(all, kBytesWanted)) + kSlack);
}

Status prefill_attention(State& state, std::span<std::byte> scratch_bytes, const MlaAttendArgs& args) {
  const PrefillHeads dims = prefill_heads(args);
  const DeviceStep& step = state.step();
  std::array<sm90::MlaPrefillSequence, sm90::kMlaPrefillSequences> sequences;
  const int64_t bytes = static_cast<int64_t>(scratch_bytes.size()) - kSlack;
  const int64_t key_bytes =
      kLatentBytes + std::min<int64_t>(args.heads, kHeadsWanted) * sm90::kMlaPrefillKeyBytes;
  sm90::MlaPrefillArgs prefill{};
  prefill.heads = args.heads;
  prefill.q = plain_queries(const_cast<float*>(args.q), args.rows, args.heads);
  prefill.q_rows = args.rows;
  prefill.cache = static_cast<const __nv_bfloat16*>(args.kv.base);
  prefill.block_table = step.tables;
  prefill.table_stride = step.table_stride;
  prefill.w_uk = static_cast<const __nv_bfloat16*>(args.w_uk->parts[0].data);
  prefill.w_uv = static_cast<const __nv_bfloat16*>(args.w_uv->parts[0].data);
  prefill.scale = args.scale;
  prefill.out = args.out;
  for (size_t next = 0; next < args.segments.size();) {
    // As many sequences as leave room for enough heads; at least one.
    size_t count = 0;
    int64_t keys = 0;
    for (; next < args.segments.size() && count < sequences.size(); ++next) {
      const Segment& segment = args.segments[next];
      if (!is_prefill(segment, dims)) continue;
      const int64_t more = sm90::mla_prefill_keys(int64_t{segment.first_position} + segment.rows);
      if (count > 0 && (keys + more) * key_bytes > bytes) break;
      sequences[count++] = {segment.first_row, segment.rows, segment.first_position,
                            static_cast<int32_t>(next), static_cast<int32_t>(keys)};
      keys += more;
    }
    if (count == 0) break;
    if (args.value_dim != sm90::kMlaPrefillValue) {
      return unimplemented("values of " + std::to_string(args.value_dim) + " beside keys of " +
                           std::to_string(dims.nope) + ": the CUDA backend supports " +
                           std::to_string(sm90::kMlaPrefillValue));
    }
    prefill.config = sm90::choose_mla_prefill(args.heads, keys, bytes - keys * kLatentBytes);
    if (prefill.config.heads == 0) {
      return internal_error("the scratch holds no keys of " + std::to_string(keys) + " tokens");
    }
    Scratch scratch(scratch_bytes);
    prefill.sequences = std::span(sequences).first(count);
    prefill.keys = keys;
    prefill.latents = scratch.take<__nv_bfloat16>(keys * sm90::kMlaKey);
    prefill.k = scratch.take<__nv_bfloat16>(prefill.config.heads * keys * sm90::kMlaPrefillNope);
    prefill.v = scratch.take<__nv_bfloat16>(prefill.config.heads * keys * sm90::kMlaPrefillValue);
    GANTRY_RETURN_IF_ERROR(sm90::launch_mla_prefill(prefill, state.sm_count(), state.stream()));
  }
  return {};
}

}  // namespace gantry::cuda
