"""Measures Gantry's tokenizer beside Hugging Face `tokenizers` and tiktoken: one thread each, the same documents in the same run, processor
time (what the thread computed, whatever else the machine does), the fastest of some rounds.

  pip install tokenizers==0.23.3 tiktoken==0.14.0
  python ../../tests/parity/tokenizers/fetch.py FOLDER
  python bench.py FOLDER ENCODE_TEXTS [--out results.json]
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import datetime
import json
import pathlib
import random
import struct
import subprocess
import sys
import time

import tiktoken
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/parity/tokenizers"))
import corpus
from compare import NAMES, commit

ROUNDS = 3
PART_BYTES = 1 << 20
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Those whose ids are in the order of their merges, which is what tiktoken merges by.
TIKTOKEN = {"gpt2": GPT2, "llama3": None, "qwen2": None}


def documents(part):
    texts, size = [], 0
    for text in corpus.files(part):
        texts.append(text)
        size += len(text.encode())
        if size >= PART_BYTES:
            return texts
    return texts


def one_piece():
    """A megabyte of random letters without a space."""
    rng = random.Random(3)
    return ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(PART_BYTES))]


def fastest(encode, texts):
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for text in texts:
            encode(text)
        best = min(best, time.process_time() - begin)
    return best


def gantry(program, file, texts):
    records = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    run = subprocess.run([program, str(file), "control", "--repeat", str(ROUNDS)], input=records, stderr=subprocess.PIPE, check=True)
    return float(run.stderr)


def tiktoken_encoding(name, tokenizer):
    byte_of = {c: bytes([b]) for b, c in enumerate(byte_characters())}
    added = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    ranks = {b"".join(byte_of[c] for c in token): i for token, i in tokenizer["model"]["vocab"].items()
             if token not in added and all(c in byte_of for c in token)}
    pattern = TIKTOKEN[name] or tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=added)


def byte_characters():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def processor():
    with open("/proc/cpuinfo") as lines:
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("program")
    arguments.add_argument("--out", type=pathlib.Path)
    options = arguments.parse_args()
    parts = {part: documents(part) for part in corpus.SOURCES} | {"one piece": one_piece()}
    sizes = {part: sum(len(t.encode()) for t in texts) / 2**20 for part, texts in parts.items()}
    rows = []
    for name in NAMES:
        file = options.folder / f"{name}.json"
        hugging_face = tokenizers.Tokenizer.from_file(str(file))
        other = tiktoken_encoding(name, json.loads(file.read_text(encoding="utf-8"))) if name in TIKTOKEN else None
        for part, texts in parts.items():
            row = {"tokenizer": name, "text": part, "gantry": gantry(options.program, file, texts),
                   "tokenizers": fastest(lambda t: hugging_face.encode(t, add_special_tokens=False), texts)}
            if other:
                row["tiktoken"] = fastest(lambda t: other.encode(t, disallowed_special=()), texts)
            rows.append({k: v if isinstance(v, str) else round(sizes[part] / v, 2) for k, v in row.items()})
            print(rows[-1], flush=True)
            if options.out:
                report = {"unit": "MiB of text per second of processor time, one thread", "date": datetime.date.today().isoformat(),
                          "machine": processor(), "gantry_commit": commit(), "tokenizers": tokenizers.__version__, "tiktoken": tiktoken.__version__,
                          "rows": rows}
                options.out.write_text(json.dumps(report, indent=1) + "\n")

main()
