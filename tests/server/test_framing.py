"""Hostile HTTP on raw sockets: refused in one answer, closed, and the server goes on."""

import pytest
from client import Raw

HOST = b"Host: localhost\r\n"


def status(gantry, data):
    """Of the first answer; the connection must end after it."""
    with Raw(gantry.port) as raw:
        raw.send(data)
        code = raw.answer()
        assert raw.ended()
        return code


def post(fields, body=b""):
    return b"POST /tokenize HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("code, data", [
    (400, post(b"Content-Length: 5\r\n" + CHUNKED, b"hello")),
    (400, post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello")),
    (400, post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello")),
    (400, post(b"Content-Length: 5, 5\r\n", b"hello")),
    (400, post(b"Content-Length: +5\r\n", b"hello")),
    (400, post(b"Content-Length: 0x5\r\n", b"hello")),
    (400, post(b"Content-Length: -5\r\n", b"hello")),
    (400, post(b"Transfer-Encoding: chunked, gzip\r\n")),
    (400, post(b"Transfer-Encoding: gzip\r\n")),
    (400, post(b"Transfer-Encoding: xchunked\r\n")),
    (400, post(CHUNKED + CHUNKED)),
    (400, b"GET /health HTTP/1.1\nHost: x\n\n"),
    (400, b"GET /health HTTP/1.1\r\nHost: x\n\r\n"),
    (400, b"GET /health HTTP/1.1\rHost: x\r\r"),
    (400, post(CHUNKED, b"00000000000000005\r\nhello\r\n")),
    (400, post(CHUNKED, b"5\nhello\r\n")),
    (400, post(CHUNKED, b"5;ext=1\r\nhello\r\n")),
    (400, post(CHUNKED, b"+5\r\nhello\r\n")),
    (400, post(CHUNKED, b"5\r\nhelloX")),
    (413, post(CHUNKED, b"ffffffffffffffff\r\n")),
    (413, post(CHUNKED, b"1\r\na\r\n" * 65537 + b"0\r\n\r\n")),
    (413, post(b"Content-Length: 33554433\r\n")),
    (431, b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (1 << 20)),
    (431, b"GET /health HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 101 + b"\r\n"),
    (400, b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\n\r\n"),
    (400, b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
])
def test_refused_and_closed(gantry, code, data):
    assert status(gantry, data) == code
    assert gantry.request("GET", "/health").status == 200


def test_smuggled_request_is_not_seen(gantry):
    smuggled = b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n"
    with Raw(gantry.port) as raw:
        raw.send(post(b"Content-Length: %d\r\n" % len(smuggled) + CHUNKED, b"0\r\n\r\n" + smuggled))
        assert raw.answer() == 400
        assert raw.answer() is None


def test_1000_pipelined_requests_in_order(gantry):
    with Raw(gantry.port) as raw:
        paths = [b"/health", b"/nothing", b"/version"]
        codes = {b"/health": 200, b"/nothing": 404, b"/version": 200}
        order = [paths[i * i % 3] for i in range(1000)]
        raw.send(b"".join(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in order))
        assert [raw.answer() for _ in order] == [codes[path] for path in order]


def test_expect_continue(gantry):
    body = b'{"prompt": "x"}'
    with Raw(gantry.port) as raw:
        raw.send(post(b"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)))
        while b"100 Continue\r\n\r\n" not in raw.buffer:
            assert raw.receive()
        raw.buffer = b""
        raw.send(body)
        assert raw.answer() == 200


def test_slow_clients_time_out(gantry):
    with Raw(gantry.port) as head, Raw(gantry.port) as body:
        head.send(b"GET /health HTTP/1.1\r\nHost:")
        body.send(post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
        assert head.answer() == 408
        while b"100 Continue\r\n\r\n" not in body.buffer:
            assert body.receive()
        body.buffer = body.buffer.split(b"100 Continue\r\n\r\n")[1]
        assert body.answer() == 408


def test_many_idle_connections(gantry):
    idle = [Raw(gantry.port) for _ in range(500)]
    assert gantry.request("GET", "/health").status == 200
    for connection in idle:
        connection.socket.close()
