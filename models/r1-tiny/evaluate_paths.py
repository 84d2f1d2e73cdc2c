"""r1-tiny's accuracy on every CPU kernel path that this machine runs, through `gantry serve`.

usage: evaluate_paths.py GANTRY OUT.json [--count 500] [--paths avx512,avx2,generic]
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
    result = {"date": datetime.date.today().isoformat(), "machine": f"{cpu()}, {len(os.sched_getaffinity(0))} cores",
              "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
              "command": " ".join(["evaluate_paths.py", *map(str, sys.argv[1:])]), "paths": {}}
    failed = False
    for path in a.paths.split(","):
        port = free_port()
        process = served(a.gantry, path, port)
        begun = time.monotonic()
        try:
            score = evaluate_server.evaluate(f"http://127.0.0.1:{port}", a.count, 64)
            cpu_s = cpu_seconds(process)
        finally:
            process.terminate()
            process.wait(60)
        average = sum(row["right"] / row["asked"] for row in score.values()) / len(score)
        missed = evaluate_server.misses(score)
        failed |= bool(missed)
        result["paths"][path] = {"average": round(average, 4), "seconds": round(time.monotonic() - begun),
                                   "server_cpu_seconds": round(cpu_s), "missed": missed, "tasks": score}
        print(f"{path}: average {average:.2%} in {time.monotonic() - begun:.0f} s; {'; '.join(missed) or 'every target holds'}", flush=True)
        a.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
