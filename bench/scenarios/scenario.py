"""What the scenarios share: a server on a free port, `gantry bench` against it, metrics, and the result's file.

A scenario prints one line per bound and exits 1 if one is broken. GANTRY_BIN names the binary (build/gantry)."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("GANTRY_BIN", str(ROOT / "build/gantry"))
START_SECONDS_MAX = 120


def arguments(description, **numbers):
    """--model, --out, and a flag for each of `numbers` with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--out", help="folder for the result's JSON")
    for name, default in numbers.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


def _start(cores, command, **more):
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    return subprocess.Popen([str(part) for part in command], preexec_fn=pin, **more)


class Server:
    def __init__(self, model, *flags, cores=None, client_cores=None, errors=None):
        """`cores` are the server's, `client_cores` those of bench(); None: all. errors: a file for its log, else it comes
        with ours."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client_cores = client_cores
        self.process = _start(cores, [BINARY, "serve", model, "--port", port, "--log-level", "warning", *flags],
                              stderr=errors)

    def __enter__(self):
        end = time.monotonic() + START_SECONDS_MAX
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                sys.exit("the server did not get ready")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def _ready(self):
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=10) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self):
        """Sums over labels, by name; histograms' buckets left out."""
        values = {}
        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("#") or "_bucket{" in line:
                    continue
                name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
                values[name] = values.get(name, 0.0) + float(value)
        return values

    def bench(self, *flags, wait=True, details=False):
        """The report of one `gantry bench serve`, with `details` and its "records"; or with wait=False a function that
        waits for it."""
        folder = tempfile.mkdtemp(prefix="gantry-scenario-")
        files = {"--save-result": pathlib.Path(folder, "report.json")}
        if details:
            files["--save-details"] = pathlib.Path(folder, "records.json")
        names = [part for pair in files.items() for part in pair]
        process = _start(self.client_cores, [BINARY, "bench", "serve", "--url", self.url, *names, *flags],
                         stdout=subprocess.DEVNULL)

        def report():
            process.wait()
            try:
                result = json.loads(files["--save-result"].read_text())
                if details:
                    result["records"] = json.loads(files["--save-details"].read_text())
                return result
            finally:
                shutil.rmtree(folder)
        return report() if wait else report


def machine():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {"processor": names[0] if names else platform.machine(), "cores": len(os.sched_getaffinity(0))}


def finish(name, options, bounds, data):
    """bounds: {text: (value, limit, "<=" or ">=")}. Prints them, writes the result, exits."""
    good = True
    for text, (value, limit, relation) in bounds.items():
        holds = value <= limit if relation == "<=" else value >= limit
        good &= holds
        print(f"{'ok  ' if holds else 'MISS'} {text}: {value:.4g} (must be {relation} {limit:.4g})")
    if options.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        result = {"scenario": name, "command": " ".join(sys.argv), "commit": commit, "date": time.strftime("%Y-%m-%d"), "machine": machine(),
                  "holds": good,
                  "bounds": {text: {"value": v, "limit": l, "relation": r} for text, (v, l, r) in bounds.items()},
                  "data": data}
        path = pathlib.Path(options.out) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if good else 1)
