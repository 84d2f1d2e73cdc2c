"""Times llama.cpp through its C API: one JSON object per line on request.

Reads lines `prefill N`, `decode STREAMS TOKENS DEPTH` on standard input and answers {"seconds": ...} for each, so that a
driver can interleave it with another engine in one run.
"""

import argparse
import ctypes
import json
import sys
import time

import llama_cpp


def fill(batch, tokens):
    """tokens: list of (id, position, sequence, wants_logits)."""
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, logits) in enumerate(tokens):
        batch.token[i] = token
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = 1 if logits else 0


class Peer:
    def __init__(self, path, threads, context, streams_max):
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context * streams_max
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_threads = threads
        params.n_threads_batch = threads
        params.n_seq_max = streams_max
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def run(self, tokens):
        fill(self.batch, tokens)
        code = llama_cpp.llama_decode(self.context, self.batch)
        if code != 0:
            sys.exit(f"llama_decode gave {code}")
        llama_cpp.llama_synchronize(self.context)

    def argmax(self, row):
        logits = llama_cpp.llama_get_logits_ith(self.context, row)
        values = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
        return max(range(0, self.vocab, 997), key=values.__getitem__)  # touches the logits; the choice does not matter

    def prefill(self, count):
        self.clear()
        start = time.perf_counter()
        self.run([(100 + i % 1000, i, 0, i == count - 1) for i in range(count)])
        return time.perf_counter() - start

    def decode(self, streams, count, depth):
        self.clear()
        for sequence in range(streams):
            for first in range(0, depth, 512):
                self.run([(100 + i % 1000, i, sequence, i == depth - 1) for i in range(first, min(depth, first + 512))])
        start = time.perf_counter()
        for step in range(count):
            self.run([(200 + (step * 7 + s) % 1000, depth + step, s, True) for s in range(streams)])
            self.argmax(0)
        return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2560)
    parser.add_argument("--streams-max", type=int, default=16)
    args = parser.parse_args()
    peer = Peer(args.model, args.threads, args.context, args.streams_max)
    print(json.dumps({"engine": "llama.cpp", "version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "prefill":
            seconds = peer.prefill(int(words[1]))
        else:
            seconds = peer.decode(*map(int, words[1:]))
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
