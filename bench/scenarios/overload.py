#!/usr/bin/env python3
"""Ten times the traffic that a server can take, open loop: it completes as much as at its peak, what it admits starts
about as fast as at 0.8 of the peak, and what it refuses is refused at once.

The client has a core of its own, the last, where there are two; the server computes on the others."""

import os

import scenario

options = scenario.arguments(__doc__, seconds=60, calm_seconds=15, peak_seconds=10, input=128, output=32, concurrency=16,
                             prefill_wait=0.6)
cores = sorted(os.sched_getaffinity(0))
server_cores, client_cores = (set(cores[:-1]), {cores[-1]}) if len(cores) > 1 else (set(cores), set(cores))
load = ["--input-len", options.input, "--output-len", options.output, "--ignore-eos"]


def measure(server, seconds, *flags):
    report = server.bench(*load, "--duration", seconds, *flags, details=True)
    # The first quarter fills the batch, and what ends after the last arrival is left out.
    records = report.pop("records")
    report["steady_per_s"] = sum(r["outcome"] == "completed" and 0.25 < r["end_ns"] / (seconds * 1e9) <= 1
                                 for r in records) / (0.75 * seconds)
    return report


with scenario.Server(options.model, "--max-num-seqs", options.concurrency, "--max-queue-wait", "0",
                     cores=server_cores, client_cores=client_cores) as server:
    peak = measure(server, options.peak_seconds, "--max-concurrency", options.concurrency, "--seed", 1)
with scenario.Server(options.model, "--max-num-seqs", options.concurrency, "--max-prefill-wait", options.prefill_wait,
                     cores=server_cores, client_cores=client_cores) as server:
    calm = measure(server, options.calm_seconds, "--request-rate", 0.8 * peak["steady_per_s"], "--seed", 2)
    over = measure(server, options.seconds, "--request-rate", 10 * peak["steady_per_s"], "--seed", 3)
scenario.finish("overload", options, {
    "completed per second / peak": (over["steady_per_s"] / peak["steady_per_s"], 0.95, ">="),
    "TTFT p99 of what is admitted / at 0.8 of the peak": (over["ttft_ms"]["p99"] / calm["ttft_ms"]["p99"], 2.0, "<="),
    "refusals p99, ms": (over["refusal_ms"]["p99"], 10, "<="),
    "admitted, then failed": (over["admitted_then_failed"] + calm["admitted_then_failed"], 0, "<="),
    "refused at 0.8 of the peak": (calm["refused"] / (calm["completed"] + calm["refused"]), 0.1, "<="),
}, {"server_cores": len(server_cores), "client_has_its_own_core": server_cores != client_cores, "peak": peak, "calm": calm,
    "over": over})
