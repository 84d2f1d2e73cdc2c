"""A Hugging Face hub on loopback with a content server on another host (127.0.0.2), and every fault a test asks for."""

import dataclasses
import hashlib
import http.server
import json
import re
import ssl
import threading
import urllib.parse

SIGNATURE = "X-Amz-Signature=not-for-logs"


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclasses.dataclass
class Entry:
    """What the hub says of a file; a test that wants it to lie changes a field."""

    content: bytes
    lfs: bool

    def __post_init__(self):
        self.oid = git_sha1(self.content)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.size = len(self.content)

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.oid


@dataclasses.dataclass
class Request:
    host: str  # "hub" or "cdn"
    method: str
    path: str
    query: str
    headers: dict
    sent: int = 0  # bytes of body

    @property
    def range(self):
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) if match[2] else None) if match else None


@dataclasses.dataclass
class Answer:
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None  # bytes of body after which the connection is closed
    hold_after: int | None = None  # bytes of body after which `held` is set and `release` waited for
    held: threading.Event = dataclasses.field(default_factory=threading.Event)
    release: threading.Event = dataclasses.field(default_factory=threading.Event)


def json_answer(value, **headers):
    return Answer(200, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())


class FakeHub:
    """One repository, `org/tiny`, with revisions that are dicts of path → Entry."""

    repo = "org/tiny"

    def __init__(self, files, tls=None):
        self.commits = {}
        self.branches = {}
        self.page_size = 1000
        self.requests = []
        self.faults = []  # (predicate, change); change(request, answer) → answer
        self.lock = threading.Lock()
        self.tls = tls
        self.commit("main", files)
        self.hub = self._serve("hub", "127.0.0.1")
        self.cdn = self._serve("cdn", "127.0.0.2")
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.hub.server_port}"
        self.cdn_url = f"{scheme}://127.0.0.2:{self.cdn.server_port}"

    def commit(self, branch, files):
        """Large files, those of 1000 bytes or more, go to LFS, as on the hub. Returns the commit."""
        entries = {path: Entry(content, len(content) >= 1000) for path, content in files.items()}
        digest = hashlib.sha1(repr(sorted((p, e.etag) for p, e in entries.items())).encode()).hexdigest()
        self.commits[digest] = entries
        self.branches[branch] = digest
        return digest

    @property
    def entries(self):
        return self.commits[self.branches["main"]]

    def fault(self, predicate, change, times=None):
        """Changes the answers to requests for which predicate holds; the first `times` of them only."""
        left = [times]

        def once(request):
            if left[0] == 0 or not predicate(request):
                return False
            if left[0] is not None:
                left[0] -= 1
            return True

        self.faults.append((once, change))

    def sent(self, host=None):
        """Bytes of bodies of file contents."""
        return sum(r.sent for r in self.requests if not r.path.startswith("/api/") and host in (None, r.host))

    def of(self, host, prefix=""):
        return [r for r in self.requests if r.host == host and r.path.startswith(prefix)]

    def close(self):
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()

    # What an honest hub answers.

    def answer(self, request):
        path = urllib.parse.unquote(request.path)
        if request.host == "cdn":
            return self._content(request, path.removeprefix("/"))
        api = f"/api/models/{self.repo}"
        if path.startswith(api + "/revision/"):
            commit = self._commit_of(path.removeprefix(api + "/revision/"))
            if commit is None:
                return Answer(404, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": p} for p in self.commits[commit]]
            return json_answer({"id": self.repo, "modelId": self.repo, "sha": commit, "private": False, "tags": [],
                                "downloads": 0, "likes": 0, "siblings": siblings})
        if path.startswith(api + "/tree/"):
            return self._tree(request, path.removeprefix(api + "/tree/"))
        if match := re.fullmatch(rf"/{self.repo}/resolve/([0-9a-z.]+)/(.+)", path):
            return self._resolve(request, self._commit_of(match[1]), match[2])
        return Answer(404, {"X-Error-Code": "RepoNotFound"})

    def _commit_of(self, revision):
        return self.branches.get(revision, revision if revision in self.commits else None)

    def _tree(self, request, commit):
        if commit not in self.commits:
            return Answer(404, {"X-Error-Code": "RevisionNotFound"})
        listing = []
        for path, entry in sorted(self.commits[commit].items()):
            item = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
            if entry.lfs:
                item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
            listing.append(item)
        start = int(urllib.parse.parse_qs(request.query).get("cursor", ["0"])[0])
        page = listing[start:start + self.page_size]
        if start + self.page_size < len(listing):
            next_url = f"{self.url}{request.path}?recursive=true&cursor={start + self.page_size}"
            return json_answer(page, Link=f'<{next_url}>; rel="next"')
        return json_answer(page)

    def _resolve(self, request, commit, path):
        entry = self.commits.get(commit, {}).get(path)
        if entry is None:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit or ""})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size),
                        "ETag": '"pointer"', "Location": f"{self.cdn_url}/{entry.sha256}?{SIGNATURE}"}
            return Answer(302, headers)
        return self._ranged(request, entry.content, headers)

    def _content(self, request, sha256):
        for entries in self.commits.values():
            for entry in entries.values():
                if entry.sha256 == sha256:
                    return self._ranged(request, entry.content, {"ETag": '"of-the-cdn"'})
        return Answer(403)

    @staticmethod
    def _ranged(request, content, headers):
        if request.range is None:
            return Answer(200, headers, content)
        first, last = request.range
        if first >= len(content):
            return Answer(416, headers | {"Content-Range": f"bytes */{len(content)}"})
        last = len(content) - 1 if last is None else min(last, len(content) - 1)
        return Answer(206, headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first:last + 1])

    def _serve(self, host, address):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                request = Request(host, self.command, url.path, url.query,
                                  {name.lower(): value for name, value in self.headers.items()})
                with fake.lock:
                    fake.requests.append(request)
                    changes = [change for matches, change in fake.faults if matches(request)]
                answer = fake.answer(request)
                for change in changes:
                    answer = change(request, answer)
                try:
                    self.send(request, answer)
                except OSError:
                    self.close_connection = True

            do_HEAD = do_GET

            def send(self, request, answer):
                self.send_response(answer.status)
                names = {name.lower() for name in answer.headers}
                for name, value in answer.headers.items():
                    if value is not None:
                        self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if request.method == "HEAD":
                    return
                stops = sorted({0, len(answer.body)} | {n for n in (answer.cut_after, answer.hold_after)
                                                        if n is not None and n < len(answer.body)})
                for begin, end in zip(stops, stops[1:] + [len(answer.body)]):
                    if begin == answer.cut_after:
                        self.close_connection = True
                        return
                    if begin == answer.hold_after:
                        answer.held.set()
                        answer.release.wait()
                    for at in range(begin, end, 1 << 16):
                        part = answer.body[at:min(at + (1 << 16), end)]
                        self.wfile.write(part)
                        with fake.lock:
                            request.sent += len(part)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        server = Server((address, 0), Handler)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server
