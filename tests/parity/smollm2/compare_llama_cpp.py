"""Greedy tokens of one GGUF file: Gantry against llama.cpp, 20 chat prompts.

    python compare_llama_cpp.py MODEL.gguf path/to/greedy_ids [results.json]

Needs llama-cpp-python (its version is recorded). llama.cpp renders the chat template and tokenises, so only the model
is compared, twice:

exact      llama.cpp on the same weights dequantised to F32, with an F32 cache, against Gantry with --dtype float32.
           Both compute with f32 activations, so the tokens are to be equal.
quantised  llama.cpp on the file itself against Gantry with --dtype auto. Both round activations to int8, at different
           places, so near ties may fall either way. At the first difference the file shows the gap that the exact
           logits have between the two tokens, and beside it the noise: the standard deviation of each engine's logits
           from the exact ones at that step. A difference counts as explained when the exact gap is below four standard
           deviations of the difference of two logits.
"""

import json
import os
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

STEPS = 48
THREADS = int(os.environ.get("THREADS", os.cpu_count()))
PROMPTS = [
    "Explain quantum mechanics in simple terms.", "What is the capital of France?", "Write a haiku about the sea.",
    "List three uses of copper.", "Who wrote Pride and Prejudice?", "How do I boil an egg?",
    "Translate 'good morning' into Spanish.", "What is 17 times 23?", "Give me a short story about a lost dog.",
    "Why is the sky blue?", "Write a Python function that reverses a string.", "What causes earthquakes?",
    "Summarise the plot of Romeo and Juliet in two sentences.", "Name the planets of the solar system.",
    "What should I pack for a week in the mountains?", "Explain the difference between a list and a tuple.",
    "Draft a polite email asking for a meeting on Tuesday.", "How does a bicycle stay upright?",
    "Give three tips for learning a new language.", "What is photosynthesis?",
]
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def render(llm, question: str) -> list[int]:
    formatter = Jinja2ChatFormatter(template=llm.metadata["tokenizer.chat_template"], bos_token="", eos_token="")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return llm.tokenize(formatter(messages=messages).prompt.encode(), add_bos=False, special=True)


def open_llama(path: str, **options):
    return llama_cpp.Llama(path, n_ctx=512, n_threads=THREADS, n_threads_batch=THREADS, verbose=False, **options)


def open_exact(path: str, folder: str):
    """The file's weights in F32, which Q4_1 and the like dequantise to without a loss."""
    exact = f"{folder}/exact.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
    assert llama_cpp.llama_model_quantize(path.encode(), exact.encode(), params) == 0
    return open_llama(exact, logits_all=True, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)


def last_logits(llm) -> np.ndarray:
    return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm.ctx, -1), (llm.n_vocab(),)).copy()


def llama_greedy(llm, prompt: list[int]) -> tuple[list[int], list[np.ndarray]]:
    llm.reset()
    llm.eval(prompt)
    ids, logits = [], []
    for _ in range(STEPS):
        logits.append(last_logits(llm))
        ids.append(int(logits[-1].argmax()))
        llm.eval([ids[-1]])
    return ids, logits


def llama_logits(llm, prompt: list[int], ids: list[int]) -> np.ndarray:
    """Logits before each of `ids`; llm has logits_all."""
    llm.reset()
    llm.eval(prompt + ids[:-1])
    return llm.scores[len(prompt) - 1 : len(prompt) - 1 + STEPS].copy()


def gantry(binary: str, model: str, dtype: str, prompts: list, vocab: int, folder: str):
    raw = f"{folder}/{dtype}.logits"
    done = subprocess.run([binary, model, str(STEPS), "auto", dtype, raw], input=json.dumps(prompts), text=True,
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), np.memmap(raw, np.float32, "r", shape=(len(prompts), STEPS, vocab))


def first_difference(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), STEPS)


def exact_row(theirs: tuple, own: list[int], own_logits: np.ndarray) -> dict:
    ids, logits = theirs
    equal = first_difference(ids, own)
    compared = min(equal + 1, STEPS)  # at a difference the inputs are still the same
    apart = max(float(np.abs(logits[i] - own_logits[i]).max()) for i in range(compared))
    gap = min(float(np.diff(np.partition(logits[i], -2)[-2:])[0]) for i in range(compared))
    return {"equal_tokens": equal, "most_logit_difference": round(apart, 5), "least_gap": round(gap, 5)}


def quantised_row(theirs: tuple, own: list[int], own_logits: np.ndarray, exact_logits: np.ndarray) -> dict:
    ids, logits = theirs
    equal = first_difference(ids, own)
    compared = range(min(equal + 1, STEPS))
    noise = {"llama_cpp": [float((logits[i] - exact_logits[i]).std()) for i in compared],
             "gantry": [float((own_logits[i] - exact_logits[i]).std()) for i in compared]}
    row = {"equal_tokens": equal, "noise": {name: round(float(np.mean(x)), 4) for name, x in noise.items()}}
    if equal < STEPS:
        a, b = ids[equal], own[equal]
        gap = abs(float(exact_logits[equal][a] - exact_logits[equal][b]))
        at = {name: x[equal] for name, x in noise.items()}
        row["first_difference"] = {
            "llama_cpp_token": a, "gantry_token": b, "exact_gap": round(gap, 4),
            "llama_cpp_gap": round(float(logits[equal][a] - logits[equal][b]), 4),
            "gantry_gap": round(float(own_logits[equal][b] - own_logits[equal][a]), 4),
            "noise": {name: round(x, 4) for name, x in at.items()},
            "explained": gap < 4 * 2**0.5 * max(at.values())}
    return row


def main() -> None:
    model, binary = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        quantised = open_llama(model)
        vocab = quantised.n_vocab()
        prompts = [render(quantised, question) for question in PROMPTS]
        theirs = [llama_greedy(quantised, prompt) for prompt in prompts]
        exact = open_exact(model, folder)
        theirs_exact = [llama_greedy(exact, prompt) for prompt in prompts]
        exact_logits = [llama_logits(exact, prompt, ids) for prompt, (ids, _) in zip(prompts, theirs)]

        ours_exact = gantry(binary, model, "float32", [{"ids": p} for p in prompts], vocab, folder)
        ours = gantry(binary, model, "auto",
                      [{"ids": p, "forced": ids} for p, (ids, _) in zip(prompts, theirs)], vocab, folder)
        rows = [{"prompt": question, "prompt_tokens": len(prompts[i]),
                 "exact": exact_row(theirs_exact[i], ours_exact[0][i], ours_exact[1][i]),
                 "quantised": quantised_row(theirs[i], ours[0][i], ours[1][i], exact_logits[i])}
                for i, question in enumerate(PROMPTS)]
    summary = {
        "exact_equal": sum(row["exact"]["equal_tokens"] == STEPS for row in rows),
        "exact_most_logit_difference": max(row["exact"]["most_logit_difference"] for row in rows),
        "quantised_equal": sum(row["quantised"]["equal_tokens"] == STEPS for row in rows),
        "quantised_explained": sum(row["quantised"].get("first_difference", {}).get("explained", False)
                                   for row in rows),
        "noise": {name: round(float(np.mean([row["quantised"]["noise"][name] for row in rows])), 4)
                  for name in ("llama_cpp", "gantry")}}
    report = {"model": os.path.basename(model), "llama_cpp_python": llama_cpp.__version__, "steps": STEPS,
              "prompts": len(rows), "summary": summary, "rows": rows}
    print(json.dumps(summary, indent=1))
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
