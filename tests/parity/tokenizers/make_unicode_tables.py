"""Writes src/text/unicode_tables.inc: the character classes and the normalization exceptions of Gantry's pre-tokenisers.

Published tokenizers are defined by what Hugging Face `tokenizers` does with them, so the tables follow the Unicode
versions inside of it, and this script refuses to write them where it finds that they do not:
  * \\p{..} and \\s of Split and ByteLevel: Oniguruma's Unicode 16.0 (checked for every code point);
  * Digits (SmolLM2): Rust's char::is_numeric, which knows a few numbers more (probed);
  * NFC (Qwen2): Unicode 9.0. Characters that later versions order or compose are left alone there (probed).

  pip install tokenizers==0.23.3 unicodedata2==16.0.0
  python make_unicode_tables.py ../../../src/text/unicode_tables.inc
"""

import sys

import unicodedata2 as ucd
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
LETTER, MARK, NUMBER, PUNCT, SPACE, NEWLINE, KANA_HAN, DIGIT = (1 << b for b in range(8))


def matching(expression):
    """The code points that a one-character expression of `tokenizers` matches."""
    found = set()
    splitter = pre_tokenizers.Split(Regex(expression), "removed")
    for i in range(0, len(CODE_POINTS), 1 << 16):
        block = CODE_POINTS[i : i + (1 << 16)]
        found.update(block)
        for _, (begin, end) in splitter.pre_tokenize_str("".join(map(chr, block))):
            found.difference_update(block[begin:end])
    return found


def numeric():
    """The code points that Digits isolates."""
    text = "".join("\n" + chr(c) for c in CODE_POINTS)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    return {ord(piece) for piece, _ in pieces if len(piece) == 1 and piece != "\n"}


def classes():
    by_category = {name: {c for c in CODE_POINTS if ucd.category(chr(c))[0] == name} for name in "LMNPS"}
    for name, members in by_category.items():
        if matching(r"\p{%s}" % name) != members:
            sys.exit(f"tokenizers' \\p{{{name}}} is not that of Unicode {ucd.unidata_version}")
    flags = dict.fromkeys(CODE_POINTS, 0)
    for members, flag in [
        (by_category["L"], LETTER),
        (by_category["M"], MARK),
        (by_category["N"], NUMBER),
        (by_category["P"] | by_category["S"], PUNCT),
        (matching(r"\s"), SPACE),
        (matching(r"[\r\n]"), NEWLINE),
        (matching("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]"), KANA_HAN),
        (numeric(), DIGIT),
    ]:
        for c in members:
            flags[c] |= flag
    return flags


def normalization_exceptions():
    """Code points that Unicode 16.0 reorders, composes or decomposes and `tokenizers` does not."""
    nfc = normalizers.NFC()

    def is_ordered(mark):
        return nfc.normalize_str("q\u0345" + mark) != "q\u0345" + mark

    exceptions = set()
    for c in CODE_POINTS:
        for text in ("q" + chr(c) + "\u0334", "q\u0345" + chr(c), "q\u0300" + chr(c)):
            if nfc.normalize_str(text) != ucd.normalize("NFC", text):
                exceptions.add(c)
        decomposed = ucd.normalize("NFD", chr(c))
        if decomposed != chr(c) and not ucd.decomposition(chr(c)).startswith("<"):
            if nfc.normalize_str(decomposed) != ucd.normalize("NFC", decomposed):
                exceptions.add(c)
                exceptions.update(ord(part) for part in decomposed if not is_ordered(part))
    return exceptions


def ranges(code_points):
    out = []
    for c in sorted(code_points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def rows(items):
    line = ""
    for item in items:
        if len(line) + len(item) > 104:
            yield "    " + line.rstrip()
            line = ""
        line += item + " "
    yield "    " + line.rstrip()


def main():
    flags = classes()
    flags.update(dict.fromkeys(range(0xD800, 0xE000), 0))
    starts = [c for c in range(0x110000) if c == 0 or flags[c] != flags[c - 1]]
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write("// Written by tests/parity/tokenizers/make_unicode_tables.py from Unicode 16.0; not edited by hand.\n")
        out.write("// clang-format off\n")
        out.write("// First code point of each run of one class, and the class.\n")
        out.write("constexpr ClassRun kClassRuns[] = {\n")
        out.write("\n".join(rows([f"{{0x{c:x},{flags[c]}}}," for c in starts])) + "\n};\n")
        out.write("// First and last code point.\n")
        out.write("constexpr CodePointRange kNotNormalized[] = {\n")
        out.write("\n".join(rows([f"{{0x{a:x},0x{b:x}}}," for a, b in ranges(normalization_exceptions())])) + "\n};\n")
        out.write("// clang-format on\n")


main()
