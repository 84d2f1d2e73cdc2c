"""A model over two hosts, which are network namespaces: one rank's tokens, and hosts and links that are lost."""

import pytest
from host_network import Deployment, Network
from openai import OpenAI
from test_ranks import complete_all
from client import Gantry

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
