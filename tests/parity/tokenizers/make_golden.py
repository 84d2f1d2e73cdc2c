"""Writes golden/: a few hundred texts with the ids that Hugging Face `tokenizers` gives, and of each tokenizer the part that
these texts need, so that the unit tests (src/text/golden_test.cc) need neither Python nor a download.

  python fetch.py FOLDER
  python make_golden.py FOLDER
"""

import json
import pathlib
import random
import re
import sys
import unicodedata

import tokenizers
from tokenizers import pre_tokenizers

import corpus
from compare import NAMES

GOLDEN = pathlib.Path(__file__).parent / "golden"
TOKEN_CHARACTERS_MAX = 40
WRITTEN = [
    "", " ", "Hello, world!", "I'll don't we'VE 'tis rock'n'roll it\u2019s '\u017f", "In 2024, 1234567 people paid $3.14159.", "a\r\n\r\n  b\n\t\tc \n",
    "def f(x):\n    return x**2  # square\n", "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f\u30fb\u30ab\u30bf\u30ab\u30ca", "e\u0301 \u00e9 \u212b \u1112\u1161\u11ab q\u0307\u0323",
    "\u0661\u0662\u0663\u0664 \u00bd\u2164\u3007", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f600", "\u202eabc\u202c\u0000\u0001\ufeff",
    "a" * 300, " " * 131, "-" * 200 + "=" * 77, "\n" * 90, "supercalifragilisticexpialidocious" * 6, "<think>\n</think> <|im_start|>user\n<\uff5cUser\uff5c>",
]


def byte_level(text):
    """The text in GPT-2's byte alphabet."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in splitter.pre_tokenize_str(text))


def choose_texts(contents):
    rng = random.Random(5)
    texts = list(WRITTEN)
    for part in corpus.SOURCES:
        texts += [t[:80] for t in rng.sample(list(corpus.files(part)), 20)]
    for generator, count in [(corpus.mixes, 60), (corpus.spaces, 40), (corpus.contractions, 20), (corpus.numbers, 20), (corpus.marks, 40)]:
        texts += [t[:60] for t in generator(rng, count)]
    texts += [t[:200] for t in corpus.runs(rng, 16)] + list(corpus.added_tokens(rng, 30, contents))
    # Llama 3 makes a long run of spaces in very many ways, all of which the file would hold.
    return [re.sub(" {20,}", " " * 19, t) for t in texts]


def reduce(tokenizer, texts):
    """The tokens and merges that can take part in encoding the texts; ids stay."""
    written = "\n".join(byte_level(form) for t in texts for form in {t, unicodedata.normalize("NFC", t)})
    parts = {written[i:i + n] for n in range(1, TOKEN_CHARACTERS_MAX + 1) for i in range(len(written) - n + 1)}
    longer = lambda token: len(token) > TOKEN_CHARACTERS_MAX and token in written
    model = dict(tokenizer["model"])
    pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    pairs = [(a, b) for a, b in pairs if a + b in parts or longer(a + b)]
    added = [t for t in tokenizer["added_tokens"] if any(t["content"] in text for text in texts)]
    kept = {token for pair in pairs for token in (*pair, "".join(pair))} | {t["content"] for t in added}
    kept |= {token for token in model["vocab"] if len(token) == 1}
    if model.get("ignore_merges"):
        kept |= {token for token in model["vocab"] if token in parts or longer(token)}
    model["vocab"] = {token: i for token, i in model["vocab"].items() if token in kept}
    # tokenizers numbers added tokens after the others, unless they are among them.
    model["vocab"] |= {t["content"]: t["id"] for t in added}
    model["merges"] = [f"{a} {b}" for a, b in pairs]
    return {**tokenizer, "added_tokens": added, "model": model}


def encode(tokenizer, texts):
    """Ids by mode; of the mode text null where they are those of the mode control."""
    ids = {}
    for mode in ("control", "text"):
        tokenizer.encode_special_tokens = mode == "text"
        ids[mode] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    ids["text"] = [None if text == control else text for text, control in zip(ids["text"], ids["control"])]
    return ids


def main():
    folder = pathlib.Path(sys.argv[1])
    GOLDEN.mkdir(exist_ok=True)
    published = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES}
    contents = [t["content"] for name in NAMES for t in published[name]["added_tokens"][-12:]]
    texts = choose_texts(contents)
    golden = {"oracle": f"tokenizers {tokenizers.__version__}", "texts": texts, "ids": {}}
    for name, tokenizer in published.items():
        golden["ids"][name] = encode(tokenizers.Tokenizer.from_str(json.dumps(tokenizer)), texts)
        small = json.dumps(reduce(tokenizer, texts), ensure_ascii=False, separators=(",", ":"))
        if encode(tokenizers.Tokenizer.from_str(small), texts) != golden["ids"][name]:
            sys.exit(f"{name}: the reduced tokenizer differs from the published one")
        (GOLDEN / f"{name}.json").write_text(small + "\n", encoding="utf-8")
        print(f"{name}: {len(small)} bytes")
    (GOLDEN / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="ascii")


main()
