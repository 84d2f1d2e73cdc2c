"""A model over two hosts, which are network namespaces: one rank's tokens, and hosts and links that are lost."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from client import WAIT_SECONDS, Gantry, alive, children_of, eventually
from host_network import Deployment, Network
from openai import OpenAI
from test_ranks import complete_all

R1_TINY = pathlib.Path(__file__).resolve().parents[2] / "models/r1-tiny/weights"
SPLITS = {
    "pp2": ["-pp", "2"],
    "tp2-pp2": ["-tp", "2", "-pp", "2"],
    "tp2-pp4-ep": ["-tp", "2", "-pp", "4", "--enable-expert-parallel"],
}


@pytest.fixture(scope="module")
def network():
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="module")
def of_one_rank(network):
    server = Gantry("--dtype", "float32", model="r1-tiny")
    try:
        return complete_all(server)
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("split", SPLITS)
def test_tokens_are_those_of_one_rank(split, network, of_one_rank, tmp_path):
    deployment = Deployment(network, tmp_path, "--dtype", "float32", *SPLITS[split])
    try:
        for (tokens, logprobs), (expected, expected_logprobs) in zip(complete_all(deployment.front), of_one_rank, strict=True):
            assert tokens == expected
            assert max(abs(a - b) for a, b in zip(logprobs, expected_logprobs, strict=True)) < 1e-3
    finally:
        deployment.stop()
        print(deployment.log.read_text(), deployment.agent_log())


def test_the_openai_client_streams(network, tmp_path):
    deployment = Deployment(network, tmp_path, "-tp", "2", "-pp", "2")
    try:
        api = OpenAI(base_url=deployment.front.url + "/v1", api_key="none", max_retries=0, timeout=120)
        message = [{"role": "user", "content": "What is 17 + 25?"}]
        stream = api.chat.completions.create(model="r1-tiny", messages=message, temperature=0, stream=True)
        deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
        assert len(deltas) > 3
        assert "42" in "".join(delta.content or "" for delta in deltas)
    finally:
        deployment.stop()


LONG = {"model": "r1-tiny", "prompt": [20, 30, 40], "max_tokens": 400, "ignore_eos": True, "seed": 5, "temperature": 0.8,
        "return_token_ids": True}


def generate(server):
    answer = server.request("POST", "/v1/completions", LONG)
    assert answer.status == 200, answer.text
    return answer.json()["choices"][0]["token_ids"]


class Host1:
    """Its processes, and what can happen to them and to the link."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.network = deployment.network
        self.agent = deployment.agents[-1]
        self.ranks = sorted(children_of(self.agent.pid))
        assert len(self.ranks) == 2

    def signal(self, number, *pids):
        for pid in pids:
            os.kill(pid, number)

    def lose(self, how):
        {"rank killed": lambda: self.signal(signal.SIGKILL, self.ranks[0]),
         "rank stopped": lambda: self.signal(signal.SIGSTOP, self.ranks[0]),
         "agent killed": lambda: self.signal(signal.SIGKILL, self.agent.pid),
         "host stopped": lambda: self.signal(signal.SIGSTOP, self.agent.pid, *self.ranks),
         "link down": lambda: self.network.link("down"),
         "blackhole": lambda: self.network.blackhole(True)}[how]()

    def come_back(self, how):
        if how == "link down":
            self.network.link("up")
        elif how == "blackhole":
            self.network.blackhole(False)
        elif how in ("agent killed", "host stopped"):
            self.deployment.start_agent()

    def wake(self):
        self.signal(signal.SIGCONT, *self.ranks, self.agent.pid)


LOST = {
    "rank killed": r"rank 2 of 4 \(process {rank} on host 1 \(\S+, 10\.77\.0\.2\)\) was killed by signal 9",
    "rank stopped": r"rank 2 of 4 \(process {rank} on host 1 \(\S+, 10\.77\.0\.2\)\) is stopped, and gave no sign of life for \d+ ms",
    "agent killed": r"host 1 \(\S+, 10\.77\.0\.2\) closed its connection: its agent has ended",
    "host stopped": r"host 1 \(\S+, 10\.77\.0\.2\) gave no sign of life for \d+ ms",
    "link down": r"host 1 \(\S+, 10\.77\.0\.2\) gave no sign of life for \d+ ms",
    "blackhole": r"host 1 \(\S+, 10\.77\.0\.2\) gave no sign of life for \d+ ms",
}


@pytest.fixture(scope="module")
def deployment(network, tmp_path_factory):
    deployment = Deployment(network, tmp_path_factory.mktemp("hosts"), "-tp", "2", "-pp", "2")
    yield deployment
    deployment.stop()


@pytest.fixture(scope="module")
def twin(deployment):
    return generate(deployment.front)


@pytest.mark.parametrize("how", LOST)
def test_a_loss_is_named_and_no_token_is_lost(how, deployment, twin):
    front = deployment.front
    host = Host1(deployment)
    log_before = len(deployment.log.read_text())
    tokens = front.metrics()["gantry_generation_tokens_total"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(generate, front)
        eventually(lambda: front.metrics()["gantry_generation_tokens_total"] > tokens, what="a token")
        lost_at = time.monotonic()
        host.lose(how)
        line = LOST[how].format(rank=host.ranks[0])
        eventually(lambda: re.search(line, deployment.log.read_text()[log_before:]), what="a line that names what was lost")
        print(f"{how}: found after {(time.monotonic() - lost_at) * 1e3:.0f} ms")
        if how != "host stopped":  # that one's ranks end when they are let
            eventually(lambda: not any(map(alive, host.ranks)), what="the end of the host's ranks")
            print(f"{how}: all ranks had ended after {(time.monotonic() - lost_at) * 1e3:.0f} ms")
        host.come_back(how)
        if how == "host stopped":
            eventually(lambda: "is ready after" in deployment.log.read_text()[log_before:], what="the group on the host's new agent")
            host.wake()
            eventually(lambda: not any(map(alive, host.ranks)), what="the end of the ranks of before")
            # Its host has another agent now.
            host.agent.terminate()
            assert host.agent.wait(WAIT_SECONDS) == 0
        assert answer.result() == twin
    eventually(front.ready, what="/ready")


@pytest.mark.parametrize("sequences", [1, 16])
def test_traffic_is_what_the_plan_predicts(sequences, deployment):
    """Bytes on the link per token, less what signs of life cost meanwhile."""
    command = [os.environ["GANTRY_BIN"], "plan", R1_TINY, "-tp", "2", "-pp", "2", "--ranks", "cpu", "--hosts", "2", "--max-num-seqs", "16", "--json"]
    planned = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["traffic_bytes_per_token"]
    planned = next(row for row in planned if row["sequences"] == sequences)
    front, network = deployment.front, deployment.network
    generate(front)  # warm, and known to the prefix cache
    begin, at = network.traffic(), time.monotonic()
    eventually(lambda: time.monotonic() > at + 1, what="a second without work")
    quiet = [(after - before) / (time.monotonic() - at) for before, after in zip(begin, network.traffic(), strict=True)]
    begin, at = network.traffic(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(sequences) as pool:
        tokens = sum(map(len, pool.map(lambda _: generate(front), range(sequences))))
    seconds = time.monotonic() - at
    received, sent = [(after - before - rate * seconds) / tokens
                      for before, after, rate in zip(begin, network.traffic(), quiet, strict=True)]
    print(f"{sequences} sequences: host 0 sends {sent:.0f} bytes a token (planned {planned['host_0_sends']:.0f}), "
          f"receives {received:.0f} (planned {planned['host_0_receives']:.0f})")
    total = planned["host_0_sends"] + planned["host_0_receives"]
    assert sent + received == pytest.approx(total, rel=0.1)
    assert sent == pytest.approx(planned["host_0_sends"], rel=0.1)


def test_an_agent_ends_when_its_lease_is_over(network, tmp_path):
    deployment = Deployment(network, tmp_path, "-pp", "2", "--host-lease", "1")
    agent = deployment.agents[0]
    ranks = list(children_of(agent.pid))
    assert ranks
    deployment.front.process.kill()
    deployment.front.process.wait()
    assert agent.wait(60) == 0
    assert not any(map(alive, ranks))
    assert "it has 1 s to come back" in deployment.agent_log()


def test_an_agent_serves_one_front_after_another(network, tmp_path):
    deployment = Deployment(network, tmp_path, "-pp", "2")
    tokens = generate(deployment.front)
    deployment.front.process.kill()
    deployment.front.process.wait()
    deployment.start_front()
    try:
        assert generate(deployment.front) == tokens
    finally:
        deployment.stop()


def test_the_secret_decides_and_is_never_shown(network, tmp_path):
    deployment = Deployment(network, tmp_path, "-pp", "2", wait=False)
    deployment.agents[0].kill()
    deployment.agents[0].wait()
    deployment.start_front(wait=False)
    stranger = deployment.start_agent(GANTRY_SECRET="0123456789abcdef0123456789abcdef")
    assert stranger.wait(60) == 1
    assert "another secret" in deployment.agent_log()
    member = deployment.start_agent(command=("worker",))
    eventually(deployment.front.ready, what="/ready")
    secret = deployment.environment["GANTRY_SECRET"]
    processes = [deployment.front.process.pid, member.pid, *children_of(deployment.front.process.pid), *children_of(member.pid)]
    assert len(processes) == 4
    for pid in processes:
        assert secret not in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    deployment.agents = [member]
    deployment.stop()
    assert secret not in "".join(path.read_text() for path in tmp_path.glob("*.log"))


@pytest.mark.parametrize("flags, variables, words", [
    (["-pp", "2"], {"GANTRY_SECRET": ""}, "--secret-file"),
    (["-pp", "2"], {"GANTRY_SECRET": "short"}, "GANTRY_SECRET: a secret of 5 bytes"),
    (["-pp", "3"], {}, "--pipeline-parallel-size is 3 on 2 hosts (by torchrun): each host has whole stages, so it must be a multiple of 2"),
    (["-pp", "2"], {"RANK": "2"}, "--placement env: RANK is \"2\": want a number from 0 to 1"),
    (["-pp", "2"], {"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    (["-pp", "2", "-dp", "2"], {}, "--data-parallel-size must be 1 on several hosts"),
    (["-pp", "2"], {"MASTER_ADDR": "0.0.0.0"}, "0.0.0.0 means every interface"),
    (["-pp", "2", "--host-wait", "1"], {}, "host 1 of 2 did not come to 127.0.0.1:29777 within 1 s"),
])
def test_what_cannot_be_is_one_line(flags, variables, words):
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777", "GANTRY_SECRET": "0" * 32}
    command = [os.environ["GANTRY_BIN"], "serve", "r1-tiny", "--port", "0", "--placement", "env", *flags]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_SECONDS,
                          env={**os.environ, **environment, **variables})
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if words in line], done.stderr


def test_a_launchers_other_processes_have_nothing_to_do():
    environment = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "GANTRY_SECRET": "0" * 32}
    command = [os.environ["GANTRY_BIN"], "serve", "r1-tiny", "-tp", "2", "-pp", "2", "--placement", "env"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=WAIT_SECONDS, env={**os.environ, **environment}).returncode == 0
