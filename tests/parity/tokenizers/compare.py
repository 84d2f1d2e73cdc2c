"""Compares Gantry's token ids with those of Hugging Face `tokenizers` over corpus.py's texts. In the mode "control" added
tokens are recognised; in the mode "text" (encode_special_tokens), where the hostile texts are compared again, special ones are not.

  pip install tokenizers==0.23.3
  python fetch.py FOLDER
  python compare.py FOLDER ENCODE_TEXTS [--out results.json]
"""

import argparse
import datetime
import json
import pathlib
import struct
import subprocess

import tokenizers

import corpus

NAMES = ["gpt2", "smollm2", "llama3", "qwen2", "deepseek-v3"]
SHOWN = 5


def gantry_ids(program, file, mode, texts):
    records = b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))
    out = subprocess.run([program, str(file), mode], input=records, stdout=subprocess.PIPE, check=True).stdout
    ids, at = [], 0
    for _ in texts:
        (count,) = struct.unpack_from("<I", out, at)
        ids.append(struct.unpack_from(f"<{count}i", out, at + 4))
        at += 4 + 4 * count
    return ids


def compare(program, file, parts):
    oracle = tokenizers.Tokenizer.from_file(str(file))
    result = {}
    for part, texts in parts.items():
        for mode in ("control", "text") if part == "hostile" else ("control",):
            oracle.encode_special_tokens = mode == "text"
            expected = [e.ids for e in oracle.encode_batch_fast(texts, add_special_tokens=False)]
            actual = gantry_ids(program, file, mode, texts)
            differing = [i for i in range(len(texts)) if list(actual[i]) != expected[i]]
            for i in differing[:SHOWN]:
                at = next((k for k, (a, b) in enumerate(zip(actual[i], expected[i])) if a != b), min(len(actual[i]), len(expected[i])))
                print(f"  {file.stem} {part} {mode}: text {i} differs at token {at}: gantry {actual[i][at:at + 6]}, "
                      f"expected {expected[i][at:at + 6]}; after {oracle.decode(expected[i][max(0, at - 6):at + 1], skip_special_tokens=False)!a}")
            result[f"{part}, {mode}"] = {
                "texts": len(texts), "bytes": sum(len(t.encode()) for t in texts), "tokens": sum(map(len, expected)),
                "texts_that_differ": len(differing),
            }
    return result


def commit():
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("program")
    arguments.add_argument("--out", type=pathlib.Path)
    arguments.add_argument("--only", choices=NAMES)
    arguments.add_argument("--parts", default="prose,languages,code,code points,hostile")
    options = arguments.parse_args()
    results, total = {}, 0
    for name in [options.only] if options.only else NAMES:
        file = options.folder / f"{name}.json"
        contents = [t["content"] for t in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]]
        generators = {"hostile": lambda: corpus.hostile(contents), "code points": corpus.every_code_point}
        parts = {part: list(generators.get(part, lambda: corpus.files(part))()) for part in options.parts.split(",")}
        results[name] = compare(options.program, file, parts)
        differ = sum(r["texts_that_differ"] for r in results[name].values())
        size = sum(r["bytes"] for r in results[name].values())
        total += differ
        print(f"{name}: {size} bytes compared, {differ} texts differ", flush=True)
        if options.out:
            report = {"oracle": f"tokenizers {tokenizers.__version__}", "date": datetime.date.today().isoformat(),
                      "gantry_commit": commit(), "results": results}
            options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if total else 0


if __name__ == "__main__":
    raise SystemExit(main())
