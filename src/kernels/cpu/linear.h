// Linears of the CPU backends: input rows are normed and converted once (prepare_rows), then panels of the
// weight are handed out to threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/micro_kernels.h"
#include "kernels/ops/backend.h"
#include "kernels/ops/scratch.h"

namespace gantry::cpu {

// Ops take more rows than this in turns, which bounds their scratch; weights are read again for each turn,
// which at this many rows costs far less than the arithmetic.
inline constexpr int64_t kRowsPerTurn = 512;

// A set of ActivationKind.
class KindSet {
 public:
  void add(ActivationKind kind) { bits_ |= 1u << static_cast<int>(kind); }
  void add(KindSet other) { bits_ |= other.bits_; }
  bool has(ActivationKind kind) const { return (bits_ >> static_cast<int>(kind) & 1u) != 0; }

 private:
  uint32_t bits_ = 0;
};

ActivationKind kind_of(const MicroKernels& micro, const PackedWeight& weight, int part);
KindSet kinds_of(const MicroKernels& micro, const PackedWeight& weight);

// Rows of one matrix, in each kind that is wanted.
struct LinearInput {
  int64_t rows = 0;
  int64_t cols = 0;
  Compute compute = Compute::kAuto;  // of the weight that they meet
  std::byte* data[kActivationKinds] = {};
  int64_t stride[kActivationKinds] = {};  // bytes
};

// Storage for rows of the kinds, uninitialised.
LinearInput take_rows(Scratch& scratch, const MicroKernels& micro, const PackedWeight& weight, int64_t rows);
size_t take_rows_bytes(int64_t rows, int64_t cols);  // an upper bound

// After the last put_columns(): what needs whole rows.
void finish_rows(const OpContext& context, const LinearInput& input);

// Writes `count` columns from `first` (a multiple of 32) of row `row`; pads the last column of a row.
void put_columns(const MicroKernels& micro, const LinearInput& input, int64_t row, int64_t first,
                 int64_t count, const float* values);

struct RowSource {
  const float* x = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;              // floats
  const int32_t* index = nullptr;  // which row of x; null: 0, 1, 2 ...
  Norm norm{};
  float* normed = nullptr;  // also written here if not null, [rows, cols]
};
// Rows that need neither norm nor conversion nor gathering are used where they are.
LinearInput prepare_rows(const OpContext& context, Scratch& scratch, const RowSource& source,
                         const PackedWeight& weight);
size_t prepare_rows_bytes(int64_t rows, int64_t cols, int threads);

struct LinearOutput {
  float* data = nullptr;
  int64_t stride = 0;  // floats
  bool accumulate = false;
};
void linear(const OpContext& context, const LinearInput& input, const PackedWeight& weight,
            const LinearOutput& out);

// A piece of a linear, run by the calling thread: panels [first_panel, first_panel + panels) of a part for
// the rows that x_rows names, or [first_row, first_row + rows).
struct LinearPiece {
  int part = 0;
  int64_t entry = 0;  // of the batch
  int64_t first_panel = 0;
  int64_t panels = 0;
  int64_t first_row = 0;  // of the input, and of x_rows, out_rows and row_scale
  int64_t rows = 0;
  const int32_t* x_rows = nullptr;
  float* out = nullptr;  // column 0 of the piece, row first_row (row 0 with out_rows)
  int64_t out_stride = 0;
  const int32_t* out_rows = nullptr;
  const float* row_scale = nullptr;
  bool accumulate = false;
};
void run_piece(const MicroKernels& micro, const LinearInput& input, const PackedWeight& weight,
               const LinearPiece& piece);

// How to cut panels x rows into chunks for threads.
struct Chunking {
  int64_t panels = 1;
  int64_t rows = 1;
};
struct WorkShape {
  int64_t panels = 0;
  int64_t panel_bytes = 0;
  int64_t rows = 0;
  int threads = 1;
};
Chunking choose_chunks(const WorkShape& work);

}  // namespace gantry::cpu
