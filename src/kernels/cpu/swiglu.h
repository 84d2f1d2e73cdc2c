// The first half of an MLP, for a dense layer and for experts alike: h = silu(gate x) * up x, converted for
// the down projection where it is made, 32 columns at a time.
#pragma once

#include "kernels/cpu/linear.h"

namespace gantry::cpu {

inline constexpr int64_t kSwigluColumns = 32;
inline constexpr int64_t kSwigluRows = 64;
inline constexpr int64_t kSwigluScratch = 2 * kSwigluRows * kSwigluColumns;  // floats per thread

struct SwigluPiece {
  int64_t entry = 0;
  int64_t first_unit = 0;  // units of kSwigluColumns columns of h
  int64_t units = 0;
  int64_t first_row = 0;  // of x_rows, or of the input; the same row of h
  int64_t rows = 0;
  const int32_t* x_rows = nullptr;
  float* scratch = nullptr;  // [kSwigluScratch] of this thread
};
// weight: parts gate and up. Run by the calling thread.
void run_swiglu(const MicroKernels& micro, const LinearInput& x, const PackedWeight& weight,
                const LinearInput& h, const SwigluPiece& piece);

int64_t swiglu_units(int64_t width);

}  // namespace gantry::cpu
