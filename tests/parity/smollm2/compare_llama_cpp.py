"""Greedy tokens of one GGUF file: Gantry against llama.cpp, 20 chat prompts.

    python compare_llama_cpp.py MODEL.gguf path/to/greedy_ids [results.json]

Needs llama-cpp-python (its version is recorded). llama.cpp renders the chat template and tokenises, so only the model
is compared, twice:

exact      llama.cpp on the same weights dequantised to F32, with an F32 cache, against Gantry with --dtype float32.
           Both compute with f32 activations, so the tokens are to be equal.
quantised  llama.cpp on the file itself against Gantry with --dtype auto. Both round activations to int8, at different
           places, so near ties may fall either way.

What rounding does to the gap between two logits is measured: at each of the 960 positions of llama.cpp's texts, an
engine's error is its gap less the exact logits' gap. `noise` is the standard deviation of that error. A first
difference, between tokens a and b, is reported with the gap a - b on the same prefix in the exact logits, in both engines
and in Gantry's generic backend, which reads the same blocks and does not round activations; and with the noise of the
gap a - b over all positions, of each engine and of the one less the other. It is a near tie if the exact gap is below
twice the noise between the engines. It is `only_rounding` if the generic backend's gap is the exact one within 0.02: all that
is left to the kernels that were compared is then the rounding.

`predicted_equal` is how many prompts would stay equal by chance: at each position, how often the two likeliest tokens
would change places in one engine alone if its error there were that of another of the 960 positions.
"""

import datetime
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


def gantry(binary: str, model: str, dtype: str, prompts: list, vocab: int, folder: str, backend: str = "auto"):
    raw = f"{folder}/{backend}.{dtype}.logits"
    done = subprocess.run([binary, model, str(STEPS), backend, dtype, raw], input=json.dumps(prompts), text=True,
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


def gaps(logits: np.ndarray, a, b) -> np.ndarray:
    """logit a - logit b at every position of every prompt; a and b: ids, or arrays of an id per position."""
    at = np.arange(len(logits))
    return (logits[at, a] - logits[at, b]).astype(np.float64)


def errors(engines: dict, a, b) -> dict[str, np.ndarray]:
    exact = gaps(engines["exact"], a, b)
    of = {name: gaps(engines[name], a, b) - exact for name in ("llama_cpp", "gantry")}
    return of | {"between": of["gantry"] - of["llama_cpp"]}


def quantised_row(prompt: int, theirs: list[int], own: list[int], engines: dict, text_of) -> dict:
    equal = first_difference(theirs, own)
    if equal == STEPS:
        return {"equal_tokens": equal}
    a, b = theirs[equal], own[equal]
    at = prompt * STEPS + equal
    gap = {name: float(gaps(logits, a, b)[at]) for name, logits in engines.items()}
    pair = errors(engines, a, b)
    noise = {name: float(values.std()) for name, values in pair.items()}
    in_noise = {name: float(values[at]) / noise[name] for name, values in pair.items()}
    exact_gap_in_noise = abs(gap["exact"]) / noise["between"]
    rounded = {"gap": gap, "noise_of_gap": noise, "error_in_noise": in_noise}
    return {"equal_tokens": equal, "llama_cpp_token": text_of(a), "gantry_token": text_of(b),
            **{key: {name: round(x, 4) for name, x in values.items()} for key, values in rounded.items()},
            "exact_gap_in_noise": round(exact_gap_in_noise, 2), "near_tie": exact_gap_in_noise < 2,
            "only_rounding": abs(gap["gantry_generic"] - gap["exact"]) < 0.02}


def predicted_equal(engines: dict) -> tuple[float, dict]:
    """Prompts that stay equal by chance; of the gap of the exact logits' two likeliest tokens, the noise and largest error."""
    top = np.argpartition(engines["exact"], -2, axis=1)[:, -2:]
    error = errors(engines, top[:, 1], top[:, 0])
    exact = gaps(engines["exact"], top[:, 1], top[:, 0])[:, None]
    parts = ((exact + error["llama_cpp"] > 0) != (exact + error["gantry"] > 0)).mean(axis=1)
    equal = float(np.prod(1 - parts.reshape(-1, STEPS), axis=1).sum())
    return equal, {name: {"noise": round(float(x.std()), 4), "most_error_in_noise": round(float(np.abs(x).max() / x.std()), 2)}
                   for name, x in error.items()}


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
        forced = [{"ids": p, "forced": ids} for p, (ids, _) in zip(prompts, theirs)]
        ours = gantry(binary, model, "auto", forced, vocab, folder)
        generic = gantry(binary, model, "auto", forced, vocab, folder, "generic")
        engines = {"exact": np.concatenate(exact_logits), "llama_cpp": np.concatenate([logits for _, logits in theirs]),
                   "gantry": ours[1].reshape(-1, vocab), "gantry_generic": generic[1].reshape(-1, vocab)}
        text_of = lambda token: quantised.detokenize([token], special=True).decode("utf-8", "replace")
        rows = [{"prompt": question, "prompt_tokens": len(prompts[i]),
                 "exact": exact_row(theirs_exact[i], ours_exact[0][i], ours_exact[1][i]),
                 "quantised": quantised_row(i, theirs[i][0], ours[0][i], engines, text_of)}
                for i, question in enumerate(PROMPTS)]
        chance, top_noise = predicted_equal(engines)
    parted = [row["quantised"] for row in rows if row["quantised"]["equal_tokens"] < STEPS]
    summary = {
        "exact_equal": sum(row["exact"]["equal_tokens"] == STEPS for row in rows),
        "exact_most_logit_difference": max(row["exact"]["most_logit_difference"] for row in rows),
        "quantised_equal": len(rows) - len(parted),
        "quantised_predicted_equal": round(chance, 1),
        "near_ties": sum(row["near_tie"] for row in parted),
        "exact_gap_below_the_noise": sum(row["exact_gap_in_noise"] < 1 for row in parted),
        "only_rounding": sum(row["only_rounding"] for row in parted),
        "gap_of_the_two_likeliest": top_noise}
    report = {"model": os.path.basename(model), "llama_cpp_python": llama_cpp.__version__, "steps": STEPS,
              "prompts": len(rows), "date": datetime.date.today().isoformat(), "summary": summary, "rows": rows}
    print(json.dumps(summary, indent=1))
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
