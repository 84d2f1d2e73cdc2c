"""Errors: their shape, the parameter they name, and that neighbours are unaffected."""

import json
import threading

import openai
import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
TEXT = {"prompt": "hi", "max_tokens": 2}


def expect(answer, status, param):
    assert answer.status == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param, error
    assert error["message"] and "\n" not in error["message"]
    assert "/work" not in error["message"] and "0x" not in error["message"]


@pytest.mark.parametrize("name, value", [
    ("n", 10**9), ("n", 0), ("max_tokens", -1), ("max_tokens", 2**63), ("max_tokens", 10**6), ("temperature", 3),
    ("top_p", 0), ("top_k", -5), ("min_p", 2), ("seed", 1.5), ("stop", ""), ("stop", ["s"] * 10**5), ("stop_token_ids", [-1]),
    ("stop_token_ids", [10**9]), ("logit_bias", {"x": 1}), ("logit_bias", {str(i): 1 for i in range(10**5)}),
    ("presence_penalty", 5), ("frequency_penalty", -5), ("repetition_penalty", 0), ("min_tokens", -1), ("ignore_eos", "yes"),
    ("stream", 1), ("stream_options", {"include_usage": True}), ("user", 5), ("tools", [{"type": "function"}]),
    ("tool_choice", "auto"), ("parallel_tool_calls", True), ("response_format", {"type": "json_object"}), ("best_of", 2),
    ("suffix", "x"), ("truncate_prompt_tokens", 5), ("no_such_parameter", 1),
])
@pytest.mark.parametrize("path, base", [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)])
def test_parameters_are_named(gantry, model, path, base, name, value):
    expect(gantry.request("POST", path, {"model": model, **base, name: value}), 400, name)


@pytest.mark.parametrize("path, base, name, value", [
    ("/v1/chat/completions", CHAT, "top_logprobs", 10**6),
    ("/v1/chat/completions", CHAT, "messages", []),
    ("/v1/chat/completions", CHAT, "chat_template_kwargs", {"x": 1}),
    ("/v1/completions", TEXT, "logprobs", 10**6),
    ("/v1/completions", TEXT, "prompt", ""),
    ("/v1/completions", TEXT, "prompt", []),
    ("/v1/completions", TEXT, "prompt", [-1]),
    ("/v1/completions", TEXT, "prompt", [2**40]),
    ("/v1/completions", TEXT, "prompt", "word " * 200_000),
    ("/v1/completions", TEXT, "prompt", "a" * (16 << 20)),
])
def test_parameters_of_one_route_are_named(gantry, model, path, base, name, value):
    expect(gantry.request("POST", path, {"model": model, **base, name: value}), 400, name)


@pytest.mark.parametrize("body", [
    "", "[]", "null", "{", '{"model": "x"} x', '{"prompt": NaN}', "\ufeff{}", '{"a": 1e400}', '{"a": "\\ud800"}',
    '{"a": 1, "a": 2}', '{"a":' * 10**6, '{"a": ' + "[" * 10**6, b'{"a": "\xff"}', b'{"a": "\xc0\xaf"}', b"{}\x00",
])
def test_json_is_strict(gantry, body):
    answer = gantry.request("POST", "/v1/completions", body if isinstance(body, bytes) else body.encode())
    assert answer.status == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_unknown_model(api):
    with pytest.raises(openai.NotFoundError) as caught:
        api.chat.completions.create(model="no-such-model", messages=CHAT["messages"])
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("no-such-model")


def test_client_sees_the_parameter(api, model):
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(model=model, messages=CHAT["messages"], temperature=9)
    assert caught.value.param == "temperature"
    assert caught.value.request_id


def test_request_id_is_echoed(gantry):
    assert gantry.request("GET", "/health", headers={"X-Request-Id": "my-id.1"}).headers["X-Request-Id"] == "my-id.1"
    assert gantry.request("GET", "/health", headers={"X-Request-Id": "bad id"}).headers["X-Request-Id"] != "bad id"
    assert gantry.request("GET", "/nothing").headers["X-Request-Id"]


def test_neighbours_are_unaffected(gantry, api, model):
    """Streams that run beside refused requests say what they say alone."""
    def answer():
        stream = api.chat.completions.create(model=model, messages=CHAT["messages"], max_tokens=48, temperature=0, stream=True)
        return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    alone = answer()
    beside = []
    streams = [threading.Thread(target=lambda: beside.append(answer())) for _ in range(4)]
    for stream in streams:
        stream.start()
    hostile = json.dumps({"model": model, "prompt": "x", "logit_bias": {str(i): 1 for i in range(10**5)}})
    for _ in range(20):
        assert gantry.request("POST", "/v1/completions", hostile).status == 400
    for stream in streams:
        stream.join()
    assert beside == [alone] * 4


def test_deadline(gantry, model):
    body = {"model": model, "prompt": "x", "max_tokens": 500, "ignore_eos": True}
    answer = gantry.request("POST", "/v1/completions", body, {"X-Request-Timeout-Ms": "1"})
    expect(answer, 408, None)
    expect(gantry.request("POST", "/v1/completions", body, {"X-Request-Timeout-Ms": "-1"}), 400, "X-Request-Timeout-Ms")
