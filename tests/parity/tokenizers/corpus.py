"""The texts of the tokenizer comparison: prose, code and languages from Debian packages and this machine, and generated
hostile Unicode. Seeded: the generated part is the same everywhere.

  apt-get install wordnet-base perl-doc debian-handbook anarchism jargon-text bible-kjv-text fortunes
"""

import glob
import random
import sys
import unicodedata

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
                           0x3000)]
NOT_QUITE_SPACES = ["\u180e", "\u200b", "\u200c", "\u2060", "\ufeff", "\u0000", "\u001c", "\u001f"]

SOURCES = {  # glob → bytes taken, in all
    "prose": [("/usr/share/wordnet/data.noun", 3 << 20), ("/usr/share/doc/anarchism/**/*.html", 2 << 20),
              ("/usr/share/perl/5.36.0/pod/*.pod", 2 << 20), ("/usr/share/games/fortunes/*", 1 << 20),
              ("/usr/share/doc/jargon-text/*", 1 << 20)],
    "languages": [(f"/usr/share/doc/debian-handbook/html/{language}/*.html", 320 << 10)
                  for language in ("ar-MA", "da-DK", "de-DE", "el-GR", "es-ES", "fa-IR", "fr-FR", "hr-HR", "id-ID", "it-IT", "ja-JP",
                                   "ko-KR", "nb-NO", "nl-NL", "pl-PL", "pt-BR", "ro-RO", "ru-RU", "sv-SE", "tr-TR", "vi-VN",
                                   "zh-CN", "zh-TW")],
    "code": [("/usr/include/**/*.h", 3 << 20), (sys.base_prefix + "/lib/python3*/**/*.py", 3 << 20),
             ("/usr/share/perl/5.36.0/**/*.p[lm]", 1 << 20)],
}


def files(part):
    """Documents of at most 64 KiB, cut anywhere between characters."""
    rng = random.Random(part)
    for pattern, limit in SOURCES[part]:
        taken = 0
        for path in sorted(glob.glob(pattern, recursive=True)):
            try:
                text = open(path, "rb").read(limit - taken).decode("utf-8", "ignore")
            except OSError:
                continue
            taken += len(text.encode())
            while text:
                size = rng.randrange(1, 1 << 16)
                yield text[:size]
                text = text[size:]
            if taken >= limit:
                break


def every_code_point():
    for i in range(0, len(CODE_POINTS), 256):
        block = [chr(c) for c in CODE_POINTS[i : i + 256]]
        yield "".join(f"a{c}b" for c in block)
        yield " ".join(block)
        yield "".join(f"{c}{c} 1{c}2" for c in block[::3])
        yield "".join(f"\n{c}x.{c}" for c in block[1::5])
        yield "".join(f"e{c}\u0301\u0334" for c in block)


def by_category():
    pools = {}
    for c in CODE_POINTS:
        pools.setdefault(unicodedata.category(chr(c)), []).append(chr(c))
    pools["ascii"] = [chr(c) for c in range(128)]
    pools["space"] = SPACES + NOT_QUITE_SPACES
    pools["punct"] = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    pools["kana"] = [chr(c) for c in range(0x3030, 0x3110)]
    pools["han"] = [chr(c) for c in range(0x4E00, 0xA000, 7)] + ["\u9fa5", "\u9fa6", "\u3007", "\u3400"]
    return pools


def mixes(rng, count):
    pools = by_category()
    names = sorted(pools)
    for _ in range(count):
        chosen = [pools[rng.choice(names)] for _ in range(rng.randrange(1, 6))]
        yield "".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randrange(1, 200)))


def spaces(rng, count):
    alphabet = SPACES + NOT_QUITE_SPACES + ["\r\n", "\n\n", "  ", "    ", "a", "1", ".", "\u4e00", "\u0301"]
    for _ in range(count):
        chosen = rng.sample(alphabet, rng.randrange(1, 8))
        yield "".join(rng.choice(chosen) for _ in range(rng.randrange(1, 80)))


def contractions(rng, count):
    ends = ["s", "t", "re", "ve", "m", "ll", "d", "\u017f", "\u212a", "\u017ft", "\u0130", "\ufb06", "\u00df"]
    quotes = ["'", "'", "'", "\u2019", "''", " '", "\u02bc"]
    for _ in range(count):
        words = []
        for _ in range(rng.randrange(1, 30)):
            end = "".join(rng.choice([c.lower, c.upper])() for c in rng.choice(ends))
            words.append(rng.choice(["I", "you", "", " ", "x1", "\u0416", "!"]) + rng.choice(quotes) + end + rng.choice(["", "x", " "]))
        yield "".join(words)


def numbers(rng, count):
    digits = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c))[0] == "N"]
    for _ in range(count):
        some = rng.sample(digits, 4) + list("0123456789")
        yield "".join(rng.choice(some) + rng.choice(["", "", "", " ", ",", "a", "\u4e00", "\u0301"]) for _ in range(rng.randrange(1, 60)))


def marks(rng, count):
    combining = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c))[0] == "M"]
    bases = [*"aeqz \u1100\u1161\u11a8\uac00\u0915\u3046\u304b", "\u1ea5", "\u212b", "\u0344"]
    decomposable = [chr(c) for c in CODE_POINTS if unicodedata.decomposition(chr(c)) and "<" not in unicodedata.decomposition(chr(c))]
    for _ in range(count):
        pool = rng.sample(combining, 12) + rng.sample(decomposable, 6) + list("\u0301\u0323\u0345\u0334\u1161\u11a8\u3099")
        yield "".join(rng.choice(bases) + "".join(rng.choice(pool) for _ in range(rng.randrange(0, 9))) for _ in range(rng.randrange(1, 30)))


def runs(rng, count):
    units = ["a", "A", " ", "\n", "\r\n", "\t", "-", "=", "1", "\u4e00", "\u3042", "\u0301", "\u0000", "\U0001f600", "ab", "abc", "-=", "\u00a0",
             "\u30fb", "<", "' ", "aA", "ha", "\u0e01", "\u0915\u094d"]
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    for i in range(count):
        kind = i % 4
        length = rng.randrange(100, 6000)
        if kind == 0:
            yield rng.choice(units) * length
        elif kind == 1:
            yield "".join(rng.choice(letters) for _ in range(length))
        elif kind == 2:
            yield "".join(rng.choice(units) * rng.randrange(1, 40) for _ in range(rng.randrange(1, 60)))
        else:
            yield "".join(chr(rng.choice(range(0x4E00, 0x9FA6))) for _ in range(length // 2))


def added_tokens(rng, count, contents):
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 12)):
            content = rng.choice(contents)
            cut = rng.randrange(len(content) + 1)
            parts.append(rng.choice([content, content, content[:cut], content[cut:], content + content[:cut], " ", "\n", "x", "<", "\u0301",
                                     "  ", "e"]))
        yield "".join(parts)


def hostile(contents):
    rng = random.Random(20261124)
    yield from mixes(rng, 12000)
    yield from spaces(rng, 8000)
    yield from contractions(rng, 2000)
    yield from numbers(rng, 3000)
    yield from marks(rng, 4000)
    yield from runs(rng, 400)
    yield from added_tokens(rng, 3000, contents)
