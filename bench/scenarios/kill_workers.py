#!/usr/bin/env python3
"""Worker processes are killed (and some stopped) at random moments under seeded streams of mixed parameters: greedy, sampled,
n, logprobs, penalties, stop strings, chat and completions, streamed and whole. No stream is lost, each is what its
undisturbed twin was, byte for byte, and a client sees a pause at most."""

import datetime
import http.client
import json
import os
import pathlib
import random
import re
import signal
import tempfile
import threading
import time

import scenario

WAIT_SECONDS = 300


def make_body(seed, model):
    """(route, body): what request number `seed` asks for."""
    draw = random.Random(seed)
    body = {"model": model, "seed": seed, "max_tokens": draw.randint(8, 96), "stream": draw.random() < 0.7,
            "temperature": draw.choice([0, 0, 0.7, 1.0]), "top_p": draw.choice([1, 0.9]), "top_k": draw.choice([0, 40]),
            "n": draw.choice([1, 1, 1, 2, 3]), "presence_penalty": draw.choice([0, 0.5]),
            "frequency_penalty": draw.choice([0, 0.3]), "repetition_penalty": draw.choice([1, 1.1]),
            "ignore_eos": draw.random() < 0.8}
    body["min_tokens"] = draw.choice([0, body["max_tokens"] // 2])
    if draw.random() < 0.4:
        body["stop"] = [draw.choice(["7", "ab", " 1", "\n\n", "the"])]
    if draw.random() < 0.5:
        if draw.random() < 0.5:
            body |= {"logprobs": True, "top_logprobs": draw.randint(0, 5)}
        operands = [str(draw.randint(1, 99)) for _ in range(draw.randint(2, 6))]
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": "What is " + " + ".join(operands) + "?"}]}
    if draw.random() < 0.5:
        body["logprobs"] = draw.randint(0, 5)
    prompt = [draw.randint(10, 200) for _ in range(draw.randint(1, 150))]
    return "/v1/completions", body | {"prompt": prompt, "return_token_ids": True}


def comparable(answer):
    """Without what two equal answers differ in: names, times, and what the cache or drafts saved."""
    answer = {key: value for key, value in answer.items() if key not in ("id", "created")}
    if answer.get("usage"):
        answer["usage"] = {key: value for key, value in answer["usage"].items() if not key.endswith("_details")}
    return answer


def ask(port, route, body, arrivals=None):
    """The answer as comparable data: for a stream its chunks, choice by choice. Raises if it fails or is cut off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read().decode()}")
        if not body["stream"]:
            return [comparable(json.loads(response.read()))]
        chunks = []
        while True:
            line = response.readline().decode()
            if not line:
                raise RuntimeError("the stream was cut off")
            if line == "data: [DONE]\n":
                # In what turn the choices come depends on what else runs; each one's chunks do not.
                return sorted(chunks, key=lambda chunk: chunk["choices"][0]["index"])
            if line.startswith("data: "):
                chunk = json.loads(line[len("data: "):])
                if "error" in chunk:
                    raise RuntimeError(chunk["error"]["message"])
                chunks.append(comparable(chunk))
                if arrivals is not None:
                    arrivals.append(time.time())
    finally:
        connection.close()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class Clients:
    """Threads that ask, one request after the other, until they are told to stop."""

    def __init__(self, port, twins, threads):
        self.port, self.twins = port, twins
        self.lost, self.different, self.asked = [], [], 0
        self.arrivals = []  # of streams: their chunks' times
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.stopping.is_set():
            with self.lock:
                number = self.asked
                self.asked += 1
            (route, body), twin = self.twins[number % len(self.twins)]
            arrivals = []
            try:
                answer = ask(self.port, route, body, arrivals)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                with self.lock:
                    self.lost.append(f"{number}: {error!r}")
                continue
            with self.lock:
                if answer != twin:
                    self.different.append(number)
                if body["stream"]:
                    self.arrivals.append(arrivals)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def stalls(self, kills):
        """For each stream that a kill fell into: how long its next chunk took to come."""
        found = []
        for arrivals in self.arrivals:
            for kill in kills:
                if arrivals and arrivals[0] < kill < arrivals[-1]:
                    found.append(next(time for time in arrivals if time > kill) - kill)
        return found


class Killer:
    def __init__(self, port, log, draw):
        self.port, self.log, self.draw = port, log, draw
        self.times = {}  # pid: (when, signal)
        self.back = []   # seconds until all replicas were ready again

    def replicas(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request("GET", "/health")
            return [r for m in json.loads(connection.getresponse().read())["models"] for r in m["replicas"]]
        finally:
            connection.close()

    def wait_until_ready(self):
        end = time.monotonic() + WAIT_SECONDS
        while not all(replica["state"] == "ready" for replica in self.replicas()):
            if time.monotonic() > end:
                raise RuntimeError("a replica did not come back")
            time.sleep(0.01)

    def strike(self, number, mean_seconds):
        time.sleep(self.draw.expovariate(1 / mean_seconds))
        victim = self.draw.choice(self.replicas())
        pid = self.draw.choice(victim["ranks"])["pid"]
        if pid == 0:
            return
        self.times[pid] = (time.time(), number)
        os.kill(pid, number)
        began = time.monotonic()
        end = began + WAIT_SECONDS
        while next(r for r in self.replicas() if r["id"] == victim["id"])["epoch"] == victim["epoch"]:
            if time.monotonic() > end:
                raise RuntimeError(f"nobody saw that {pid} had died")
            time.sleep(0.01)
        self.wait_until_ready()
        self.back.append(time.monotonic() - began)

    def detections(self, number):
        """Seconds from the signal to the line about it, the front's of a worker or the worker's of a rank, by their own clocks."""
        found = []
        for stamp, pid in re.findall(r"(\S+)Z .*(?:the worker \(pid|rank \d+ of \d+ \(process) (\d+)\)", self.log.read_text()):
            when, sent = self.times.get(int(pid), (0, None))
            if sent == number:
                seen = datetime.datetime.fromisoformat(stamp).replace(tzinfo=datetime.timezone.utc).timestamp()
                found.append(max(0.0, seen - when))
        return found


def main():
    options = scenario.arguments(__doc__, kills=20, stops=2, streams=0, twins=60, clients=8, mean_seconds=0.5, replicas=1,
                                 stall_seconds=3.0, tensor_parallel_size=1, pipeline_parallel_size=1)
    log = pathlib.Path(tempfile.mkstemp(prefix="gantry-kills-")[1])
    try:
        with log.open("w") as errors, scenario.Server(
                options.model, "--worker-process", "on", "--data-parallel-size", str(options.replicas), "--max-queue-wait", "0",
                "-tp", str(options.tensor_parallel_size), "-pp", str(options.pipeline_parallel_size), errors=errors) as server:
            port = int(server.url.rsplit(":", 1)[1])
            bodies = [make_body(seed, "") for seed in range(options.twins)]
            twins = [(request, ask(port, *request)) for request in bodies]
            clients = Clients(port, twins, options.clients)
            killer = Killer(port, log, random.Random(1))
            strikes = [signal.SIGKILL] * options.kills + [signal.SIGSTOP] * options.stops
            killer.draw.shuffle(strikes)
            try:
                for number in strikes:
                    killer.strike(number, options.mean_seconds)
                while clients.asked < options.streams:
                    time.sleep(0.1)
            finally:
                clients.stop()
            restarts = sum(replica["epoch"] for replica in killer.replicas()) - options.replicas
        for failure in clients.lost[:10]:
            print("lost:", failure)
        kills = [when for when, number in killer.times.values() if number == signal.SIGKILL]
        stalls = clients.stalls(kills)
        bounds = {
            "streams lost": (len(clients.lost), 0, "<="),
            "streams that differ from their twins": (len(clients.different), 0, "<="),
            "workers killed or stopped": (len(killer.times), 0.9 * len(strikes), ">="),
            "streams": (clients.asked, options.streams, ">="),
        }
        figures = {"kills": len(kills), "stops": len(killer.times) - len(kills), "restarts": restarts,
                   "streams": clients.asked, "streams_hit": len(stalls),
                   "detection_kill_p99_s": percentile(killer.detections(signal.SIGKILL), 0.99),
                   "detection_kill_p50_s": percentile(killer.detections(signal.SIGKILL), 0.5),
                   "detection_stop_p99_s": percentile(killer.detections(signal.SIGSTOP), 0.99),
                   "stall_p99_s": percentile(stalls, 0.99), "stall_p50_s": percentile(stalls, 0.5),
                   "ready_again_p50_s": percentile(killer.back, 0.5), "different": clients.different[:20]}
        if options.stall_seconds > 0:
            bounds["stall of a client's stream after a kill, p99, seconds"] = (figures["stall_p99_s"], options.stall_seconds, "<=")
        print(json.dumps(figures))
        ranks = options.tensor_parallel_size * options.pipeline_parallel_size
        name = "kill_workers" + (f"_{options.replicas}_replicas" if options.replicas > 1 else "") + (
            f"_{ranks}_ranks" if ranks > 1 else "")
        scenario.finish(name, options, bounds, figures)
    finally:
        log.unlink()


if __name__ == "__main__":
    main()
