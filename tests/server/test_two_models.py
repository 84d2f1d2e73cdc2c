"""Two models of one process: chosen by name, served at once, neither starves."""

import json
import os
import random
import struct
import threading

import pytest
from client import Gantry
from openai import NotFoundError, OpenAI

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 200, "max_position_embeddings": 2048,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "float32",
          "eos_token_id": 1}


def write_random_checkpoint(folder):
    hidden, width, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    shapes = {"model.embed_tokens.weight": [CONFIG["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden],
                   layer + "self_attn.q_proj.weight": [hidden, hidden], layer + "self_attn.k_proj.weight": [kv, hidden],
                   layer + "self_attn.v_proj.weight": [kv, hidden], layer + "self_attn.o_proj.weight": [hidden, hidden],
                   layer + "mlp.gate_proj.weight": [width, hidden], layer + "mlp.up_proj.weight": [width, hidden],
                   layer + "mlp.down_proj.weight": [hidden, width]}
    draw = random.Random(11)
    header, data = {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = struct.pack(f"<{count}f", *(draw.uniform(-0.2, 0.2) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(CONFIG))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_random_checkpoint(folder)
    server = Gantry(str(folder), "--served-model-name", "words", "numbers")
    yield server
    server.wait_until_idle()
    assert server.stop() == 0


@pytest.fixture(scope="module")
def both_api(both):
    return OpenAI(base_url=both.url + "/v1", api_key="none", max_retries=0, timeout=120)


def test_each_is_chosen_by_name(both_api):
    assert [entry.id for entry in both_api.models.list().data] == ["words", "numbers"]
    words = both_api.chat.completions.create(model="words", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4)
    assert words.model == "words" and words.choices[0].message.content
    numbers = both_api.completions.create(model="numbers", prompt=[3, 4, 5], max_tokens=4,
                                          extra_body={"return_token_ids": True, "ignore_eos": True})
    assert numbers.model == "numbers"
    ids = numbers.choices[0].model_dump()["token_ids"]
    assert len(ids) == 4 and all(0 <= i < CONFIG["vocab_size"] for i in ids)


def test_an_unknown_name_is_404(both_api):
    for ask in (lambda: both_api.completions.create(model="letters", prompt="x"),
                lambda: both_api.chat.completions.create(model="letters", messages=[{"role": "user", "content": "x"}]),
                lambda: both_api.models.retrieve("letters")):
        with pytest.raises(NotFoundError) as error:
            ask()
        assert "letters" in error.value.message


def test_neither_starves(both, both_api):
    """Both stream at once; each gets tokens while the other runs, and each gives what it gives alone."""
    texts, order = {}, []

    def ask(model, prompt, tokens):
        stream = both_api.completions.create(model=model, prompt=prompt, max_tokens=tokens, temperature=0, stream=True,
                                             extra_body={"ignore_eos": True, "return_token_ids": True})
        ids = []
        for chunk in stream:
            order.append(model)
            for choice in chunk.choices:
                ids += choice.model_dump().get("token_ids") or []
        texts[model] = ids

    plans = [("words", "The sea is", 60), ("numbers", [5, 6, 7], 1000)]
    alone = {}
    for plan in plans:
        ask(*plan)
        alone = dict(texts)
    order.clear()
    threads = [threading.Thread(target=ask, args=plan) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == alone
    assert [len(texts[name]) for name, _, _ in plans] == [60, 1000]
    assert order.index("numbers") < len(order) - 1 - order[::-1].index("words")
    assert order.index("words") < len(order) - 1 - order[::-1].index("numbers")
