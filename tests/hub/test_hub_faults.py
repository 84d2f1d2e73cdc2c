"""A hub that fails or lies. Nothing wrong is ever left under its final name (Cache.check), and each error is one
clear line (Cache.pull_fails)."""

import hashlib
import json
import time

import pytest
from conftest import CHUNK, small_files
from fake_hub import SIGNATURE, Answer
from gantry_pull import TOKEN

LARGE = "model.safetensors"


def content(request):
    return request.host == "cdn"


def api(request):
    return request.path.startswith("/api/")


def always(status, **headers):
    return lambda request, answer: Answer(status, {name.replace("_", "-"): value for name, value in headers.items()})


def changed(**fields):
    def change(request, answer):
        for name, value in fields.items():
            setattr(answer, name, value)
        return answer
    return change


# Faults that pass.

def test_a_connection_that_drops_goes_on_where_it_was(large_hub, cache):
    large_hub.fault(lambda r: content(r) and r.range, changed(cut_after=3_000_000), times=4)
    snapshot = cache.pull_ok(large_hub)
    assert (snapshot / LARGE).read_bytes() == large_hub.entries[LARGE].content
    # Bytes on the way when a connection breaks may be lost to the client, but nothing is asked for twice.
    ranges = sorted(r.range for r in large_hub.of("cdn") if r.range)
    assert len(ranges) >= 3 + 3 and len(set(ranges)) == len(ranges)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_error_is_tried_again(hub, cache, status):
    hub.fault(api, always(status), times=1)
    hub.fault(content, always(status), times=1)
    cache.pull_ok(hub)


def test_retry_after_is_honoured(hub, cache):
    hub.fault(api, always(429, Retry_After="2"), times=1)
    began = time.monotonic()
    cache.pull_ok(hub)
    assert time.monotonic() - began >= 2


def test_a_stalled_connection_is_given_up(hub, cache):
    answer_held = changed(hold_after=1000)
    hub.fault(content, answer_held, times=1)
    cache.pull_ok(hub, HF_HUB_DOWNLOAD_TIMEOUT="1")


def test_an_expired_link_is_renewed(large_hub, cache):
    """Every link works once."""
    used = set()

    def expire(request, answer):
        if request.query in used:
            return Answer(403)
        used.add(request.query)
        return answer

    count = iter(range(1000))

    def sign(request, answer):
        if answer.status == 302:
            answer.headers["Location"] += f"&n={next(count)}"
        return answer

    large_hub.fault(content, expire)
    large_hub.fault(lambda r: r.host == "hub", sign)
    cache.pull_ok(large_hub, "--connections", "1")
    assert len(used) >= 3


def test_a_server_without_ranges(large_hub, cache):
    def whole(request, answer):
        return Answer(200, {}, large_hub.entries[LARGE].content)

    large_hub.fault(lambda r: content(r) and r.range, whole)
    snapshot = cache.pull_ok(large_hub)
    assert (snapshot / LARGE).read_bytes() == large_hub.entries[LARGE].content


def test_a_relative_redirect_of_the_hub_keeps_the_token(hub, cache):
    def redirect(request, answer):
        return Answer(307, {"Location": f"{request.path}?moved&{request.query}"})

    hub.fault(lambda r: r.host == "hub" and "moved" not in r.query, redirect)
    cache.pull_ok(hub, HF_TOKEN=TOKEN)
    assert sum("moved" in r.query for r in hub.of("hub")) * 2 == len(hub.of("hub"))
    assert {r.headers.get("authorization") for r in hub.of("hub")} == {"Bearer " + TOKEN}


# Faults that stay: one line, nothing under a final name.

@pytest.mark.parametrize("answer,token,says", [
    (always(401), "", ["401", "private", "HF_TOKEN"]),
    (always(401), TOKEN, ["401", "HF_TOKEN is wrong"]),
    (always(403, X_Error_Code="GatedRepo"), "", ["gated", "ask for access", "/org/tiny", "HF_TOKEN"]),
    (always(403, X_Error_Code="GatedRepo"), TOKEN, ["gated", "token of the account"]),
    (always(403), TOKEN, ["403", "token may not read"]),
    (always(404, X_Error_Code="RepoNotFound"), "", ["org/tiny is not on http://127.0.0.1", "404"]),
    (always(404, X_Error_Code="RevisionNotFound"), "", ["org/tiny has no revision \"main\""]),
    (always(400, X_Error_Message="no such \x01thing"), "", ["400", "no such \\x01thing"]),
    (always(500), "", ["500", "tried 2 times"]),
    (always(429, Retry_After="100000"), "", ["429", "100000 s"]),
    (lambda r, a: Answer(200, {}, b"<html>"), "", ["not valid JSON"]),
    (lambda r, a: Answer(200, {}, b"[" * 100_000), "", ["nested deeper"]),
    (lambda r, a: Answer(200, {}, b'{"sha": "../../x"}'), "", ["no commit"]),
    (lambda r, a: Answer(200, {}, b" " * (17 << 20)), "", ["more than", "bytes"]),
    (lambda r, a: Answer(200, {f"H{i}": "x" for i in range(300)}), "", ["headers"]),
    (always(302, Location="/loop"), "", ["redirects more than 10 times"]),
    (always(302, Location="http://10.0.0.1/x"), "", ["not https"]),
    (always(302, Location="file:///etc/passwd"), "", ["file:///etc/passwd"]),
])
def test_the_api_fails(hub, cache, answer, token, says):
    hub.fault(lambda r: api(r) or r.path == "/loop", answer)
    error = cache.pull_fails(hub, "--retries", "1", HF_TOKEN=token)
    for text in says:
        assert text in error
    assert TOKEN not in error
    assert cache.blobs() == cache.partials() == []


def tree(entries):
    return lambda request, answer: Answer(200, {}, json.dumps(entries).encode())


def entry(path, size=10, oid="a" * 40, **more):
    return {"type": "file", "path": path, "size": size, "oid": oid, **more}


@pytest.mark.parametrize("entries,says", [
    ({"error": "x"}, "not a list"),
    (["x"], "no object"),
    ([entry("../evil.json")], "unsafe name"),
    ([entry("/etc/evil.json")], "unsafe name"),
    ([entry("a/../../evil.json")], "unsafe name"),
    ([entry("a\u0000.json")], "unsafe name"),
    ([entry("a\\b.json")], "unsafe name"),
    ([entry("")], "unsafe name"),
    ([entry("a" * 300 + ".json")], "unsafe name"),
    ([entry("a.json"), entry("a.json")], "twice"),
    ([entry("a.json"), entry("a.json/b.json")], "as a file and as a folder"),
    ([entry("a.json", size=-1)], "without a size"),
    ([entry("a.json", size=1 << 60)], "without a size"),
    ([entry("a.json", size="10")], "without a size"),
    ([entry("a.json", oid="../../../x")], "without a git SHA-1"),
    ([entry("a.safetensors", lfs={"oid": "A" * 64, "size": 10})], "without a SHA-256"),
    ([entry("a.json"), entry("b.json", size=11)], "one hash and two sizes"),
])
def test_the_file_list_lies(hub, cache, entries, says):
    hub.fault(lambda r: "/tree/" in r.path, tree(entries))
    assert says in cache.pull_fails(hub, "--include", "*")
    assert hub.sent() == 0


def test_a_list_without_end(hub, cache):
    def more(request, answer):
        return Answer(200, {"Link": f'<{hub.url}{request.path}?again>; rel="next"'}, b"[]")

    hub.fault(lambda r: "/tree/" in r.path, more)
    assert "pages" in cache.pull_fails(hub)


def test_a_list_that_goes_on_elsewhere(hub, cache):
    hub.fault(lambda r: "/tree/" in r.path, changed(headers={"Link": f'<{hub.cdn_url}/x>; rel="next"'}))
    assert "another server" in cache.pull_fails(hub, HF_TOKEN=TOKEN)
    assert hub.of("cdn") == []


def flip(request, answer):
    answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]
    return answer


@pytest.mark.parametrize("predicate,path", [
    (lambda r: content(r) and r.path != "/" + hashlib.sha256(small_files()["tokenizer.json"]).hexdigest(), LARGE),
    (lambda r: r.path.endswith("config.json"), "config.json"),
])
def test_a_wrong_hash(hub, cache, predicate, path):
    hub.fault(predicate, flip)
    error = cache.pull_fails(hub)
    assert path in error and "SHA" in error and hub.entries[path].etag in error
    assert hub.entries[path].etag not in cache.blobs()
    hub.faults.clear()
    cache.pull_ok(hub)


def test_a_file_that_changes_between_ranges(large_hub, cache):
    large_hub.fault(lambda r: content(r) and r.range and r.range[0] == CHUNK, flip)
    error = cache.pull_fails(large_hub)
    assert LARGE in error and "SHA-256" in error
    assert large_hub.entries[LARGE].etag not in cache.blobs()
    assert not any(large_hub.entries[LARGE].etag in name for name in cache.partials())


@pytest.mark.parametrize("headers,says", [
    ({"X-Repo-Commit": "f" * 40}, "commit"),
    ({"X-Linked-Etag": '"' + "0" * 64 + '"'}, "0" * 64),
    ({"X-Linked-Size": "7"}, "sends 7 bytes"),
])
def test_the_hub_contradicts_its_list(hub, cache, headers, says):
    def contradict(request, answer):
        answer.headers |= headers
        return answer

    hub.fault(lambda r: r.host == "hub" and r.path.endswith(LARGE), contradict)
    assert says in cache.pull_fails(hub)


def test_the_listed_size_is_too_small(hub, cache):
    hub.entries[LARGE].size -= 1
    hub.fault(lambda r: r.host == "hub" and "/resolve/" in r.path, changed_header("X-Linked-Size", None))
    assert "sends 300000 bytes, the hub lists 299999" in cache.pull_fails(hub)
    hub.fault(content, changed_header("Content-Length", None))
    hub.fault(content, changed_header("Connection", "close"))
    assert "299999" in cache.pull_fails(hub)


def changed_header(name, value):
    def change(request, answer):
        answer.headers[name] = value
        return answer
    return change


def test_the_listed_size_is_too_large(large_hub, cache):
    """The last range ends early: 416 beyond the end, a shorter total before it."""
    large_hub.entries[LARGE].size += 100
    large_hub.fault(lambda r: r.host == "hub" and "/resolve/" in r.path, changed_header("X-Linked-Size", None))
    error = cache.pull_fails(large_hub)
    assert LARGE in error or "416" in error


def test_a_range_beyond_the_end(large_hub, cache):
    size = large_hub.entries[LARGE].size
    large_hub.fault(content, always(416, Content_Range=f"bytes */{size - 5}"))
    error = cache.pull_fails(large_hub)
    assert "416" in error and f"bytes */{size - 5}" in error and "size" in error
    assert SIGNATURE not in error


@pytest.mark.parametrize("value", ["bytes 1-9/10", "bytes 0-8388607/99", "bytes 0-99999999/18011783", "lines 0-1/2", "", None])
def test_a_wrong_content_range(large_hub, cache, value):
    large_hub.fault(lambda r: content(r) and r.range, changed_header("Content-Range", value))
    assert "the server answers" in cache.pull_fails(large_hub, "--connections", "1")


def test_a_compressed_answer(hub, cache):
    hub.fault(content, changed_header("Content-Encoding", "gzip"))
    assert "gzip" in cache.pull_fails(hub)


def test_a_body_that_always_breaks(hub, cache):
    hub.fault(content, changed(cut_after=0))
    error = cache.pull_fails(hub, "--retries", "2")
    assert "tried 3 times" in error and SIGNATURE not in error


def test_a_body_shorter_than_listed_without_a_length(hub, cache):
    def short(request, answer):
        return Answer(200, {"Content-Length": None, "Connection": "close"}, answer.body[:1000], cut_after=999)

    hub.fault(content, short)
    assert "ended after" in cache.pull_fails(hub, "--retries", "1")


def test_nobody_answers(hub, cache):
    hub.close()
    error = cache.pull_fails(hub, "--retries", "1")
    assert hub.url in error


@pytest.mark.parametrize("name", ["tiny", "org/../x", "org/tiny/x", "/etc/passwd", "org/tiny@..", "org/ti ny", ""])
def test_names_that_are_none(hub, cache, name):
    cache.pull_fails(hub, name=name)
    assert hub.requests == []
