#include "formats/gguf_names.h"

#include <fmt/format.h>

namespace gantry {
namespace {

struct Entry {
  std::string_view gguf;
  std::string_view hf;
};

constexpr Entry kWhole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Below blk.N. and model.layers.N.; ".weight" and ".bias" are kept.
constexpr Entry kInBlock[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    // kv_b_proj in two parts, k_b transposed: no such tensors exist in Hugging Face's files.
    {"attn_k_b", "self_attn.k_b_proj"},
    {"attn_v_b", "self_attn.v_b_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
};

constexpr Entry kStackedExperts[] = {
    {"ffn_gate_exps.weight", ".gate_proj.weight"},
    {"ffn_up_exps.weight", ".up_proj.weight"},
    {"ffn_down_exps.weight", ".down_proj.weight"},
};

// Takes "blk.N." off the front; N is written without leading zeros.
bool take_block(std::string_view& name, std::string_view& number) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return false;
  const std::string_view rest = name.substr(kBlock.size());
  const size_t digits = rest.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || rest[digits] != '.') return false;
  if (digits > 1 && rest[0] == '0') return false;
  number = rest.substr(0, digits);
  name = rest.substr(digits + 1);
  return true;
}

}  // namespace

HfName hf_name_from_gguf(std::string_view name) {
  for (const Entry& entry : kWhole) {
    if (name == entry.gguf) return {.name = std::string(entry.hf), .after_expert = {}};
  }
  std::string_view in_block = name, number;
  if (!take_block(in_block, number)) return {.name = std::string(name), .after_expert = {}};
  const std::string layer = fmt::format("model.layers.{}.", number);
  if (in_block == "exp_probs_b.bias") {
    return {.name = layer + "mlp.gate.e_score_correction_bias", .after_expert = {}};
  }
  for (const Entry& entry : kStackedExperts) {
    if (in_block == entry.gguf) {
      return {.name = layer + "mlp.experts.", .after_expert = std::string(entry.hf), .stacked_experts = true};
    }
  }
  const size_t dot = in_block.rfind('.');
  const std::string_view suffix = dot == std::string_view::npos ? "" : in_block.substr(dot);
  if (suffix == ".weight" || suffix == ".bias") {
    for (const Entry& entry : kInBlock) {
      if (in_block.substr(0, dot) == entry.gguf) {
        return {.name = fmt::format("{}{}{}", layer, entry.hf, suffix), .after_expert = {}};
      }
    }
  }
  return {.name = std::string(name), .after_expert = {}};
}

}  // namespace gantry
