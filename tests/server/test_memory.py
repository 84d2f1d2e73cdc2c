"""What does not fit is refused before weights are read, and says what would."""

import os
import subprocess

import pytest


@pytest.mark.parametrize("flags", [[], ["--worker-process", "on"], ["-dp", "2"], ["-tp", "2"], ["-pp", "2", "--worker-process", "off"]],
                         ids=["alone", "worker", "replicas", "tensor", "pipeline"])
def test_a_cache_too_small_for_one_request_is_refused_before_loading(flags):
    result = subprocess.run([os.environ["GANTRY_BIN"], "serve", "r1-tiny", "--port", "0", "--max-model-len", "4096",
                             "--kv-cache-memory", "1M", *flags], capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if " error " in line]
    assert errors and all("one request of max_model_len 4096 needs" in line and "are enough" in line for line in errors), result.stderr
    assert "loading" not in result.stderr


def test_flags_that_the_weights_do_not_allow_are_refused():
    for flag, model, reason in ((["--fp8-activations"], os.environ["GANTRY_TEST_MODEL"], "has no FP8 weights"),
                                (["--dtype", "bfloat16"], os.environ["GANTRY_TEST_MODEL"], "--dtype must be auto or float32"),
                                (["--fp8-activations", "--dtype", "float32"], "r1-tiny", "--dtype must be auto")):
        result = subprocess.run([os.environ["GANTRY_BIN"], "serve", model, "--port", "0", *flag], capture_output=True, text=True,
                                timeout=300)
        assert result.returncode != 0
        assert reason in result.stderr
