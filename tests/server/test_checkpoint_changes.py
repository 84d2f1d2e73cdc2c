"""A checkpoint whose files change under a running server, and weights without files."""

import os
import pathlib
import shutil
import subprocess

import pytest
from client import Gantry

TINY = pathlib.Path(__file__).resolve().parents[2] / "models" / "r1-tiny" / "weights"
GREEDY = {"prompt": "What is 12 + 30?", "max_tokens": 16, "temperature": 0}


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(TINY, copy)
    return copy


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(path, *flags):
        monkeypatch.setenv("GANTRY_TEST_MODEL", str(path))
        servers.append(Gantry("--max-model-len", "512", "--max-num-seqs", "2", *flags))
        return servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0


def completion(server):
    answer = server.request("POST", "/v1/completions", {"model": "tiny", **GREEDY})
    assert answer.status == 200, answer.text
    return answer.json()["choices"][0]["text"]


def test_files_that_shrink_under_a_running_server_change_nothing(folder, serve):
    server = serve(folder)
    before = completion(server)
    for shard in folder.glob("*.safetensors"):
        os.truncate(shard, 0)
    (folder / "config.json").unlink()
    assert completion(server) == before
    assert server.ready()


def test_a_missing_shard_is_named(folder):
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    result = subprocess.run([os.environ["GANTRY_BIN"], "serve", str(folder), "--port", "0"], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 1
    assert f"{shard}: missing" in result.stderr


def test_dummy_weights_need_only_config_json(folder, serve):
    for shard in folder.glob("*.safetensors*"):
        shard.unlink()
    first = completion(serve(folder, "--load-format", "dummy"))
    assert completion(serve(folder, "--load-format", "dummy")) == first
