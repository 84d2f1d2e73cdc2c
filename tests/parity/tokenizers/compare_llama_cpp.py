"""Compares Gantry's token ids with llama.cpp's for SmolLM2's GGUF, which fetch.py leaves in FOLDER, special tokens recognised.

Where they differ, Gantry has to agree with Hugging Face, and the cause has to be the one that README.md describes: a byte that has no
token. Each text that differs is compared again without the characters that hold such a byte.

  pip install tokenizers==0.23.3 llama-cpp-python==0.3.36
  python compare_llama_cpp.py FOLDER ENCODE_TEXTS [--out results_llama_cpp.json]
"""

import argparse
import datetime
import json
import pathlib

import llama_cpp
import tokenizers

import corpus
from compare import commit, gantry_ids


def byte_characters():
    """GPT-2's character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def without(bytes_without_token, text):
    return "".join(c for c in text if bytes_without_token.isdisjoint(c.encode()))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("program")
    arguments.add_argument("--out", type=pathlib.Path)
    options = arguments.parse_args()
    file = options.folder / "smollm2.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    contents = [t["content"] for t in description["added_tokens"]]
    bytes_without_token = {b for b, c in enumerate(byte_characters()) if c not in description["model"]["vocab"]}
    oracle = tokenizers.Tokenizer.from_file(str(file))
    llama = llama_cpp.Llama(str(options.folder / "smollm2.gguf"), vocab_only=True, verbose=False)

    def differing(texts):
        gantry = gantry_ids(options.program, file, "control", texts)
        pairs = ((text, list(ids)) for text, ids in zip(texts, gantry))
        return [(text, ids) for text, ids in pairs if llama.tokenize(text.encode(), add_bos=False, special=True) != ids]

    failed, results = False, {}
    for part in (*corpus.SOURCES, "hostile"):
        texts = list(corpus.hostile(contents) if part == "hostile" else corpus.files(part))
        differ = differing(texts)
        hugging_face = [e.ids for e in oracle.encode_batch_fast([text for text, _ in differ], add_special_tokens=False)]
        other_cause = differing([without(bytes_without_token, text) for text, _ in differ])
        results[part] = {
            "texts": len(texts), "bytes": sum(len(t.encode()) for t in texts),
            "with_a_byte_without_token": sum(not bytes_without_token.isdisjoint(t.encode()) for t in texts),
            "texts_that_differ_from_llama_cpp": len(differ),
            "of_these_not_as_hugging_face": sum(ids != expected for (_, ids), expected in zip(differ, hugging_face)),
            "of_these_still_differ_without_such_bytes": len(other_cause),
        }
        failed = failed or results[part]["of_these_not_as_hugging_face"] + len(other_cause) > 0
        print(part, results[part], flush=True)
    if options.out:
        report = {"oracle": f"llama.cpp in llama-cpp-python {llama_cpp.__version__}", "date": datetime.date.today().isoformat(),
                  "gantry_commit": commit(), "bytes_without_token": sorted(bytes_without_token), "results": results}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
