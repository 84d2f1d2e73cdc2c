"""r1-tiny in torch: MLA, the grouped and biased gate, and the MTP block.

Weights of equal shape are stacked over blocks (0 dense, 1..6 MoE, 7 MTP), so that the optimiser works on few
tensors. Every expert runs on every token and the gate masks the result: at this size one wide product is faster
than moving tokens, and all shapes stay fixed for a CUDA graph.
"""
import math

import torch
import torch.nn.functional as F

import shape as S

MOE_BLOCKS = S.BLOCKS - S.DENSE_LAYERS
MATRICES = {  # name: stacked shape, [..., out, in]; these become FP8
    "q_a": (S.BLOCKS, S.Q_LORA, S.HIDDEN),
    "q_b": (S.BLOCKS, S.HEADS * S.QK, S.Q_LORA),
    "kv_a": (S.BLOCKS, S.KV_LORA + S.ROPE, S.HIDDEN),
    "kv_b": (S.BLOCKS, S.HEADS * (S.NOPE + S.V), S.KV_LORA),
    "o": (S.BLOCKS, S.HIDDEN, S.HEADS * S.V),
    "dense_gate": (S.DENSE_LAYERS, S.DENSE_WIDTH, S.HIDDEN),
    "dense_up": (S.DENSE_LAYERS, S.DENSE_WIDTH, S.HIDDEN),
    "dense_down": (S.DENSE_LAYERS, S.HIDDEN, S.DENSE_WIDTH),
    # expert 16 is the shared one
    "expert_gate": (MOE_BLOCKS, S.EXPERTS + 1, S.EXPERT_WIDTH, S.HIDDEN),
    "expert_up": (MOE_BLOCKS, S.EXPERTS + 1, S.EXPERT_WIDTH, S.HIDDEN),
    "expert_down": (MOE_BLOCKS, S.EXPERTS + 1, S.HIDDEN, S.EXPERT_WIDTH),
}
PLAIN = {  # stay bf16 in the checkpoint
    "eh": (S.HIDDEN, 2 * S.HIDDEN),
    "embed": (S.VOCAB, S.HIDDEN),
    "head": (S.VOCAB, S.HIDDEN),
    "router": (MOE_BLOCKS, S.EXPERTS, S.HIDDEN),
    "norm_in": (S.BLOCKS, S.HIDDEN),
    "norm_post": (S.BLOCKS, S.HIDDEN),
    "norm_q": (S.BLOCKS, S.Q_LORA),
    "norm_kv": (S.BLOCKS, S.KV_LORA),
    "norm_ends": (4, S.HIDDEN),  # final norm, enorm, hnorm, shared_head.norm
}
SOFTMAX_SCALE = S.QK**-0.5 * (0.1 * math.log(S.YARN_FACTOR) + 1) ** 2


def new_weights(device, seed=0):
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for name, dims in {**MATRICES, **PLAIN}.items():
        if name.startswith("norm"):
            w = torch.ones(dims)
        elif name in ("o", "dense_down", "expert_down"):
            w = torch.zeros(dims)  # each block starts as the identity
        elif name in ("embed", "head", "router"):
            w = torch.randn(dims, generator=g) * (1.0 if name == "embed" else 0.01)
        else:
            w = torch.randn(dims, generator=g) * dims[-1] ** -0.5
        weights[name] = w.to(device)
    return weights, torch.zeros(MOE_BLOCKS, S.EXPERTS, device=device)


def fp8_parts(w):
    """w [..., R, C] -> e4m3 values padded to whole blocks [..., r, 128, c, 128] and scales [..., r, 1, c, 1]."""
    rows, cols = w.shape[-2:]
    b = S.FP8_BLOCK
    w = F.pad(w.float(), (0, -cols % b, 0, -rows % b))
    w = w.unflatten(-1, (-1, b)).unflatten(-3, (-1, b))
    scale = w.abs().amax((-3, -1), keepdim=True).clamp_min(1e-12) / S.FP8_MAX
    return (w / scale).to(torch.float8_e4m3fn), scale


def fp8_round(w):
    rows, cols = w.shape[-2:]
    q, scale = fp8_parts(w)
    return (q.float() * scale).flatten(-4, -3).flatten(-2, -1)[..., :rows, :cols]


def yarn_inverse_frequencies(device=None):
    pairs = torch.arange(0, S.ROPE, 2, dtype=torch.float32, device=device)
    base = S.THETA ** (-pairs / S.ROPE)

    def pair_of(rotations):
        return S.ROPE * math.log(S.YARN_CONTEXT / (rotations * 2 * math.pi)) / (2 * math.log(S.THETA))

    low, high = max(math.floor(pair_of(32)), 0), min(math.ceil(pair_of(1)), S.ROPE - 1)
    ramp = ((torch.arange(S.ROPE // 2, device=device) - low) / max(high - low, 0.001)).clamp(0, 1)
    return base * (1 - ramp) + base / S.YARN_FACTOR * ramp


def rotary_table(positions):
    angle = positions[..., None].float() * yarn_inverse_frequencies(positions.device)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """x [..., heads, ROPE], adjacent pairs; cos and sin [..., ROPE/2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2).to(x.dtype)


def rms(x, weight):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + S.EPS)).to(x.dtype) * weight


def attention_inputs(x, cos, sin, norm_in, q_a, norm_q, q_b, kv_a, norm_kv, kv_b):
    """x [..., HIDDEN] -> q, k [..., HEADS, QK] and v [..., HEADS, V]."""
    h = rms(x, norm_in)
    q = (rms(h @ q_a.T, norm_q) @ q_b.T).unflatten(-1, (S.HEADS, S.QK))
    q = torch.cat((q[..., : S.NOPE], rotate(q[..., S.NOPE :], cos, sin)), -1)
    latent, k_rope = (h @ kv_a.T).split((S.KV_LORA, S.ROPE), -1)
    k_nope, v = (rms(latent, norm_kv) @ kv_b.T).unflatten(-1, (S.HEADS, S.NOPE + S.V)).split((S.NOPE, S.V), -1)
    k_rope = rotate(k_rope[..., None, :], cos, sin).expand(*k_nope.shape[:-1], S.ROPE)
    return q, torch.cat((k_nope, k_rope), -1), v


def gate(h, router, bias):
    """Weights [..., EXPERTS + 1], zero for experts not chosen, and the 0/1 choice [..., EXPERTS]."""
    score = (h.float() @ router.float().T).sigmoid()
    choice = score.detach() + bias
    groups = choice.unflatten(-1, (S.GROUPS, -1))
    best = groups.topk(2, -1).values.sum(-1).topk(S.GROUPS_KEPT, -1).indices
    kept = torch.zeros_like(groups[..., 0]).scatter(-1, best, 1.0)[..., None].expand_as(groups).flatten(-2)
    top = choice.masked_fill(kept == 0, -math.inf).topk(S.TOP_K, -1).indices
    chosen = torch.zeros_like(score).scatter(-1, top, 1.0)
    weight = score * chosen
    weight = weight / (weight.sum(-1, keepdim=True) + 1e-20) * S.ROUTED_SCALE
    return torch.cat((weight, torch.ones_like(weight[..., :1])), -1), chosen


def dense_tail(x, attended, o, norm_post, gate_w, up, down):
    x = x + attended.flatten(-2) @ o.T
    h = rms(x, norm_post)
    return x + (F.silu(h @ gate_w.T) * (h @ up.T)) @ down.T


def moe_tail(x, attended, o, norm_post, router, bias, gate_w, up, down):
    x = x + attended.flatten(-2) @ o.T
    h = rms(x, norm_post)
    weight, chosen = gate(h, router, bias)
    inner = F.silu(h @ gate_w.flatten(0, 1).T) * (h @ up.flatten(0, 1).T)
    inner = inner.unflatten(-1, (S.EXPERTS + 1, S.EXPERT_WIDTH)) * weight[..., None].to(inner.dtype)
    return x + inner.flatten(-2) @ down.transpose(0, 1).flatten(1).T, chosen.flatten(0, -2).sum(0)


def attend_dense(q, k, v, allowed):
    """q [B, T, H, QK], k [B, U, H, QK], v [B, U, H, V], allowed [B, T, U]."""
    scores = torch.einsum("bthd,buhd->bhtu", q.float(), k.float()) * SOFTMAX_SCALE
    scores = scores.masked_fill(~allowed[:, None], -math.inf)
    return torch.einsum("bhtu,buhd->bthd", scores.softmax(-1), v.float()).to(q.dtype)


class Forward:
    """The network over given weights; `attend(block, q, k, v)` is the caller's attention (packed or cached)."""

    def __init__(self, compiled=False):
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.attention_inputs, self.dense_tail = wrap(attention_inputs), wrap(dense_tail)
        self.moe_tail, self.mtp_input = wrap(moe_tail), wrap(mtp_input)

    def block(self, i, w, bias, x, rotary, attend):
        q, k, v = self.attention_inputs(x, *rotary, w["norm_in"][i], w["q_a"][i], w["norm_q"][i], w["q_b"][i],
                                        w["kv_a"][i], w["norm_kv"][i], w["kv_b"][i])
        a = attend(i, q, k, v)
        if i < S.DENSE_LAYERS:
            x = self.dense_tail(x, a, w["o"][i], w["norm_post"][i], w["dense_gate"][i], w["dense_up"][i],
                                w["dense_down"][i])
            return x, None
        m = i - S.DENSE_LAYERS
        return self.moe_tail(x, a, w["o"][i], w["norm_post"][i], w["router"][m], bias[m], w["expert_gate"][m],
                             w["expert_up"][m], w["expert_down"][m])

    def trunk(self, w, bias, tokens, rotary, attend):
        """Hidden states after the final norm, and how many tokens each expert took."""
        x, loads = F.embedding(tokens, w["embed"]), []
        for i in range(S.LAYERS):
            x, load = self.block(i, w, bias, x, rotary, attend)
            if load is not None:
                loads.append(load)
        return rms(x, w["norm_ends"][0]), loads

    def mtp(self, w, bias, hidden, next_tokens, positions, rotary, attend):
        """Hidden states from which the head predicts the token after `next_tokens`."""
        x = self.mtp_input(hidden, F.embedding(next_tokens, w["embed"]), positions, w["norm_ends"][1],
                           w["norm_ends"][2], w["eh"])
        x, load = self.block(S.LAYERS, w, bias, x, rotary, attend)
        return rms(x, w["norm_ends"][3]), load


def mtp_input(hidden, embedded, positions, enorm, hnorm, eh):
    embedded = embedded * (positions != 0)[..., None].to(embedded.dtype)
    return torch.cat((rms(embedded, enorm), rms(hidden, hnorm)), -1) @ eh.T


class CachedModel:
    """Greedy decoding of many prompts at once, float32, for the evaluation."""

    def __init__(self, weights, bias):
        self.w = {k: v.float().unbind(0) if v.dim() > 2 or k.startswith("norm") else v.float()
                  for k, v in weights.items()}
        self.bias, self.net = bias.float(), Forward()

    def step(self, tokens, positions, cache, used):
        """tokens, positions [B, T], all under used; writes the cache at positions; hidden [B, T, HIDDEN]."""
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        slots = torch.arange(used, device=tokens.device)
        allowed = slots <= positions[..., None]

        def attend(i, q, k, v):
            cache[i][0][rows, positions] = k
            cache[i][1][rows, positions] = v
            return attend_dense(q, cache[i][0][:, :used], cache[i][1][:, :used], allowed)

        return self.net.trunk(self.w, self.bias, tokens, rotary_table(positions), attend)[0]

    def new_cache(self, batch, size):
        return [tuple(torch.zeros(batch, size, S.HEADS, d, device=self.bias.device) for d in (S.QK, S.V))
                for _ in range(S.LAYERS)]

    @torch.no_grad()
    def generate(self, prompts, max_new):
        """prompts: lists of ids. Returns the generated ids of each, up to and including EOS."""
        device = self.bias.device
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        longest = int(lengths.max())
        ids = torch.tensor([p + [S.PAD] * (longest - len(p)) for p in prompts], device=device)
        batch = len(prompts)
        cache = self.new_cache(batch, longest + max_new)
        positions = torch.arange(longest, device=device).expand(batch, -1)
        hidden = self.step(ids, positions, cache, longest)
        hidden = hidden[torch.arange(batch, device=device), lengths - 1]
        out, done = [], torch.zeros(batch, dtype=torch.bool, device=device)
        for n in range(max_new):
            token = torch.where(done, S.EOS, (hidden @ self.w["head"].T).argmax(-1))
            out.append(token)
            done |= token == S.EOS
            if n % 16 == 15 and bool(done.all()):
                break
            hidden = self.step(token[:, None], (lengths + n)[:, None], cache, longest + n + 1)[:, 0]
        rows = torch.stack(out, 1).tolist()
        return [r[: r.index(S.EOS) + 1] if S.EOS in r else r for r in rows]
