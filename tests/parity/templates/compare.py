"""Compares src/chat/ with jinja2 over every collected template and conversation.

    compare.py TEMPLATES.jsonl BUILD/tests/parity/templates/render_templates [--write] [--show N]

--write renews results.json (each template: equal, different, refused) and goldens.json (what the C++ test reads: the
templates of permissively licensed packages, picked for what they use). Exit status 1 if a rendering differs.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

import conversations
import oracle

HERE = pathlib.Path(__file__).parent
GOLDEN_BYTES_MAX = 1_400_000


def bare(message):
    return re.sub(r"^line \d+: ", "", message)


def classify(want, got):
    """equal, same_error, other_words (both fail), refused (by name), limit, or different."""
    if "output" in want and "output" in got:
        return "equal" if want["output"] == got["output"] else "different"
    if "error" in got and got["code"] == "UNIMPLEMENTED":
        return "refused"
    if "error" in want and "error" in got:
        return "same_error" if bare(want["error"]) == bare(got["error"]) else "other_words"
    return "different"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("templates")
    arguments.add_argument("renderer")
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--show", type=int, default=10)
    arguments = arguments.parse_args()

    renderer = subprocess.Popen([arguments.renderer], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    names = list(conversations.CASES)
    inputs = list(conversations.CASES.values())
    totals = collections.Counter()
    messages = collections.Counter()
    words = collections.Counter()
    rows = []
    shown = 0
    candidates = []
    for line in open(arguments.templates):
        entry = json.loads(line)
        want = oracle.render_all(entry["source"], inputs)
        renderer.stdin.write(json.dumps({"template": entry["source"], "inputs": inputs}).encode() + b"\n")
        renderer.stdin.flush()
        answer = renderer.stdout.readline()
        if not answer:
            sys.exit(f"compare.py: the renderer died at {entry['name']}")
        got = json.loads(answer)
        row = {"name": entry["name"], "sha256": entry["sha256"]}
        # A template that one side does not compile fails in each conversation.
        want_each = want.get("results") or [want] * len(inputs)
        got_each = got.get("results") or [got] * len(inputs)
        counts = collections.Counter()
        for name, w, g in zip(names, want_each, got_each):
            kind = classify(w, g)
            counts[kind] += 1
            if kind == "refused":
                messages[bare(g["error"])] += 1
                row.setdefault("refused_with", bare(g["error"]))
            if kind == "other_words":
                words[(bare(w["error"])[:150], bare(g["error"])[:150])] += 1
            if kind == "different":
                row.setdefault("differs_in", []).append(name)
                if shown < arguments.show:
                    shown += 1
                    print(f"--- {entry['name']} [{name}]\nwant {json.dumps(w)[:1500]}\ngot  {json.dumps(g)[:1500]}")
        row.update(counts)
        rows.append(row)
        totals.update(counts)
        totals["templates"] += 1
        totals["templates_equal"] += 1 if counts["different"] == 0 and counts["refused"] == 0 else 0
        totals["templates_refused"] += 1 if counts["refused"] else 0
        totals["templates_different"] += 1 if counts["different"] else 0
        if entry["may_commit"] and not counts["different"]:
            candidates.append((entry, want_each))
    renderer.stdin.close()
    print(dict(totals))
    for message, count in messages.most_common(20):
        print(f"refused {count}: {message}")
    for (w, g), count in words.most_common(30):
        print(f"other words {count}: jinja2 {w!r}, gantry {g!r}")
    if arguments.write:
        summary = {"jinja2": oracle.jinja2.__version__, "conversations": names, "totals": dict(totals),
                   "refused": dict(messages)}
        lines = ",\n".join(json.dumps(row) for row in rows)
        (HERE / "results.json").write_text(
            json.dumps(summary, indent=1)[:-2] + ',\n "templates": [\n' + lines + "\n]}\n")
        write_goldens(candidates, names, inputs)
    return 1 if totals["different"] else 0


def write_goldens(candidates, names, inputs):
    """All candidates in turn by package, each with the conversations whose results differ most, within the budget."""
    by_package = collections.defaultdict(list)
    for entry, want in candidates:
        by_package[entry["package"]].append((entry, want))
    ordered = []
    while any(by_package.values()):
        for package in list(by_package):
            if by_package[package]:
                ordered.append(by_package[package].pop(0))
    used = len(json.dumps(inputs))
    chosen = []
    for entry, want in ordered:
        if len(entry["source"]) > 30_000:
            continue
        cases = []
        for name, result in zip(names, want):
            result = {k: v for k, v in result.items() if k != "type"}
            if "output" in result and len(result["output"]) > 3_000:
                continue
            if "recursion depth" in result.get("error", ""):
                continue  # each side has its own limit and words
            cases.append({"input": name, **result})
        # Errors of all conversations say the same: keep one of each.
        seen = set()
        cases = [c for c in cases if c.get("output") or not (json.dumps(c.get("error")) in seen or
                                                             seen.add(json.dumps(c.get("error"))))]
        golden = {"name": entry["name"], "package": entry["package"], "licence": entry["licence"],
                  "source": entry["source"], "cases": cases}
        size = len(json.dumps(golden, ensure_ascii=False).encode())
        if used + size > GOLDEN_BYTES_MAX:
            continue
        used += size
        chosen.append(golden)
    chosen.sort(key=lambda g: g["name"])
    body = ",\n".join(json.dumps(g, ensure_ascii=False) for g in chosen)
    text = ('{"inputs": ' + json.dumps(dict(zip(names, inputs)), ensure_ascii=False) + ',\n"templates": [\n' + body + "\n]}\n")
    (HERE / "goldens.json").write_text(text)
    print(f"goldens.json: {len(chosen)} templates, {sum(len(g['cases']) for g in chosen)} renderings, {len(text)} characters")


if __name__ == "__main__":
    sys.exit(main())
