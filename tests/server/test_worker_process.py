"""Replicas in processes of their own: what a dead, stopped or failing worker costs. r1-tiny comes with the binary."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from client import Gantry, alive, children_of, eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKERS = ("--worker-process", "on")
PROMPT = {"prompt": [20, 30, 40], "max_tokens": 200, "ignore_eos": True, "seed": 5, "return_token_ids": True}


def health(server):
    return server.request("GET", "/health").json()


def worker(server):
    return health(server)["models"][0]["replicas"][0]


def generate(server, **fields):
    return server.request("POST", "/v1/completions", PROMPT | fields)


@pytest.fixture(scope="module")
def server():
    server = Gantry(*WORKERS, model="r1-tiny")
    yield server
    assert server.stop() == 0


def kill_during(server, number, **fields):
    """A request's answer, whose worker got the signal after the first tokens; and the worker as it was."""
    before = worker(server)
    pid = before["ranks"][0]["pid"]
    tokens = server.metrics()["gantry_generation_tokens_total"]
    answers = []
    asking = threading.Thread(target=lambda: answers.append(generate(server, **fields)))
    asking.start()
    eventually(lambda: server.metrics()["gantry_generation_tokens_total"] > tokens, what="a token")
    os.kill(pid, number)
    asking.join()
    eventually(lambda: not alive(pid), what="the worker's end")
    after = eventually(lambda: (w := worker(server))["state"] == "ready" and w["epoch"] > before["epoch"] and w,
                       what="a new worker")
    assert after["ranks"][0]["pid"] != pid
    return answers[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_stream_goes_on_where_its_worker_died(server, number):
    twin = generate(server, temperature=0.8, logprobs=2, repetition_penalty=1.1, n=2).json()
    answer = kill_during(server, number, temperature=0.8, logprobs=2, repetition_penalty=1.1, n=2)
    assert answer.status == 200
    assert answer.json()["choices"] == twin["choices"]
    server.wait_until_idle()


def test_every_stream_equals_its_undisturbed_twin():
    scenario = [sys.executable, ROOT / "bench/scenarios/kill_workers.py", "--model", "r1-tiny", "--kills", "20", "--stops", "1",
                "--twins", "40", "--clients", "6", "--mean-seconds", "0.3", "--stall-seconds", "0"]
    result = subprocess.run(scenario, capture_output=True, text=True, timeout=600)
    print(result.stdout, result.stderr)
    assert result.returncode == 0


def test_a_stream_moves_to_the_other_replica():
    server = Gantry("-dp", "2", model="r1-tiny")
    try:
        replicas = health(server)["models"][0]["replicas"]
        assert [replica["id"] for replica in replicas] == ["r1-tiny-0", "r1-tiny-1"]
        twin = generate(server).json()
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(generate(server).json())) for _ in range(4)]
        for thread in asking:
            thread.start()
        eventually(lambda: server.metrics()["gantry_num_requests_running"] > 0, what="running requests")
        os.kill(replicas[0]["ranks"][0]["pid"], signal.SIGKILL)
        for thread in asking:
            thread.join()
        assert [answer["choices"] for answer in answers] == [twin["choices"]] * 4
    finally:
        assert server.stop() == 0


def test_errors_of_a_request_arrive_from_the_worker(server):
    answer = generate(server, max_tokens=10**6)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == "max_tokens"


def test_a_request_waits_for_its_worker_until_its_deadline(server):
    pid = worker(server)["ranks"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    answer = server.request("POST", "/v1/completions", PROMPT, {"X-Request-Timeout-Ms": "1"})
    assert answer.status == 408, answer.text
    assert generate(server).status == 200  # without one it waits for as long as it takes


def test_ready_needs_a_token_of_the_new_worker(server):
    eventually(server.ready, what="/ready")
    before = worker(server)
    os.kill(before["ranks"][0]["pid"], signal.SIGKILL)
    eventually(lambda: worker(server)["epoch"] > before["epoch"], what="the death to be seen")
    eventually(server.ready, what="/ready")
    assert worker(server)["state"] == "ready"


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_restart_in_turn_fails_no_request(replicas):
    """SIGUSR1 restarts every worker, one after the other; with two of them the model is never away."""
    server = Gantry("-dp", str(replicas), *WORKERS, model="r1-tiny")
    try:
        twin = generate(server).json()["choices"]
        before = health(server)["models"][0]["replicas"]
        done, wrong, ready = threading.Event(), [], []

        def ask():
            while not done.is_set():
                answer = generate(server)
                if answer.status != 200 or answer.json()["choices"] != twin:
                    wrong.append(answer.text)

        def watch():
            while not done.is_set():
                model = health(server)["models"][0]
                ready.append(sum(replica["state"] == "ready" for replica in model["replicas"]))
        threads = [threading.Thread(target=ask) for _ in range(4)] + [threading.Thread(target=watch)]
        for thread in threads:
            thread.start()
        eventually(lambda: server.metrics()["gantry_num_requests_running"] > 0, what="running requests")
        server.process.send_signal(signal.SIGUSR1)
        eventually(lambda: all(r["restarts"] == 1 and r["state"] == "ready" for r in health(server)["models"][0]["replicas"]),
                   what="the restart of every replica")
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[0]
        assert min(ready) >= replicas - 1
        after = health(server)["models"][0]["replicas"]
        assert {r["cause"] for r in after} == {"restarted as asked"}
        assert not {r["ranks"][0]["pid"] for r in after} & {r["ranks"][0]["pid"] for r in before}
    finally:
        assert server.stop() == 0


def test_a_restart_needs_workers(tmp_path):
    with (tmp_path / "log").open("w") as log:
        server = Gantry("--worker-process", "off", model="r1-tiny", stderr=log)
    try:
        server.process.send_signal(signal.SIGUSR1)
        eventually(lambda: "--worker-process on is needed to restart it" in (tmp_path / "log").read_text(), what="a line that says so")
        assert generate(server).status == 200
    finally:
        assert server.stop() == 0


def status_of(server, *flags):
    return subprocess.run([os.environ["GANTRY_BIN"], "status", "--url", server.url, *flags], capture_output=True, text=True, timeout=300)


def test_status_and_metrics_tell_of_a_restart(server):
    before = worker(server)
    os.kill(before["ranks"][0]["pid"], signal.SIGKILL)
    after = eventually(lambda: (w := worker(server))["state"] == "ready" and w["epoch"] > before["epoch"] and w, what="a new worker")
    assert after["restarts"] == before["restarts"] + 1
    assert after["cause"] == f"the worker (pid {before['ranks'][0]['pid']}) was killed by signal 9 (Killed)"
    eventually(server.ready, what="/ready")
    metrics = server.metrics()
    assert metrics["gantry_replica_restarts_total"] == after["restarts"]
    assert metrics["gantry_replica_ready"] == metrics["gantry_rank_ready"] == 1
    assert 0 < metrics["gantry_replica_age_seconds"]
    status = status_of(server, "--json")
    assert status.returncode == 0, status.stderr
    state = json.loads(status.stdout)
    assert state["ready"] and state["url"] == server.url and state["pid"] == server.process.pid
    assert state["models"][0]["replicas"][0]["ranks"] == after["ranks"]
    lines = status_of(server).stdout.splitlines()
    assert lines[0] == f"{server.url}  ok, ready, process {server.process.pid}"
    assert lines[1].split() == ["MODEL", "STATE", "REPLICA", "STATE", "AGE", "RESTARTS", "RANK", "HOST", "PID", "STATE"]
    rank = after["ranks"][0]
    assert lines[2].split()[-5:] == [str(after["restarts"]), "0", rank["host"], str(rank["pid"]), "ready"]
    assert lines[3] == f"r1-tiny-0 was started again: {after['cause']}"


def test_status_without_a_server_says_so():
    result = subprocess.run([os.environ["GANTRY_BIN"], "status", "--url", "http://127.0.0.1:1"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.startswith("gantry status: no server answers at http://127.0.0.1:1/health: ")


def test_a_worker_that_dies_while_it_loads_is_started_again():
    server = Gantry(*WORKERS, model="r1-tiny", wait=False)
    try:
        [pid] = eventually(lambda: children_of(server.process.pid), what="a worker")
        os.kill(pid, signal.SIGKILL)
        eventually(server.ready, what="/ready")
        assert generate(server).status == 200
        assert worker(server)["epoch"] == 2
    finally:
        assert server.stop() == 0


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path):
    shutil.copytree(ROOT / "models/r1-tiny/weights", tmp_path / "broken")
    for shard in (tmp_path / "broken").glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-100])
    result = subprocess.run([os.environ["GANTRY_BIN"], "serve", tmp_path / "broken", "--port", "0", *WORKERS],
                            capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert errors and all("broken" in line for line in errors), result.stderr


def test_sigterm_finishes_what_runs_and_ends_the_worker():
    server = Gantry(*WORKERS, model="r1-tiny")
    pid = worker(server)["ranks"][0]["pid"]
    answers = []
    asking = threading.Thread(target=lambda: answers.append(generate(server)))
    asking.start()
    eventually(lambda: server.metrics()["gantry_generation_tokens_total"] > 5, what="tokens")
    server.process.send_signal(signal.SIGTERM)
    asking.join()
    assert len(answers[0].json()["choices"][0]["token_ids"]) == 200
    assert server.stop() == 0
    assert not alive(pid)


def test_the_worker_ends_with_the_front():
    server = Gantry(*WORKERS, model="r1-tiny")
    pid = worker(server)["ranks"][0]["pid"]
    server.process.kill()
    server.process.wait()
    eventually(lambda: not alive(pid), what="the worker's end")


def test_health_in_json_names_every_field(server):
    model = health(server)["models"][0]
    assert model["state"] == "ready"
    replica = model["replicas"][0]
    assert sorted(replica) == ["age_seconds", "cause", "epoch", "id", "ranks", "restarts", "state"]
    assert sorted(replica["ranks"][0]) == ["host", "pid", "rank", "state"]
    assert replica["ranks"][0]["host"] == socket.gethostname()
    assert replica["ranks"][0]["state"] == "ready"
