#!/usr/bin/env python3
"""One tenant floods with unique prompts while another asks again and again with its own prefix: the other's hit rate stays
within 10% of what it is alone, and its requests are served."""

import scenario

options = scenario.arguments(__doc__, seconds=40, prefix=640, concurrency=16)
small = ["--input-len", 16, "--prefix-len", options.prefix, "--output-len", 8, "--max-concurrency", 1, "--num-warmups", 1,
         "--num-prompts", 20, "--extra-body", '{"user": "small"}']
with scenario.Server(options.model, "--kv-cache-memory", "96M", "--max-model-len", "1024", "--max-queue-wait",
                     "0") as server:
    alone = server.bench(*small, "--seed", 1)
    flood = server.bench("--input-len", 500, "--output-len", 16, "--duration", options.seconds, "--max-concurrency",
                         options.concurrency, "--seed", 2, "--extra-body", '{"user": "flood"}', wait=False)
    beside = server.bench(*small, "--seed", 1)
    flooded = flood()


def hit_rate(report):
    return report["cached_tokens"] / report["prompt_tokens"]


scenario.finish("tenants", options, {
    "hit rate beside a flood / alone": (hit_rate(beside) / hit_rate(alone), 0.9, ">="),
    "requests of the small tenant that failed": (beside["failed"] + beside["refused"], 0, "<="),
}, {"alone": alone, "beside": beside, "flood": flooded})
