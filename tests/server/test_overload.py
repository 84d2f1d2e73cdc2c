"""More than the server can take: refusals at once with Retry-After, and nothing that was admitted fails."""

import json
import os
import subprocess

import pytest
from client import Gantry


def bench(gantry, path, *flags):
    done = subprocess.run([os.environ["GANTRY_BIN"], "bench", "serve", "--url", gantry.url, "--input-len", "60",
                           "--output-len", "40", "--ignore-eos", "--save-result", str(path), *flags], capture_output=True, text=True)
    return done.returncode, json.loads(path.read_text())


@pytest.mark.parametrize("limit, reason", [
    (("--max-queued-requests", "3"), "requests are waiting, no more are queued"),
    (("--max-queued-tokens", "500"), "tokens are waiting, at most 500 are queued"),
    (("--max-queue-wait", "0.05"), "s are allowed"),
    (("--max-prefill-wait", "0.05"), "a prompt's turn comes in"),
])
def test_a_full_queue_refuses_and_serves_what_it_took(tmp_path, limit, reason):
    gantry = Gantry("--max-num-seqs", "2", *limit)
    try:
        code, report = bench(gantry, tmp_path / "r.json", "--num-prompts", "60", "--request-rate", "100")
        assert code == 0, report["errors"]
        assert report["failed"] == report["admitted_then_failed"] == 0
        assert report["completed"] >= 3 and report["refused"] > 0
        assert report["completed"] + report["refused"] == 60
        assert all(reason in error for error in report["errors"]), report["errors"]
        assert 1 <= report["retry_after_s_max"] <= 60
        gantry.wait_until_idle()
    finally:
        assert gantry.stop() == 0


def test_a_deadline_that_cannot_be_kept_is_refused(tmp_path):
    gantry = Gantry("--max-num-seqs", "1", "--max-queue-wait", "0")
    try:
        model = gantry.request("GET", "/v1/models").json()["data"][0]["id"]
        done = subprocess.Popen([os.environ["GANTRY_BIN"], "bench", "serve", "--url", gantry.url, "--num-prompts", "20",
                                 "--output-len", "100", "--input-len", "200", "--ignore-eos"], stdout=subprocess.DEVNULL)
        refused = 0
        while done.poll() is None and not refused:
            answer = gantry.request("POST", "/v1/completions", {"model": model, "prompt": [300, 301], "max_tokens": 1},
                                    {"X-Request-Timeout-Ms": "20"})
            refused += answer.status == 429 and "deadline" in answer.text and int(answer.headers["Retry-After"]) >= 1
        assert refused
        assert done.wait(120) == 0
    finally:
        assert gantry.stop() == 0
