"""Accuracy per task of r1-tiny behind a running server, asked greedily and several at once.

usage: evaluate_server.py URL [--count 500] [--at-once 32] [--json FILE]
Exits 1 when a target of README.md is missed. An answer is right when its bold part is the expected one; its reasoning must
arrive as reasoning_content.
"""
import argparse
import concurrent.futures as futures
import http.client
import json
import pathlib
import sys
import threading
import time
import urllib.parse

import tasks

MODEL = "r1-tiny"
TOKENS_MAX = 1200
TARGETS = {"add": 0.97, "subtract": 0.97, "multiply_digit": 0.97, "multiply_two": 0.97, "compare": 0.97}
TARGET_EACH, TARGET_AVERAGE = 0.75, 0.92


class Server:
    """Chat completions of one server, over a connection for each thread."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url)
        self.local = threading.local()

    def message(self, messages):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=3600)
        body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": TOKENS_MAX}
        self.local.connection.request("POST", self.address.path.rstrip("/") + "/v1/chat/completions", json.dumps(body),
                                      {"Content-Type": "application/json"})
        response = self.local.connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {text.decode(errors='replace')}")
        return json.loads(text)["choices"][0]["message"]


def ask(server, problem):
    """(right, separated): whether the answer is right, and whether thought and answer came apart."""
    messages = []
    for user, reply in problem.earlier:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    messages.append({"role": "user", "content": problem.question})
    message = server.message(messages)
    thought, answer = message.get("reasoning_content") or "", message["content"] or ""
    return tasks.bold(answer) == problem.answer, bool(thought.strip()) and "think>" not in thought + answer


def evaluate(url, count, at_once, names=tuple(tasks.TASKS), show=True):
    """{task: {right, separated, asked}} of the tasks named; show: a line of progress every 10 s."""
    server = Server(url)
    jobs = [(task, problem) for task in names for problem in tasks.held_out_problems(task, count)]
    score = {task: {"right": 0, "separated": 0, "asked": 0} for task in names}
    done, shown = 0, time.monotonic()
    with futures.ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(ask, server, problem): task for task, problem in jobs}
        for future in futures.as_completed(running):
            right, separated = future.result()
            row = score[running[future]]
            row["right"] += right
            row["separated"] += separated
            row["asked"] += 1
            done += 1
            if show and time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"{done} of {len(jobs)} problems", file=sys.stderr, flush=True)
    return score


def misses(score):
    """The targets that were missed, as lines."""
    share = {task: row["right"] / row["asked"] for task, row in score.items()}
    average = sum(share.values()) / len(share)
    out = [f"{task}: {share[task]:.1%} is under {target:.0%}" for task in share
           if share[task] < (target := TARGETS.get(task, TARGET_EACH))]
    if average < TARGET_AVERAGE:
        out.append(f"average {average:.1%} is under {TARGET_AVERAGE:.0%}")
    out += [f"{task}: reasoning arrived apart from the answer in {row['separated']} of {row['asked']}" for task, row in score.items()
            if row["separated"] < row["asked"]]
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("url")
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--at-once", type=int, default=32)
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    score = evaluate(a.url, a.count, a.at_once)
    for task, row in score.items():
        print(f"| {task} | {row['right']} | {row['asked']} | {row['right'] / row['asked']:.1%} |")
    print(f"average {sum(r['right'] / r['asked'] for r in score.values()) / len(score):.1%}")
    if a.json:
        a.json.write_text(json.dumps(score, indent=1) + "\n")
    failed = misses(score)
    print("\n".join(failed) or "every target holds")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
