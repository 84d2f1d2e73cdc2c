"""r1-tiny's accuracy on every CPU kernel path that this machine runs, through `gantry serve`.

usage: evaluate_paths.py GANTRY OUT.json [--count 500] [--paths avx512,avx2,generic]
Takes an hour of two cores, most of it for the generic path. OUT.json is written after every task; a run that was ended
goes on from there when it is started again with the same count.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import time
import urllib.request

import evaluate_server
import tasks


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def served(binary, path, port):
    process = subprocess.Popen([binary, "serve", "r1-tiny", "--port", str(port), "--log-level", "warning"],
                               env={**os.environ, "GANTRY_CPU_ISA": path})
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10):
                return process
        except OSError:
            if process.poll() is not None:
                sys.exit(f"{path}: gantry ended with {process.returncode}")
            if time.monotonic() > deadline:
                process.kill()
                sys.exit(f"{path}: not ready after 60 s")


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("gantry")
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--paths", default="avx512,avx2,generic")
    a = p.parse_args()
    result = begun_before(a.out, a.count) or {
        "date": datetime.date.today().isoformat(), "machine": f"{cpu()}, {len(os.sched_getaffinity(0))} cores",
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "command": f"evaluate_paths.py GANTRY OUT.json --count {a.count}", "count": a.count, "paths": {}}
    failed = False
    for path in a.paths.split(","):
        row = result["paths"].setdefault(path, {"server_cpu_seconds": 0, "tasks": {}})
        evaluate_rest(a, path, row, lambda: a.out.write_text(json.dumps(result, indent=1) + "\n"))
        missed = evaluate_server.misses(row["tasks"])
        failed |= bool(missed)
        average = sum(task["right"] / task["asked"] for task in row["tasks"].values()) / len(row["tasks"])
        print(f"{path}: average {average:.2%} in {row['server_cpu_seconds']:.0f} s of CPU time; "
              f"{'; '.join(missed) or 'every target holds'}", flush=True)
    sys.exit(failed)


def begun_before(out, count):
    if not out.exists():
        return None
    result = json.loads(out.read_text())
    return result if result["count"] == count else None


def evaluate_rest(a, path, row, save):
    """Adds to the row the tasks that it lacks."""
    if len(row["tasks"]) == len(tasks.TASKS):
        return
    port = free_port()
    process = served(a.gantry, path, port)
    try:
        before = row["server_cpu_seconds"]
        for task in tasks.TASKS:
            if task in row["tasks"]:
                continue
            row["tasks"] |= evaluate_server.evaluate(f"http://127.0.0.1:{port}", a.count, 64, [task])
            row["server_cpu_seconds"] = round(before + cpu_seconds(process), 1)
            save()
            print(f"{path}: {task}: {row['tasks'][task]['right']} of {row['tasks'][task]['asked']}", file=sys.stderr, flush=True)
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
