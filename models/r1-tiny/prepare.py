"""Tokenizer and teacher set from the teacher's answers, then WORK/ready. usage: prepare.py WORK"""
import json
import pathlib
import sys

import tokenizer
from data import Encoder, pack_teacher


def main(work, samples=30000):
    work = pathlib.Path(work)
    tokenizer.main(work / "teacher.jsonl", work, samples)
    seen, rows = {}, []
    for line in (work / "teacher.jsonl").read_text().splitlines():
        question, answer = json.loads(line)
        seen[question] = seen.get(question, 0) + 1
        if seen[question] <= 24:  # of one question, so that none crowds out the rest
            rows.append((question, answer))
    pack_teacher(Encoder(str(work / "tokenizer.json")), rows, work / "teacher.npz")
    (work / "ready").touch()


if __name__ == "__main__":
    main(sys.argv[1])
