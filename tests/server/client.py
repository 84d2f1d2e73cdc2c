"""What the server's black-box tests share: a gantry process, raw HTTP, and metrics. Every wait has a deadline."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

WAIT_SECONDS = 300  # a machine busy with other work took over 120 for what takes 3


def eventually(condition, seconds=WAIT_SECONDS, what="the condition"):
    """Polls until condition() is true; its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not hold within {seconds} s"
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(pid):
    """Whether the process runs: a zombie does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children_of(pid):
    """Processes whose parent is `pid`, with their command lines. Others come and go while /proc is read."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(process.name)] = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
    return found


class Gantry:
    """`gantry serve MODEL` on a free port. Environment: GANTRY_BIN, GANTRY_TEST_MODEL (where no model is given)."""

    def __init__(self, *flags, model=None, wait=True, environment=None, stderr=None):
        self.port = free_port()
        model = model or os.environ["GANTRY_TEST_MODEL"]
        command = [os.environ["GANTRY_BIN"], "serve", str(model), "--port", str(self.port), *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr,
                                        env={**os.environ, **(environment or {})})
        if wait:
            eventually(self.ready, what="/ready")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ready(self):
        assert self.process.poll() is None, f"gantry ended with {self.process.returncode}"
        try:
            return self.request("GET", "/ready").status == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None):
        """One request on its own connection; the answer has .status, .headers, .text and .json()."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            answer.text = answer.read().decode()
            answer.json = lambda: json.loads(answer.text)
            return answer
        finally:
            connection.close()

    def metrics(self):
        """Sums over labels, by name."""
        values = {}
        for line in self.request("GET", "/metrics").text.splitlines():
            if match := re.match(r"([a-zA-Z_:0-9]+)(?:\{.*\})? (\S+)$", line):
                values[match[1]] = values.get(match[1], 0.0) + float(match[2])
        return values

    def wait_until_idle(self):
        def idle():
            metrics = self.metrics()
            return (metrics["gantry_num_requests_running"] == 0 and metrics["gantry_num_requests_waiting"] == 0
                    and metrics["gantry_kv_blocks_used"] == 0)
        eventually(idle, what="no request and no KV block in use")

    def stop(self, seconds=60):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Raw:
    """A TCP connection that sends what it is told to."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False if the server has closed the connection meanwhile."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def receive(self):
        """False at the end of the connection."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def answer(self):
        """The next answer's status, or None at the end of the connection. Bodies need a Content-Length."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.receive():
                return None
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(rest) < length and self.receive():
            rest = self.buffer.partition(b"\r\n\r\n")[2]
        self.buffer = rest[length:]
        return int(head.split()[1])

    def ended(self):
        while self.receive():
            pass
        return True

    def reset(self):
        """Closes with a reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()
