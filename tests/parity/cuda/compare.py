#!/usr/bin/env python3
"""Greedy tokens and logits of the CUDA backend beside the CPU reference's, on a machine with a supported GPU:
  compare.py GREEDY_IDS MODEL... > results.json
GREEDY_IDS is the driver that tests/parity/smollm2 builds. Each model runs in f32 on both, and as it is served (auto) on
the GPU, fed the reference's tokens so that every step's logits compare. Where the two would choose differently, the
reference's gap between the two tokens is recorded beside the largest difference of logits."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy

STEPS = 64
TEXTS = ["What is 17 + 25?", "A shop has 12 apples and sells 5. How many are left?", "Once upon a time",
         "Write the letters of the word river in reverse order."]


def prompts_of(model: pathlib.Path) -> list[dict]:
    """Texts where there is a tokenizer, else token ids at random, of several lengths."""
    tokenizer = model / "tokenizer.json"
    if tokenizer.is_file():
        from tokenizers import Tokenizer
        encode = Tokenizer.from_file(str(tokenizer)).encode
        return [{"ids": encode(text).ids} for text in TEXTS]
    draw = random.Random(1)
    config = model / "config.json"
    vocab = json.loads(config.read_text())["vocab_size"] if config.is_file() else 20000
    return [{"ids": [draw.randrange(1000, vocab) for _ in range(length)]} for length in (1, 7, 65, 300)]


def run(greedy_ids: str, model: pathlib.Path, backend: str, dtype: str, prompts: list[dict]):
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run([greedy_ids, str(model), str(STEPS), backend, dtype, file.name], input=json.dumps(prompts),
                              capture_output=True, text=True, check=True)
        logits = numpy.fromfile(file.name, dtype=numpy.float32)
    return json.loads(done.stdout), logits.reshape(len(prompts), STEPS, -1)


def differences(reference, other) -> dict:
    """Steps whose greedy choice differs; of the five widest the reference's gap between the two tokens."""
    worst = float(numpy.abs(reference - other).max())
    ties = []
    for prompt, step in zip(*numpy.nonzero(reference.argmax(-1) != other.argmax(-1))):
        row = reference[prompt, step]
        ties.append({"prompt": int(prompt), "step": int(step), "gap": float(row.max() - row[other[prompt, step].argmax()])})
    rms = float(numpy.sqrt(numpy.square(reference - other, dtype=numpy.float64).mean()))
    return {"largest_logit_difference": worst, "rms_logit_difference": rms, "standard_deviation_of_logits": float(reference.std()),
            "other_choices": len(ties), "widest": sorted(ties, key=lambda tie: -tie["gap"])[:5],
            "steps": int(reference.shape[0] * reference.shape[1])}


def main() -> None:
    greedy_ids, results = sys.argv[1], {}
    for model in map(pathlib.Path, sys.argv[2:]):
        prompts = prompts_of(model)
        ids, reference = run(greedy_ids, model, "reference", "float32", prompts)
        gpu_ids, logits = run(greedy_ids, model, "cuda", "float32", prompts)
        forced = [{**prompt, "forced": tokens} for prompt, tokens in zip(prompts, ids)]
        results[model.name] = {"float32_tokens_equal": ids == gpu_ids, "float32": differences(reference, logits)}
        for name, backend in (("auto", "cuda"), ("auto_on_the_cpu", "auto")):
            results[model.name][name] = differences(reference, run(greedy_ids, model, backend, "auto", forced)[1])
    json.dump(results, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
