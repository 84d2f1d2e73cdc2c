"""Compares Gantry's token ids with llama.cpp's for SmolLM2's GGUF, which fetch.py leaves in FOLDER, special tokens recognised.

llama.cpp writes its pre-tokenisers by hand too, with its own Unicode tables, and normalizes nothing: over hostile Unicode it
differs from Hugging Face's. A text on which the two of them differ is counted apart; there Gantry follows Hugging Face.

  pip install tokenizers==0.23.3 xllamacpp==2026.10.11549
  python compare_llama_cpp.py FOLDER ENCODE_TEXTS [--out results.json]
"""

import argparse
import datetime
import json
import pathlib
import urllib.request

import tokenizers
import xllamacpp

import corpus
from compare import commit, gantry_ids

def start(path):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 256
    parameters.warmup = False
    return xllamacpp.Server(parameters)


def llama_ids(server, text):
    body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["tokens"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("program")
    arguments.add_argument("--out", type=pathlib.Path)
    options = arguments.parse_args()
    failed, results = False, {}
    file = options.folder / "smollm2.json"
    contents = [t["content"] for t in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]]
    oracle = tokenizers.Tokenizer.from_file(str(file))
    server = start(options.folder / "smollm2.gguf")
    for part in (*corpus.SOURCES, "hostile"):
        texts = list(corpus.hostile(contents) if part == "hostile" else corpus.files(part))
        gantry = [list(ids) for ids in gantry_ids(options.program, file, "control", texts)]
        differing = [i for i, text in enumerate(texts) if llama_ids(server, text) != gantry[i]]
        hugging_face = [e.ids for e in oracle.encode_batch_fast([texts[i] for i in differing], add_special_tokens=False)]
        unexplained = sum(gantry[i] != ids for i, ids in zip(differing, hugging_face))
        results[part] = {
            "texts": len(texts), "bytes": sum(len(t.encode()) for t in texts), "texts_that_differ_from_llama_cpp": len(differing),
            "of_these_not_as_hugging_face": unexplained,
        }
        failed = failed or unexplained > 0
        print(part, results[part], [texts[i] if len(texts[i]) < 60 else "" for i in differing[:4]], flush=True)
    if options.out:
        report = {"oracle": "llama.cpp in xllamacpp 2026.10.11549", "date": datetime.date.today().isoformat(), "gantry_commit": commit(),
                  "results": results}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
