"""Checks what needs no GPU: data, one training step, export, cached decoding, agreement with transformers.

usage: check.py; a minute on one core. The answers stand-in for the teacher's are made of topic words.
"""
import json
import pathlib
import random
import tempfile

import torch

import data
import dialog
import evaluate
import export
import model as M
import prepare
import shape as S
import tasks
import train
from topics import QUESTIONS, TOPICS
from words import WORDS

TOKENS = 1280


def check_tasks(encoder):
    rng = random.Random(1)
    for task in tasks.TASKS:
        for _ in range(40):
            p = tasks.draw(task, rng, False)
            reply = p.reply.replace(tasks.SPELLED, "")
            assert tasks.bold(reply) == p.answer, (task, reply)
            assert not tasks.held_out(task, p.key)
            prompt, response = encoder.prompt(p.question, p.earlier), encoder.response(p.trace, p.reply)
            assert len(response) < evaluate.LONGEST_REPLY and len(prompt) + len(response) <= data.LONGEST, (task, len(response))
            thought, said = evaluate.split_reply(response, encoder)
            assert thought == p.trace.replace(tasks.SPELLED, "").strip() and said == reply, (task, said)
        assert all(tasks.held_out(task, p.key) for p in tasks.held_out_problems(task, 3))


def check_packing(step):
    ids, positions, labels, offsets = step
    learnt = labels >= 0
    assert learnt.any() and (labels[:-1][learnt[:-1]] == ids[1:][learnt[:-1]]).all()
    assert (positions[offsets[offsets < TOKENS]] == 0).all() and offsets[-1] == TOKENS


def main():
    rng = random.Random(3)
    with tempfile.TemporaryDirectory() as d:
        work = pathlib.Path(d)
        with open(work / "teacher.jsonl", "w") as f:
            for _ in range(2500):
                question = rng.choice(QUESTIONS).format(rng.choice(TOPICS))
                made_up = ["".join(rng.choices("abcdefghijklmnoprstuw", k=rng.randint(3, 7))) for _ in range(4)]
                f.write(json.dumps([question, " ".join(rng.choices(WORDS, k=8) + made_up) + ". " + dialog.fixed(rng)[1]]) + "\n")
        prepare.main(work, samples=2500)
        encoder = data.Encoder(str(work / "tokenizer.json"))
        check_tasks(encoder)
        print("tasks", flush=True)
        steps = data.Mixture(encoder, work / "teacher.npz", 1).steps(TOKENS)
        trainer = train.Trainer("cpu", TOKENS)
        losses = []
        for n in range(3):
            batch = next(steps) if n == 0 else batch
            check_packing(batch)
            for static, array in zip((trainer.ids, trainer.positions, trainer.labels, trainer.offsets), batch):
                static.copy_(torch.from_numpy(array))
            trainer.rate.fill_(0.5)
            trainer.fp8.fill_(float(n == 2))
            trainer.step()
            losses.append((trainer.main_loss.item(), trainer.mtp_loss.item()))
        print("losses", losses, flush=True)
        assert losses[2][0] < losses[0][0] and losses[2][1] < losses[0][1], "the loss on one batch must fall"
        trainer.save(work / "state.pt")
        export.write(work / "state.pt", work / "out")
        published = export.read_dequantised(work / "out")
        weights, bias = export.stacked(published)
        for k, w in trainer.masters.items():
            expected = M.fp8_round(w) if k in M.MATRICES else w.bfloat16().float()
            assert torch.equal(weights[k], expected), k
        model = M.CachedModel(weights, bias)
        prompts = [encoder.prompt("What is 2+2?"), encoder.prompt("Hello!")]
        replies = model.generate(prompts, 6)
        whole = prompts[0] + replies[0]
        hidden = model.step(torch.tensor([whole]), torch.arange(len(whole))[None], model.new_cache(1, len(whole)), len(whole))
        again = (hidden @ model.w["head"].T).argmax(-1)[0].tolist()
        assert again[len(prompts[0]) - 1 : -1] == replies[0], "decoding with the cache differs from one pass"
        assert 0 <= evaluate.mtp_acceptance(model, list(zip(prompts, replies))) <= 1
        difference, largest = evaluate.against_transformers(work / "out", published, whole)
        print(f"transformers: largest difference {difference:.2e} at logits up to {largest:.2f}", flush=True)
        assert difference < 1e-4 * max(1, largest)
        size = sum(f.stat().st_size for f in (work / "out").iterdir())
        print(f"checkpoint: {size} bytes", flush=True)


if __name__ == "__main__":
    main()
