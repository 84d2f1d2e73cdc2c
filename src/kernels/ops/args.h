// Arguments of the ops: one struct each, shapes beside the fields. Activations are f32, row-major, contiguous
// unless a stride is given. R rows, H hidden size. Op sources: model.md's formulas (DeepSeek-V3, arXiv
// 2412.19437; Llama; Qwen2).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/packed_weight.h"
#include "tensor/tensor.h"

namespace gantry {

// Rows of one sequence that lie together in the batch: row first_row + i is at position first_position + i.
// The segments of an op cover its rows [0, R) in order, without gaps.
struct Segment {
  int32_t first_row = 0;
  int32_t rows = 0;
  int32_t first_position = 0;
  const int32_t* block_table = nullptr;  // block ids of the sequence, positions / kKvBlockTokens
};

// Rotary embedding of each row, computed once per step: cos and sin [R, pairs].
struct RopeRows {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int32_t pairs = 0;         // rotary_dim / 2
  bool interleaved = false;  // pairs (2i, 2i + 1), GPT-J order; else (i, i + pairs), NeoX order
};

// One layer's KV cache. A block holds kKvBlockTokens tokens; the layout inside is the backend's.
struct KvLayout {
  DType dtype = DType::kF32;  // kF32, kF16, kBF16
  int32_t kv_heads = 0;       // MLA: 1
  int32_t key_dim = 0;        // MLA: kv_lora_rank + qk_rope_head_dim
  int32_t value_dim = 0;      // MLA: 0, the value is the first kv_lora_rank of the key
};
struct KvView {
  KvLayout layout{};
  void* base = nullptr;      // block b starts at base + b * block_stride
  int64_t block_stride = 0;  // bytes
  int32_t blocks = 0;        // of the store; 0: not said
};

struct Norm {
  const float* weight = nullptr;  // [width]; null: no norm
  float eps = 1e-6f;              // RMSNorm: x * rsqrt(mean(x^2) + eps) * weight
};

struct EmbedArgs {
  std::span<const int32_t> ids{};  // [R], each in [0, table rows)
  TensorView table{};              // [vocab, H], any float or block dtype
  float* out = nullptr;            // [R, H]
};

// out = norm(x) of all rows, or of those that `index` names.
struct NormArgs {
  const float* x = nullptr;  // [.., width]
  int64_t rows = 0;
  int64_t width = 0;
  const int32_t* index = nullptr;  // [rows] which rows of x: StepInputs::logit_rows; null: 0, 1, 2 ...
  Norm norm{};                     // not null
  float* out = nullptr;            // [rows, width], rows out_stride apart
  int64_t out_stride = 0;          // floats, at least width
};

// out = (residual +) W norm(x) + bias.
struct NormLinearArgs {
  const float* x = nullptr;  // [R, K]
  int64_t rows = 0;
  Norm norm{};
  const PackedWeight* weight = nullptr;  // [N, K]
  float* out = nullptr;                  // [R, N]
  bool accumulate = false;               // out += instead of out =
};

// q, k, v = split(W norm(x) + b); rope on q and k; k and v go to the cache at each row's position.
struct QkvProjectArgs {
  const float* x = nullptr;  // [R, H]
  int64_t rows = 0;
  Norm norm{};
  const PackedWeight* weight = nullptr;  // parts q [heads * dim, H], k, v [kv_heads * dim, H]
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  RopeRows rope{};
  std::span<const Segment> segments{};
  KvView kv{};
  float* q = nullptr;    // out [R, heads, head_dim], roped
  float* qkv = nullptr;  // workspace [R, (heads + 2 kv_heads) * head_dim]
};

// Causal attention over the paged cache: row at position p sees positions 0 .. p.
struct AttendArgs {
  const float* q = nullptr;  // [R, heads, head_dim]
  int64_t rows = 0;
  int32_t heads = 0;  // a multiple of kv.layout.kv_heads
  float scale = 0;    // usually head_dim^-0.5
  std::span<const Segment> segments{};
  KvView kv{};
  float* out = nullptr;  // [R, heads, value_dim]
};

// MLA, absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1): queries in latent space, one shared key.
//   q = q_b norm(q_a x) or q_proj x; per head [nope; rope]; q_latent = nope x W_UK; rope on q_rope and k_pe;
//   cache row = [norm(latent); rope(k_pe)].
struct MlaProjectArgs {
  const float* x = nullptr;  // [R, H]
  int64_t rows = 0;
  Norm norm{};  // input norm
  const PackedWeight* q_a_kv_a =
      nullptr;      // parts q_a [q_lora, H] (absent without q_lora), kv_a [latent + rope, H]
  Norm q_a_norm{};  // [q_lora]
  const PackedWeight* q_b = nullptr;   // [heads * (nope + rope), q_lora]; without q_lora: q_proj on norm(x)
  Norm kv_a_norm{};                    // [latent]
  const PackedWeight* w_uk = nullptr;  // batch = heads: W_UK [latent, nope], transposed: q_latent = W q_nope
  int32_t heads = 0;
  int32_t q_lora = 0;  // 0: none
  int32_t latent = 0;
  int32_t nope = 0;
  int32_t rope_dim = 0;
  RopeRows rope{};
  std::span<const Segment> segments{};
  KvView kv{};
  float* q = nullptr;          // out [R, heads, latent + rope_dim]; on a GPU of mla_attend's own format
  float* workspace = nullptr;  // [R, 2 * q_lora + latent + rope_dim + heads * (nope + rope_dim) + H]
};

// Attention over latents, then W_UV per head.
struct MlaAttendArgs {
  const float* q = nullptr;  // [R, heads, latent + rope_dim]
  int64_t rows = 0;
  int32_t heads = 0;
  int32_t latent = 0;
  int32_t value_dim = 0;
  float scale = 0;                     // (nope + rope)^-0.5 times YaRN's mscale squared
  const PackedWeight* w_uk = nullptr;  // mla_project's
  const PackedWeight* w_uv = nullptr;  // batch = heads: W_UV [value_dim, latent]
  std::span<const Segment> segments{};
  KvView kv{};
  float* attended = nullptr;  // workspace [R, heads, latent]
  float* out = nullptr;       // [R, heads, value_dim]
};

// out (+)= W_down (silu(W_gate norm(x)) * W_up norm(x)).
struct MlpArgs {
  const float* x = nullptr;  // [R, H]
  int64_t rows = 0;
  Norm norm{};
  const PackedWeight* gate_up = nullptr;  // parts gate [I, H], up [I, H]
  const PackedWeight* down = nullptr;     // [H, I]
  float* workspace = nullptr;             // [R, 2 I]
  float* out = nullptr;                   // [R, H]
  bool accumulate = false;
};

// DeepSeek-V3's gate (section 2.1.2): s = sigmoid(x W^T); selection on s + bias within the best topk_group
// groups (a group's score is the sum of its two best), masked with -inf; weights are the selected s,
// normalised, times scaling. Equal scores: the lower expert index wins.
struct GateParams {
  int32_t experts = 0;
  int32_t experts_per_token = 0;
  int32_t groups = 1;
  int32_t topk_group = 1;
  bool normalize = true;  // norm_topk_prob; the divisor is sum + 1e-20
  float scaling = 1.0f;   // routed_scaling_factor
};
// out += sum_e weight_e * mlp_e(norm(x)) + shared(norm(x)) over the experts that are here; they are added in order of
// expert index.
struct MoeArgs {
  const float* x = nullptr;  // [R, H]
  int64_t rows = 0;
  int64_t hidden = 0;
  Norm norm{};
  const PackedWeight* gate_weight = nullptr;  // [experts, H], Compute::kF32: its logits choose
  const float* gate_bias = nullptr;           // [experts] e_score_correction_bias, or null
  GateParams gate{};
  int32_t first_expert = 0;               // of those here, gate_up's batch of them
  const PackedWeight* gate_up = nullptr;  // batch = experts here: parts gate, up [moe_intermediate, H]
  const PackedWeight* down = nullptr;     // batch = experts here: [H, moe_intermediate]
  bool shared_entry =
      false;  // gate_up and down have the shared expert behind the others, which all rows take
  const PackedWeight* shared_gate_up = nullptr;  // or null
  const PackedWeight* shared_down = nullptr;
  float* workspace = nullptr;  // [R, max(2 * shared intermediate, 0) + H]
  float* out = nullptr;        // [R, H], added to
};

// Logits of chosen rows.
struct HeadArgs {
  const float* x = nullptr;         // [R, H]
  std::span<const int32_t> rows{};  // which of the R rows, [M]
  Norm norm{};
  const PackedWeight* weight = nullptr;  // [vocab, H]
  float* workspace = nullptr;            // [M, H]
  float* out = nullptr;                  // [M, vocab]; null where draw() follows
};

}  // namespace gantry
