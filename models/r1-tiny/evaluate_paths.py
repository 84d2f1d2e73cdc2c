"""r1-tiny's accuracy on every CPU kernel path that this machine runs, through `gantry serve`.

usage: evaluate_paths.py GANTRY OUT.json [--count 500] [--paths generic,avx2,avx512] [--jobs 1] [--commit C]
Needs python3 alone, this folder and a binary. Takes an hour of two cores, most of it for the generic path; the slowest path goes
first. --jobs N evaluates N tasks side by side, each by a server of its own with its share of the cores. OUT.json is written after
every task; a run that was ended goes on from there when it is started again with the same count, commit and machine.
"""
import argparse
import concurrent.futures as futures
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import threading

import evaluate_server
import tasks

HERE = pathlib.Path(__file__).resolve().parent
AT_ONCE = 64


def served(binary, path, threads):
    """A server on a free port, once it is ready: the process and its address."""
    process = subprocess.Popen([binary, "serve", HERE / "weights", "--served-model-name", evaluate_server.MODEL, "--port", "0",
                                "--threads", str(threads)],
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "GANTRY_CPU_ISA": path})
    log = []
    for line in process.stderr:
        log.append(line)
        if found := re.search(r" ready at (http://\S+)/v1", line):
            rest = (line for line in process.stderr if " info " not in line)
            threading.Thread(target=lambda: sys.stderr.writelines(rest), daemon=True).start()
            return process, found[1]
    raise RuntimeError(f"{path}: gantry ended with {process.wait()}\n{''.join(log)}")


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cores():
    return len(os.sched_getaffinity(0))


def commit():
    try:
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gantry")
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--paths", default="generic,avx2,avx512")
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--commit", default=commit(), help="of the binary; default: this folder's")
    a = p.parse_args()
    if not a.commit:
        sys.exit("this folder is in no git checkout: say --commit")
    run = Run(a)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.abandon())
    with futures.ThreadPoolExecutor(a.jobs) as pool:
        parts = [pool.submit(run.evaluate, path, task) for path, task in run.todo()]
        done, _ = futures.wait(parts, return_when=futures.FIRST_EXCEPTION)
        if any(part.exception() for part in done):
            pool.shutdown(cancel_futures=True)
        for part in done:
            part.result()
    sys.exit(not run.report())


class Run:
    def __init__(self, a):
        self.a = a
        self.lock = threading.Lock()
        self.servers = set()
        self.result = {"date": datetime.date.today().isoformat(), "machine": f"{cpu()}, {cores()} cores", "commit": a.commit,
                       "command": f"evaluate_paths.py GANTRY OUT.json --count {a.count} --jobs {a.jobs}", "count": a.count,
                       "paths": {}}
        if a.out.exists():
            before = json.loads(a.out.read_text())
            if all(before[key] == self.result[key] for key in ("machine", "commit", "count")):
                self.result["paths"] = before["paths"]
        for path in a.paths.split(","):
            self.result["paths"].setdefault(path, {"server_cpu_seconds": 0, "tasks": {}})

    def todo(self):
        return [(path, task) for path in self.a.paths.split(",") for task in tasks.TASKS
                if task not in self.result["paths"][path]["tasks"]]

    def evaluate(self, path, task):
        process, url = served(self.a.gantry, path, max(1, cores() // self.a.jobs))
        self.servers.add(process)
        try:
            score = evaluate_server.evaluate(url, self.a.count, AT_ONCE, [task], show=self.a.jobs == 1)
            took = cpu_seconds(process)
        finally:
            process.terminate()
            process.wait(60)
            self.servers.discard(process)
        with self.lock:
            row = self.result["paths"][path]
            row["server_cpu_seconds"] = round(row["server_cpu_seconds"] + took, 1)
            row["tasks"] = {name: (row["tasks"] | score)[name] for name in tasks.TASKS if name in row["tasks"] | score}
            self.save()
            print(f"{path}: {task}: {score[task]['right']} of {score[task]['asked']} in {took:.0f} s of CPU time; "
                  f"{len(self.todo())} tasks to go", file=sys.stderr, flush=True)

    def save(self):
        part = self.a.out.with_name(self.a.out.name + ".part")
        part.write_text(json.dumps(self.result, indent=1) + "\n")
        part.replace(self.a.out)

    def abandon(self):
        for process in list(self.servers):
            process.kill()
        os._exit(1)

    def report(self):
        """Prints a line for each path; whether every target holds."""
        held = True
        for path in self.a.paths.split(","):
            row = self.result["paths"][path]
            missed = evaluate_server.misses(row["tasks"])
            held &= not missed
            average = sum(task["right"] / task["asked"] for task in row["tasks"].values()) / len(row["tasks"])
            print(f"{path}: average {average:.2%} in {row['server_cpu_seconds']:.0f} s of CPU time; "
                  f"{'; '.join(missed) or 'every target holds'}", flush=True)
        return held


if __name__ == "__main__":
    main()
