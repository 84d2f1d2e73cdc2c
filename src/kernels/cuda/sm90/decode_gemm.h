// GEMM for few rows (decode): out[M, N] = x[M, K] W[N, K]^T, in one of two types.
//   e4m3: W has an f32 scale per 128 x 128 block [ceil(N / 128), K / 128] (model.md, FP8), x one per 1 x 128
//         group, stored k-block first [K / 128, scale_stride]. Products accumulate in the tensor core over K
//         = 128 and are scaled into f32 sums, k-blocks in ascending order.
//   bf16: no scales; the tensor core accumulates all of K in f32.
// With split-K the parts are added in order of K. The weights are the bound: they are read once.
#pragma once

#include <cstdint>
#include <string>

namespace gantry::sm90 {

enum class GemmType : uint8_t { kE4m3, kBf16 };

struct DecodeGemmShape {
  int m = 0;  // 1 .. 128
  int n = 0;  // a multiple of 8
  int k = 0;  // a multiple of 128 (e4m3) or 64 (bf16)
  GemmType type = GemmType::kE4m3;
  int batch = 1;  // products of this shape in one launch
};
// K in ring stages of 128 bytes a row.
int k_blocks(const DecodeGemmShape& shape);

// The weights are the A operand: a block of threads computes `rows` rows of W for all tokens.
struct DecodeGemmConfig {
  int tokens = 0;  // M rounded up to 8, 16, 32, 64 or 128: the N of the tensor core's product
  int rows = 0;    // 64 or 128: one warpgroup per 64
  int split = 1;   // 1, 2, 4 or 8 parts of K, the blocks of one cluster
  int stages = 0;  // of the ring of k-blocks in shared memory
  int smem_bytes = 0;
  bool operator==(const DecodeGemmConfig&) const = default;
};

// Shared memory of a configuration, and the deepest ring (up to 12 stages) that fits `budget` bytes.
int decode_gemm_smem_bytes(const DecodeGemmConfig& config);
DecodeGemmConfig with_stages(DecodeGemmConfig config, int budget_bytes, int kblocks);

// Pure: depends on the shape and the number of multiprocessors alone. tokens == 0: the shape is not
// supported.
DecodeGemmConfig choose_decode_gemm(const DecodeGemmShape& shape, int sm_count);
// The same for any number of rows, in chunks of up to 128; K is split by N and K alone, so that a row's sums have one
// order in every batch.
DecodeGemmConfig choose_row_invariant_gemm(const DecodeGemmShape& shape, int sm_count);
std::string to_string(const DecodeGemmConfig& config);

}  // namespace gantry::sm90
