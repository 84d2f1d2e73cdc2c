"""Writes the checkpoint in R1's layout: FP8 blocks with scales, two shards and an index. usage: export.py STATE.pt OUT_DIR"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

import model as M
import shape as S

SHARDS = ["model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"]
ATTENTION = {"q_a": "q_a_proj", "q_b": "q_b_proj", "kv_a": "kv_a_proj_with_mqa", "kv_b": "kv_b_proj", "o": "o_proj"}
PROJECTIONS = ("gate", "up", "down")


def tensors(weights, bias):
    """(name, tensor) in the published order; matrices as e4m3 with their scales."""
    def fp8(name, w):
        q, scale = M.fp8_parts(w)
        rows, cols = w.shape
        yield f"{name}.weight", q.flatten(0, 1).flatten(1, 2)[:rows, :cols].contiguous()
        yield f"{name}.weight_scale_inv", scale[:, 0, :, 0].contiguous()

    def half(name, w):
        yield name, w.bfloat16().clone()

    ends = weights["norm_ends"]
    yield from half("model.embed_tokens.weight", weights["embed"])
    for i in range(S.BLOCKS):
        layer = f"model.layers.{i}"
        if i == S.LAYERS:
            yield from half(f"{layer}.embed_tokens.weight", weights["embed"])
            yield from half(f"{layer}.enorm.weight", ends[1])
            yield from half(f"{layer}.hnorm.weight", ends[2])
            yield from half(f"{layer}.eh_proj.weight", weights["eh"])
        yield from half(f"{layer}.input_layernorm.weight", weights["norm_in"][i])
        yield from half(f"{layer}.post_attention_layernorm.weight", weights["norm_post"][i])
        yield from half(f"{layer}.self_attn.q_a_layernorm.weight", weights["norm_q"][i])
        yield from half(f"{layer}.self_attn.kv_a_layernorm.weight", weights["norm_kv"][i])
        for short, name in ATTENTION.items():
            yield from fp8(f"{layer}.self_attn.{name}", weights[short][i])
        if i < S.DENSE_LAYERS:
            for p in PROJECTIONS:
                yield from fp8(f"{layer}.mlp.{p}_proj", weights[f"dense_{p}"][i])
            continue
        m = i - S.DENSE_LAYERS
        yield from half(f"{layer}.mlp.gate.weight", weights["router"][m])
        # the choice depends on differences of the bias alone; none below 0 suits engines that mask groups with 0
        yield f"{layer}.mlp.gate.e_score_correction_bias", (bias[m] - bias[m].min()).float().clone()
        for e in range(S.EXPERTS + 1):
            place = "shared_experts" if e == S.EXPERTS else f"experts.{e}"
            for p in PROJECTIONS:
                yield from fp8(f"{layer}.mlp.{place}.{p}_proj", weights[f"expert_{p}"][m, e])
        if i == S.LAYERS:
            yield from half(f"{layer}.shared_head.norm.weight", ends[3])
            yield from half(f"{layer}.shared_head.head.weight", weights["head"])
    yield from half("model.norm.weight", ends[0])
    yield from half("lm_head.weight", weights["head"])


def write(state_path, out_dir):
    state, out = torch.load(state_path), pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    everything = list(tensors(state["weights"], state["bias"]))
    total = sum(t.nbytes for _, t in everything)
    shards, size = [{}, {}], 0
    for name, t in everything:
        shards[int(size >= total / 2)][name] = t
        size += t.nbytes
    for name, shard in zip(SHARDS, shards):
        save_file(shard, out / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": {k: n for n, s in zip(SHARDS, shards) for k in sorted(s)}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, separators=(",", ":")) + "\n")
    (out / "config.json").write_text(json.dumps(S.config(), indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(S.GENERATION, indent=2) + "\n")
    print(f"exported {total} bytes of tensors", flush=True)


def read_dequantised(directory):
    """Every tensor of a checkpoint in float32, FP8 expanded."""
    raw = {}
    for shard in SHARDS:
        raw.update(load_file(pathlib.Path(directory) / shard))
    out = {}
    for name, t in raw.items():
        if name.endswith("_scale_inv"):
            continue
        t = t.float()
        if name + "_scale_inv" in raw:
            scale = raw[name + "_scale_inv"]
            for axis in (0, 1):
                scale = scale.repeat_interleave(S.FP8_BLOCK, axis).narrow(axis, 0, t.shape[axis])
            t = t * scale
        out[name] = t
    return out


def stacked(published):
    """The published tensors as model.py's stacks, and the gate bias."""
    def per_layer(suffix, layers=range(S.BLOCKS)):
        return torch.stack([published[f"model.layers.{i}.{suffix}"] for i in layers])

    moe, mtp = range(S.DENSE_LAYERS, S.BLOCKS), f"model.layers.{S.LAYERS}"
    w = {short: per_layer(f"self_attn.{name}.weight") for short, name in ATTENTION.items()}
    for p in PROJECTIONS:
        w[f"dense_{p}"] = per_layer(f"mlp.{p}_proj.weight", range(S.DENSE_LAYERS))
        places = [f"experts.{e}" for e in range(S.EXPERTS)] + ["shared_experts"]
        w[f"expert_{p}"] = torch.stack([per_layer(f"mlp.{place}.{p}_proj.weight", moe) for place in places], 1)
    for short, name in (("norm_in", "input_layernorm"), ("norm_post", "post_attention_layernorm"),
                        ("norm_q", "self_attn.q_a_layernorm"), ("norm_kv", "self_attn.kv_a_layernorm")):
        w[short] = per_layer(f"{name}.weight")
    w["router"] = per_layer("mlp.gate.weight", moe)
    w["embed"], w["head"] = published["model.embed_tokens.weight"], published["lm_head.weight"]
    w["eh"] = published[f"{mtp}.eh_proj.weight"]
    w["norm_ends"] = torch.stack([published["model.norm.weight"], published[f"{mtp}.enorm.weight"],
                                  published[f"{mtp}.hnorm.weight"], published[f"{mtp}.shared_head.norm.weight"]])
    return w, per_layer("mlp.gate.e_score_correction_bias", moe)


if __name__ == "__main__":
    write(*sys.argv[1:])
