"""`gantry serve ORG/NAME`: pull, load, answer."""

import json
import os
import pathlib
import subprocess

import pytest
from client import Gantry, eventually
from fake_hub import Answer, FakeHub

WEIGHTS = pathlib.Path(__file__).resolve().parents[2] / "models/r1-tiny/weights"


class Serve(Gantry):
    """`gantry serve` of one name of the hub."""

    def __init__(self, cache, hub, name, *flags, **variables):
        os.environ["GANTRY_TEST_MODEL"], before = name, os.environ.get("GANTRY_TEST_MODEL", "")
        saved = dict(os.environ)
        os.environ.update(cache.environment(hub, **variables))
        try:
            super().__init__(*flags, wait=False)
        finally:
            os.environ.clear()
            os.environ.update(saved | {"GANTRY_TEST_MODEL": before})

    def complete(self, model="org/tiny"):
        eventually(self.ready, what="/ready")
        answer = self.request("POST", "/v1/completions", {"model": model, "prompt": "1 + 1 =", "max_tokens": 4,
                                                          "temperature": 0})
        assert answer.status == 200, answer.text
        return answer.json()["choices"][0]["text"]


@pytest.fixture(scope="module")
def tiny():
    hub = FakeHub({path.name: path.read_bytes() for path in WEIGHTS.iterdir()})
    yield hub
    hub.close()


def served(server, model="org/tiny"):
    try:
        return server.complete(model)
    finally:
        assert server.stop() == 0


def test_a_model_of_the_hub_answers(tiny, cache):
    text = served(Serve(cache, tiny, "org/tiny"))
    assert text
    fetched = tiny.sent()
    assert served(Serve(cache, tiny, "org/tiny@main")) == text  # nothing more is fetched
    assert tiny.sent() == fetched
    asked = len(tiny.requests)
    assert served(Serve(cache, tiny, "org/tiny", HF_HUB_OFFLINE="1")) == text
    assert len(tiny.requests) == asked
    tiny.fault(lambda r: r.path.startswith("/api/"), lambda r, a: Answer(503))
    assert served(Serve(cache, tiny, "org/tiny")) == text  # the hub is down: what was pulled before
    tiny.faults.clear()
    inspected = subprocess.run([os.environ["GANTRY_BIN"], "inspect", "org/tiny", "--json"], env=cache.environment(),
                               capture_output=True, text=True, check=True)
    assert json.loads(inspected.stdout)


def test_health_shows_the_download(tiny, cache):
    held = []

    def hold(request, answer):
        answer.hold_after = 1000
        held.append(answer)
        return answer

    tiny.fault(lambda r: r.host == "cdn", hold)
    server = Serve(cache, tiny, "org/tiny")

    def downloading():
        try:
            model = server.request("GET", "/health").json()["models"][0]
        except OSError:
            return False
        return model if model["progress"]["phase"] == "downloading" and model["progress"]["done"] > 0 else False

    eventually(downloading, what="a download in /health")
    tiny.faults.clear()
    for answer in held:
        answer.release.set()
    assert served(server)


def test_a_name_that_the_hub_does_not_have(tiny, cache):
    server = Serve(cache, tiny, "org/other")
    assert server.process.wait(60) == 1


def test_offline_without_a_pull(tiny, cache):
    server = Serve(cache, tiny, "org/tiny", HF_HUB_OFFLINE="1")
    assert server.process.wait(60) == 1


def test_a_gguf_file_of_the_hub(cache):
    content = pathlib.Path(os.environ["GANTRY_TEST_MODEL"]).read_bytes()
    hub = FakeHub({"README.md": b"x", "smollm2.gguf": content})
    try:
        assert served(Serve(cache, hub, "org/tiny", "--revision", "main"))
    finally:
        hub.close()
