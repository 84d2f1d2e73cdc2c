#include "kernels/cuda/experts_fp8.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sm90/expert_gemm_launch.h"

namespace gantry::cuda {
namespace {

constexpr int kStride = static_cast<int>(kFp8ExpertRows);  // of the rows' scales
constexpr int kExpertsMax = 256, kFp8PicksMax = 16;        // of the dispatch

sm90::ExpertShape shape_of(int64_t rows, int64_t experts, int64_t picks, int64_t hidden, int64_t width) {
  return {static_cast<int>(rows), static_cast<int>(experts), static_cast<int>(picks),
          static_cast<int>(hidden), static_cast<int>(width)};
}

struct Buffers {
  float* logits;
  QuantizedRows x, slots, h;
  __nv_bfloat16* y;
  float* partial;
  sm90::Routing routing;
};

// Lays the buffers out for the most rows of a turn; `take` is called for each with its type and count.
template <typename Take>
void lay_out(const sm90::ExpertShape& s, Buffers& b, const Take& take) {
  const sm90::ExpertConfig config = sm90::choose_expert_gemm(s);
  const int64_t slots = sm90::slots_max(s), picks = int64_t{s.tokens} * s.experts_per_token,
                groups = s.hidden / 128;
  take(b.logits, int64_t{s.tokens} * s.experts);
  take(b.x.codes, kFp8ExpertRows * s.hidden);
  take(b.x.scales, kFp8ExpertRows * groups);
  take(b.slots.codes, slots * s.hidden);
  take(b.slots.scales, slots * groups);
  take(b.h.codes, slots * s.intermediate);
  take(b.h.scales, slots * s.intermediate / 128);
  take(b.y, slots * s.hidden);
  take(b.partial, sm90::stream_partial_floats(config));
  take(b.routing.ids, picks);
  take(b.routing.weights, picks);
  take(b.routing.slot_of, picks);
  take(b.routing.token_of, slots);
  take(b.routing.expert_slot, int64_t{s.experts} * s.tokens);
  take(b.routing.chunks[0], sm90::chunks_max(s, config.gate_up_tokens));
  take(b.routing.chunks[1], sm90::chunks_max(s, config.down_tokens));
  take(b.routing.chunk_counts, 2);
  take(b.routing.flags, 2 * sm90::kStreamBlocksMax);
}

Status run(State& state, Buffers& b, const MoeArgs& args, const sm90::ExpertShape& s, const float* normed,
           float* out) {
  const PackedWeight::Part& gate_up = args.gate_up->parts[0];
  const PackedWeight::Part& down = args.down->parts[0];
  const cudaStream_t stream = state.stream();
  GANTRY_RETURN_IF_ERROR(launch_quantize_rows({.x = normed,
                                               .stride = s.hidden,
                                               .index = nullptr,
                                               .cols = s.hidden,
                                               .weight = nullptr,
                                               .eps = 0,
                                               .out = b.x},
                                              s.tokens, stream));
  GANTRY_RETURN_IF_ERROR(launch_gate_logits(
      {normed, static_cast<const float*>(args.gate_weight->parts[0].data), s.hidden, s.experts, b.logits},
      s.tokens, stream));
  const Routing picks{.ids = b.routing.ids, .weights = b.routing.weights};
  GANTRY_RETURN_IF_ERROR(launch_gate({b.logits, args.gate_bias, args.gate, picks}, s.tokens, stream));

  sm90::ExpertGemmArgs gemm{};
  gemm.shape = s;
  gemm.config = sm90::choose_expert_gemm(s);
  gemm.weights = {static_cast<const uint8_t*>(gate_up.data), gate_up.scales,
                  static_cast<const uint8_t*>(down.data), down.scales};
  gemm.routing = b.routing;
  const int slots = sm90::slots_max(s);
  const bool all = gemm.config.gate_up_all;
  gemm.x = all ? b.x.codes : b.slots.codes;
  gemm.x_rows_max = all ? kStride : slots;
  gemm.x_scale = all ? b.x.scales : b.slots.scales;
  gemm.x_scale_stride = all ? kStride : slots;
  gemm.h = b.h.codes;
  gemm.h_scale = b.h.scales;
  gemm.h_scale_stride = slots;
  gemm.y = b.y;
  gemm.partial = b.partial;
  GANTRY_RETURN_IF_ERROR(sm90::plan_expert_gemm(gemm));
  GANTRY_RETURN_IF_ERROR(sm90::launch_dispatch(s, gemm.config, b.routing, stream));
  if (!all) {
    GANTRY_RETURN_IF_ERROR(sm90::launch_permute({.x = b.x.codes,
                                                 .x_scale = b.x.scales,
                                                 .x_scale_stride = kStride,
                                                 .slots = b.slots.codes,
                                                 .slot_scale = b.slots.scales,
                                                 .slot_scale_stride = slots,
                                                 .shape = s,
                                                 .routing = b.routing},
                                                stream));
  }
  GANTRY_RETURN_IF_ERROR(sm90::launch_expert_gate_up(gemm, state.sm_count(), stream));
  GANTRY_RETURN_IF_ERROR(sm90::launch_expert_down(gemm, state.sm_count(), stream));
  return sm90::launch_combine({.y = b.y, .residual = out, .shape = s, .routing = b.routing}, stream);
}

}  // namespace

bool takes_fp8_experts(const MoeArgs& args) {
  const auto fp8 = [](const PackedWeight& weight) {
    return weight.part_count == 1 && weight.parts[0].dtype == DType::kF8E4M3;
  };
  return fp8(*args.gate_up) && fp8(*args.down) && args.gate.experts <= kExpertsMax &&
         args.gate.experts_per_token <= kFp8PicksMax &&
         sm90::choose_expert_gemm(
             shape_of(1, args.gate.experts, args.gate.experts_per_token, args.hidden, args.down->cols))
                 .gate_up_tokens > 0;
}

size_t fp8_experts_bytes(const ScratchSpec& spec) {
  size_t most = 0;
  if (spec.experts > kExpertsMax || spec.experts_per_token > kFp8PicksMax) return most;
  for (int64_t rows = 1; rows <= kFp8ExpertRows; rows *= 2) {
    const sm90::ExpertShape s =
        shape_of(rows, spec.experts, spec.experts_per_token, spec.width_max / 128 * 128, spec.expert_width);
    if (sm90::choose_expert_gemm(s).gate_up_tokens == 0) return most;
    size_t bytes = 0;
    Buffers buffers{};
    lay_out(s, buffers, [&](auto*& pointer, int64_t count) {
      bytes += Scratch::size_of<std::remove_reference_t<decltype(*pointer)>>(count);
    });
    most = most > bytes ? most : bytes;
  }
  return most;
}

void fp8_experts(State& state, Scratch scratch, const MoeArgs& args, const float* normed, int64_t rows,
                 float* out) {
  const sm90::ExpertShape s =
      shape_of(rows, args.gate.experts, args.gate.experts_per_token, args.hidden, args.down->cols);
  Buffers buffers{};
  lay_out(s, buffers, [&](auto*& pointer, int64_t count) {
    using T = std::remove_reference_t<decltype(*pointer)>;
    pointer = scratch.take<T>(count);
  });
  buffers.x.scale_stride = kStride;
  state.note(run(state, buffers, args, s, normed, out));
}

}  // namespace gantry::cuda
