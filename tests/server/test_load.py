"""Many requests at once, and clients that go away."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from client import Raw, eventually


def test_64_at_once_with_mixed_lengths(api, model):
    def ask(i):
        stream = api.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"Count to {i}. " + "Please. " * (i % 17)}],
            max_tokens=1 + i % 24, temperature=0, stream=i % 2 == 0, extra_body={"ignore_eos": True})
        if i % 2 == 0:
            return sum(1 for chunk in stream for choice in chunk.choices if choice.finish_reason == "length")
        return 1 if stream.usage.completion_tokens == 1 + i % 24 else 0
    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, range(64))) == [1] * 64


def test_1000_disconnects_leave_nothing(gantry, model):
    """Resets and closes while queued, in prefill, in decode, and after the end."""
    draw = random.Random(5)
    plans = []
    for i in range(1000):
        body = {"model": model, "messages": [{"role": "user", "content": "hello " * draw.randrange(1, 40)}],
                "max_tokens": draw.randrange(1, 24), "stream": draw.random() < 0.7, "n": draw.choice([1, 1, 1, 1, 4])}
        plans.append((json.dumps(body).encode(), draw.choice(["at once", "first bytes", "some bytes", "end"]),
                      draw.random() < 0.5, draw.randrange(100, 3000)))

    def run(plan):
        body, until, reset, count = plan
        with Raw(gantry.port) as raw:
            raw.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if until == "first bytes":
                raw.receive()
            elif until == "some bytes":
                while len(raw.buffer) < count and raw.receive():
                    pass
            elif until == "end" and count < 300:
                raw.ended()
            if reset:
                raw.reset()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(run, plans))
    gantry.wait_until_idle()
    assert gantry.metrics()["gantry_kv_blocks_used"] == 0


def test_a_reader_that_stops_is_given_up(gantry, model):
    """Its stream ends although it never closes, and memory does not grow with it."""
    body = json.dumps({"model": model, "prompt": "x", "max_tokens": 400, "n": 16, "logprobs": 20, "stream": True,
                       "ignore_eos": True}).encode()
    with Raw(gantry.port) as raw:
        raw.socket.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        raw.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: gantry.metrics()["gantry_num_requests_running"] > 0, what="the request runs")
        gantry.wait_until_idle()


def test_health_answers_while_large_bodies_come(gantry, model):
    stop = threading.Event()
    body = json.dumps({"model": model, "prompt": "word " * 200_000}).encode()

    def flood():
        while not stop.is_set():
            assert gantry.request("POST", "/v1/completions", body).status == 400
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            assert gantry.request("GET", "/health").status == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join()
