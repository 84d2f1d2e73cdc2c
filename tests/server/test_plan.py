"""gantry plan: what docs/plan.md prints is what the program prints; refusals are one line."""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "plan.md"


def plan(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([os.environ["GANTRY_BIN"], "plan", *arguments], capture_output=True, text=True, timeout=60)


def documented() -> list[tuple[str, str]]:
    blocks = [block for block in PAGE.read_text().split("```")[1::2] if block.startswith("\n$ gantry plan ")]
    return [tuple(block.removeprefix("\n$ gantry plan ").split("\n", 1)) for block in blocks]


def test_the_page_prints_what_the_program_prints():
    assert len(documented()) >= 2
    for command, printed in documented():
        result = plan(*shlex.split(command))
        assert result.returncode == 0, result.stderr
        assert result.stdout == printed


def test_json():
    result = plan("deepseek-ai/DeepSeek-R1", "-tp", "8", "-pp", "2", "--max-model-len", "16384", "--json")
    answer = json.loads(result.stdout)
    assert answer["checkpoint"] == {"bytes": 673150611808, "tensors": 90427, "parameters": 671026419200}
    assert answer["checkpoint_with_mtp"]["bytes"] == 688574839360
    assert [stage["layers"] for stage in answer["stages"]] == [[0, 31], [31, 61]]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["no/such-model"], "deepseek-ai/DeepSeek-R1"),
        (["deepseek-ai/DeepSeek-R1", "-tp", "3"], "sizes that work: 1, 2, 4, 8, 16"),
        (["deepseek-ai/DeepSeek-R1", "-pp", "62"], "61 layers"),
        (["deepseek-ai/DeepSeek-R1", "--gpu", "h900"], "l40s, h100, h200, b200"),
        (["deepseek-ai/DeepSeek-R1", "--gpu-memory", "much"], "no size"),
        (["deepseek-ai/DeepSeek-R1", "--kv-cache-dtype", "int2"], "fp8"),
        (["deepseek-ai/DeepSeek-R1", "--max-model-len", "1000000"], "163840"),
        (["deepseek-ai/DeepSeek-R1", "-tp", "8", "-pp", "2", "--hosts", "3"], "must divide pipeline_parallel_size 2"),
        (["deepseek-ai/DeepSeek-R1", "--gpu-memory-utilization", "0"], "gpu_memory_utilization"),
    ],
)
def test_refusals_are_one_line(arguments, says):
    result = plan(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and says in result.stderr
