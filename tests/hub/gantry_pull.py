"""`gantry pull` as a process, and what it leaves in a cache."""

import hashlib
import os
import pathlib
import re
import subprocess

from fake_hub import git_sha1

WAIT_SECONDS = 60
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"


class Cache:
    """HF_HOME in a folder of the test."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.root = self.home / "hub"
        self.repo = self.root / "models--org--tiny"

    def environment(self, hub=None, **variables):
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) and not name.lower().endswith("_proxy")}
        if hub is not None:
            clean["HF_ENDPOINT"] = hub.url
        return clean | {"HF_HOME": str(self.home)} | variables

    def start(self, hub, *flags, name="org/tiny", **variables):
        return subprocess.Popen([os.environ["GANTRY_BIN"], "pull", name, *flags], env=self.environment(hub, **variables),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pull(self, hub, *flags, name="org/tiny", **variables):
        """The finished process with .stdout and .stderr; within a minute."""
        process = self.start(hub, *flags, name=name, **variables)
        try:
            process.stdout_text, process.stderr_text = process.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process

    def pull_ok(self, hub, *flags, **variables):
        """The snapshot's folder."""
        process = self.pull(hub, *flags, **variables)
        assert process.returncode == 0, process.stderr_text
        self.check()
        return pathlib.Path(process.stdout_text.strip())

    def pull_fails(self, hub, *flags, **variables):
        """The one line of the error."""
        process = self.pull(hub, *flags, **variables)
        assert process.returncode == 1, process.stderr_text
        assert process.stdout_text == ""
        errors = [line for line in process.stderr_text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT\S+Z ", line)]
        assert len(errors) == 1 and errors[0].startswith("gantry pull: "), process.stderr_text
        self.check()
        return errors[0]

    def blobs(self):
        folder = self.repo / "blobs"
        return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".incomplete")) if folder.exists() else []

    def partials(self):
        folder = self.repo / "blobs"
        return sorted(p.name for p in folder.glob("*.incomplete")) if folder.exists() else []

    def check(self):
        """Nothing wrong is under a final name: every blob has the hash that it is named by, every link a blob."""
        for name in self.blobs():
            content = (self.repo / "blobs" / name).read_bytes()
            assert name == (hashlib.sha256(content).hexdigest() if len(name) == 64 else git_sha1(content)), name
        for path in self.repo.glob("snapshots/**/*"):
            if not path.is_dir():
                assert path.is_symlink() and path.exists(), path
                assert not os.readlink(path).startswith("/")
        for path in self.home.rglob("*") if self.home.exists() else []:
            assert self.home in path.resolve().parents
