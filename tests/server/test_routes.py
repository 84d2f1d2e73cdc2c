"""The other routes, keys, and how the server ends."""

import json
import os
import signal
import threading

import pytest
from client import Gantry, Raw, eventually
from openai import AuthenticationError, OpenAI


def test_models(gantry, api, model):
    listed = api.models.list().data
    assert [entry.id for entry in listed] == [model]
    assert api.models.retrieve(model).id == model
    assert gantry.request("HEAD", "/v1/models").status == 200


def test_methods_and_types(gantry):
    answer = gantry.request("GET", "/v1/chat/completions")
    assert answer.status == 405 and answer.headers["Allow"] == "POST"
    assert gantry.request("POST", "/health").status == 405
    assert gantry.request("DELETE", "/v1/models").status == 405
    assert gantry.request("GET", "/v1").status == 404
    assert gantry.request("POST", "/tokenize", "{}", {"Content-Type": "text/plain"}).status == 415


def test_health(gantry, model):
    health = gantry.request("GET", "/health").json()
    assert health["status"] == "ok"
    (entry,) = health["models"]
    assert entry["id"] == model and entry["state"] == "ready"
    assert set(entry["progress"]) == {"phase", "done", "total", "per_second", "seconds_left"}
    for replica in entry["replicas"]:
        assert set(replica) == {"id", "epoch", "state", "age_seconds", "restarts", "cause", "ranks"}
        for rank in replica["ranks"]:
            assert set(rank) == {"rank", "host", "pid", "state"}
            os.kill(rank["pid"], 0)


def test_ready_and_version(gantry):
    assert gantry.request("GET", "/ready").status == 200
    assert gantry.request("GET", "/version").json()["version"]


def test_metrics(gantry, api, model):
    before = gantry.metrics()
    api.completions.create(model=model, prompt="x", max_tokens=3, extra_body={"ignore_eos": True})
    after = gantry.metrics()
    assert after["gantry_generation_tokens_total"] == before.get("gantry_generation_tokens_total", 0) + 3
    assert after["gantry_kv_blocks_total"] > 0
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_ratio", "prompt_tokens_total",
                 "time_to_first_token_seconds_count", "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count",
                 "request_time_per_output_token_seconds_count", "request_queue_time_seconds_count",
                 "request_prefill_time_seconds_count", "request_decode_time_seconds_count", "request_success_total",
                 "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total"):
        assert "gantry_" + name in after, name


@pytest.fixture(scope="module")
def guarded():
    server = Gantry("--api-key", "secret-key", "--metrics-compat", "vllm")
    yield server
    assert server.stop() == 0


def test_api_key(guarded):
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=guarded.url + "/v1", api_key="wrong", max_retries=0).models.list()
    assert OpenAI(base_url=guarded.url + "/v1", api_key="secret-key").models.list().data
    for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize"),
                         ("POST", "/detokenize"), ("GET", "/v1/models")):
        assert guarded.request(method, path, "{}").status == 401, path
    for path in ("/health", "/ready", "/metrics", "/version"):
        assert guarded.request("GET", path).status == 200, path


def test_vllm_metric_names(guarded):
    metrics = guarded.metrics()
    assert "vllm:num_requests_running" in metrics and "gantry_num_requests_running" in metrics


def test_sigterm_lets_streams_end():
    server = Gantry()
    body = json.dumps({"prompt": "x", "max_tokens": 100, "stream": True, "ignore_eos": True}).encode()
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while b"data: " not in raw.buffer:
            assert raw.receive()
        code = []
        stopper = threading.Thread(target=lambda: code.append(server.stop()))
        stopper.start()
        for _ in range(100):
            server.process.send_signal(signal.SIGTERM)
        assert raw.ended()
        assert b"data: [DONE]\n\n" in raw.buffer
        assert raw.buffer.endswith(b"0\r\n\r\n")
        stopper.join()
    assert code == [0]


def test_health_answers_while_the_model_loads():
    server = Gantry(wait=False)
    try:
        def health():
            try:
                return server.request("GET", "/health").json()
            except OSError:
                return None
        first = eventually(health, what="/health")
        assert first["models"][0]["state"] in ("loading", "ready")
        eventually(server.ready, what="/ready")
    finally:
        assert server.stop() == 0
