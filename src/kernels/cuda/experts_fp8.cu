#include "kernels/cuda/experts_fp8.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sm90/expert_gemm_launch.h"
#include "kernels/cuda/sm90/prefill_routing.h"
#include "kernels/cuda/tile_gemm.h"
#include "kernels/cuda/weight_layout.h"

namespace gantry::cuda {
namespace {

constexpr int kStride = static_cast<int>(kFp8ExpertRows);  // of the rows' scales
constexpr int kExpertsMax = 256, kFp8PicksMax = 16;        // of the dispatch

sm90::ExpertShape shape_of(int64_t rows, int64_t experts, int64_t picks, int64_t hidden, int64_t width) {
  return {static_cast<int>(rows), static_cast<int>(experts), static_cast<int>(picks),
          static_cast<int>(hidden), static_cast<int>(width)};
}

int shared_of(const MoeArgs& args) { return args.shared_entry ? 1 : 0; }

sm90::ExpertShape shape_of(const MoeArgs& args, int64_t rows) {
  return shape_of(rows, args.gate.experts + shared_of(args), args.gate.experts_per_token + shared_of(args),
                  args.hidden, args.down->cols);
}

// Whether sm90/routing.h's gate takes it, which also gives every row the shared expert.
bool selects(const GateParams& gate, int shared) {
  return gate.normalize && gate.experts <= kExpertsMax && gate.groups <= 32 &&
         gate.experts % gate.groups == 0 && gate.experts_per_token + shared <= kFp8PicksMax &&
         gate.experts_per_token <= gate.topk_group * (gate.experts / gate.groups);
}

Status launch_choice(State& state, const MoeArgs& args, const sm90::ExpertShape& s, const float* logits,
                     const sm90::Routing& routing) {
  if (selects(args.gate, shared_of(args))) {
    return sm90::launch_gate_select({.bias = args.gate_bias,
                                     .logits = const_cast<float*>(logits),
                                     .shape = s,
                                     .shared = shared_of(args),
                                     .groups = args.gate.groups,
                                     .topk_group = args.gate.topk_group,
                                     .scaling = args.gate.scaling,
                                     .routing = routing},
                                    state.stream());
  }
  const Routing picks{.ids = routing.ids, .weights = routing.weights};
  return launch_gate({logits, args.gate_bias, args.gate, picks}, s.tokens, state.stream());
}

// To FP8 for the experts, and to f32 for the gate.
Status launch_norm(const MoeArgs& args, const sm90::ExpertShape& s, const float* x, const QuantizedRows& out,
                   float* normed, cudaStream_t stream) {
  return launch_quantize_rows({.x = x,
                               .stride = s.hidden,
                               .index = nullptr,
                               .cols = s.hidden,
                               .weight = args.norm.weight,
                               .eps = args.norm.eps,
                               .out = out,
                               .f32 = normed},
                              s.tokens, stream);
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

Status run(State& state, Buffers& b, const MoeArgs& args, const sm90::ExpertShape& s, const float* x,
           float* normed, float* out) {
  const PackedWeight::Part& gate_up = args.gate_up->parts[0];
  const PackedWeight::Part& down = args.down->parts[0];
  const cudaStream_t stream = state.stream();
  GANTRY_RETURN_IF_ERROR(launch_norm(args, s, x, b.x, normed, stream));
  GANTRY_RETURN_IF_ERROR(
      launch_gate_logits({normed, static_cast<const float*>(args.gate_weight->parts[0].data), s.hidden,
                          args.gate.experts, b.logits},
                         s.tokens, stream));
  GANTRY_RETURN_IF_ERROR(launch_choice(state, args, s, b.logits, b.routing));

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

// Of a turn of many rows.
struct ManyBuffers {
  float* logits;
  QuantizedRows x, slots, h;
  __nv_bfloat16* y;
  int32_t* counts;
  sm90::PrefillChunk* chunks;
  int32_t* chunk_count;
  int32_t* next_tiles;
  sm90::Routing routing;
};

template <typename Take>
void lay_out_many(const sm90::ExpertShape& s, ManyBuffers& b, const Take& take) {
  const sm90::PrefillDispatchShape dispatch{s.tokens, s.experts, s.experts_per_token};
  const int64_t slots = sm90::prefill_slots(dispatch), picks = int64_t{s.tokens} * s.experts_per_token,
                groups = s.hidden / 128;
  take(b.logits, int64_t{s.tokens} * s.experts);
  take(b.x.codes, int64_t{s.tokens} * s.hidden);
  take(b.x.scales, int64_t{s.tokens} * groups);
  take(b.slots.scales, slots * groups);
  take(b.h.codes, slots * s.intermediate);
  take(b.h.scales, slots * s.intermediate / 128);
  take(b.y, slots * s.hidden);
  take(b.counts, sm90::prefill_count_words(dispatch));
  take(b.chunks, sm90::prefill_chunks(dispatch));
  take(b.chunk_count, 1);
  take(b.next_tiles, 2);
  take(b.routing.ids, picks);
  take(b.routing.weights, picks);
  take(b.routing.slot_of, picks);
  take(b.routing.token_of, slots);
  // The slots' rows are read before the first output is written over them.
  b.slots.codes = reinterpret_cast<uint8_t*>(b.y);
  b.x.scale_stride = s.tokens;
  b.slots.scale_stride = b.h.scale_stride = slots;
}

Status run_many(State& state, const ManyBuffers& b, const MoeArgs& args, const sm90::ExpertShape& s,
                const float* x, float* normed, float* out) {
  const PackedWeight::Part& gate_up = args.gate_up->parts[0];
  const PackedWeight::Part& down = args.down->parts[0];
  const cudaStream_t stream = state.stream();
  const auto slots = static_cast<int>(b.slots.scale_stride);
  const int picks = s.tokens * s.experts_per_token;
  GANTRY_RETURN_IF_ERROR(launch_norm(args, s, x, b.x, normed, stream));
  GANTRY_RETURN_IF_ERROR(launch_tile_gemm({.x = normed,
                                           .x_stride = s.hidden,
                                           .weight = args.gate_weight->parts[0].data,
                                           .weight_stride = s.hidden,
                                           .rows = s.tokens,
                                           .n = args.gate.experts,
                                           .k = s.hidden,
                                           .out = b.logits,
                                           .out_stride = args.gate.experts},
                                          stream));
  GANTRY_RETURN_IF_ERROR(launch_choice(state, args, s, b.logits, b.routing));
  GANTRY_RETURN_IF_ERROR(sm90::launch_prefill_dispatch({.shape = {s.tokens, s.experts, s.experts_per_token},
                                                        .routing = b.routing,
                                                        .counts = b.counts,
                                                        .chunks = b.chunks,
                                                        .chunk_count = b.chunk_count,
                                                        .next_tiles = b.next_tiles},
                                                       stream));
  GANTRY_RETURN_IF_ERROR(sm90::launch_prefill_scatter({.shape = {s.tokens, s.experts, s.experts_per_token},
                                                       .hidden = s.hidden,
                                                       .x = b.x.codes,
                                                       .x_scale = b.x.scales,
                                                       .x_scale_stride = static_cast<int>(b.x.scale_stride),
                                                       .slots = b.slots.codes,
                                                       .slot_scale = b.slots.scales,
                                                       .slot_scale_stride = slots,
                                                       .slot_of = b.routing.slot_of},
                                                      stream));
  const auto plan = [&](const sm90::PrefillGemmShape& shape, const PackedWeight::Part& part,
                        const QuantizedRows& rows) -> Result<sm90::PrefillGemmArgs> {
    GANTRY_ASSIGN_OR_RETURN(sm90::PrefillGemmArgs gemm,
                            sm90::plan_prefill_gemm(shape, sm90::choose_prefill_gemm(shape, state.sm_count()),
                                                    part.data, rows.codes, slots));
    gemm.weight_scale = part.scales;
    gemm.x_scale = rows.scales;
    gemm.x_scale_stride = slots;
    gemm.chunks = b.chunks;
    gemm.chunk_count = b.chunk_count;
    return gemm;
  };
  GANTRY_ASSIGN_OR_RETURN(sm90::PrefillGemmArgs up,
                          plan({picks, 2 * s.intermediate, s.hidden, s.experts, true}, gate_up, b.slots));
  up.next_tile = b.next_tiles;
  up.codes = b.h.codes;
  up.code_scale = b.h.scales;
  up.code_scale_stride = slots;
  GANTRY_RETURN_IF_ERROR(sm90::launch_prefill_gemm(up, state.sm_count(), stream));
  GANTRY_ASSIGN_OR_RETURN(sm90::PrefillGemmArgs to_hidden,
                          plan({picks, s.hidden, s.intermediate, s.experts, false}, down, b.h));
  to_hidden.next_tile = b.next_tiles + 1;
  to_hidden.out = b.y;
  to_hidden.out_stride = s.hidden;
  GANTRY_RETURN_IF_ERROR(sm90::launch_prefill_gemm(to_hidden, state.sm_count(), stream));
  return sm90::launch_combine({.y = b.y, .residual = out, .shape = s, .routing = b.routing}, stream);
}

}  // namespace

bool takes_shared_entry(const ExpertsShape& shape) {
  const GateParams& gate = shape.gate;
  const int64_t entries = gate.experts + 1;
  const auto stays_fp8 = [&](int64_t rows, int64_t cols) {
    PackedWeight file{.rows = rows, .cols = cols, .batch = entries, .compute = shape.compute};
    file.parts[0] = {.dtype = shape.dtype, .rows = rows};
    file.part_count = 1;
    return device_dtype(file, 0, shape.compute) == DType::kF8E4M3;
  };
  return stays_fp8(shape.width, shape.hidden) && stays_fp8(shape.hidden, shape.width) && selects(gate, 1) &&
         sm90::choose_expert_gemm(shape_of(1, entries, gate.experts_per_token + 1, shape.hidden, shape.width))
                 .gate_up_tokens > 0;
}

bool takes_fp8_experts(const MoeArgs& args) {
  const auto fp8 = [](const PackedWeight& weight) {
    return weight.part_count == 1 && weight.parts[0].dtype == DType::kF8E4M3;
  };
  return fp8(*args.gate_up) && fp8(*args.down) && args.gate.experts <= kExpertsMax &&
         args.gate.experts_per_token + shared_of(args) <= kFp8PicksMax &&
         sm90::choose_expert_gemm(shape_of(args, 1)).gate_up_tokens > 0;
}

size_t fp8_experts_bytes(const ScratchSpec& spec) {
  size_t most = 0;
  if (spec.experts > kExpertsMax || spec.experts_per_token > kFp8PicksMax) return most;
  // With a shared expert behind the others, if the kernels take it.
  const int64_t shared = spec.experts_per_token < kFp8PicksMax ? 1 : 0;
  for (int64_t rows = 1; rows <= kFp8ExpertRows; rows *= 2) {
    const sm90::ExpertShape s = shape_of(rows, spec.experts + shared, spec.experts_per_token + shared,
                                         spec.hidden / 128 * 128, spec.expert_width);
    if (sm90::choose_expert_gemm(s).gate_up_tokens == 0) return most;
    size_t bytes = 0;
    Buffers buffers{};
    lay_out(s, buffers, [&](auto*& pointer, int64_t count) {
      bytes += Scratch::size_of<std::remove_reference_t<decltype(*pointer)>>(count);
    });
    most = most > bytes ? most : bytes;
  }
  const int64_t many = spec.rows_max < kFp8ExpertRowsMany ? spec.rows_max : kFp8ExpertRowsMany;
  if (many <= kFp8ExpertRows) return most;
  size_t bytes = 0;
  ManyBuffers buffers{};
  lay_out_many(shape_of(many, spec.experts + shared, spec.experts_per_token + shared, spec.hidden / 128 * 128,
                        spec.expert_width),
               buffers, [&](auto*& pointer, int64_t count) {
                 bytes += Scratch::size_of<std::remove_reference_t<decltype(*pointer)>>(count);
               });
  return most > bytes ? most : bytes;
}

void fp8_experts(State& state, Scratch scratch, const MoeArgs& args, int64_t first, int64_t rows,
                 float* normed) {
  const sm90::ExpertShape s = shape_of(args, rows);
  const int64_t at = first * args.hidden;
  const auto take = [&](auto*& pointer, int64_t count) {
    using T = std::remove_reference_t<decltype(*pointer)>;
    pointer = scratch.take<T>(count);
  };
  if (rows > kFp8ExpertRows) {
    ManyBuffers many{};
    lay_out_many(s, many, take);
    return state.note(run_many(state, many, args, s, args.x + at, normed + at, args.out + at));
  }
  Buffers buffers{};
  lay_out(s, buffers, take);
  buffers.x.scale_stride = kStride;
  state.note(run(state, buffers, args, s, args.x + at, normed + at, args.out + at));
}

}  // namespace gantry::cuda
