"""The shape of r1-tiny and its config.json, in the keys of DeepSeek-R1's own."""

VOCAB = 4096
HIDDEN = 256
DENSE_LAYERS = 1
MOE_LAYERS = 6
LAYERS = DENSE_LAYERS + MOE_LAYERS  # the MTP block is layer LAYERS
BLOCKS = LAYERS + 1
HEADS = 8
Q_LORA = 128
KV_LORA = 128
NOPE = 32
ROPE = 32
QK = NOPE + ROPE
V = 32
DENSE_WIDTH = 768
EXPERTS = 16
EXPERT_WIDTH = 128
GROUPS = 4
GROUPS_KEPT = 2
TOP_K = 4
ROUTED_SCALE = 2.5
EPS = 1e-6
THETA = 10000.0
YARN_FACTOR = 4.0
YARN_CONTEXT = 1024
CONTEXT = 4096
FP8_BLOCK = 128
FP8_MAX = 448.0

BOS, EOS, PAD = 0, 1, 2


def config():
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "ep_size": 1,
        "first_k_dense_replace": DENSE_LAYERS,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": DENSE_WIDTH,
        "kv_lora_rank": KV_LORA,
        "max_position_embeddings": CONTEXT,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": EXPERT_WIDTH,
        "moe_layer_freq": 1,
        "n_group": GROUPS,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": TOP_K,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": Q_LORA,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
        },
        "rms_norm_eps": EPS,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": int(YARN_FACTOR),
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": YARN_CONTEXT,
            "type": "yarn",
        },
        "rope_theta": int(THETA),
        "routed_scaling_factor": ROUTED_SCALE,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": GROUPS_KEPT,
        "topk_method": "noaux_tc",
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "v_head_dim": V,
        "vocab_size": VOCAB,
    }


GENERATION = {
    "_from_model_config": True,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.95,
}
