// FP8 GEMM for many rows (prefill): out[M, N] = x[M, K] W[N, K]^T. W has an f32 scale per 128 x 128 block, x one per
// 1 x 128 group (DeepSeek-V3, arXiv 2412.19437, section 3.3.2); the tensor core accumulates over K = 128, and its
// products are scaled into f32 sums, k-blocks in ascending order. A row's result is the same bits in every launch of
// this kernel. Dense, or grouped over the experts of a list that the device makes (prefill_routing.h).
#pragma once

#include <cstdint>
#include <string>

namespace gantry::sm90 {

struct PrefillGemmShape {
  int m = 0;  // rows of x; of all experts together, an estimate
  int n = 0;  // rows of one W, a multiple of 8; with swiglu both halves
  int k = 0;  // a multiple of 128
  int experts = 1;
  // W is [gate; up], n / 2 rows each, a multiple of 128: the result is silu(gate) * up in e4m3 with a scale per 1 x 128.
  bool swiglu = false;
};

inline constexpr int kPrefillRows = 128;  // of x in a tile

struct PrefillGemmConfig {
  int columns = 0;  // rows of W in a tile: 128 or 256
  int band = 0;     // tiles of rows that share their weights while those lie in the L2
  int stages = 0;   // of the ring of k-blocks in shared memory
  int smem_bytes = 0;
  bool operator==(const PrefillGemmConfig&) const = default;
};

// The ring and the band of tiles of 128 or 256 columns.
PrefillGemmConfig prefill_gemm_tiles(int columns);
// Pure. columns == 0: the shape is not supported.
PrefillGemmConfig choose_prefill_gemm(const PrefillGemmShape& shape, int sm_count);
// Whether the shape takes this kernel rather than decode_gemm.h's in turns of 128 rows.
bool takes_prefill_gemm(const PrefillGemmShape& shape);
std::string to_string(const PrefillGemmConfig& config);

}  // namespace gantry::sm90
