"""One stream on r1-tiny with 0 to 3 drafts: tokens a second from the first token to the last, the server's CPU time
a token, and what was accepted.

    python bench/drafts/one_stream.py GANTRY_BINARY > bench/results/drafts_one_stream.json

Numbers of drafts take turns over ROUNDS rounds, each on a server of its own, so that the machine's mood falls on
all alike. The best round counts: other work on the machine only slows.
"""

import http.client
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/server"), str(ROOT / "models/r1-tiny")]
import tasks
from client import Gantry

ROUNDS = 3
DRAFTS = range(4)


def questions():
    return [tasks.held_out_problems(name, 1)[0].question for name in tasks.TASKS]


def stream(server, question):
    """Tokens after the first, and the seconds that they took."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(
        {"model": "r1-tiny", "messages": [{"role": "user", "content": question}], "max_tokens": 300, "temperature": 0,
         "stream": True, "stream_options": {"include_usage": True}}), {"Content-Type": "application/json"})
    first = last = None
    for line in connection.getresponse():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event["choices"] and any(event["choices"][0]["delta"].values()):
            last = time.monotonic()
            first = first or last
        tokens = event["usage"]["completion_tokens"] if event.get("usage") else 0
    connection.close()
    return tokens - 1, last - first


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(drafts):
    server = Gantry("--served-model-name", "r1-tiny", "--num-speculative-tokens", str(drafts), "--log-level", "warning",
                    model=ROOT / "models/r1-tiny/weights")
    try:
        asked = questions()
        for question in asked[:4]:
            stream(server, question)
        before = cpu_seconds(server.process)
        runs = [stream(server, question) for question in asked]
        cpu = cpu_seconds(server.process) - before
        moved = server.metrics()
    finally:
        server.stop()
    steps = moved["gantry_spec_drafted_steps_total"]
    accepted = moved["gantry_spec_accepted_tokens_total"]
    tokens = sum(count for count, _ in runs)
    return {"tokens_per_second": round(tokens / sum(seconds for _, seconds in runs), 1),
            "cpu_ms_per_token": round(1e3 * cpu / tokens, 3),
            "tokens_per_step": round(1 + accepted / steps, 2) if steps else 1.0}


def main():
    os.environ["GANTRY_BIN"] = sys.argv[1]
    rounds = {drafts: [] for drafts in DRAFTS}
    for _ in range(ROUNDS):
        for drafts in DRAFTS:
            rounds[drafts].append(measure(drafts))
    best = {drafts: max(run["tokens_per_second"] for run in runs) for drafts, runs in rounds.items()}
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    print(json.dumps({
        "machine": f"{cpu}, {len(os.sched_getaffinity(0))} cores", "date": time.strftime("%Y-%m-%d"), "commit": commit,
        "command": "python bench/drafts/one_stream.py build/release/src/cli/gantry",
        "model": "r1-tiny", "prompts": len(questions()),
        "load_average": round(os.getloadavg()[1], 1),
        "drafts": {str(drafts): {"speed_up": round(best[drafts] / best[0], 2), "rounds": rounds[drafts]} for drafts in DRAFTS}},
        indent=1))


if __name__ == "__main__":
    main()
