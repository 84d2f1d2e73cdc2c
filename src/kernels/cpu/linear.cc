#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/weight_layout.h"
#include "kernels/ops/round_activations.h"

namespace gantry::cpu {
namespace {

constexpr int64_t kChunksPerThread = 8;
constexpr int64_t kChunkBytesMin = 16 << 10;   // some 1 us of one core's share of the memory bandwidth
constexpr int64_t kChunkBytesMax = 128 << 10;  // so that a thread that loses its core holds up little
constexpr int64_t kManyRows = 16;  // from here a weight byte costs more arithmetic than time to load
constexpr int64_t kPanelsBytesMany = 24 << 10;  // panels that stay in the L1 cache while rows pass
constexpr int64_t kRowsPerChunkMin = 64;
constexpr int64_t kParallelRows = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t index_of(ActivationKind kind) { return static_cast<size_t>(kind); }

constexpr ActivationKind kKinds[] = {ActivationKind::kF32, ActivationKind::kBF16, ActivationKind::kInt8,
                                     ActivationKind::kF8};

LinearInput take_kinds(Scratch& scratch, KindSet kinds, int64_t rows, int64_t cols) {
  LinearInput input;
  input.rows = rows;
  input.cols = cols;
  for (const ActivationKind kind : kKinds) {
    if (!kinds.has(kind)) continue;
    input.stride[index_of(kind)] = activation_stride(kind, cols);
    input.data[index_of(kind)] = scratch.take<std::byte>(rows * input.stride[index_of(kind)]);
  }
  return input;
}

}  // namespace

ActivationKind kind_of(const MicroKernels& micro, const PackedWeight& weight, int part) {
  const DType part_dtype = weight.parts[static_cast<size_t>(part)].dtype;
  const auto dtype = static_cast<size_t>(part_dtype);
  if (rounds_activations(weight.compute, part_dtype)) return ActivationKind::kF8;
  const bool fast = weight.compute == Compute::kAuto && micro.gemm_fast[dtype] != nullptr;
  return fast ? micro.fast_kind[dtype] : ActivationKind::kF32;
}

KindSet kinds_of(const MicroKernels& micro, const PackedWeight& weight) {
  KindSet kinds;
  for (int part = 0; part < weight.part_count; ++part) kinds.add(kind_of(micro, weight, part));
  return kinds;
}

LinearInput take_rows(Scratch& scratch, const MicroKernels& micro, const PackedWeight& weight, int64_t rows) {
  LinearInput input = take_kinds(scratch, kinds_of(micro, weight), rows, weight.cols);
  input.compute = weight.compute;
  return input;
}

size_t take_rows_bytes(int64_t rows, int64_t cols) {
  size_t bytes = 0;
  for (const ActivationKind kind : kKinds) {
    bytes += Scratch::size_of<std::byte>(rows * activation_stride(kind, (cols + 31) / 32 * 32));
  }
  return bytes;
}

void put_columns(const MicroKernels& micro, const LinearInput& input, int64_t row, int64_t first,
                 int64_t count, const float* values) {
  const auto at = [&](ActivationKind kind) {
    return input.data[index_of(kind)] == nullptr
               ? nullptr
               : input.data[index_of(kind)] + row * input.stride[index_of(kind)];
  };
  for (const ActivationKind kind : {ActivationKind::kF32, ActivationKind::kF8}) {
    std::byte* f32 = at(kind);
    if (f32 == nullptr) continue;
    float* to = reinterpret_cast<float*>(f32) + first;
    if (to != values) std::memcpy(to, values, static_cast<size_t>(count) * sizeof(float));
  }
  if (std::byte* bf16 = at(ActivationKind::kBF16)) {
    uint16_t* to = reinterpret_cast<uint16_t*>(bf16) + first;
    micro.round_bf16(values, count, to);
    if (first + count == input.cols && input.cols % 2 != 0) to[count] = 0;
  }
  if (std::byte* int8 = at(ActivationKind::kInt8)) {
    micro.quantize_int8(values, count, reinterpret_cast<Int8Block*>(int8) + first / kBlock);
  }
}

void finish_rows(const OpContext& context, const LinearInput& input) {
  const size_t kind = index_of(ActivationKind::kF8);
  if (input.data[kind] == nullptr) return;
  context.pool->parallel_for(input.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      auto* row = reinterpret_cast<float*>(input.data[kind] + r * input.stride[kind]);
      const std::span<float> values(row, static_cast<size_t>(input.cols));
      round_activations(values, input.compute, values);
    }
  });
}

LinearInput prepare_rows(const OpContext& context, Scratch& scratch, const RowSource& source,
                         const PackedWeight& weight) {
  const MicroKernels& micro = micro_of(context);
  const KindSet kinds = kinds_of(micro, weight);
  const bool normed = source.norm.weight != nullptr;
  const bool in_place = kinds.has(ActivationKind::kF32) && !normed && source.index == nullptr;
  KindSet converted;
  for (const ActivationKind kind : kKinds) {
    if (kinds.has(kind) && !(in_place && kind == ActivationKind::kF32)) converted.add(kind);
  }
  LinearInput input = take_kinds(scratch, converted, source.rows, source.cols);
  input.compute = weight.compute;
  float* row_of_thread = scratch.take<float>(normed ? context.pool->size() * source.cols : 0);
  const auto run = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = source.x + (source.index != nullptr ? source.index[r] : r) * source.stride;
      if (normed) {
        float* y =
            source.normed != nullptr ? source.normed + r * source.cols : row_of_thread + thread * source.cols;
        micro.rms_norm(x, source.norm.weight, source.norm.eps, source.cols, y);
        x = y;
      } else if (source.normed != nullptr) {
        std::memcpy(source.normed + r * source.cols, x, static_cast<size_t>(source.cols) * sizeof(float));
      }
      put_columns(micro, input, r, 0, source.cols, x);
    }
  };
  if (source.rows < kParallelRows) {
    run(0, source.rows, 0);
  } else {
    context.pool->parallel_for(source.rows, std::max<int64_t>(1, source.rows / (4 * context.pool->size())),
                               run);
  }
  finish_rows(context, input);
  if (in_place) {
    // The kernels only read.
    input.data[index_of(ActivationKind::kF32)] = reinterpret_cast<std::byte*>(const_cast<float*>(source.x));
    input.stride[index_of(ActivationKind::kF32)] = source.stride * static_cast<int64_t>(sizeof(float));
  }
  return input;
}

size_t prepare_rows_bytes(int64_t rows, int64_t cols, int threads) {
  return take_rows_bytes(rows, cols) + Scratch::size_of<float>(threads * cols);
}

void run_piece(const MicroKernels& micro, const LinearInput& input, const PackedWeight& weight,
               const LinearPiece& piece) {
  const PackedWeight::Part& part = weight.parts[static_cast<size_t>(piece.part)];
  const ActivationKind kind = kind_of(micro, weight, piece.part);
  const auto dtype = static_cast<size_t>(part.dtype);
  const std::byte* x = input.data[index_of(kind)];
  const int64_t stride = input.stride[index_of(kind)];
  const int64_t first_out = piece.first_panel * kPanelRows;
  GemmCall call;
  call.x = piece.x_rows != nullptr ? x : x + piece.first_row * stride;
  call.x_stride = stride;
  call.x_rows = piece.x_rows != nullptr ? piece.x_rows + piece.first_row : nullptr;
  call.rows = piece.rows;
  call.panel_stride = panel_bytes(part.dtype, weight.cols);
  call.panels = static_cast<const uint8_t*>(part.data) + piece.entry * part.batch_stride +
                piece.first_panel * call.panel_stride;
  call.panel_count = piece.panels;
  call.cols = weight.cols;
  call.out = piece.out;
  call.out_stride = piece.out_stride;
  call.out_rows = piece.out_rows != nullptr ? piece.out_rows + piece.first_row : nullptr;
  call.out_columns = std::min(piece.panels * kPanelRows, part.rows - first_out);
  call.bias = part.bias != nullptr ? part.bias + first_out : nullptr;
  call.row_scale = piece.row_scale != nullptr ? piece.row_scale + piece.first_row : nullptr;
  call.accumulate = piece.accumulate;
  const bool fast = kind == ActivationKind::kBF16 || kind == ActivationKind::kInt8;
  (fast ? micro.gemm_fast : micro.gemm)[dtype](call);
}

Chunking choose_chunks(const WorkShape& work) {
  const int64_t wanted = kChunksPerThread * work.threads;
  Chunking chunking;
  chunking.rows = work.rows;
  if (work.rows < kManyRows) {
    const int64_t bytes = std::clamp(work.panels * work.panel_bytes / wanted, kChunkBytesMin, kChunkBytesMax);
    chunking.panels = std::clamp<int64_t>(bytes / work.panel_bytes, 1, work.panels);
    return chunking;
  }
  chunking.panels = std::clamp<int64_t>(std::min(kPanelsBytesMany / work.panel_bytes, work.panels / wanted),
                                        1, work.panels);
  const int64_t chunks = ceil_div(work.panels, chunking.panels);
  if (chunks < wanted) {
    const int64_t rows = ceil_div(work.rows, ceil_div(wanted, chunks));
    chunking.rows = std::min(work.rows, std::max(kRowsPerChunkMin, ceil_div(rows, 8) * 8));
  }
  return chunking;
}

void linear(const OpContext& context, const LinearInput& input, const PackedWeight& weight,
            const LinearOutput& out) {
  const MicroKernels& micro = micro_of(context);
  WorkShape work{.panels = 0, .panel_bytes = 0, .rows = input.rows, .threads = context.pool->size()};
  int64_t bytes = 0;
  for (int i = 0; i < weight.part_count; ++i) {
    const PackedWeight::Part& part = weight.parts[static_cast<size_t>(i)];
    work.panels += panel_count(part.rows);
    bytes += panel_count(part.rows) * panel_bytes(part.dtype, weight.cols);
  }
  work.panel_bytes = bytes / work.panels;
  const Chunking chunking = choose_chunks(work);
  const int64_t row_chunks = ceil_div(input.rows, chunking.rows);
  const int64_t panel_chunks = ceil_div(work.panels, chunking.panels);
  context.pool->parallel_for(panel_chunks * row_chunks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first_row = chunk % row_chunks * chunking.rows;
      const int64_t first = chunk / row_chunks * chunking.panels;
      const int64_t last = std::min(first + chunking.panels, work.panels);
      int64_t part_first = 0, out_column = 0;
      for (int i = 0; i < weight.part_count; ++i) {
        const PackedWeight::Part& part = weight.parts[static_cast<size_t>(i)];
        const int64_t part_panels = panel_count(part.rows);
        const int64_t from = std::max(first, part_first), to = std::min(last, part_first + part_panels);
        if (from < to) {
          run_piece(micro, input, weight,
                    {.part = i,
                     .first_panel = from - part_first,
                     .panels = to - from,
                     .first_row = first_row,
                     .rows = std::min(chunking.rows, input.rows - first_row),
                     .out = out.data + first_row * out.stride + out_column + (from - part_first) * kPanelRows,
                     .out_stride = out.stride,
                     .accumulate = out.accumulate});
        }
        part_first += part_panels;
        out_column += part.rows;
      }
    }
  });
}

}  // namespace gantry::cpu
