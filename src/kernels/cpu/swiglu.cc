#include "kernels/cpu/swiglu.h"

#include <algorithm>

#include "kernels/cpu/weight_layout.h"

namespace gantry::cpu {

int64_t swiglu_units(int64_t width) { return (width + kSwigluColumns - 1) / kSwigluColumns; }

void run_swiglu(const MicroKernels& micro, const LinearInput& x, const PackedWeight& weight,
                const LinearInput& h, const SwigluPiece& piece) {
  constexpr int64_t kPanels = kSwigluColumns / kPanelRows;
  float* gate = piece.scratch;
  float* up = piece.scratch + kSwigluRows * kSwigluColumns;
  const int64_t panels = panel_count(h.cols);
  for (int64_t row = piece.first_row; row < piece.first_row + piece.rows; row += kSwigluRows) {
    const int64_t rows = std::min(kSwigluRows, piece.first_row + piece.rows - row);
    for (int64_t unit = piece.first_unit; unit < piece.first_unit + piece.units; ++unit) {
      LinearPiece part{.entry = piece.entry,
                       .first_panel = unit * kPanels,
                       .panels = std::min(kPanels, panels - unit * kPanels),
                       .first_row = row,
                       .rows = rows,
                       .x_rows = piece.x_rows,
                       .out = gate,
                       .out_stride = kSwigluColumns};
      run_piece(micro, x, weight, part);
      part.part = 1;
      part.out = up;
      run_piece(micro, x, weight, part);
      const int64_t first = unit * kSwigluColumns;
      const int64_t count = std::min(kSwigluColumns, h.cols - first);
      for (int64_t r = 0; r < rows; ++r) {
        float* values = gate + r * kSwigluColumns;
        micro.silu_mul(values, up + r * kSwigluColumns, count, values);
        put_columns(micro, h, row + r, first, count, values);
      }
    }
  }
}

}  // namespace gantry::cpu
