"""`gantry pull` against an honest hub: what it asks for and what it leaves."""

import os
import re
import subprocess
import threading

import pytest
from fake_hub import SIGNATURE
from gantry_pull import TOKEN

READ = ["config.json", "model.safetensors", "tokenizer.json"]  # of the fake's files, what Gantry reads


def names(snapshot):
    return sorted(str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if not p.is_dir())


def test_layout_is_huggingfaces(hub, cache):
    snapshot = cache.pull_ok(hub)
    commit = hub.branches["main"]
    assert snapshot == cache.repo / "snapshots" / commit
    assert (cache.repo / "refs/main").read_text() == commit
    assert names(snapshot) == READ
    for path in READ:
        entry = hub.entries[path]
        assert os.readlink(snapshot / path) == f"../../blobs/{entry.etag}"
        assert (snapshot / path).read_bytes() == entry.content
    assert cache.blobs() == sorted(hub.entries[path].etag for path in READ)
    assert cache.partials() == []
    assert sorted(p.name for p in cache.root.iterdir()) == [".locks", "models--org--tiny"]


def test_what_is_cached_is_not_fetched_again(hub, cache):
    cache.pull_ok(hub)
    before = hub.sent()
    cache.pull_ok(hub)
    assert hub.sent() == before
    (cache.repo / "blobs" / hub.entries["config.json"].etag).unlink()
    cache.pull_ok(hub)
    assert hub.sent() == before + hub.entries["config.json"].size


@pytest.mark.parametrize("flags,expected", [
    (["--include", "*.json"], ["config.json", "original/params.json", "tokenizer.json"]),
    (["--include", "original/"], ["original/params.json"]),
    (["--include", "README.md", "--include", "*.bin"], ["README.md", "pytorch_model.bin"]),
])
def test_patterns(hub, cache, flags, expected):
    snapshot = cache.pull_ok(hub, *flags)
    assert names(snapshot) == expected
    for path in expected:
        assert (snapshot / path).read_bytes() == hub.entries[path].content


def test_a_pattern_without_a_match_says_what_there_is(hub, cache):
    error = cache.pull_fails(hub, "--include", "*.gguf")
    assert "*.gguf" in error and "config.json" in error


def test_one_content_at_two_paths_is_fetched_once(hub, cache):
    content = b"x" * 5000
    hub.commit("main", {"model.safetensors": content, "a/copy.safetensors": content, "config.json": b"{}"})
    snapshot = cache.pull_ok(hub, "--include", "*")
    assert (snapshot / "a/copy.safetensors").read_bytes() == content
    assert os.readlink(snapshot / "a/copy.safetensors").startswith("../../../blobs/")
    assert hub.sent() == 5002


def test_revisions(hub, cache):
    first = hub.branches["main"]
    second = hub.commit("v1.0", {"config.json": b'{"v": 1}', "model.safetensors": b"w" * 2000})
    hub.branches["refs/pr/1"] = second
    assert cache.pull_ok(hub, "--revision", "v1.0").name == second
    assert (cache.repo / "refs/v1.0").read_text() == second
    assert not (cache.repo / "refs/main").exists()
    assert cache.pull_ok(hub, name="org/tiny@refs/pr/1").name == second
    assert (cache.repo / "refs/refs/pr/1").read_text() == second
    assert cache.pull_ok(hub, "--revision", first).name == first
    assert sorted(p.name for p in (cache.repo / "refs").iterdir()) == ["refs", "v1.0"]  # a commit needs no ref


def test_a_revision_is_given_once(hub, cache):
    assert "twice" in cache.pull_fails(hub, "--revision", "main", name="org/tiny@main")


def test_a_bar_on_a_terminal(large_hub, cache):
    ours, theirs = os.openpty()
    process = subprocess.Popen([os.environ["GANTRY_BIN"], "pull", "org/tiny"], env=cache.environment(large_hub),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert process.wait(60) == 0
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert re.search(r"\rpulling org/tiny \[#{30}\] 17 of 17 MiB, \d+ MiB/s, 0 s left \r?\n", shown), shown


def test_a_branch_that_moves(hub, cache):
    cache.pull_ok(hub)
    moved = hub.commit("main", {"config.json": b'{"new": 1}', "model.safetensors": hub.entries["model.safetensors"].content})
    before = hub.sent()
    assert cache.pull_ok(hub).name == moved
    assert (cache.repo / "refs/main").read_text() == moved
    assert hub.sent() - before == len(b'{"new": 1}')


def test_dry_run_writes_nothing(hub, cache):
    process = cache.pull(hub, "--dry-run")
    assert process.returncode == 0
    for path in READ:
        assert path in process.stdout_text
    assert "pytorch_model.bin" not in process.stdout_text
    assert "to fetch" in process.stdout_text
    assert not cache.home.exists()
    assert hub.sent() == 0


def test_a_list_of_many_pages(hub, cache):
    hub.page_size = 2
    assert names(cache.pull_ok(hub)) == READ


def test_ranges_come_over_several_connections(large_hub, cache):
    """No range is answered before all three are asked for: one connection would wait for ever."""
    together = threading.Barrier(3, timeout=30)

    def wait(request, answer):
        together.wait()
        return answer

    large_hub.fault(lambda r: r.host == "cdn" and r.range, wait)
    snapshot = cache.pull_ok(large_hub)
    assert (snapshot / "model.safetensors").read_bytes() == large_hub.entries["model.safetensors"].content
    assert len(large_hub.of("cdn", "/" + large_hub.entries["model.safetensors"].etag)) == 3


def test_the_token_goes_to_the_hub_alone(hub, cache):
    process = cache.pull(hub, HF_TOKEN=TOKEN)
    assert process.returncode == 0
    assert {r.headers.get("authorization") for r in hub.of("hub")} == {"Bearer " + TOKEN}
    assert hub.of("cdn") and not any("authorization" in r.headers for r in hub.of("cdn"))
    assert not any(TOKEN in str(r.headers) + r.query for r in hub.of("cdn"))
    assert TOKEN not in process.stdout_text + process.stderr_text
    assert SIGNATURE not in process.stdout_text + process.stderr_text


def test_the_token_file(hub, cache):
    cache.home.mkdir()
    (cache.home / "token").write_text(TOKEN + "\n")
    cache.pull_ok(hub)
    assert {r.headers.get("authorization") for r in hub.of("hub")} == {"Bearer " + TOKEN}


def test_no_token_no_header(hub, cache):
    cache.pull_ok(hub)
    assert not any("authorization" in r.headers for r in hub.requests)


def test_offline(hub, cache):
    assert "not in" in cache.pull_fails(hub, HF_HUB_OFFLINE="1")
    assert hub.requests == []
    snapshot = cache.pull_ok(hub)
    asked = len(hub.requests)
    assert cache.pull_ok(hub, HF_HUB_OFFLINE="1") == snapshot
    assert len(hub.requests) == asked


def test_the_disk_must_hold_it(hub, cache):
    hub.entries["model.safetensors"].size = 1 << 43
    error = cache.pull_fails(hub)
    assert "needs 8192.0 GiB more" in error and "HF_HUB_CACHE" in error
    assert hub.sent() == 0


def test_one_gguf_file_is_taken_and_several_are_a_choice(hub, cache):
    hub.commit("main", {"README.md": b"x", "a.gguf": b"G" * 2000})
    assert names(cache.pull_ok(hub)) == ["a.gguf"]
    hub.commit("main", {"a.gguf": b"G" * 2000, "b.gguf": b"H" * 2000})
    error = cache.pull_fails(hub)
    assert "--include" in error and "a.gguf" in error and "b.gguf" in error
