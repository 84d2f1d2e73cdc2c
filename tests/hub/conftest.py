import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server"))

from fake_hub import FakeHub  # noqa: E402
from gantry_pull import Cache  # noqa: E402

CHUNK = 8 << 20  # the smallest range that a large file is fetched in


def small_files():
    return {
        "README.md": b"# Tiny\n",
        "config.json": b'{"model_type": "llama"}\n',
        "tokenizer.json": b"{}" + b" " * 2000,
        "model.safetensors": random.Random(1).randbytes(300_000),
        "pytorch_model.bin": random.Random(2).randbytes(300_000),
        "original/params.json": b"{}",
    }


def large_files():
    """One file of three ranges, the last of them short."""
    return small_files() | {"model.safetensors": random.Random(3).randbytes(2 * CHUNK + 1_234_567)}


@pytest.fixture
def hub():
    fake = FakeHub(small_files())
    yield fake
    fake.close()


@pytest.fixture
def large_hub():
    fake = FakeHub(large_files())
    yield fake
    fake.close()


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "hf")
