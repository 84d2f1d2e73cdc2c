"""Greedy tokens and logits of small random checkpoints, as transformers computes them in float32 on a CPU: what
model_parity_test compares Gantry with. Also rope.json: inverse frequencies and factors of rotary scalings; and layers/:
single layers under DeepSeek's recipe of quantised activations (recipe_layers_test).

    python make_goldens.py [CASE ...]      writes goldens/*.json beside this file

Needs torch, transformers, safetensors and numpy (the versions are recorded in each file). A case whose two best
logits ever come closer than GAP is drawn again with the next seed: within the test's tolerance no implementation
can then choose another token.
"""

import json
import pathlib
import re
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

import random_checkpoint

HERE = pathlib.Path(__file__).parent
PROMPT_LENGTHS = [1, 17, 130, 600]
STEPS = 64
LOGITS_AT = [0, 1, 63]
DRAFTS = 3
GAP = 2e-3

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu"}
DEEPSEEK = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_act": "silu",
            "topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1,
            "num_nextn_predict_layers": 0}

FP8 = {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                               "weight_block_size": [128, 128]}}

# Every prompt runs past the original context of the scaled rotary embeddings.
CASES = {
    "llama_gqa": LLAMA | {
        "torch_dtype": "float32", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False},
    "llama3_tied": LLAMA | {
        "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 256},
        "tie_word_embeddings": True},
    "llama_linear_ragged": LLAMA | {
        "torch_dtype": "float16", "hidden_size": 55, "intermediate_size": 77, "num_hidden_layers": 2,
        "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 10, "vocab_size": 131,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0}, "tie_word_embeddings": False},
    "llama_yarn_biases": LLAMA | {
        "torch_dtype": "float32", "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 3, "num_key_value_heads": 3, "vocab_size": 144, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True,
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                            "original_max_position_embeddings": 256},
        "tie_word_embeddings": False},
    "qwen2_tied": QWEN2 | {
        "torch_dtype": "bfloat16", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 150, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 32768,
        "max_window_layers": 2, "tie_word_embeddings": True},
    "qwen2_yarn_ragged": QWEN2 | {
        "torch_dtype": "float32", "hidden_size": 70, "intermediate_size": 91, "num_hidden_layers": 2,
        "num_attention_heads": 5, "num_key_value_heads": 5, "vocab_size": 133, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "rope_scaling": {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128,
                         "attention_factor": 1.1, "beta_fast": 16, "beta_slow": 2},
        "tie_word_embeddings": False},
    "deepseek_v3": DEEPSEEK | {
        "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32,
        "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "n_routed_experts": 16, "n_shared_experts": 1, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2,
        "norm_topk_prob": True, "routed_scaling_factor": 2.5, "vocab_size": 160, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2560, "rope_theta": 10000,
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "beta_fast": 32,
                         "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
        "tie_word_embeddings": False},
    "deepseek_mtp": DEEPSEEK | {
        "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32,
        "num_hidden_layers": 2, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "norm_topk_prob": True, "routed_scaling_factor": 2.5, "vocab_size": 150, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 1024, "rope_theta": 10000, "num_nextn_predict_layers": 1,
        "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 256, "beta_fast": 32,
                         "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
        "tie_word_embeddings": False},
    "deepseek_no_q_lora": DEEPSEEK | {
        "torch_dtype": "float16", "hidden_size": 48, "intermediate_size": 96, "moe_intermediate_size": 24,
        "num_hidden_layers": 2, "first_k_dense_replace": 0, "num_attention_heads": 3, "num_key_value_heads": 3,
        "q_lora_rank": None, "kv_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 12, "v_head_dim": 20,
        "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "norm_topk_prob": False, "routed_scaling_factor": 1.0, "vocab_size": 140, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 1024, "rope_theta": 10000, "rope_scaling": None,
        "tie_word_embeddings": True},
    "deepseek_ragged": DEEPSEEK | {
        "torch_dtype": "float32", "hidden_size": 67, "intermediate_size": 45, "moe_intermediate_size": 21,
        "num_hidden_layers": 3, "first_k_dense_replace": 2, "num_attention_heads": 5, "num_key_value_heads": 5,
        "q_lora_rank": 19, "kv_lora_rank": 27, "qk_nope_head_dim": 11, "qk_rope_head_dim": 6, "v_head_dim": 9,
        "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 3, "topk_group": 2,
        "norm_topk_prob": True, "routed_scaling_factor": 1.7, "vocab_size": 129, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 1024, "rope_theta": 50000, "attention_bias": True, "rope_interleave": False,
        "rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 128, "beta_fast": 32,
                         "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 1.2},
        "tie_word_embeddings": False},
    "deepseek_fp8": DEEPSEEK | FP8 | {
        "torch_dtype": "bfloat16", "hidden_size": 192, "intermediate_size": 320, "moe_intermediate_size": 96,
        "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
        "q_lora_rank": 144, "kv_lora_rank": 160, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
        "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "norm_topk_prob": True, "routed_scaling_factor": 2.5, "vocab_size": 160, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2560, "rope_theta": 10000,
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "beta_fast": 32,
                         "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
        "tie_word_embeddings": False},
    # Widths that no block divides, heads that share a block of kv_b_proj with their neighbours, a layer in bf16.
    "deepseek_fp8_ragged": DEEPSEEK | {
        "quantization_config": FP8["quantization_config"] | {"modules_to_not_convert": ["model.layers.1"],
                                                             "scale_fmt": "ue8m0"},
        "torch_dtype": "bfloat16", "hidden_size": 133, "intermediate_size": 261, "moe_intermediate_size": 39,
        "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 5, "num_key_value_heads": 5,
        "q_lora_rank": 130, "kv_lora_rank": 27, "qk_nope_head_dim": 23, "qk_rope_head_dim": 6, "v_head_dim": 21,
        "n_routed_experts": 6, "n_shared_experts": 2, "num_experts_per_tok": 3, "n_group": 3, "topk_group": 2,
        "norm_topk_prob": True, "routed_scaling_factor": 1.7, "vocab_size": 129, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 1024, "rope_theta": 50000, "rope_scaling": None, "tie_word_embeddings": False},
    "llama_fp8": LLAMA | FP8 | {
        "torch_dtype": "bfloat16", "hidden_size": 136, "intermediate_size": 290, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 34, "vocab_size": 140,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": True,
        "mlp_bias": True, "tie_word_embeddings": True},
}

ROPES = {
    "llama2": (128, {"rope_type": "default", "rope_theta": 10000.0}, 4096),
    "linear": (64, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, 16384),
    "llama_3_1_8b": (128, {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, 131072),
    "llama_3_2_1b": (64, {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, 131072),
    "qwen2_5_yarn": (128, {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0,
                           "original_max_position_embeddings": 32768}, 131072),
    "yarn_without_factor": (80, {"rope_type": "yarn", "rope_theta": 10000.0, "factor": None, "truncate": False,
                                 "original_max_position_embeddings": 4096}, 65536),
    "yarn_attention_factor": (32, {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0,
                                   "attention_factor": 0.9, "beta_fast": 20, "beta_slow": 2,
                                   "original_max_position_embeddings": 2048}, 32768),
    "deepseek_r1": (64, {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40, "beta_fast": 32, "beta_slow": 1,
                         "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}, 163840),
    "deepseek_v2_lite": (64, {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40, "beta_fast": 32,
                              "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
                              "original_max_position_embeddings": 4096}, 163840),
    "yarn_mscale_alone": (64, {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8, "mscale": 0.5,
                               "original_max_position_embeddings": 512}, 4096),
}


def write(name: str, golden: dict) -> None:
    text = json.dumps(golden, indent=1)
    # Lists of plain values on one line each.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", text)
    path = HERE / "goldens" / f"{name}.json"
    path.write_text(text + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def load(config: dict, seed: int, holds: dict | None = None):
    """The model of `config` in float32, FP8 matrices dequantised, from the checkpoint that `holds` (None: the same)
    describes."""
    dtype = getattr(torch, config["torch_dtype"])
    holds = holds or config
    with tempfile.TemporaryDirectory() as folder:
        weights = {}
        for name, shape in random_checkpoint.tensors(holds).items():
            values = random_checkpoint.values(holds, name, shape, seed)
            if random_checkpoint.is_fp8(holds, name):
                weights[name] = torch.from_numpy(random_checkpoint.dequantized(*random_checkpoint.fp8(values)))
            else:
                weights[name] = torch.from_numpy(values).to(dtype)
        save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
        plain = {key: value for key, value in config.items() if key != "quantization_config"}
        pathlib.Path(folder, "config.json").write_text(json.dumps(plain))
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
    left = {k: v for k, v in report.items() if v and k != "unexpected_keys"}
    if left.get("missing_keys") == {"lm_head.weight"} and config["tie_word_embeddings"]:
        left.pop("missing_keys")
    assert not left, left
    return model.eval()


@torch.no_grad()
def greedy(model, ids: list[int]) -> tuple[list[int], list[np.ndarray], float]:
    """STEPS tokens, the logits before each, and the least distance between the two best."""
    tokens, logits, gap = [], [], float("inf")
    step, cache = torch.tensor([ids]), None
    for _ in range(STEPS):
        result = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        row = result.logits[0, -1]
        best = torch.topk(row, 2).values
        gap = min(gap, float(best[0] - best[1]))
        logits.append(row.numpy().copy())
        tokens.append(int(row.argmax()))
        step = torch.tensor([[tokens[-1]]])
    return tokens, logits, gap


class DraftModule:
    """The multi-token prediction module over a whole sequence: the row at position p takes the token at p and the
    model's state of the position before; at position 0 the embedding is 0 and the state its own."""

    def __init__(self, config: dict, seed: int):
        layers = config["num_hidden_layers"]
        prefix = f"model.layers.{layers}."
        dtype = getattr(torch, config["torch_dtype"])
        shapes = random_checkpoint.tensors(config)
        self.w = {k: torch.from_numpy(random_checkpoint.values(config, prefix + k, shapes[prefix + k], seed))
                  .to(dtype).float() for k in ("eh_proj.weight", "enorm.weight", "hnorm.weight", "embed_tokens.weight",
                                               "shared_head.norm.weight", "shared_head.head.weight")}
        # transformers knows no such module: its decoder layer is that of a model that is one layer deeper.
        self.model = load(config | {"num_hidden_layers": layers + 1}, seed, config).model
        self.layer, self.eps = self.model.layers[layers], config["rms_norm_eps"]

    def norm(self, x, name: str):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.w[name], self.eps)

    @torch.no_grad()
    def drafts(self, ids: list[int], states) -> list[np.ndarray]:
        """Logits of the DRAFTS tokens after the one that follows ids[:-1]; states [len(ids) - 1, hidden]."""
        out = []
        for _ in range(DRAFTS):
            embedded = self.w["embed_tokens.weight"][torch.tensor(ids)]
            embedded[0] = 0
            before = torch.cat((states[:1], states))
            x = torch.cat((self.norm(embedded, "enorm.weight"), self.norm(before, "hnorm.weight")), -1)
            x = (x @ self.w["eh_proj.weight"].T)[None]
            positions = torch.arange(len(ids))[None]
            mask = torch.full((1, 1, len(ids), len(ids)), -torch.inf).triu(1)
            x = self.layer(x, attention_mask=mask, position_ids=positions,
                           position_embeddings=self.model.rotary_emb(x, positions))
            x = self.norm(x[0], "shared_head.norm.weight")
            logits = x[-1] @ self.w["shared_head.head.weight"].T
            out.append(logits.numpy().copy())
            ids, states = [*ids, int(logits.argmax())], torch.cat((states, x[-1:]))
        return out


@torch.no_grad()
def draft_logits(module: DraftModule, model, prompt: list[int], tokens: list[int]) -> tuple[dict, float]:
    """Of the drafts after tokens[0] and after all but the last, and the least distance between two best."""
    out, gap = {}, float("inf")
    for at in (0, STEPS - 2):
        ids = prompt + tokens[:at + 1]
        states = model.model(input_ids=torch.tensor([ids[:-1]])).last_hidden_state[0]
        logits = module.drafts(ids, states)
        for row in logits[:-1]:
            best = np.sort(row)[-2:]
            gap = min(gap, float(best[1] - best[0]))
        out[str(at)] = [[round(float(x), 5) for x in row] for row in logits]
    return out, gap


class QuantizedActivations:
    """DeepSeek's own recipe (inference/kernel.py, act_quant and fp8_gemm): inputs of FP8 linears in e4m3 with a scale
    per 128 columns. kv_b_proj is absorbed, so its input stays as it is; bf16 modules do too."""

    def __init__(self, model, config: dict):
        fp8 = {name: config["quantization_config"] for name in random_checkpoint.tensors(config)
               if random_checkpoint.is_fp8(config, name) and not name.endswith("kv_b_proj.weight")}
        self.power_of_two = config["quantization_config"].get("scale_fmt") == "ue8m0"
        # transformers stacks experts: those of a layer are FP8 or not together.
        self.storages = set()
        for name, parameter in model.named_parameters():
            original = re.sub(r"experts\.(gate_up|down)_proj$", r"experts.0.down_proj.weight", name)
            if original in fp8:
                self.storages.add(parameter.untyped_storage().data_ptr())

    def linear(self, x, weight, bias=None):
        if weight.untyped_storage().data_ptr() in self.storages:
            x = self.rounded(x)
        return self.plain(x, weight, bias)

    def rounded(self, x):
        cols = x.shape[-1]
        padded = torch.nn.functional.pad(x, (0, -cols % 128)).unflatten(-1, (-1, 128))
        scale = padded.abs().amax(-1, keepdim=True) / 448
        if self.power_of_two:
            scale = torch.exp2(torch.ceil(torch.log2(scale)))
        codes = (padded / scale).to(torch.float8_e4m3fn)
        return (codes.float() * scale).flatten(-2)[..., :cols].contiguous()

    def __enter__(self):
        self.plain = torch.nn.functional.linear
        torch.nn.functional.linear = self.linear

    def __exit__(self, *_):
        torch.nn.functional.linear = self.plain


@torch.no_grad()
def recipe_logits(model, config: dict, ids: list[int]) -> list[float]:
    """Logits after the prompt with quantised activations."""
    with QuantizedActivations(model, config):
        row = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return [round(float(x), 5) for x in row]


def make_case(name: str, config: dict) -> None:
    for seed in range(1, 100):
        model = load(config, seed)
        module = DraftModule(config, seed) if config.get("num_nextn_predict_layers") else None
        prompts, least = [], float("inf")
        for length in PROMPT_LENGTHS:
            prompt = random_checkpoint.prompt(seed, length, config["vocab_size"])
            tokens, logits, gap = greedy(model, prompt)
            least = min(least, gap)
            prompts.append({
                "length": length,
                "greedy": tokens,
                "logits": {str(at): [round(float(x), 5) for x in logits[at]] for at in LOGITS_AT}})
            if module:
                prompts[-1]["drafts"], gap = draft_logits(module, model, prompt, tokens)
                least = min(least, gap)
            if "quantization_config" in config:
                prompts[-1]["recipe_logits"] = recipe_logits(model, config, prompt)
        if least >= GAP:
            break
        print(f"{name}: seed {seed} has two logits {least:.1e} apart, trying the next")
    write(name, {"made_with": versions(), "seed": seed, "least_gap": round(least, 6), "config": config,
                 "prompts": prompts})


LAYER_ROWS = 600  # inputs of one layer
LAYER_ROWS_KEPT = 8  # of its outputs, the last among them
# Of a kept row, between the last expert or group that the gate takes and the first that it leaves: nearer ones may change
# places where sums are ordered otherwise, and all of a row's output with them.
GATE_GAP = 5e-3


def gate_gap(layer, x) -> torch.Tensor:
    """Of each row x [rows, hidden] of a mixture's input."""
    gate = layer.mlp.gate
    scores = torch.sigmoid(x @ gate.weight.float().T) + gate.e_score_correction_bias
    groups = scores.unflatten(-1, (gate.num_group, -1))
    best = groups.topk(2, -1).values.sum(-1).sort(-1, descending=True)
    gap = torch.full(x.shape[:1], torch.inf)
    if gate.topk_group < gate.num_group:
        gap = best.values[:, gate.topk_group - 1] - best.values[:, gate.topk_group]
    taken = torch.zeros_like(groups[..., 0], dtype=bool).scatter(1, best.indices[:, :gate.topk_group], True)
    allowed = groups.masked_fill(~taken[..., None], -torch.inf).flatten(1).sort(-1, descending=True).values
    return torch.minimum(gap, allowed[:, gate.top_k - 1] - allowed[:, gate.top_k])


@torch.no_grad()
def make_recipe_layers(name: str, config: dict) -> None:
    """Each layer alone, with quantised activations: outputs of random inputs in [-1, 1), normed to root mean square 1.
    Through a whole model the recipe's roundings tip each other, and no two float32 programs agree."""
    seed = 1
    model = load(config, seed)
    positions = torch.arange(LAYER_ROWS)[None]
    mask = torch.full((1, 1, LAYER_ROWS, LAYER_ROWS), -torch.inf).triu(1)
    layers = []
    for i, layer in enumerate(model.model.layers):
        flat = random_checkpoint.uniform(f"recipe_layers.{i}", seed, LAYER_ROWS * config["hidden_size"])
        x = torch.from_numpy(flat).reshape(1, LAYER_ROWS, -1)
        rotary = model.model.rotary_emb(x, positions)
        seen = []
        hook = layer.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
        with QuantizedActivations(model, config):
            out = layer(x, attention_mask=mask, position_ids=positions, position_embeddings=rotary)[0]
        hook.remove()
        gap = gate_gap(layer, seen[0]) if hasattr(layer.mlp, "gate") else torch.full((LAYER_ROWS,), torch.inf)
        safe = [row for row in range(LAYER_ROWS) if gap[row] >= GATE_GAP]
        kept = [safe[round(k * (len(safe) - 1) / (LAYER_ROWS_KEPT - 1))] for k in range(LAYER_ROWS_KEPT)]
        normed = torch.nn.functional.rms_norm(out, out.shape[-1:], None, config["rms_norm_eps"])
        layers.append({"rows": kept, "outputs": [[round(float(v), 5) for v in normed[row]] for row in kept]})
    write(f"layers/{name}", {"made_with": versions(), "seed": seed, "config": config, "inputs": LAYER_ROWS,
                             "layers": layers})


def make_ropes() -> None:
    ropes = []
    for name, (dim, parameters, max_position) in ROPES.items():
        config = transformers.LlamaConfig(hidden_size=dim, num_attention_heads=1, head_dim=dim,
                                          max_position_embeddings=max_position, rope_parameters=dict(parameters))
        rope = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        # Two values of one list are compared as f32: nine digits name one.
        ropes.append({"name": name, "dim": dim, "max_position_embeddings": max_position,
                      "rope_parameters": parameters,
                      "inverse_frequencies": [float(f"{float(x):.9g}") for x in rope.inv_freq],
                      "attention_factor": float(rope.attention_scaling)})
    write("rope", {"made_with": versions(), "ropes": ropes})


def versions() -> dict:
    return {"torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    wanted = sys.argv[1:] or [*CASES, "rope", "layers"]
    for case in wanted:
        if case == "rope":
            make_ropes()
        elif case == "layers":
            for name, config in CASES.items():
                if "quantization_config" in config:
                    make_recipe_layers(name, config)
        else:
            make_case(case, CASES[case])
