#include "formats/gguf_names.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

TEST(GgufNames, MapsToHuggingFaceNames) {
  const std::pair<const char*, const char*> names[] = {
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"output.weight", "lm_head.weight"},
      {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
      {"blk.61.ffn_norm.weight", "model.layers.61.post_attention_layernorm.weight"},
      {"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"},
      {"blk.1.attn_k.bias", "model.layers.1.self_attn.k_proj.bias"},
      {"blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight"},
      {"blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"},
      {"blk.1.attn_q_a.weight", "model.layers.1.self_attn.q_a_proj.weight"},
      {"blk.1.attn_q_a_norm.weight", "model.layers.1.self_attn.q_a_layernorm.weight"},
      {"blk.1.attn_q_b.weight", "model.layers.1.self_attn.q_b_proj.weight"},
      {"blk.1.attn_kv_a_mqa.weight", "model.layers.1.self_attn.kv_a_proj_with_mqa.weight"},
      {"blk.1.attn_kv_a_norm.weight", "model.layers.1.self_attn.kv_a_layernorm.weight"},
      {"blk.1.attn_kv_b.weight", "model.layers.1.self_attn.kv_b_proj.weight"},
      {"blk.1.attn_k_b.weight", "model.layers.1.self_attn.k_b_proj.weight"},
      {"blk.1.attn_v_b.weight", "model.layers.1.self_attn.v_b_proj.weight"},
      {"blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj.weight"},
      {"blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"},
      {"blk.1.ffn_down.bias", "model.layers.1.mlp.down_proj.bias"},
      {"blk.3.ffn_gate_inp.weight", "model.layers.3.mlp.gate.weight"},
      {"blk.3.exp_probs_b.bias", "model.layers.3.mlp.gate.e_score_correction_bias"},
      {"blk.3.ffn_gate_shexp.weight", "model.layers.3.mlp.shared_experts.gate_proj.weight"},
      {"blk.3.ffn_up_shexp.weight", "model.layers.3.mlp.shared_experts.up_proj.weight"},
      {"blk.3.ffn_down_shexp.weight", "model.layers.3.mlp.shared_experts.down_proj.weight"},
  };
  for (const auto& [gguf, hf] : names) {
    const HfName name = hf_name_from_gguf(gguf);
    EXPECT_EQ(name.name, hf);
    EXPECT_FALSE(name.stacked_experts) << gguf;
  }
}

TEST(GgufNames, StackedExpertsAreNumbered) {
  const std::pair<const char*, const char*> names[] = {{"blk.3.ffn_gate_exps.weight", ".gate_proj.weight"},
                                                       {"blk.3.ffn_up_exps.weight", ".up_proj.weight"},
                                                       {"blk.3.ffn_down_exps.weight", ".down_proj.weight"}};
  for (const auto& [gguf, after] : names) {
    const HfName name = hf_name_from_gguf(gguf);
    EXPECT_TRUE(name.stacked_experts);
    EXPECT_EQ(name.name, "model.layers.3.mlp.experts.");
    EXPECT_EQ(name.after_expert, after);
  }
}

TEST(GgufNames, UnknownNamesStay) {
  for (const char* gguf :
       {"rope_freqs.weight", "blk.0.attn_sinks.weight", "blk.00.attn_q.weight", "blk..attn_q.weight",
        "blk.0.", "blk.0", "blk.x.attn_q.weight", "blk.0.attn_q", "blk.0.attn_q.scale", "", "blk."}) {
    EXPECT_EQ(hf_name_from_gguf(gguf).name, gguf);
  }
}

}  // namespace
}  // namespace gantry
