"""One cache, two programs: python's huggingface_hub opens what Gantry wrote, and the reverse."""

import json
import subprocess
import sys

import pytest
from fake_hub import Answer

EVERYTHING = ["--include", "*"]


def huggingface(cache, hub, code, **variables):
    """The JSON that `code` prints, run by huggingface_hub with this cache; it reads its variables when imported."""
    process = subprocess.run([sys.executable, "-c", f"import json\nfrom huggingface_hub import *\n{code}"],
                             env=cache.environment(hub, HF_HUB_DISABLE_XET="1", **variables), capture_output=True,
                             text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


SCAN = """
info = scan_cache_dir()
repo, = info.repos
revision, = repo.revisions
print(json.dumps({"warnings": [str(w) for w in info.warnings], "repo": repo.repo_id, "type": repo.repo_type,
                  "commit": revision.commit_hash, "refs": sorted(revision.refs), "size": repo.size_on_disk,
                  "files": sorted(str(f.file_path.relative_to(revision.snapshot_path)) for f in revision.files)}))
"""


@pytest.mark.parametrize("flags", [[], EVERYTHING])
def test_huggingface_hub_opens_gantrys_cache(hub, cache, flags):
    snapshot = cache.pull_ok(hub, *flags)
    asked = len(hub.requests)
    assert huggingface(cache, hub, 'print(json.dumps(snapshot_download("org/tiny")))', HF_HUB_OFFLINE="1") == str(snapshot)
    path = huggingface(cache, hub, 'print(json.dumps(hf_hub_download("org/tiny", "config.json")))', HF_HUB_OFFLINE="1")
    assert path == str(snapshot / "config.json")
    assert len(hub.requests) == asked
    files = sorted(str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if not p.is_dir())
    assert huggingface(cache, hub, SCAN) == {
        "warnings": [], "repo": "org/tiny", "type": "model", "commit": hub.branches["main"], "refs": ["main"],
        "size": sum(hub.entries[path].size for path in files), "files": files}


def test_huggingface_hub_fetches_only_what_gantry_left_out(hub, cache):
    cache.pull_ok(hub)
    before = hub.sent()
    huggingface(cache, hub, 'print(json.dumps(snapshot_download("org/tiny")))')
    cache.check()
    left_out = ["README.md", "original/params.json", "pytorch_model.bin"]
    assert hub.sent() - before == sum(hub.entries[path].size for path in left_out)


def test_gantry_opens_huggingface_hubs_cache(hub, cache):
    snapshot = huggingface(cache, hub, 'print(json.dumps(snapshot_download("org/tiny")))')
    cache.check()
    before = hub.sent()
    assert str(cache.pull_ok(hub, *EVERYTHING)) == snapshot
    assert hub.sent() == before
    asked = len(hub.requests)
    assert str(cache.pull_ok(hub, HF_HUB_OFFLINE="1")) == snapshot
    assert len(hub.requests) == asked


def test_a_partial_file_of_gantry_does_not_mislead_huggingface_hub(large_hub, cache):
    """Nor does it stay once huggingface_hub has fetched the file."""
    large_hub.fault(lambda r: r.range, lambda request, answer: Answer(403))
    cache.pull_fails(large_hub)
    assert large_hub.entries["model.safetensors"].etag + ".gantry.incomplete" in cache.partials()
    large_hub.faults.clear()
    huggingface(cache, large_hub, 'print(json.dumps(snapshot_download("org/tiny")))')
    cache.check()
    cache.pull_ok(large_hub)
    assert cache.partials() == []


def tree(root):
    """Every path with what it is: the target of a link, the content of a file. Locks, and what either program keeps
    for itself alone, aside."""
    own = {"trees", ".no_exist"}
    return {str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.read_bytes()
            for path in root.rglob("*") if not path.is_dir() and not own & set(path.relative_to(root).parts)}


def test_both_write_the_same(hub, tmp_path):
    from gantry_pull import Cache
    gantry, python = Cache(tmp_path / "gantry"), Cache(tmp_path / "python")
    gantry.pull_ok(hub, *EVERYTHING)
    huggingface(python, hub, 'print(json.dumps(snapshot_download("org/tiny")))')
    assert tree(gantry.repo) == tree(python.repo)
    locks = [sorted(p.name for p in (c.root / ".locks/models--org--tiny").iterdir()) for c in (gantry, python)]
    assert locks[0] == locks[1]


def test_both_at_once(large_hub, cache):
    """Whoever takes a file's lock fetches it: the large one comes once."""
    script = 'print(json.dumps(snapshot_download("org/tiny")))'
    process = cache.start(large_hub, *EVERYTHING)
    huggingface(cache, large_hub, script)
    process.communicate(timeout=120)
    assert process.returncode == 0
    cache.check()
    large = large_hub.entries["model.safetensors"]
    assert sum(r.sent for r in large_hub.of("cdn", "/" + large.etag)) == large.size
