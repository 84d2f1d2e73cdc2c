#include "bench/cuda/moe_layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace gantry::bench {

using namespace sm90;

namespace {

constexpr int kRows = 128;  // rows of the activation buffers: what a box of tokens may read

size_t size(int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); }
const __nv_bfloat16* bf16(const DeviceBuffer<uint16_t>& b) {
  return reinterpret_cast<const __nv_bfloat16*>(b.get());
}
__nv_bfloat16* bf16_out(const DeviceBuffer<uint16_t>& b) { return reinterpret_cast<__nv_bfloat16*>(b.get()); }

// Codes over the whole e4m3 range, of root mean square about 150, and scales that bring products of unit rows
// to about unit size.
void fill_weight(DeviceBuffer<uint8_t>& codes, DeviceBuffer<float>& scales, size_t matrices, int rows,
                 int cols, uint64_t seed) {
  codes = DeviceBuffer<uint8_t>(matrices * size(rows, cols));
  scales = DeviceBuffer<float>(matrices * size((rows + 127) / 128, cols / 128));
  fill_e4m3(codes.get(), codes.size(), seed);
  const float scale = 1.0f / (150.0f * std::sqrt(static_cast<float>(cols)));
  fill_f32(scales.get(), scales.size(), 0.5f * scale, 1.5f * scale, seed + 1);
}

DeviceBuffer<float> gains(int width, uint64_t seed) {
  DeviceBuffer<float> v(static_cast<size_t>(width));
  fill_f32(v.get(), v.size(), 0.5f, 1.5f, seed);
  return v;
}

}  // namespace

Activations::Activations(const LayerShape& s)
    : shape(s),
      residual(size(s.batch, s.hidden)),
      x(size(kRows, s.hidden)),
      q_a(size(kRows, s.q_lora)),
      o(size(kRows, s.heads * LayerShape::kValue)),
      x_scale(size(s.hidden / 128, kRows)),
      q_a_scale(size(s.q_lora / 128, kRows)),
      o_scale(size(s.heads, kRows)),
      logits(size(s.batch, s.experts)),
      a(size(kRows, s.q_lora + kMlaKey)),
      q_b(size(kRows, s.heads * (LayerShape::kNope + LayerShape::kRope))),
      q(size(s.batch, s.heads * kMlaKey)),
      attended(size(kRows, s.heads * kMlaValue)),
      values(size(kRows, s.heads * LayerShape::kValue)),
      o_out(size(kRows, s.hidden)),
      normed(size(kRows, s.hidden)),
      table_stride((s.context + kMlaTokens - 1) / kMlaTokens) {
  const ExpertShape e = s.expert_shape();
  const ExpertConfig config = choose_expert_gemm(e);
  const int slot_count = slots_max(e), picks = e.tokens * e.experts_per_token;
  slots = DeviceBuffer<uint8_t>(size(slot_count, s.hidden));
  slot_scale = DeviceBuffer<float>(size(slot_count, s.hidden / 128));
  h = DeviceBuffer<uint8_t>(size(slot_count, s.intermediate));
  h_scale = DeviceBuffer<float>(size(slot_count, s.intermediate / 128));
  y = DeviceBuffer<uint16_t>(size(slot_count, s.hidden));
  ids = DeviceBuffer<int32_t>(static_cast<size_t>(picks));
  slot_of = DeviceBuffer<int32_t>(static_cast<size_t>(picks));
  pick_weights = DeviceBuffer<float>(static_cast<size_t>(picks));
  token_of = DeviceBuffer<int32_t>(static_cast<size_t>(slot_count));
  expert_slot = DeviceBuffer<int32_t>(size(e.experts, e.tokens));
  counts = DeviceBuffer<int32_t>(2);
  flags = DeviceBuffer<int32_t>(2 * kStreamBlocksMax);
  stream_partial = DeviceBuffer<float>(static_cast<size_t>(stream_partial_floats(config)));
  chunks[0] = DeviceBuffer<ExpertChunk>(static_cast<size_t>(chunks_max(e, config.gate_up_tokens)));
  chunks[1] = DeviceBuffer<ExpertChunk>(static_cast<size_t>(chunks_max(e, config.down_tokens)));
  routing = {.ids = ids.get(),
             .weights = pick_weights.get(),
             .slot_of = slot_of.get(),
             .token_of = token_of.get(),
             .expert_slot = expert_slot.get(),
             .chunks = {chunks[0].get(), chunks[1].get()},
             .chunk_counts = counts.get(),
             .flags = flags.get()};
  const MlaDecodeConfig attention = choose_mla_decode({s.batch, s.heads, s.context}, sm_count());
  partial = DeviceBuffer<float>(size(attention.splits * s.batch, s.heads * kMlaValue));
  partial_lse = DeviceBuffer<float>(size(attention.splits * s.batch, s.heads));

  fill_f32(residual.get(), residual.size(), -1.0f, 1.0f, 501);
  std::vector<float> cos_host, sin_host;
  for (int b = 0; b < s.batch; ++b) {
    for (int i = 0; i < LayerShape::kRope / 2; ++i) {
      const double angle = (s.context - 1) * std::pow(10000.0, -2.0 * i / LayerShape::kRope);
      cos_host.push_back(static_cast<float>(std::cos(angle)));
      sin_host.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  cos = DeviceBuffer<float>(cos_host);
  sin = DeviceBuffer<float>(sin_host);
  table.resize(size(s.batch, table_stride));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937_64(502));
  block_table = DeviceBuffer<int32_t>(table);
  lengths = DeviceBuffer<int32_t>(std::vector<int32_t>(static_cast<size_t>(s.batch), s.context));
}

MoeLayer::MoeLayer(Activations& act, uint64_t seed) {
  const LayerShape& s = act.shape;
  const int values = s.heads * LayerShape::kValue, head = LayerShape::kNope + LayerShape::kRope;
  const auto experts = static_cast<size_t>(s.experts + 1);
  fill_weight(q_a_kv_a, q_a_kv_a_scale, 1, s.q_lora + kMlaKey, s.hidden, seed + 10);
  fill_weight(q_b, q_b_scale, 1, s.heads * head, s.q_lora, seed + 12);
  fill_weight(o_proj, o_proj_scale, 1, s.hidden, values, seed + 14);
  fill_weight(gate_up, gate_up_scale, experts, 2 * s.intermediate, s.hidden, seed + 16);
  fill_weight(down, down_scale, experts, s.hidden, s.intermediate, seed + 18);
  w_uk = DeviceBuffer<uint16_t>(size(s.heads * kMlaValue, LayerShape::kNope));
  w_uv = DeviceBuffer<uint16_t>(size(s.heads * kMlaValue, LayerShape::kValue));
  gate = DeviceBuffer<uint16_t>(size(s.experts, s.hidden));
  cache = DeviceBuffer<uint16_t>(act.table.size() * kMlaTokens * kMlaKey);
  fill_bf16(w_uk.get(), w_uk.size(), 1.0f / std::sqrt(128.0f), seed + 20);
  fill_bf16(w_uv.get(), w_uv.size(), 1.0f / std::sqrt(512.0f), seed + 21);
  fill_bf16(gate.get(), gate.size(), 1.0f / std::sqrt(static_cast<float>(s.hidden)), seed + 22);
  fill_bf16(cache.get(), cache.size(), 1.0f, seed + 23);
  input_gain = gains(s.hidden, seed + 24);
  q_a_gain = gains(s.q_lora, seed + 25);
  kv_gain = gains(kMlaValue, seed + 26);
  post_gain = gains(s.hidden, seed + 27);
  gate_bias = DeviceBuffer<float>(static_cast<size_t>(s.experts));
  fill_f32(gate_bias.get(), gate_bias.size(), -0.01f, 0.01f, seed + 28);

  const int sms = sm_count();
  auto fp8 = [&](int n, int k, const DeviceBuffer<uint8_t>& weight, const DeviceBuffer<float>& weight_scale,
                 const DeviceBuffer<uint8_t>& x, const DeviceBuffer<float>& x_scale,
                 const DeviceBuffer<uint16_t>& out) {
    const DecodeGemmShape shape{s.batch, n, k};
    DecodeGemmArgs args =
        plan_decode_gemm(shape, choose_decode_gemm(shape, sms), weight.get(), x.get(), kRows).value();
    args.weight_scale = weight_scale.get();
    args.x_scale = x_scale.get();
    args.x_scale_stride = kRows;
    args.out = bf16_out(out);
    return args;
  };
  auto per_head = [&](int n, int k, const DeviceBuffer<uint16_t>& weight, const DeviceBuffer<uint16_t>& x,
                      int x_step, const DeviceBuffer<uint16_t>& out, int out_step) {
    const DecodeGemmShape shape{s.batch, n, k, GemmType::kBf16, s.heads};
    const DecodeGemmBatch batch{.count = s.heads,
                                .x_cols = s.heads * x_step,
                                .x_step = x_step,
                                .out_stride = s.heads * out_step,
                                .out_step = out_step};
    DecodeGemmArgs args =
        plan_decode_gemm(shape, choose_decode_gemm(shape, sms), weight.get(), x.get(), kRows, batch).value();
    args.out = bf16_out(out);
    return args;
  };
  norm_in_ = {.residual = act.residual.get(),
              .weight = input_gain.get(),
              .rows = s.batch,
              .width = s.hidden,
              .out = act.x.get(),
              .scale = act.x_scale.get(),
              .scale_stride = kRows};
  gemm_a_ = fp8(s.q_lora + kMlaKey, s.hidden, q_a_kv_a, q_a_kv_a_scale, act.x, act.x_scale, act.a);
  norm_q_a_ = {.x = bf16(act.a),
               .x_stride = s.q_lora + kMlaKey,
               .weight = q_a_gain.get(),
               .rows = s.batch,
               .width = s.q_lora,
               .out = act.q_a.get(),
               .scale = act.q_a_scale.get(),
               .scale_stride = kRows};
  gemm_q_b_ = fp8(s.heads * head, s.q_lora, q_b, q_b_scale, act.q_a, act.q_a_scale, act.q_b);
  prologue_ = {.q_b = bf16(act.q_b),
               .q_nope = LayerShape::kNope,
               .kv_a = bf16(act.a) + s.q_lora,
               .kv_stride = s.q_lora + kMlaKey,
               .kv_weight = kv_gain.get(),
               .cos = act.cos.get(),
               .sin = act.sin.get(),
               .block_table = act.block_table.get(),
               .table_stride = act.table_stride,
               .lengths = act.lengths.get(),
               .rows = s.batch,
               .heads = s.heads,
               .q = bf16_out(act.q),
               .cache = bf16_out(cache)};
  gemm_uk_ = per_head(kMlaValue, LayerShape::kNope, w_uk, act.q_b, head, act.q, kMlaKey);
  attention_.shape = {s.batch, s.heads, s.context};
  attention_.config = choose_mla_decode(attention_.shape, sms);
  attention_.q = bf16(act.q);
  attention_.cache = bf16(cache);
  attention_.cache_blocks = static_cast<int64_t>(act.table.size());
  attention_.block_table = act.block_table.get();
  attention_.table_stride = act.table_stride;
  attention_.lengths = act.lengths.get();
  attention_.scale = 0.135234f;
  attention_.partial = act.partial.get();
  attention_.partial_lse = act.partial_lse.get();
  attention_.out = bf16_out(act.attended);
  must(plan_mla_decode(attention_));
  gemm_uv_ =
      per_head(LayerShape::kValue, kMlaValue, w_uv, act.attended, kMlaValue, act.values, LayerShape::kValue);
  quantize_o_ = {.x = bf16(act.values),
                 .rows = s.batch,
                 .width = values,
                 .out = act.o.get(),
                 .scale = act.o_scale.get(),
                 .scale_stride = kRows};
  gemm_o_ = fp8(s.hidden, values, o_proj, o_proj_scale, act.o, act.o_scale, act.o_out);
  norm_post_ = norm_in_;
  norm_post_.delta = bf16(act.o_out);
  norm_post_.weight = post_gain.get();
  norm_post_.normed = bf16_out(act.normed);

  const ExpertShape e = s.expert_shape();
  gate_ = {.x = bf16(act.normed),
           .x_rows_max = kRows,
           .weight = bf16(gate),
           .bias = gate_bias.get(),
           .logits = act.logits.get(),
           .shape = e,
           .shared = 1,
           .groups = s.groups,
           .topk_group = s.topk_group,
           .scaling = 2.5f,
           .routing = act.routing};
  must(plan_gate(gate_, sms));
  const int slot_count = slots_max(e);
  experts_.shape = e;
  experts_.config = choose_expert_gemm(e);
  experts_.weights = {gate_up.get(), gate_up_scale.get(), down.get(), down_scale.get()};
  experts_.routing = act.routing;
  const bool all = experts_.config.gate_up_all;
  experts_.x = all ? act.x.get() : act.slots.get();
  experts_.x_rows_max = all ? kRows : slot_count;
  experts_.x_scale = all ? act.x_scale.get() : act.slot_scale.get();
  experts_.x_scale_stride = all ? kRows : slot_count;
  experts_.h = act.h.get();
  experts_.h_scale = act.h_scale.get();
  experts_.h_scale_stride = slot_count;
  experts_.y = bf16_out(act.y);
  experts_.partial = act.stream_partial.get();
  must(plan_expert_gemm(experts_));
  permute_ = {.x = act.x.get(),
              .x_scale = act.x_scale.get(),
              .x_scale_stride = kRows,
              .slots = act.slots.get(),
              .slot_scale = act.slot_scale.get(),
              .slot_scale_stride = slot_count,
              .shape = e,
              .routing = act.routing};
  combine_ = {.y = bf16(act.y), .residual = act.residual.get(), .shape = e, .routing = act.routing};

  steps_ = {
      {"norm", [this](cudaStream_t t) { must(launch_norm_quantize(norm_in_, t)); }},
      {"q_a + kv_a", [this](cudaStream_t t) { must(launch_decode_gemm(gemm_a_, t)); }},
      {"q_a norm", [this](cudaStream_t t) { must(launch_norm_quantize(norm_q_a_, t)); }},
      {"q_b", [this](cudaStream_t t) { must(launch_decode_gemm(gemm_q_b_, t)); }},
      {"rope, cache row", [this](cudaStream_t t) { must(launch_mla_prologue(prologue_, t)); }},
      {"W_UK", [this](cudaStream_t t) { must(launch_decode_gemm(gemm_uk_, t)); }},
      {"attention", [this](cudaStream_t t) { must(launch_mla_decode(attention_, t)); }},
      {"W_UV", [this](cudaStream_t t) { must(launch_decode_gemm(gemm_uv_, t)); }},
      {"quantise", [this](cudaStream_t t) { must(launch_quantize(quantize_o_, t)); }},
      {"o_proj", [this](cudaStream_t t) { must(launch_decode_gemm(gemm_o_, t)); }},
      {"add, norm", [this](cudaStream_t t) { must(launch_norm_quantize(norm_post_, t)); }},
      {"gate logits", [this](cudaStream_t t) { must(launch_gate_logits(gate_, t)); }},
      {"gate select", [this](cudaStream_t t) { must(launch_gate_select(gate_, t)); }},
      {"dispatch",
       [this](cudaStream_t t) {
         must(launch_dispatch(experts_.shape, experts_.config, experts_.routing, t));
         if (!experts_.config.gate_up_all) must(launch_permute(permute_, t));
       }},
      {"experts gate + up", [this, sms](cudaStream_t t) { must(launch_expert_gate_up(experts_, sms, t)); }},
      {"experts down", [this, sms](cudaStream_t t) { must(launch_expert_down(experts_, sms, t)); }},
      {"combine", [this](cudaStream_t t) { must(launch_combine(combine_, t)); }},
  };
}

}  // namespace gantry::bench
