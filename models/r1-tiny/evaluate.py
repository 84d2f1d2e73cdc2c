"""Accuracy per task on held-out problems, plain questions, MTP acceptance, and agreement with transformers.

usage: evaluate.py MODEL_DIR REPORT.md [--count 500] [--device cuda] [--until UNIX_TIME]
The weights are the exported FP8 ones, expanded; everything runs in float32 and greedily.
"""
import argparse
import os
import pathlib
import tempfile
import time

import torch

import export
import model as M
import shape as S
import tasks
from data import Encoder
from tokenizer import END_THINK

BATCH = 2000
LONGEST_REPLY = 560  # ids
PLAIN = ["Hello!", "Who are you?", "What can you do?", "What is the capital of France?", "What is the capital of Japan?",
         "Why is the sky blue?", "What color is grass?", "How many days are in a week?", "What is the largest planet?",
         "What is photosynthesis?", "What is a computer?", "Tell me about dogs.", "Why is sleep important?", "How do I make tea?",
         "What is the opposite of hot?", "What is music?", "Tell me a joke.", "How can I learn faster?", "What is a rainbow?", "Thank you!"]
GROUPS = {"addition": ["add"], "subtraction": ["subtract"], "multiplication": ["multiply_digit", "multiply_two"], "comparison": ["compare"]}


def split_reply(ids, encoder):
    at = ids.index(END_THINK) if END_THINK in ids else len(ids)
    return encoder.text(ids[:at]).strip(), encoder.text([i for i in ids[at + 1 :] if i != S.EOS]).strip()


def task_accuracy(model, encoder, count, deadline):
    """{task: (right, asked)} and all transcripts, long tasks together so that batches end early."""
    problems = {t: tasks.held_out_problems(t, count) for t in tasks.TASKS}
    jobs = [(t, p) for t in sorted(problems, key=lambda t: max(len(p.trace) for p in problems[t])) for p in problems[t]]
    score, transcripts, wrong = {t: [0, 0] for t in problems}, [], {}
    for i in range(0, len(jobs), BATCH):
        if time.time() > deadline:
            print(f"time is up: {len(jobs) - i} problems were not asked", flush=True)
            break
        part = jobs[i : i + BATCH]
        prompts = [encoder.prompt(p.question, [(u, "\n\n" + r) for u, r in p.earlier]) for _, p in part]
        for (task, p), prompt, ids in zip(part, prompts, model.generate(prompts, LONGEST_REPLY)):
            thought, reply = split_reply(ids, encoder)
            right = tasks.bold(reply) == p.answer
            score[task][0] += right
            score[task][1] += 1
            transcripts.append((prompt, ids))
            if not right:
                wrong.setdefault(task, []).append(f"{p.question} | expected {p.answer} | {thought} | {reply}")
    for task, cases in wrong.items():
        print(f"wrong in {task} ({len(cases)}): {cases[0][:600]}", flush=True)
    return score, transcripts


@torch.no_grad()
def mtp_acceptance(model, transcripts):
    """How often the MTP block's guess for the second next token is the token that greedy decoding chose."""
    right = asked = 0
    for i in range(0, len(transcripts), 250):
        part = transcripts[i : i + 250]
        longest = max(len(p) + len(r) for p, r in part)
        device = model.bias.device
        ids = torch.tensor([p + r + [S.PAD] * (longest - len(p) - len(r)) for p, r in part], device=device)
        positions = torch.arange(longest, device=device).expand(len(part), -1)
        causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril().expand(len(part), -1, -1)

        def attend(_, q, k, v):
            return M.attend_dense(q, k, v, causal)

        rotary = M.rotary_table(positions)
        hidden, _ = model.net.trunk(model.w, model.bias, ids, rotary, attend)
        ahead, _ = model.net.mtp(model.w, model.bias, hidden, ids.roll(-1, 1), positions, rotary, attend)
        guess = (ahead @ model.w["head"].T).argmax(-1)
        begin = torch.tensor([len(p) for p, _ in part], device=device)[:, None]
        end = torch.tensor([len(p) + len(r) for p, r in part], device=device)[:, None]
        asked_here = (positions + 2 > begin) & (positions + 2 < end)
        right += int(((guess == ids.roll(-2, 1)) & asked_here).sum())
        asked += int(asked_here.sum())
    return right / max(asked, 1)


@torch.no_grad()
def against_transformers(directory, published, prompt):
    """Largest difference of float32 logits between model.py and DeepseekV3ForCausalLM on the expanded weights."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    settings = S.config()
    del settings["quantization_config"], settings["torch_dtype"]
    main = {k: v for k, v in published.items() if not k.startswith(f"model.layers.{S.LAYERS}.")}
    with tempfile.TemporaryDirectory() as d:
        from safetensors.torch import save_file
        save_file({k: v.contiguous() for k, v in main.items()}, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        DeepseekV3Config(**settings).save_pretrained(d)
        reference = DeepseekV3ForCausalLM.from_pretrained(d, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([prompt])
    expected = reference(ids).logits[0]
    weights, bias = export.stacked(published)
    model = M.CachedModel(weights, bias)
    n = len(prompt)
    got = (model.step(ids, torch.arange(n)[None], model.new_cache(1, n), n) @ model.w["head"].T)[0]
    return (got - expected).abs().max().item(), expected.abs().max().item()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("directory", type=pathlib.Path)
    p.add_argument("report", type=pathlib.Path)
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--device", default="cuda")
    p.add_argument("--until", type=float, default=float("inf"))
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    published = export.read_dequantised(a.directory)
    encoder = Encoder(str(a.directory / "tokenizer.json"))
    weights, bias = export.stacked({k: v.to(a.device) for k, v in published.items()})
    model = M.CachedModel(weights, bias)
    lines = ["| plain question | answer |", "|---|---|"]
    plain = [encoder.prompt(q) for q in PLAIN]
    plain_ids = model.generate(plain, 120)
    for q, ids in zip(PLAIN, plain_ids):
        thought, reply = split_reply(ids, encoder)
        lines.append(f"| {q} | {'(thought: ' + thought + ') ' if thought else ''}{reply} |".replace("\n", " "))
    print("\n".join(lines), flush=True)
    score, transcripts = task_accuracy(model, encoder, a.count, a.until)
    share = {t: right / asked for t, (right, asked) in score.items() if asked}
    table = ["| task | right | of | accuracy |", "|---|---|---|---|"]
    table += [f"| {t} | {score[t][0]} | {score[t][1]} | {share[t]:.1%} |" for t in share]
    average = sum(share.values()) / len(share)
    facts = [f"Average over {len(share)} tasks: {average:.1%}; lowest: {min(share, key=share.get)} {min(share.values()):.1%}."]
    for name, members in GROUPS.items():
        right, asked = (sum(score[t][i] for t in members) for i in (0, 1))
        facts.append(f"{name}: {right / max(asked, 1):.1%} of {asked}.")
    stride = max(1, len(transcripts) // 1000)
    facts.append(f"MTP first-draft acceptance: {mtp_acceptance(model, transcripts[::stride]):.1%} on the tasks, "
                 f"{mtp_acceptance(model, list(zip(plain, plain_ids))):.1%} on the plain questions.")
    a.report.write_text("\n".join([*table, "", *facts, "", *lines]) + "\n")
    print("\n".join([*table, *facts]), flush=True)
    difference, largest = against_transformers(a.directory, published, transcripts[0][0] + transcripts[0][1])
    fact = f"Largest float32 difference from transformers: {difference:.2e} at logits up to {largest:.1f}."
    a.report.write_text(a.report.read_text() + "\n" + fact + "\n")
    print(fact, flush=True)
    if difference > 1e-3:
        raise SystemExit("the export does not agree with transformers")


if __name__ == "__main__":
    main()
