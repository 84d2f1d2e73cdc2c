#!/usr/bin/env python3
"""The same 2,000-token prefix asked 100 times: a warm first token takes at most 5% of a cold one's time."""

import scenario

options = scenario.arguments(__doc__, prefix=2000, requests=100, cold=5)
suffix = ["--input-len", 8, "--output-len", 1, "--max-concurrency", 1, "--num-warmups", 0, "--prefix-len", options.prefix]
with scenario.Server(options.model) as server:
    cold = [server.bench(*suffix, "--num-prompts", 1, "--seed", 1000 + i) for i in range(options.cold)]
    warm = server.bench(*suffix, "--num-prompts", options.requests, "--seed", 1000)
cold_ms = sorted(report["ttft_ms"]["p50"] for report in cold)[len(cold) // 2]
hit = warm["cached_tokens"] / warm["prompt_tokens"]
scenario.finish("shared_prefix", options, {
    "warm TTFT p50 / cold TTFT p50": (warm["ttft_ms"]["p50"] / cold_ms, 0.05, "<="),
    "prompt tokens found in the cache": (hit, 0.95, ">="),
}, {"cold_ttft_ms": [report["ttft_ms"]["p50"] for report in cold], "warm": warm})
