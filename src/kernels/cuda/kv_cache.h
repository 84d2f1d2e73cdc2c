// The paged cache on the GPU: keys [tokens, kv_heads, key_dim], then values [tokens, kv_heads, value_dim], in the
// layout's dtype; and the kernels that write it.
#pragma once

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda/state.h"
#include "kernels/ops/args.h"

namespace gantry::cuda {

size_t kv_block_bytes(const KvLayout& layout);

// Rope on q and k of [q; k; v] rows; q to `q`, k and v to the cache at each row's position.
struct DeliverQkv {
  const float* qkv = nullptr;  // [rows, (heads + 2 kv_heads) * head_dim]
  float* q = nullptr;          // [rows, heads, head_dim]
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t pairs = 0;
  bool interleaved = false;
  KvView kv{};
};
Status launch_deliver_qkv(State& state, const DeliverQkv& args, int64_t rows);

// MLA: the cache row [norm(latent); rope(k_pe)] and rope on the queries' last values, straight into q.
struct DeliverMla {
  const float* a = nullptr;  // [rows, a_stride]: latent + rope values from column a_first on
  int64_t a_stride = 0;
  int64_t a_first = 0;
  Norm norm{};
  const void* q_b = nullptr;    // [rows, heads, nope + rope]
  void* q = nullptr;            // [rows, heads, latent + rope]: the last `rope` columns are written
  DType q_dtype = DType::kF32;  // of both: kF32, or kBF16 with a cache of kBF16
  int32_t heads = 0;
  int32_t latent = 0;
  int32_t nope = 0;
  int32_t rope_dim = 0;
  int32_t pairs = 0;
  bool interleaved = false;
  KvView kv{};
};
Status launch_deliver_mla(State& state, const DeliverMla& args, int64_t rows);

}  // namespace gantry::cuda
