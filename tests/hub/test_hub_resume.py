"""Pulls that are killed, stopped, or not alone."""

import fcntl
import os
import signal
import subprocess

import pytest
from client import eventually
from conftest import CHUNK
from gantry_pull import WAIT_SECONDS

LARGE = "model.safetensors"


def ranged(request):
    return request.host == "cdn" and request.range


class Hold:
    """Lets the first bytes of some answers through, and then holds them."""

    def __init__(self, hub, predicate, after):
        self.answers = []
        self.hub = hub

        def change(request, answer):
            answer.hold_after = min(after, len(answer.body) - 1)
            self.answers.append(answer)
            return answer

        hub.fault(predicate, change)

    def wait(self, count):
        eventually(lambda: sum(answer.held.is_set() for answer in self.answers) >= count, WAIT_SECONDS,
                   f"{count} answers under way")

    def let_go(self):
        self.hub.faults.clear()
        for answer in self.answers:
            answer.release.set()


def received(cache, hub):
    """Bytes that the partial file counts, from its record: content, 32 bytes, one number per range."""
    path = cache.repo / "blobs" / (hub.entries[LARGE].etag + ".gantry.incomplete")
    size = hub.entries[LARGE].size
    record = path.read_bytes()[size:]
    return [int.from_bytes(record[at:at + 8], "little") for at in range(32, len(record), 8)]


def wait_for(process, cache, hub, counts):
    """Until the partial file counts as many bytes of each range, and the other files are there."""
    def reached():
        assert process.poll() is None
        small = {hub.entries[path].etag for path in ("config.json", "tokenizer.json")}
        return small == set(cache.blobs()) and received(cache, hub) == counts

    eventually(reached, WAIT_SECONDS, f"{counts} bytes in the partial file, and the small files")


@pytest.mark.parametrize("number,code", [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_what_was_received_is_not_fetched_again(large_hub, cache, number, code):
    """Killed within each of three ranges; the next process asks for the rest of each, to the byte."""
    after = 1_000_000
    hold = Hold(large_hub, ranged, after)
    process = cache.start(large_hub)
    hold.wait(3)
    wait_for(process, cache, large_hub, [after] * 3)
    process.send_signal(number)
    output, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert errors.splitlines()[-1] == "gantry pull: stopped; the same command goes on from here"
    hold.let_go()
    assert large_hub.entries[LARGE].etag not in cache.blobs()
    assert cache.partials() == [large_hub.entries[LARGE].etag + ".gantry.incomplete"]

    dry = cache.pull(large_hub, "--dry-run")
    assert "to go on at 2.9 MiB" in dry.stdout_text
    seen = len(large_hub.requests)
    snapshot = cache.pull_ok(large_hub)
    assert (snapshot / LARGE).read_bytes() == large_hub.entries[LARGE].content
    size = large_hub.entries[LARGE].size
    assert sorted(r.range for r in large_hub.requests[seen:] if r.host == "cdn") == [
        (after, CHUNK - 1), (CHUNK + after, 2 * CHUNK - 1), (2 * CHUNK + after, size - 1)]
    assert cache.partials() == []


def test_killed_again_and_again(large_hub, cache):
    """Kills at many moments: the content is right in the end, and little comes twice."""
    entry = large_hub.entries[LARGE]
    for kill in range(1, 8):
        hold = Hold(large_hub, ranged, 400_000)
        process = cache.start(large_hub, "--connections", str(1 + kill % 3))
        hold.wait(1)
        process.kill()
        process.communicate()
        hold.let_go()
        cache.check()
    snapshot = cache.pull_ok(large_hub)
    assert (snapshot / LARGE).read_bytes() == entry.content


def test_a_partial_file_that_was_damaged_is_fetched_anew(large_hub, cache):
    hold = Hold(large_hub, ranged, 1_000_000)
    process = cache.start(large_hub)
    hold.wait(3)
    wait_for(process, cache, large_hub, [1_000_000] * 3)
    process.kill()
    process.communicate()
    hold.let_go()
    path = cache.repo / "blobs" / cache.partials()[0]
    with path.open("r+b") as file:
        file.write(b"damaged")
    process = cache.pull(large_hub)
    assert process.returncode == 0 and "fetching it anew" in process.stderr_text
    cache.check()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:-24] + b"\xff" * 24, lambda b: b""])
def test_a_record_that_does_not_fit_is_dropped(large_hub, cache, damage):
    hold = Hold(large_hub, ranged, 1_000_000)
    process = cache.start(large_hub)
    hold.wait(3)
    wait_for(process, cache, large_hub, [1_000_000] * 3)
    process.kill()
    process.communicate()
    hold.let_go()
    path = cache.repo / "blobs" / cache.partials()[0]
    path.write_bytes(damage(path.read_bytes()))
    cache.pull_ok(large_hub)


def test_a_prefix_that_huggingface_hub_left_is_gone_on_with(large_hub, cache):
    entry = large_hub.entries[LARGE]
    (cache.repo / "blobs").mkdir(parents=True)
    (cache.repo / "blobs" / (entry.etag + ".incomplete")).write_bytes(entry.content[:CHUNK + 5])
    cache.pull_ok(large_hub)
    assert sorted(r.range for r in large_hub.of("cdn", "/" + entry.etag)) == [
        (CHUNK + 5, 2 * CHUNK - 1), (2 * CHUNK, entry.size - 1)]
    assert cache.partials() == []


def test_two_pulls_at_once_fetch_everything_once(large_hub, cache):
    hold = Hold(large_hub, ranged, 1000)
    first = cache.start(large_hub)
    hold.wait(3)
    second = cache.start(large_hub)
    for line in second.stderr:
        if "another process downloads it" in line:
            break
    hold.let_go()
    for process in (first, second):
        process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0
    cache.check()
    expected = sum(large_hub.entries[p].size for p in ("config.json", "tokenizer.json", LARGE))
    assert large_hub.sent() == expected


def test_a_lock_that_huggingface_hub_holds_is_waited_for(hub, cache):
    entry = hub.entries[LARGE]
    lock = cache.root / ".locks/models--org--tiny" / (entry.etag + ".lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = cache.start(hub)
        for line in process.stderr:
            if "another process downloads it" in line:
                break
        assert hub.of("cdn", "/" + entry.etag) == []
        (cache.repo / "blobs" / entry.etag).write_bytes(entry.content)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert hub.of("cdn", "/" + entry.etag) == []
    assert (cache.repo / "snapshots" / hub.branches["main"] / LARGE).read_bytes() == entry.content


def test_a_full_disk_is_one_line_and_can_be_gone_on_from(large_hub, cache):
    """RLIMIT_FSIZE stands for the full disk: writes beyond 12 MiB fail."""
    process = subprocess.run(
        ["bash", "-c", f"ulimit -f {12 << 10}; trap '' XFSZ; exec \"$0\" pull org/tiny", os.environ["GANTRY_BIN"]],
        env=cache.environment(large_hub), capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("gantry pull: ")
    cache.check()
    cache.pull_ok(large_hub)
