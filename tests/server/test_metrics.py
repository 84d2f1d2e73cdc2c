"""Every metric moves as known traffic says it must, under Gantry's names and vLLM's; promtool accepts the page."""

import os
import re
import subprocess

import pytest
from client import Gantry, eventually
from openai import BadRequestError, OpenAI

VLLM = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_queries_total",
        "prefix_cache_hits_total", "prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds",
        "inter_token_latency_seconds", "request_time_per_output_token_seconds", "e2e_request_latency_seconds",
        "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds", "request_success_total",
        "num_preemptions_total"]


class Page:
    """Samples by name and labels."""

    def __init__(self, text):
        self.text = text
        self.samples = {}
        for line in text.splitlines():
            if match := re.match(r"([a-zA-Z_:0-9]+)(?:\{(.*)\})? (\S+)$", line):
                self.samples[match[1], frozenset(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))] = float(match[3])

    def get(self, name, **labels):
        wanted = set(labels.items())
        return sum(value for (n, have), value in self.samples.items() if n == name and wanted <= have)


@pytest.fixture(scope="module")
def server():
    gantry = Gantry("--metrics-compat", "vllm", "--max-num-seqs", "4", "--max-model-len", "512")
    yield gantry
    assert gantry.stop() == 0


def page(server):
    return Page(server.request("GET", "/metrics").text)


def test_promtool_accepts_the_page(server):
    own = "".join(line + "\n" for line in page(server).text.splitlines() if "vllm:" not in line)
    done = subprocess.run(["promtool", "check", "metrics"], input=own, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_moves_as_the_traffic_says(server):
    api = OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    model = api.models.list().data[0].id
    prompt = list(range(300, 300 + 130))  # two full blocks and two tokens

    def ask(**parameters):
        api.completions.create(model=model, prompt=prompt, temperature=0, extra_body={"ignore_eos": True}, **parameters)
    server.wait_until_idle()
    before = page(server)
    ask(max_tokens=5)
    ask(max_tokens=7)
    ask(max_tokens=3, n=2)
    with pytest.raises(BadRequestError):
        ask(max_tokens=10_000)
    # A client that goes away.
    stream = api.completions.create(model=model, prompt="x", max_tokens=300, stream=True, extra_body={"ignore_eos": True})
    next(stream)
    running = page(server)
    assert running.get("gantry_num_requests_running") == running.get("vllm:num_requests_running") == 1
    assert running.get("gantry_kv_blocks_used") >= 1
    assert running.get("vllm:kv_cache_usage_perc") == pytest.approx(
        running.get("gantry_kv_blocks_used") / running.get("gantry_kv_blocks_total"), rel=0.5)
    stream.close()
    server.wait_until_idle()
    eventually(lambda: page(server).get("gantry_request_success_total", finished_reason="abort")
               > before.get("gantry_request_success_total", finished_reason="abort"), what="the abort is counted")
    after = page(server)

    def moved(name, **labels):
        return after.get(name, **labels) - before.get(name, **labels)
    assert moved("gantry_request_success_total", finished_reason="length") == 3
    assert moved("gantry_request_success_total", finished_reason="abort") == 1
    assert moved("gantry_http_responses_total", status="400") == 1
    complete = 5 + 7 + 2 * 3
    assert moved("gantry_request_generation_tokens_sum") == complete
    assert moved("gantry_generation_tokens_total") > complete  # some of the stream that was left
    one = len(api.completions.create(model=model, prompt="x", max_tokens=1, extra_body={"return_token_ids": True})
              .choices[0].model_extra["prompt_token_ids"])
    assert moved("gantry_prompt_tokens_total") == 3 * 130 + one
    assert moved("gantry_request_prompt_tokens_sum") == 3 * 130
    assert moved("gantry_request_prompt_tokens_count") == 3
    assert moved("gantry_prefix_cache_queries_total") == 4 * 130 + one
    assert moved("gantry_prefix_cache_hits_total") == 3 * 128  # all but the first, n = 2 twice
    assert moved("gantry_e2e_request_latency_seconds_count") == 3
    assert moved("gantry_time_to_first_token_seconds_count") == 5
    assert moved("gantry_request_queue_time_seconds_count") == 5
    assert moved("gantry_request_prefill_time_seconds_count") == 5
    assert moved("gantry_request_decode_time_seconds_count") == 4
    assert moved("gantry_request_time_per_output_token_seconds_count") == 4
    tokens_of_the_stream = moved("gantry_generation_tokens_total") - complete
    assert moved("gantry_inter_token_latency_seconds_count") == complete - 4 + tokens_of_the_stream - 1
    assert moved("gantry_engine_steps_total") >= 7
    for name in ["time_to_first_token", "inter_token_latency", "e2e_request_latency", "request_prefill_time"]:
        assert moved(f"gantry_{name}_seconds_sum") > 0, name


def test_vllm_names_say_the_same(server):
    now = page(server)
    for name in VLLM:
        own = "gantry_kv_cache_usage_ratio" if name == "kv_cache_usage_perc" else "gantry_" + name
        for suffix in ("_sum", "_count") if name.endswith("seconds") else ("",):
            assert any(n == "vllm:" + name + suffix for n, _ in now.samples), name
            assert now.get("vllm:" + name + suffix) == now.get(own + suffix), name
    labels = {name: dict(have) for (name, have) in now.samples if name.startswith("vllm:")}
    assert all(have.get("model_name") for have in labels.values())


def test_buckets_cover_what_is_measured(server):
    """Neither all below the first bound nor any above the last."""
    now = page(server)
    for name in ["time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"]:
        buckets = {dict(have)["le"]: value for (n, have), value in now.samples.items() if n == f"gantry_{name}_bucket"}
        finite = [float(le) for le in buckets if le != "+Inf"]
        assert buckets["+Inf"] == now.get(f"gantry_{name}_count")
        last = next(value for le, value in buckets.items() if le != "+Inf" and float(le) == max(finite))
        assert last == buckets["+Inf"], name
        assert len(finite) >= 10 and max(finite) / min(finite) >= 1000


def test_preemptions_and_waiting_are_counted():
    gantry = Gantry("--max-num-seqs", "4", "--kv-cache-memory", "12M", "--max-model-len", "500")
    try:
        code = subprocess.run([os.environ["GANTRY_BIN"], "bench", "serve", "--url", gantry.url, "--num-prompts",
                               "12", "--input-len", "100", "--output-len", "250", "--ignore-eos"],
                              capture_output=True).returncode
        assert code == 0
        gantry.wait_until_idle()
        now = gantry.metrics()
        assert now["gantry_num_preemptions_total"] > 0
        assert now["gantry_request_success_total"] == 13
    finally:
        assert gantry.stop() == 0
