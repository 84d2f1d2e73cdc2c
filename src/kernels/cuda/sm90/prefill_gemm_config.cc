#include <algorithm>

#include "kernels/cuda/sm90/prefill_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kBlockK = 128;
constexpr int kSmemBudget = 220 << 10;   // one persistent block a multiprocessor
constexpr int kFixedBytes = 1024 + 256;  // alignment slack, barriers
constexpr int kStagesMax = 8;
constexpr int kRowsMin = 256;  // below, the weights are the bound and split-K fills the machine

int ceil_div(int a, int b) { return (a + b - 1) / b; }
int stage_bytes(int columns) {
  return (kPrefillRows + columns) * kBlockK + kPrefillRows * static_cast<int>(sizeof(float));
}

}  // namespace

PrefillGemmConfig prefill_gemm_tiles(int columns) {
  // 16 tiles of rows by about 8 of columns are one wave: the rectangle that reads least.
  PrefillGemmConfig c{.columns = columns, .band = 16};
  c.stages = std::min(kStagesMax, (kSmemBudget - kFixedBytes) / stage_bytes(columns));
  c.smem_bytes = kFixedBytes + c.stages * stage_bytes(columns);
  return c;
}

PrefillGemmConfig choose_prefill_gemm(const PrefillGemmShape& shape, int sm_count) {
  if (shape.m < 1 || shape.n < 8 || shape.n % 8 != 0 || shape.k < kBlockK || shape.k % kBlockK != 0 ||
      shape.experts < 1 || sm_count < 1 || (shape.swiglu && shape.n % 256 != 0)) {
    return {};
  }
  if (shape.swiglu || shape.experts > 1) return prefill_gemm_tiles(256);
  // Waves of tiles, a narrow one at 0.56 of a wide one: it reads x twice as often.
  const int row_tiles = ceil_div(shape.m, kPrefillRows);
  const double wide = ceil_div(row_tiles * ceil_div(shape.n, 256), sm_count);
  const double narrow = ceil_div(row_tiles * ceil_div(shape.n, 128), sm_count) * 0.56;
  return prefill_gemm_tiles(narrow < wide ? 128 : 256);
}

bool takes_prefill_gemm(const PrefillGemmShape& shape) {
  return shape.m >= kRowsMin && choose_prefill_gemm(shape, 1).columns > 0;
}

std::string to_string(const PrefillGemmConfig& c) {
  return "columns " + std::to_string(c.columns) + " band " + std::to_string(c.band) + " stages " +
         std::to_string(c.stages);
}

}  // namespace gantry::sm90
