#!/usr/bin/env python3
"""More traffic than the KV cache holds, for ten minutes: requests wait and are preempted, none fails, and no block is in
use at the end."""

import scenario

options = scenario.arguments(__doc__, seconds=600, concurrency=24, cache="48M")
with scenario.Server(options.model, "--kv-cache-memory", options.cache, "--max-model-len", "1024", "--max-queue-wait",
                     "0") as server:
    before = server.metrics()
    # A slow machine is no failure of the server: the client has the patience for it.
    report = server.bench("--input-len", 200, "--output-len", 300, "--range-ratio", 0.6, "--ignore-eos", "--duration",
                          options.seconds, "--max-concurrency", options.concurrency, "--seed", 4, "--request-timeout",
                          3600)
    after = server.metrics()
scenario.finish("kv_exhausted", options, {
    "requests that failed or were refused": (report["failed"] + report["refused"], 0, "<="),
    "preemptions": (after["gantry_num_preemptions_total"] - before["gantry_num_preemptions_total"], 1, ">="),
    "KV blocks in use at the end": (after["gantry_kv_blocks_used"], 0, "<="),
}, {"report": report, "kv_blocks_total": after["gantry_kv_blocks_total"]})
