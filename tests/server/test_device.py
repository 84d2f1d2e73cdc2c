"""`gantry serve --device` where no GPU can be used: hidden here, if there is one."""

import os
import subprocess

from client import Gantry

WITHOUT = os.environ | {"CUDA_VISIBLE_DEVICES": ""}


def test_cuda_ends_with_one_line_that_says_what_is_missing():
    command = [os.environ["GANTRY_BIN"], "serve", "r1-tiny", "--device", "cuda", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=WITHOUT)
    assert done.returncode == 1
    assert done.stderr.startswith("gantry serve: ") and done.stderr.count("\n") == 1, done.stderr
    assert "no CUDA device: " in done.stderr or "no CUDA backend" in done.stderr


def test_auto_serves_on_the_cpu():
    server = Gantry("--device", "auto", environment={"CUDA_VISIBLE_DEVICES": ""})
    assert server.stop() == 0
