"""Small random checkpoints that Python and C++ (random_checkpoint.cc) derive alike from a counter hash, so that
no weights are committed."""

import math

import numpy as np

U64 = (1 << 64) - 1


def uniform(name: str, seed: int, count: int) -> np.ndarray:
    """float32 values in [-1, 1): splitmix64 over a counter, started from FNV-1a of the name and the seed."""
    start = 0xCBF29CE484222325
    for byte in name.encode():
        start = ((start ^ byte) * 0x100000001B3) & U64
    start = (start + seed * 0xD1B54A32D192ED03) & U64
    with np.errstate(over="ignore"):
        z = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def prompt(seed: int, length: int, vocab: int) -> list[int]:
    fraction = uniform(f"prompt.{length}", seed, length) * np.float32(0.5) + np.float32(0.5)
    return [int(x) for x in (fraction * np.float32(vocab)).astype(np.int32)]


def values(config: dict, name: str, shape: list[int], seed: int) -> np.ndarray:
    """Weights of unit gain; norms around 1; gate biases at or below 0, so that masking groups with 0 shows."""
    scale, offset = math.sqrt(3 / shape[-1]), 0.0
    if name.endswith("norm.weight"):
        scale, offset = 0.25, 1.0
    elif name.endswith("e_score_correction_bias"):
        scale, offset = 0.3, -0.3
    elif name.endswith(".bias"):
        scale = 0.3
    elif name.endswith("embed_tokens.weight"):
        # A tied table as large would have each token predict itself.
        scale = 0.2 if config.get("tie_word_embeddings", False) else 1.0
    elif name == "lm_head.weight" or name.endswith(("shared_head.head.weight", "mlp.gate.weight")):
        scale *= 2
    flat = uniform(name, seed, math.prod(shape)) * np.float32(scale) + np.float32(offset)
    return flat.reshape(shape)


BLOCK = 128  # rows and columns of one FP8 scale


def is_fp8(config: dict, name: str) -> bool:
    """Whether the published files hold this tensor in FP8: the matrices of linears, but not the gate's, the
    embedding, the head and what modules_to_not_convert names."""
    quantization = config.get("quantization_config")
    if not quantization or not (name.endswith("_proj.weight") or name.endswith("_with_mqa.weight")):
        return False
    return not any(name.startswith(module + ".") for module in quantization.get("modules_to_not_convert", []))


def fp8(values: np.ndarray):
    """torch's e4m3 codes, and the scales of their blocks: the largest value of a block becomes 448."""
    import torch

    rows, cols = values.shape
    scales = np.zeros((-(-rows // BLOCK), -(-cols // BLOCK)), dtype=np.float32)
    scaled = np.empty_like(values)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = np.s_[i * BLOCK:(i + 1) * BLOCK, j * BLOCK:(j + 1) * BLOCK]
            scales[i, j] = np.abs(values[block]).max() / np.float32(448)
            scaled[block] = values[block] / scales[i, j]
    return torch.from_numpy(scaled).to(torch.float8_e4m3fn), scales


def dequantized(codes, scales: np.ndarray) -> np.ndarray:
    rows, cols = codes.shape
    spread = scales.repeat(BLOCK, axis=0)[:rows].repeat(BLOCK, axis=1)[:, :cols]
    return codes.float().numpy() * spread


def tensors(config: dict) -> dict[str, list[int]]:
    """Names and shapes of the checkpoint that `config` describes, as published files have them."""
    hidden, vocab, heads = config["hidden_size"], config["vocab_size"], config["num_attention_heads"]
    out = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    if not config.get("tie_word_embeddings", False):
        out["lm_head.weight"] = [vocab, hidden]

    def linear(name, rows, cols, bias=False):
        out[name + ".weight"] = [rows, cols]
        if bias:
            out[name + ".bias"] = [rows]

    def mlp(base, width, bias=False):
        linear(base + "gate_proj", width, hidden, bias)
        linear(base + "up_proj", width, hidden, bias)
        linear(base + "down_proj", hidden, width, bias)

    bias = config.get("attention_bias", False)
    layers, drafting = config["num_hidden_layers"], config.get("num_nextn_predict_layers", 0)
    for i in range(layers + drafting):
        layer = f"model.layers.{i}."
        if i >= layers:
            linear(layer + "eh_proj", hidden, 2 * hidden)
            for norm in ("enorm", "hnorm", "shared_head.norm"):
                out[f"{layer}{norm}.weight"] = [hidden]
            out[layer + "embed_tokens.weight"] = out[layer + "shared_head.head.weight"] = [vocab, hidden]
        attention = layer + "self_attn."
        out[layer + "input_layernorm.weight"] = [hidden]
        out[layer + "post_attention_layernorm.weight"] = [hidden]
        if "kv_lora_rank" in config:
            nope, rope, value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
            q_lora, latent = config.get("q_lora_rank"), config["kv_lora_rank"]
            if q_lora:
                linear(attention + "q_a_proj", q_lora, hidden, bias)
                out[attention + "q_a_layernorm.weight"] = [q_lora]
                linear(attention + "q_b_proj", heads * (nope + rope), q_lora)
            else:
                linear(attention + "q_proj", heads * (nope + rope), hidden)
            linear(attention + "kv_a_proj_with_mqa", latent + rope, hidden, bias)
            out[attention + "kv_a_layernorm.weight"] = [latent]
            linear(attention + "kv_b_proj", heads * (nope + value), latent)
            linear(attention + "o_proj", hidden, heads * value, bias)
        else:
            dim = config.get("head_dim") or hidden // heads
            kv_rows = config.get("num_key_value_heads", heads) * dim
            qkv_bias = bias or config["model_type"] == "qwen2"
            linear(attention + "q_proj", heads * dim, hidden, qkv_bias)
            linear(attention + "k_proj", kv_rows, hidden, qkv_bias)
            linear(attention + "v_proj", kv_rows, hidden, qkv_bias)
            linear(attention + "o_proj", hidden, heads * dim, bias)
        if "n_routed_experts" in config and i >= config["first_k_dense_replace"]:
            width = config["moe_intermediate_size"]
            out[layer + "mlp.gate.weight"] = [config["n_routed_experts"], hidden]
            out[layer + "mlp.gate.e_score_correction_bias"] = [config["n_routed_experts"]]
            for expert in range(config["n_routed_experts"]):
                mlp(f"{layer}mlp.experts.{expert}.", width)
            mlp(layer + "mlp.shared_experts.", width * config["n_shared_experts"])
        else:
            mlp(layer + "mlp.", config["intermediate_size"], config.get("mlp_bias", False))
    return out
