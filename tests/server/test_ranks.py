"""Models split over ranks: worker processes of one host give one rank's tokens, and a rank that dies is named and ends the others."""

import concurrent.futures
import os
import re
import signal
import subprocess
import time

import pytest
from client import WAIT_SECONDS, Gantry, alive, children_of, eventually

PROMPTS = ["What is 17 + 25?", "Hello!", "Sort: 9 4 7 1", "Tom has 3 apples and buys 4 more. How many has he?"]
SPLITS = {
    "tp2": ["-tp", "2"],
    "tp4": ["-tp", "4"],
    "tp2-ep": ["-tp", "2", "--enable-expert-parallel"],
    "pp2": ["-pp", "2"],
    "tp2-pp2": ["-tp", "2", "-pp", "2"],
    "tp2-pp2-ep": ["-tp", "2", "-pp", "2", "--enable-expert-parallel"],
    "tp4-over-tcp": ["-tp", "4", "--rank-transport", "tcp"],
    "tp2-pp2-ep-over-tcp": ["-tp", "2", "-pp", "2", "--enable-expert-parallel", "--rank-transport", "tcp"],
}


def complete(server, prompt, **parameters):
    body = {"model": "r1-tiny", "messages": [{"role": "user", "content": prompt}], "max_tokens": 60, "temperature": 0,
            "logprobs": True, **parameters}
    answer = server.request("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer.text
    choice = answer.json()["choices"][0]
    return [entry["token"] for entry in choice["logprobs"]["content"]], [entry["logprob"] for entry in choice["logprobs"]["content"]]


def complete_all(server):
    """All prompts at once, greedy and seeded."""
    asked = [(prompt, parameters) for prompt in PROMPTS
             for parameters in ({}, {"temperature": 0.8, "seed": 7, "presence_penalty": 0.5})]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda a: complete(server, a[0], **a[1]), asked))


@pytest.fixture(scope="module")
def of_one_rank():
    server = Gantry("--dtype", "float32", model="r1-tiny")
    try:
        return complete_all(server)
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("split", SPLITS)
def test_tokens_are_those_of_one_rank(split, of_one_rank):
    server = Gantry("--dtype", "float32", *SPLITS[split], model="r1-tiny")
    try:
        for (tokens, logprobs), (expected, expected_logprobs) in zip(complete_all(server), of_one_rank, strict=True):
            assert tokens == expected
            assert max(abs(a - b) for a, b in zip(logprobs, expected_logprobs, strict=True)) < 1e-3
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("split", ["tp2", "tp2-ep", "pp2", "tp2-pp2-ep"])
def test_drafts_change_no_token(split, of_one_rank):
    """And most first drafts are right: the module works on the ranks of the last stage."""
    server = Gantry("--dtype", "float32", "--num-speculative-tokens", "3", *SPLITS[split], model="r1-tiny")
    try:
        assert [tokens for tokens, _ in complete_all(server)] == [tokens for tokens, _ in of_one_rank]
        metrics = server.metrics()
        by_place = [float(line.split()[-1]) for line in server.request("GET", "/metrics").text.splitlines()
                    if line.startswith("gantry_spec_accepted_total")]
        assert max(by_place) > metrics["gantry_spec_drafted_steps_total"] / 2
    finally:
        assert server.stop() == 0


PASSAGE = ("The history of bread is old. People ground grain between stones, mixed it with water and baked it on hot rocks. Later they "
           "found that dough which is left to stand rises, and that the air in it makes the bread soft. In Egypt bakers built ovens.")


class Passage:
    """What SmolLM2, whose GGUF file has Q4_1 and Q8_0 blocks of 32, says of a passage and after it."""

    def __init__(self, *flags):
        server = Gantry(*flags)
        try:
            body = {"model": server.request("GET", "/v1/models").json()["data"][0]["id"], "prompt": PASSAGE, "max_tokens": 24,
                    "temperature": 0, "logprobs": 0, "echo": True}
            answer = server.request("POST", "/v1/completions", body).json()
        finally:
            assert server.stop() == 0
        logprobs = answer["choices"][0]["logprobs"]
        self.tokens, self.logprobs = logprobs["tokens"], logprobs["token_logprobs"]
        self.of_prompt = self.logprobs[1:answer["usage"]["prompt_tokens"]]

    def distance(self, other):
        """Root mean square, over the prompt's tokens."""
        return (sum((a - b) ** 2 for a, b in zip(self.of_prompt, other.of_prompt, strict=True)) / len(self.of_prompt)) ** 0.5


@pytest.fixture(scope="module")
def exact_passage():
    return Passage("--dtype", "float32")


@pytest.mark.parametrize("split", [["-tp", "3"], ["-tp", "3", "-pp", "2"]])
def test_quantised_blocks_are_split(split, exact_passage):
    """Nine query heads over three ranks, cut between blocks."""
    passage = Passage("--dtype", "float32", *split)
    assert passage.tokens == exact_passage.tokens
    assert passage.distance(exact_passage) < 1e-3


def test_the_fast_path_of_quantised_blocks_is_split(exact_passage):
    """Stages change no bit. Sums that ranks share are rounded otherwise, and activations of 8 bits make much of that: such a
    split is as far from the exact model as one rank is, no farther."""
    one = Passage()
    stages = Passage("-pp", "2")
    assert (stages.tokens, stages.logprobs) == (one.tokens, one.logprobs)
    assert Passage("-tp", "3").distance(exact_passage) < 1.5 * one.distance(exact_passage)


def ranks_of(pid):
    """Processes below `pid` that run `gantry rank`."""
    found = []
    for child, command in children_of(pid).items():
        found += [child] if b"rank" in command else ranks_of(child)
    return found


@pytest.mark.parametrize("worker", ["on", "off"])
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_lost_rank_is_named_and_ends_the_group(how, worker, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as file:
        server = Gantry("-tp", "2", "-pp", "2", "--worker-process", worker, model="r1-tiny", stderr=file)
    try:
        ranks = sorted(ranks_of(server.process.pid))
        assert len(ranks) == 3
        os.kill(ranks[1], signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        eventually(lambda: not any(map(alive, ranks)), what="the end of all ranks")
        cause = {"killed": r"was killed by signal 9", "stopped": r"is stopped, and gave no sign of life for \d+ ms"}[how]
        line = rf"rank 2 of 4 \(process {ranks[1]}\) {cause}"
        request = {"model": "r1-tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
        status = server.request("POST", "/v1/chat/completions", request).status
        assert status == 200 if worker == "on" else status >= 500
        eventually(lambda: re.search(line, log.read_text()), what="a line that names the rank")
    finally:
        assert server.stop() == 0


def test_a_group_that_lost_a_rank_is_never_ready():
    server = Gantry("-tp", "2", "--worker-process", "off", model="r1-tiny")
    try:
        model = server.request("GET", "/health").json()["models"][0]
        ranks = model["replicas"][0]["ranks"]
        assert [(rank["rank"], rank["state"]) for rank in ranks] == [(0, "ready"), (1, "ready")]
        assert [rank["pid"] for rank in ranks] == [server.process.pid, *ranks_of(server.process.pid)]
        assert server.ready()
        os.kill(ranks[1]["pid"], signal.SIGKILL)
        # An idle group computes nothing that could fail: it is asked for a token, and answers with an error.
        eventually(lambda: not server.ready(), what="a lost rank to be seen by /ready")
        health = eventually(lambda: (h := server.request("GET", "/health").json())["models"][0]["state"] == "failed" and h,
                            what="a failed model")
        assert health["status"] == "degraded"
        replica = health["models"][0]["replicas"][0]
        assert (replica["state"], [rank["state"] for rank in replica["ranks"]]) == ("dead", ["ready", "dead"])
        assert not server.ready()
        assert server.metrics()["gantry_replica_ready"] == 0
    finally:
        assert server.stop() == 0


def test_every_rank_of_a_worker_is_known():
    server = Gantry("-tp", "2", "-pp", "2", "--worker-process", "on", model="r1-tiny")
    try:
        [worker] = children_of(server.process.pid)
        ranks = server.request("GET", "/health").json()["models"][0]["replicas"][0]["ranks"]
        assert [rank["pid"] for rank in ranks] == [worker, *sorted(ranks_of(worker))]
        assert {rank["state"] for rank in ranks} == {"ready"}
    finally:
        assert server.stop() == 0


def test_a_machine_that_slept_loses_no_rank():
    """Whoever watches is stopped first and goes on last: the silence of the others is none that it could have heard."""
    server = Gantry("-tp", "2", "--worker-process", "on", model="r1-tiny")
    try:
        [worker] = children_of(server.process.pid)
        everyone = [server.process.pid, worker, *ranks_of(worker)]
        assert len(everyone) == 3
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        eventually(lambda: time.monotonic() > stopped + 5, what="a time that no rank may be silent")
        for pid in reversed(everyone):
            os.kill(pid, signal.SIGCONT)
        resumed = time.monotonic()
        eventually(lambda: complete(server, "Hello!")[0] and time.monotonic() > resumed + 1, what="some answers")
        assert [worker, *ranks_of(worker)] == everyone[1:]
        assert server.request("GET", "/health").json()["models"][0]["replicas"][0]["epoch"] == 1
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("flags, words", [
    (["r1-tiny", "-tp", "3"], "tensor_parallel_size 3 does not split the model: its 8 query heads have no equal parts; sizes that work: 1, 2, 4, 8"),
    (["r1-tiny", "-pp", "9"], "pipeline_parallel_size is 9: want 1 to the model's 7 layers"),
    ([os.environ["GANTRY_TEST_MODEL"], "-tp", "9"],
     "tensor_parallel_size 9 does not split the model: its 1536 intermediate columns have no equal parts; sizes that work: 1, 3"),
])
def test_ranks_that_cannot_be_are_refused(flags, words):
    command = [os.environ["GANTRY_BIN"], "serve", *flags, "--port", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 1
    assert words in done.stderr
