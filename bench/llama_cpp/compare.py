"""Gantry against llama.cpp on the same GGUF file, threads and machine, interleaved in one run.

    make bench-llama-cpp        (builds both, writes bench/results/llama_cpp.json)

Each row is measured ROUNDS times, the engines taking turns; the table gives medians in tokens per second.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys

ROWS = [
    # name, command, tokens
    ("prefill 512", "prefill 512", 512),
    ("1 stream", "decode 1 96 32", 96),
    ("1 stream at depth 2048", "decode 1 48 2048", 48),
    ("16 streams", "decode 16 48 32", 16 * 48),
]


class Engine:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--bench", required=True, help="the model_bench binary")
    parser.add_argument("--peer-python", required=True, help="a python that has llama_cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()

    gantry = Engine([args.bench, args.model, str(args.threads)])
    peer = Engine([args.peer_python, __file__.replace("compare.py", "peer.py"), args.model, "--threads", str(args.threads)])
    times = {name: {"gantry": [], "llama.cpp": []} for name, _, _ in ROWS}
    bandwidth = []
    for round_index in range(args.rounds):
        bandwidth.append(gantry.ask("bandwidth")["bytes_per_second"])
        for name, command, _ in ROWS:
            for label, engine in (("gantry", gantry), ("llama.cpp", peer)):
                times[name][label].append(engine.ask(command)["seconds"])
        print(f"round {round_index + 1} of {args.rounds}", file=sys.stderr, flush=True)

    rows = []
    print(f"{'':24}{'gantry':>10}{'llama.cpp':>12}{'ratio':>8}")
    for name, _, tokens in ROWS:
        ours, theirs = (tokens / statistics.median(times[name][k]) for k in ("gantry", "llama.cpp"))
        rows.append({"row": name, "gantry_tok_s": round(ours, 1), "llama_cpp_tok_s": round(theirs, 1),
                     "ratio": round(ours / theirs, 3), "seconds": times[name]})
        print(f"{name:24}{ours:10.1f}{theirs:12.1f}{ours / theirs:8.2f}")
    print(f"read bandwidth {statistics.median(bandwidth) / 1e9:.1f} GB/s")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"date": datetime.date.today().isoformat(), "commit": commit, "machine": f"{cpu_name()}, {platform.machine()}",
              "threads": args.threads, "gantry": gantry.hello, "peer": peer.hello,
              "read_bandwidth_bytes_s": statistics.median(bandwidth), "rows": rows}
    if args.out:
        with open(args.out, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
