"""`gantry bench` against Gantry, and against servers that misbehave."""

import contextlib
import json
import os
import socket
import subprocess
import threading

import pytest


def bench(*arguments, timeout=120):
    """Exit code, standard output and standard error."""
    done = subprocess.run([os.environ["GANTRY_BIN"], "bench", *arguments], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def bad_server(answer):
    """Calls answer(socket, request) for every request on a port of its own; closes the connection after it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            answer(connection, request)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TEXT = b'data: {"choices": [{"text": "a"}]}\n\n'


def test_serve_measures_what_was_sent(gantry, tmp_path):
    result = tmp_path / "result.json"
    details = tmp_path / "details.json"
    before = gantry.metrics()
    code, out, err = bench("serve", "--url", gantry.url + "/v1", "--num-prompts", "12", "--request-rate", "50",
                           "--input-len", "70", "--range-ratio", "0.5", "--output-len", "5", "--ignore-eos", "--seed", "3",
                           "--goodput", "e2el:100000", "--save-result", str(result), "--save-details", str(details))
    assert code == 0, err
    report = json.loads(result.read_text())
    records = json.loads(details.read_text())
    assert report["completed"] == 12 and report["failed"] == report["refused"] == 0
    assert report["goodput_per_s"] == pytest.approx(report["requests_per_s"])
    assert len(records) == 12
    assert len({record["prompt_tokens"] for record in records}) > 1
    assert all(35 <= record["prompt_tokens"] <= 105 for record in records)
    assert sum(record["output_tokens"] for record in records) == report["output_tokens"]
    for record in records:
        assert record["sent_ns"] < record["first_ns"] <= record["last_ns"] <= record["end_ns"]
        assert len(record["gap_ns"]) <= record["output_tokens"] - 1
    assert "12 of 12 requests" in err and "completed 12, refused 0, failed 0" in out
    after = gantry.metrics()
    warm_up = 1
    assert after["gantry_request_success_total"] - before["gantry_request_success_total"] == 12 + warm_up
    served = after["gantry_generation_tokens_total"] - before["gantry_generation_tokens_total"]
    assert report["output_tokens"] < served <= report["output_tokens"] + 8


def test_serve_chat_from_a_dataset(gantry, tmp_path):
    dataset = tmp_path / "prompts.jsonl"
    dataset.write_text('{"prompt": "Say hello.", "output_tokens": 3}\n'
                       '{"messages": [{"role": "user", "content": "And again."}], "output_tokens": 4}\n')
    result = tmp_path / "result.json"
    code, _, err = bench("serve", "--url", gantry.url, "--endpoint", "chat", "--dataset", str(dataset), "--ignore-eos",
                         "--num-prompts", "6", "--max-concurrency", "2", "--save-result", str(result))
    assert code == 0, err
    assert json.loads(result.read_text())["output_tokens"] == 3 * 3 + 3 * 4


def test_a_duration_ends_the_arrivals(gantry, tmp_path):
    result = tmp_path / "result.json"
    code, _, err = bench("serve", "--url", gantry.url, "--duration", "1", "--max-concurrency", "2", "--input-len", "8",
                         "--output-len", "2", "--save-result", str(result))
    assert code == 0, err
    report = json.loads(result.read_text())
    assert report["completed"] > 2 and report["seconds"] < 30


def test_refusals_of_a_request_are_named(gantry):
    code, _, err = bench("serve", "--url", gantry.url, "--extra-body", '{"temperature": 9}')
    assert code == 1 and "temperature" in err
    code, _, err = bench("serve", "--url", gantry.url, "--model", "nobody")
    assert code == 1 and "nobody" in err


@pytest.mark.parametrize("answer, message", [
    (lambda c, _: None, "Server returned nothing"),
    (lambda c, _: c.sendall(b"garbage\r\n\r\n"), "first request"),
    (lambda c, _: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "before [DONE]"),
    (lambda c, _: c.sendall(STREAM + TEXT), "before [DONE]"),
    (lambda c, _: c.sendall(STREAM + b"data: {]\n\n"), "no JSON object"),
    (lambda c, _: c.sendall(STREAM + TEXT + b'data: {"error": {"message": "out of luck"}}\n\n'), "out of luck"),
    (lambda c, _: c.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops"), "HTTP 500: oops"),
    (lambda c, _: c.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 21\r\n\r\n" + b'{"error": "no model"}'), "no model"),
    (lambda c, _: c.sendall(b"HTTP/1.1 503 No\r\n\r\n" + b"x" * (1 << 20)), "first request"),
    (lambda c, _: c.sendall(STREAM + b"data: " + b"x" * (5 << 20)), "a line that does not end"),
    (lambda c, _: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (1 << 18)), "first request"),
    (lambda c, _: c.recv(1) and c.recv(1), "Timeout"),
])
def test_a_server_that_misbehaves_is_reported_in_a_line(answer, message):
    with bad_server(answer) as url:
        code, _, err = bench("serve", "--url", url, "--model", "m", "--input-len", "4", "--output-len", "4",
                             "--request-timeout", "2")
    assert code == 1
    assert message in err and len(err.strip().splitlines()) == 1, err


def test_refused_requests_are_counted_apart(tmp_path):
    count = iter(range(1000))
    lock = threading.Lock()

    def answer(connection, _):
        with lock:
            number = next(count)
        if number % 2 == 0:
            connection.sendall(STREAM + TEXT + b"data: [DONE]\n\n")
        else:
            connection.sendall(b"HTTP/1.1 429 Full\r\nRetry-After: 7\r\nContent-Length: 31\r\n\r\n"
                               b'{"error": {"message": "full up"}')
    result = tmp_path / "result.json"
    with bad_server(answer) as url:
        code, _, _ = bench("serve", "--url", url, "--model", "m", "--num-prompts", "11", "--max-concurrency", "1",
                           "--save-result", str(result))
    report = json.loads(result.read_text())
    assert code == 0
    assert (report["completed"], report["refused"], report["failed"]) == (5, 6, 0)
    assert report["retry_after_s_max"] == 7 and report["refusal_ms"]["count"] == 6


@pytest.mark.parametrize("arguments, message", [
    (["serve", "--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
    (["serve", "--url", "ftp://127.0.0.1"], "no answer"),
    (["serve", "--request-rate", "0"], "--request-rate"),
    (["serve", "--request-rate", "fast"], "\"fast\" is no number"),
    (["serve", "--token-ids", "7"], "FIRST:END"),
    (["serve", "--extra-body", "[]"], "JSON object"),
    (["serve", "--goodput", "speed:1"], "ttft:MS"),
    (["serve", "--dataset", "/nonexistent"], "cannot be opened"),
    (["serve", "--input-len", "0"], "--input-len"),
    (["latency", "/nonexistent"], "/nonexistent"),
    (["latency", "smollm2", "--batch-size", "0"], "--batch-size"),
    (["throughput", "smollm2", "--num-prompts", "-1"], "--num-prompts"),
])
def test_wrong_flags_are_named(arguments, message):
    code, _, err = bench(*arguments)
    assert code == 1 and message in err, err


def test_latency_and_throughput_of_the_engine(tmp_path):
    model = os.environ["GANTRY_TEST_MODEL"]
    result = tmp_path / "result.json"
    small = ["--input-len", "16", "--output-len", "4", "--save-result", str(result)]
    code, out, err = bench("latency", model, "--batch-size", "3", "--num-iters", "4", "--num-iters-warmup", "1", *small)
    assert code == 0, err
    report = json.loads(result.read_text())
    assert len(report["latencies"]) == 4 and report["ttft_ms"]["count"] == 12
    assert report["avg_latency"] == pytest.approx(sum(report["latencies"]) / 4)
    code, out, err = bench("throughput", model, "--num-prompts", "10", *small)
    assert code == 0, err
    report = json.loads(result.read_text())
    assert report["completed"] == 10 and report["output_tokens"] == 40 and "requests/s" in out
