#!/usr/bin/env python3
"""Writes the seeds below corpus/: small well-formed files that reach the deep parts of each parser.

    pip install gguf==0.19.0 numpy==2.4.6 && python3 make_corpus.py
"""

import json
import pathlib
import struct

import gguf
import numpy as np

CORPUS = pathlib.Path(__file__).with_name("corpus")


def safetensors(name, tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for key, (dtype, shape, content) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    (CORPUS / "safetensors" / name).write_bytes(struct.pack("<Q", len(text)) + text + data)


def gguf_file(name, arch, fill):
    writer = gguf.GGUFWriter(CORPUS / "gguf" / name, arch)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dense(writer):
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(16)


def tokenizer(writer):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "Ġ", "Ġa", "<|im_end|>", "<u>", "[PAD]"])
    writer.add_token_types([1, 1, 1, 1, 3, 4, 5])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(4)
    writer.add_eot_token_id(4)
    writer.add_add_bos_token(True)
    writer.add_chat_template([{"name": "default", "template": "{{ a }}"}, {"name": "rag", "template": "{{ b }}"}])


def llama(writer):
    dense(writer)
    tokenizer(writer)
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_uint64("u64", 1 << 40)
    writer.add_float64("f64", 0.5)
    writer.add_int8("i8", -1)
    writer.add_tensor("token_embd.weight", np.zeros((7, 32), np.float32))
    writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((32, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.bias", np.zeros(32, np.float32))


def deepseek(writer):
    dense(writer)
    writer.add_rope_scaling_yarn_log_mul(0.1)
    writer.add_rope_dimension_count(8)
    writer.add_key_length(24)
    writer.add_value_length(16)
    writer.add_key_length_mla(24)
    writer.add_value_length_mla(16)
    writer.add_kv_lora_rank(16)
    writer.add_q_lora_rank(16)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_shared_count(1)
    writer.add_expert_feed_forward_length(8)
    writer.add_expert_group_count(2)
    writer.add_expert_group_used_count(1)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_scale(2.5)
    writer.add_expert_weights_norm(True)
    writer.add_leading_dense_block_count(0)
    writer.add_float32("general.sampling.temp", 0.6)
    writer.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((4, 8, 32), np.float16))
    writer.add_tensor("blk.0.exp_probs_b.bias", np.zeros(4, np.float32))


def tokenizer_json():
    def split(expression):
        return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokens = ["H", "e", "l", "o", "Ġ", "He", "ll", "llo", "Hello", "Ċ", "<|end|>"]
    base = {
        "added_tokens": [{"id": 10, "content": "<|end|>", "special": True, "lstrip": False, "rstrip": True,
                          "normalized": False, "single_word": False}],
        "normalizer": None, "pre_tokenizer": byte_level, "decoder": byte_level, "post_processor": None,
        "model": {"type": "BPE", "vocab": {token: id for id, token in enumerate(tokens)},
                  "merges": ["H e", "l l", "ll o", "He llo"], "ignore_merges": False, "byte_fallback": False},
        # The target reads tokenizer_config.json's members from the same file.
        "eos_token": "<|end|>", "bos_token": {"content": "<|end|>"}, "add_bos_token": True,
        "chat_template": "{{ messages }}",
    }
    qwen2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
             r"\s+(?!\S)|\s+")
    parts = [split(qwen2), {**byte_level, "use_regex": False}]
    return {"gpt2": base, "qwen2": {**base, "normalizer": {"type": "NFC"},
                                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}}}


def main():
    for folder in ("safetensors", "gguf", "strict_json", "tokenizer", "tokenizer_json"):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    safetensors("two", {"a": ("F32", [2, 2], bytes(16)), "b": ("BF16", [3], bytes(6))}, {"format": "pt"})
    safetensors("empty", {"zero": ("I64", [0, 5], b""), "scalar": ("U8", [], b"z")})
    gguf_file("llama", "llama", llama)
    gguf_file("deepseek2", "deepseek2", deepseek)
    value = {"a": [1, -2, 3.5, True, None, "x\u00e9\n", {}], "b": {"c": [[], [{"e": 2**64 - 1}]]}, "big": 1e30}
    (CORPUS / "strict_json" / "all").write_text(json.dumps(value))
    for name, file in tokenizer_json().items():
        (CORPUS / "tokenizer_json" / name).write_bytes(json.dumps(file).encode() + b"\0Hello Hello<|end|>\nllo")
    # Options, the number of merges, and their parts: "ab", "abc", "aa", "aaaa".
    merges = b"ab" + b"\x80c" + b"aa" + b"\x82\x82"
    for kind in range(5):
        text = " aaaaa abc'll \u00e9e\u0301\u4e2d\u30a2 123456\n\n  x".encode()
        (CORPUS / "tokenizer" / f"kind{kind}").write_bytes(bytes([kind, 4]) + merges + text)
    (CORPUS / "tokenizer" / "nfc_whole").write_bytes(bytes([0xc3, 4]) + merges + "e\u0301 abc abcabc".encode())


if __name__ == "__main__":
    main()
