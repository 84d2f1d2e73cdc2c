#!/usr/bin/env python3
"""A random DeepSeek-V3 checkpoint in FP8, as wide as asked, to compare and time the GPU's kernels with:
  random_deepseek.py FOLDER [--r1] [--moe-layers N]
--r1: DeepSeek-R1's widths (11.5 GB a MoE layer); else small ones that take the same kernels. FOLDER-less-one becomes the same
checkpoint without its last layer, so that a layer's time is a difference."""

import argparse
import json
import pathlib
import struct

import numpy

SMALL = {"hidden_size": 1024, "intermediate_size": 2048, "moe_intermediate_size": 1024, "num_attention_heads": 16,
         "n_routed_experts": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4}
R1 = {"hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_attention_heads": 128,
      "n_routed_experts": 256, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8}
COMMON = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 2048, "q_lora_rank": 1536,
          "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_shared_experts": 1,
          "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5,
          "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
          "max_position_embeddings": 8192, "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": False,
          "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
          "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                  "weight_block_size": [128, 128]}}
SPREAD = 60.0  # standard deviation of the codes' values


def e4m3_pool(random: numpy.random.Generator, size: int) -> numpy.ndarray:
    """Codes of normal values, to nearest."""
    codes = numpy.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    values = numpy.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10), mantissa * 2.0 ** -9)
    middles = (values[1:] + values[:-1]) / 2
    drawn = random.standard_normal(size, dtype=numpy.float32) * SPREAD
    return (numpy.searchsorted(middles, numpy.abs(drawn)) | numpy.where(drawn < 0, 0x80, 0)).astype(numpy.uint8)


class Writer:
    def __init__(self, random: numpy.random.Generator):
        self.random, self.tensors = random, []
        self.pool = numpy.tile(e4m3_pool(random, 1 << 22), 2)

    def add(self, name: str, dtype: str, shape: list[int], make) -> None:
        self.tensors.append((name, dtype, shape, make))

    def fp8(self, name: str, rows: int, cols: int) -> None:
        blocks = [-(-rows // 128), -(-cols // 128)]
        self.add(name + ".weight", "F8_E4M3", [rows, cols], lambda: self.codes(rows * cols))
        self.add(name + ".weight_scale_inv", "F32", blocks,
                 lambda: (self.random.uniform(0.5, 1.5, blocks) / (SPREAD * cols ** 0.5)).astype(numpy.float32).tobytes())

    def codes(self, count: int):
        """Slices of the pool from places at random."""
        half = len(self.pool) // 2
        while count > 0:
            first, size = int(self.random.integers(half)), min(count, half)
            yield self.pool[first:first + size].tobytes()
            count -= size

    def normal(self, name: str, shape: list[int], sigma: float, mean: float = 0.0, dtype: str = "BF16") -> None:
        def make() -> bytes:
            values = (self.random.standard_normal(shape, dtype=numpy.float32) * sigma + mean).astype(numpy.float32)
            return values.tobytes() if dtype == "F32" else (values.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
        self.add(name, dtype, shape, make)

    def write(self, path: pathlib.Path) -> None:
        sizes = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
        header, at = {}, 0
        for name, dtype, shape, _ in self.tensors:
            end = at + int(numpy.prod(shape)) * sizes[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, _, _, make in self.tensors:
                data = make()
                for piece in [data] if isinstance(data, bytes) else data:
                    file.write(piece)


def add_layer(w: Writer, c: dict, layer: int) -> None:
    hidden, heads, latent, q_lora = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"], c["q_lora_rank"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    base = f"model.layers.{layer}."
    for name, width in [("input_layernorm", hidden), ("post_attention_layernorm", hidden),
                        ("self_attn.q_a_layernorm", q_lora), ("self_attn.kv_a_layernorm", latent)]:
        w.normal(f"{base}{name}.weight", [width], 0.1, 1.0)
    w.fp8(base + "self_attn.q_a_proj", q_lora, hidden)
    w.fp8(base + "self_attn.q_b_proj", heads * (nope + rope), q_lora)
    w.fp8(base + "self_attn.kv_a_proj_with_mqa", latent + rope, hidden)
    w.fp8(base + "self_attn.kv_b_proj", heads * (nope + value), latent)
    w.fp8(base + "self_attn.o_proj", hidden, heads * value)

    def mlp(prefix: str, width: int) -> None:
        w.fp8(prefix + "gate_proj", width, hidden)
        w.fp8(prefix + "up_proj", width, hidden)
        w.fp8(prefix + "down_proj", hidden, width)

    if layer < c["first_k_dense_replace"]:
        mlp(base + "mlp.", c["intermediate_size"])
        return
    experts = c["n_routed_experts"]
    w.normal(base + "mlp.gate.weight", [experts, hidden], hidden ** -0.5)
    w.normal(base + "mlp.gate.e_score_correction_bias", [experts], 0.01, dtype="F32")
    for expert in range(experts):
        mlp(f"{base}mlp.experts.{expert}.", c["moe_intermediate_size"])
    mlp(base + "mlp.shared_experts.", c["moe_intermediate_size"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--r1", action="store_true")
    parser.add_argument("--moe-layers", type=int, default=2)
    options = parser.parse_args()
    config = COMMON | (R1 if options.r1 else SMALL)
    heads = config["num_attention_heads"]
    config |= {"num_hidden_layers": 1 + options.moe_layers, "num_key_value_heads": heads, "num_nextn_predict_layers": 0}
    w = Writer(numpy.random.default_rng(1))
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    w.normal("model.embed_tokens.weight", [vocab, hidden], 1.0)
    for layer in range(config["num_hidden_layers"]):
        add_layer(w, config, layer)
    w.normal("model.norm.weight", [hidden], 0.1, 1.0)
    w.normal("lm_head.weight", [vocab, hidden], 2 * hidden ** -0.5)
    less = options.folder.with_name(options.folder.name + "-less-one")
    for folder in (options.folder, less):
        folder.mkdir(parents=True, exist_ok=True)
    w.write(options.folder / "model.safetensors")
    (less / "model.safetensors").symlink_to((options.folder / "model.safetensors").resolve())
    (options.folder / "config.json").write_text(json.dumps(config))
    # A layer past the last is one of multi-token prediction, which nothing reads without drafts.
    config |= {"num_hidden_layers": options.moe_layers, "num_nextn_predict_layers": 1}
    (less / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
