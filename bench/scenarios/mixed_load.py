#!/usr/bin/env python3
"""Short requests with and without prompts at full context among them: the short ones' p99 inter-token latency with the
long ones is at most twice what it is without. The context is one that a CPU works off while others arrive."""

import scenario

options = scenario.arguments(__doc__, seconds=35, rate=2.5, short=100, output=32, context=2048)
short = ["--input-len", options.short, "--output-len", options.output, "--ignore-eos", "--duration", options.seconds]
with scenario.Server(options.model, "--max-model-len", options.context) as server:
    alone = server.bench(*short, "--request-rate", 0.9 * options.rate, "--seed", 1)
    waiting = server.bench("--input-len", options.context - 8, "--output-len", 4, "--ignore-eos", "--duration", options.seconds,
                           "--request-rate", 0.1 * options.rate, "--seed", 2, "--num-warmups", 0, wait=False)
    mixed = server.bench(*short, "--request-rate", 0.9 * options.rate, "--seed", 3)
    long = waiting()
scenario.finish("mixed_load", options, {
    "short ITL p99 with long prompts / without": (mixed["itl_ms"]["p99"] / alone["itl_ms"]["p99"], 2.0, "<="),
    "requests that failed": (alone["failed"] + mixed["failed"] + long["failed"], 0, "<="),
    "long prompts served": (long["completed"], 1, ">="),
}, {"alone": alone, "mixed": mixed, "long": long})
