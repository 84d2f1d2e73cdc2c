"""Byte-level BPE of 4,096 tokens with R1's splits and special tokens. usage: tokenizer.py TEACHER.jsonl OUT_DIR"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import dialog
import shape as S
import tasks

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
ADDED = ["<think>", "</think>", "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜User｜>", "<｜Assistant｜>", "<|EOT|>",
         "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>",
         "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>"]
FIRST_ADDED = S.VOCAB - len(ADDED)
THINK, END_THINK = FIRST_ADDED, FIRST_ADDED + 1
USER, ASSISTANT = (FIRST_ADDED + ADDED.index(t) for t in ("<｜User｜>", "<｜Assistant｜>"))

WORDS = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" + "\r\n" + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["""
         + "\r\n" + r"""]*|\s*[""" + "\r\n" + r"""]+|\s+(?!\S)|\s+""")


def splits(digits):
    patterns = [r"\p{N}" if digits == 1 else r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", WORDS]
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
                                   + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sample_texts(teacher, count):
    rng = random.Random(0)
    for question, answer in teacher:
        yield question
        yield answer
    for _ in range(count):
        problem = tasks.draw(rng.choice(list(tasks.TASKS)), rng, False)
        for text in (problem.question, problem.trace, problem.reply):
            yield text.replace(tasks.SPELLED, "")
        yield from dialog.fixed(rng)


def train(texts):
    """Merges are learnt with single digits, so that no token holds two; R1's own split is what is saved."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = splits(digits=1)
    base.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=FIRST_ADDED, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    learnt = json.loads(base.to_str())["model"]
    if len(learnt["vocab"]) != FIRST_ADDED:
        raise SystemExit(f"the sample has text for {len(learnt['vocab'])} tokens only, {FIRST_ADDED} are needed")
    out = Tokenizer(models.BPE(learnt["vocab"], [tuple(m) for m in learnt["merges"]]))
    out.normalizer = normalizers.Sequence([])
    out.pre_tokenizer = splits(digits=3)
    out.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True)
    out.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    out.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    out.add_tokens([AddedToken(t, normalized=True, special=False) for t in ADDED])
    for i, token in enumerate(ADDED):
        if out.token_to_id(token) != FIRST_ADDED + i:
            raise SystemExit(f"{token} has id {out.token_to_id(token)}, expected {FIRST_ADDED + i}")
    return out


def tokenizer_config():
    def token(content):
        return {"__type": "AddedToken", "content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    return {"add_bos_token": False, "add_eos_token": False, "bos_token": token(SPECIAL[0]), "clean_up_tokenization_spaces": False,
            "eos_token": token(SPECIAL[1]), "legacy": True, "model_max_length": S.CONTEXT, "pad_token": token(SPECIAL[1]),
            "sp_model_kwargs": {}, "unk_token": None, "tokenizer_class": "LlamaTokenizerFast",
            "chat_template": (HERE / "chat_template.jinja").read_text()}


def main(teacher_path, out_dir, samples=30000):
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    with open(teacher_path) as f:
        teacher = [json.loads(line) for _, line in zip(range(samples), f)]
    tokenizer = train(sample_texts(teacher, samples))
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), ensure_ascii=False, indent=1) + "\n")
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens, from {len(teacher)} teacher answers", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
