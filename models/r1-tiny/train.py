"""Trains r1-tiny for a given time on one GPU. usage: train.py WORK OUT SECONDS [--tokens N] [--device cpu --steps N]

WORK/ready appears when WORK/tokenizer.json and WORK/teacher.npz are complete; compilation runs while waiting for it.
"""
import argparse
import multiprocessing as mp
import os
import pathlib
import queue
import time

import torch
import torch.nn.functional as F

import model as M
import shape as S
from data import LONGEST, MOST_DOCUMENTS, Encoder, Mixture

MTP_WEIGHT = 0.2
BIAS_STEP = 0.001
FP8_FROM = 0.6  # of the time: from then on the forward pass sees FP8-rounded matrices
WARM_UP = 100  # steps
ADAM_RATE = {"embed": 4e-3, "router": 2e-3}
OTHER_RATE = 3e-3
MUON_RATE, MUON_DECAY = 0.02, 0.02
STALL_S = 30


def produce(work, seed, tokens, out):
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    mixture = Mixture(Encoder(str(work / "tokenizer.json")), work / "teacher.npz", seed)
    for step in mixture.steps(tokens):
        out.put(step)


def orthogonalise(g):
    """Five Newton-Schulz steps on a stack of matrices (Muon)."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in [(3.4445, -4.7750, 2.0315)] * 5:
        p = x @ x.mT
        x = a * x + (b * p + c * (p @ p)) @ x
    return x.mT if tall else x


class Trainer:
    def __init__(self, device, tokens):
        self.device, self.tokens, self.cuda = device, tokens, device == "cuda"
        self.net = M.Forward(compiled=self.cuda)
        self.loss_of = torch.compile(head_loss, dynamic=False) if self.cuda else head_loss
        self.masters, self.bias = M.new_weights(device)
        self.leaves = {k: torch.empty_like(w, dtype=torch.bfloat16).requires_grad_() for k, w in self.masters.items()}
        self.first = {k: torch.zeros_like(w) for k, w in self.masters.items()}
        self.second = {k: torch.zeros_like(self.masters[k]) for k in M.PLAIN if k != "eh"}
        ints = dict(dtype=torch.int64, device=device)
        self.ids, self.positions = torch.zeros(tokens, **ints), torch.zeros(tokens, **ints)
        self.labels = torch.full((tokens,), -1, **ints)
        self.offsets = torch.full((MOST_DOCUMENTS + 128,), tokens, dtype=torch.int32, device=device)
        self.rate, self.momentum, self.fp8, self.count, self.mtp_loss, self.main_loss, self.worst = (
            torch.zeros((), device=device) for _ in range(7))

    def attend(self, _, q, k, v):
        if self.cuda:
            out = torch.ops.aten._flash_attention_forward(
                q, k, F.pad(v, (0, S.QK - S.V)), self.offsets, self.offsets, LONGEST, LONGEST, 0.0, True, False,
                scale=M.SOFTMAX_SCALE)[0]
            return out[..., : S.V]
        document = torch.bucketize(torch.arange(self.tokens), self.offsets.long(), right=True)
        allowed = (document[:, None] == document) & torch.ones(self.tokens, self.tokens, dtype=torch.bool).tril()
        return M.attend_dense(q[None], k[None], v[None], allowed[None])[0]

    def step(self):
        with torch.no_grad():
            for k, w in self.masters.items():
                self.leaves[k].copy_(torch.where(self.fp8 > 0, M.fp8_round(w), w) if k in M.MATRICES else w)
        stacked = {k: v.unbind(0) if v.dim() > 2 or k.startswith("norm") else v for k, v in self.leaves.items()}
        rotary = M.rotary_table(self.positions)
        hidden, loads = self.net.trunk(stacked, self.bias, self.ids, rotary, self.attend)
        main = self.loss_of(hidden, stacked["head"], self.labels)
        ahead, load = self.net.mtp(stacked, self.bias, hidden, self.ids.roll(-1), self.positions, rotary, self.attend)
        mtp = self.loss_of(ahead, stacked["head"], self.labels.roll(-1))
        names = list(self.leaves)
        grads = dict(zip(names, torch.autograd.grad(main + MTP_WEIGHT * mtp, [self.leaves[k] for k in names])))
        with torch.no_grad():
            self.update(grads)
            loads = torch.stack(loads + [load])
            mean = loads.mean(-1, keepdim=True)
            self.bias.add_(BIAS_STEP * (mean - loads).sign())
            self.worst.copy_((loads / mean).max())
            self.main_loss.copy_(main)
            self.mtp_loss.copy_(mtp)

    def update(self, grads):
        self.count.add_(1)
        for k, g in grads.items():
            w, m, g = self.masters[k], self.first[k], g.float()
            if k in M.MATRICES or k == "eh":
                m.lerp_(g, 1 - self.momentum)
                direction = orthogonalise(g.lerp(m, self.momentum)).float()
                scale = max(1, w.shape[-2] / w.shape[-1]) ** 0.5
                w.mul_(1 - self.rate * MUON_RATE * MUON_DECAY).sub_(direction * (self.rate * MUON_RATE * scale))
            else:
                m.lerp_(g, 1 - 0.9)
                self.second[k].lerp_(g.square(), 1 - 0.95)
                first = m / (1 - 0.9**self.count)
                second = self.second[k] / (1 - 0.95**self.count)
                w.sub_(first / (second.sqrt() + 1e-10) * (self.rate * ADAM_RATE.get(k, OTHER_RATE)))

    def capture(self):
        """Compiles and records the whole step in a CUDA graph, then starts again from fresh weights."""
        started = time.time()
        self.positions.copy_(torch.arange(self.tokens) % LONGEST)
        self.offsets.copy_((torch.arange(MOST_DOCUMENTS + 128) * LONGEST).clamp_max(self.tokens))
        self.labels.copy_(torch.arange(self.tokens) % S.VOCAB)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        fresh, _ = M.new_weights(self.device)
        for k, w in fresh.items():
            self.masters[k].copy_(w)
        for t in [*self.first.values(), *self.second.values(), self.bias, self.count]:
            t.zero_()
        torch.cuda.synchronize()
        print(f"compiled and captured in {time.time() - started:.0f} s", flush=True)
        return graph.replay

    def save(self, path):
        torch.save({"weights": {k: v.cpu() for k, v in self.masters.items()}, "bias": self.bias.cpu()}, path)


def head_loss(hidden, head, labels):
    logits = (hidden @ head.T).float()
    return F.cross_entropy(logits, labels, ignore_index=-1)


def wait_for(path, limit):
    deadline = time.time() + limit
    while not path.exists():
        if time.time() > deadline:
            raise SystemExit(f"{path} did not appear within {limit} s")
        time.sleep(0.2)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("work", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("seconds", type=float)
    p.add_argument("--tokens", type=int, default=65536)
    p.add_argument("--device", default="cuda")
    p.add_argument("--steps", type=int, default=10**9)
    p.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    p.add_argument("--until", type=float, help="Unix time to stop at, whatever SECONDS says")
    a = p.parse_args()
    torch._dynamo.config.recompile_limit = 64
    trainer = Trainer(a.device, a.tokens)
    run = trainer.capture() if trainer.cuda else trainer.step
    wait_for(a.work / "ready", 240)
    steps = mp.get_context("spawn").Queue(4 * a.workers)
    workers = [mp.get_context("spawn").Process(target=produce, args=(a.work, i + 1, a.tokens, steps), daemon=True)
               for i in range(a.workers)]
    for w in workers:
        w.start()
    begun, n, seen = None, 0, 0
    while n < a.steps:
        try:
            batch = steps.get(timeout=STALL_S * (3 if begun is None else 1))
        except queue.Empty:
            print(f"no data for {STALL_S} s: training stops here", flush=True)
            break
        if begun is None:
            begun = time.time()
            seconds = min(a.seconds, a.until - begun) if a.until else a.seconds
            print(f"training for {seconds:.0f} s", flush=True)
        part = (time.time() - begun) / seconds
        if part >= 1:
            break
        for static, array in zip((trainer.ids, trainer.positions, trainer.labels, trainer.offsets), batch):
            static.copy_(torch.from_numpy(array))
        trainer.rate.fill_(min(1, (n + 1) / WARM_UP) * min(1, (1 - part) / 0.5))
        trainer.momentum.fill_(0.85 + 0.1 * min(1, n / 300))
        trainer.fp8.fill_(float(part >= FP8_FROM))
        run()
        n += 1
        seen += int(batch[3].max())
        if n % 100 == 0 or n == a.steps or n in (10, 20, 50):
            rate = seen / (time.time() - begun)
            print(f"step {n} {part:5.1%} loss {trainer.main_loss.item():.4f} mtp {trainer.mtp_loss.item():.4f} worst load "
                  f"{trainer.worst.item():.2f} {rate / 1e6:.2f} M tokens/s queue {steps.qsize()}", flush=True)
        if n % 2000 == 0:
            trainer.save(a.out)
    trainer.save(a.out)
    print(f"trained {n} steps, {seen / 1e6:.0f} M tokens", flush=True)
    for w in workers:
        w.kill()


if __name__ == "__main__":
    main()
