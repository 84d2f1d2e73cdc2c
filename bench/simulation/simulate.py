#!/usr/bin/env python3
"""Runs the scheduler's simulation over many seeds: one process per core, a range of seeds each. Prints what all of them
did together and whether every invariant held; Ctrl-C stops and keeps what was done."""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench/scenarios"))
import scenario  # noqa: E402
SUMMARY = re.compile(r"(\d+) seeds, (\d+) steps, (\d+) preemptions, (\d+) prefix hits")
IN_FLIGHT = re.compile(r"(lookahead \d, drafts \d, depth \d): (\d+) preempted and (\d+) ended with plans in flight")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--binary", default=str(ROOT / "build/dev/src/sched/sched_test"))
parser.add_argument("--seeds", type=int, default=1_000_000)
parser.add_argument("--first", type=int, default=0)
parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--range", type=int, default=5000, help="seeds of one process; at least 1000")
parser.add_argument("--out", help="JSON file of the result, written anew after each range")
options = parser.parse_args()

stop = threading.Event()
total = collections.Counter()
in_flight = collections.defaultdict(collections.Counter)
began = time.time()


def run(first):
    if stop.is_set():
        return None
    count = min(options.range, options.first + options.seeds - first)
    return subprocess.run([options.binary, "--gtest_filter=Simulation.EveryInvariant*"], capture_output=True, text=True,
                          env=dict(os.environ, GANTRY_SIMULATION_FIRST=str(first), GANTRY_SIMULATION_SEEDS=str(count)))


def add(output):
    for name, value in zip(("seeds", "steps", "preemptions", "prefix_hits"), SUMMARY.search(output).groups()):
        total[name] += int(value)
    for kind, preempted, ended in IN_FLIGHT.findall(output):
        in_flight[kind].update(preempted=int(preempted), ended=int(ended))


def write():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    result = {"command": f"make simulate SEEDS={options.seeds}", "commit": commit, "date": time.strftime("%Y-%m-%d"),
              "machine": scenario.machine(), "processes": options.jobs, "first_seed": options.first, **total, "invariants_broken": 0, "wall_seconds": round(time.time() - began),
              "in_flight": {kind: dict(counts) for kind, counts in sorted(in_flight.items())}}
    pathlib.Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


failed = None
with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    ranges = [pool.submit(run, first) for first in range(options.first, options.first + options.seeds, options.range)]
    try:
        for done in ranges:  # in order: what is counted has no gap
            process = done.result()
            if process.returncode != 0:
                failed = process.stdout + process.stderr
                break
            add(process.stdout)
            if options.out:
                write()
            rate = total["seeds"] / (time.time() - began)
            print(f"{total['seeds']} of {options.seeds} seeds, {rate:.0f} a second, "
                  f"{(options.seeds - total['seeds']) / rate:.0f} s left", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    stop.set()

print(f"{total['seeds']} seeds, {total['steps']} steps, {total['preemptions']} preemptions, {total['prefix_hits']} prefix hits")
for kind, counts in sorted(in_flight.items()):
    print(f"{kind}: {counts['preempted']} preempted and {counts['ended']} ended with plans in flight")
if failed:
    sys.exit(failed)
print(f"no invariant was broken in {time.time() - began:.0f} s")
sys.exit(0 if total["seeds"] == options.seeds else 130)
