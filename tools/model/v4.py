"""The DeepSeek-V4 network for training: the function of deepseek-v4.md §2, whole sequences from position 0.

Where one product serves several matrices they are one parameter, and `tensors()` cuts it into what a GGUF file holds. The
indexer's weights exist for the file only: while every compressed row is used (up to 4 * top_k + 3 tokens) they do not enter
the function, and next-token loss gives them no gradient.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import fused


@dataclass(frozen=True)
class Geometry:
    """Names follow deepseek-v4.md §1. A needs a GPU, B two quiet cores and hours; S is what two cores train in an hour."""

    vocab: int = 4096
    hidden: int = 256
    ratios: tuple[int, ...] = (0, 4, 128, 4, 128, 4)
    heads: int = 4
    head_dim: int = 128
    rope_dims: int = 64
    q_rank: int = 128
    groups: int = 2
    o_rank: int = 64
    experts: int = 16
    experts_used: int = 2
    ff: int = 128
    hash_layers: int = 1
    routed_scale: float = 1.5
    clamp: float = 10.0
    indexer_heads: int = 16
    indexer_dim: int = 64
    top_k: int = 512
    rope_base: float = 10000.0
    compress_rope_base: float = 160000.0
    yarn_factor: float = 16.0
    yarn_context: int = 65536


GEOMETRIES = {
    'A': Geometry(vocab=8192, heads=8, q_rank=256, o_rank=128, ff=256),
    'B': Geometry(),
    'S': Geometry(hidden=128, ratios=(0, 4, 128, 4), q_rank=64, o_rank=32, experts=8),
}


def frequencies(g, compressed):
    """Rope frequencies of plain layers, or of compressed ones with YaRN's blend (§2.1), in float64."""
    exponent = torch.arange(0, g.rope_dims, 2, dtype=torch.float64) / g.rope_dims
    if not compressed:
        return g.rope_base**-exponent

    def turning_dim(turns):
        return g.rope_dims * math.log(g.yarn_context / (turns * 2 * math.pi)) / (2 * math.log(g.compress_rope_base))

    low, high = max(math.floor(turning_dim(32)), 0), min(math.ceil(turning_dim(1)), g.rope_dims - 1)
    ramp = ((torch.arange(g.rope_dims // 2) - low) / (high - low)).clamp(0, 1)
    plain = g.compress_rope_base**-exponent
    return plain / g.yarn_factor * ramp + plain * (1 - ramp)


def matrix(rows, columns, gain=1.0):
    return nn.Parameter(torch.randn(rows, columns) * gain / math.sqrt(columns))


class HyperConnection(nn.Module):
    """Coefficients of mHC for one sub-layer. Starts as an average in, an addition to every stream out, streams kept apart."""

    def __init__(self, g):
        super().__init__()
        self.fn = nn.Parameter(torch.randn(24, 4 * g.hidden) / math.sqrt(4 * g.hidden))
        self.scale = nn.Parameter(torch.full((3,), 0.1))
        base = torch.cat([torch.full((4,), -math.log(3)), torch.zeros(4), (torch.eye(4) * 4 - 4).flatten()])
        # Streams that are equal at the start and treated alike would stay equal: hence a little asymmetry.
        self.base = nn.Parameter(base + torch.randn(24) * 0.1)
        self.norm = nn.Parameter(torch.ones(g.hidden))

    def forward(self, h, body):
        x, post, comb = fused.hc_pre(h, self.fn, self.scale, self.base, self.norm)
        return fused.hc_post(body(x), h, post, comb)


class AttentionLayer(nn.Module):
    def __init__(self, g, ratio):
        super().__init__()
        self.g, self.ratio = g, ratio
        width = {0: 0, 4: 2 * g.head_dim, 128: g.head_dim}[ratio]
        # One product for all that reads the sub-layer's input: query rank, row, and the compressor's values and gates.
        self.parts = [g.q_rank, g.head_dim] + ([width, width] if ratio else [])
        self.w_in = matrix(sum(self.parts), g.hidden)
        self.q_norm = nn.Parameter(torch.ones(g.q_rank))
        self.kv_norm = nn.Parameter(torch.ones(g.head_dim))
        self.q_b = matrix(g.heads * g.head_dim, g.q_rank)
        self.sinks = nn.Parameter(torch.zeros(g.heads))
        group_width = g.heads * g.head_dim // g.groups
        self.o_a = nn.Parameter(torch.randn(g.groups, g.o_rank, group_width) / math.sqrt(group_width))
        self.o_b = matrix(g.hidden, g.groups * g.o_rank, 0.1)
        if ratio:
            self.ape = nn.Parameter(torch.randn(ratio, width) * 0.02)
            self.entry_norm = nn.Parameter(torch.ones(g.head_dim))

    def forward(self, x, tables, tokens, round_row, window):
        g, block = self.g, min(tokens, 128)
        cosine, sine = tables
        has_entries = self.ratio and tokens >= self.ratio
        parts = F.linear(x, self.w_in if has_entries else self.w_in[: g.q_rank + g.head_dim])
        parts = parts.split(self.parts if has_entries else self.parts[:2], -1)
        none = cosine[:, :0]
        qr = fused.norm_rope(parts[0], self.q_norm, none, none, 1, tokens, tokens)
        q = fused.norm_rope(F.linear(qr, self.q_b), None, cosine, sine, g.heads, tokens, block, g.head_dim**-0.5)
        kv = round_row(fused.norm_rope(parts[1], self.kv_norm, cosine, sine, 1, tokens, tokens)).view(-1, tokens, g.head_dim)
        if has_entries:
            count = tokens // self.ratio
            e = fused.compress(parts[2], parts[3], self.ape, tokens)
            first = slice(None, count * self.ratio, self.ratio)
            e = fused.norm_rope(e, self.entry_norm, cosine[first].contiguous(), sine[first].contiguous(), 1, count, count)
            entries = round_row(e).view(-1, count, g.head_dim)
        else:
            entries = kv[:, :0]
        out = fused.attention(q, kv, entries, self.sinks, self.ratio, window)
        u = fused.unrope(out, cosine, sine, g.heads, g.groups, tokens, block) @ self.o_a.transpose(1, 2)
        y = u[0] @ self.o_b[:, : g.o_rank].T
        for group in range(1, g.groups):
            y = torch.addmm(y, u[group], self.o_b[:, group * g.o_rank : (group + 1) * g.o_rank].T)
        return y


class ExpertLayer(nn.Module):
    def __init__(self, g, hashed, generator):
        super().__init__()
        self.g, self.hashed = g, hashed
        self.router = matrix(g.experts, g.hidden)
        self.w13 = nn.Parameter(torch.randn(g.experts + 1, 2 * g.ff, g.hidden) / math.sqrt(g.hidden))
        self.w2 = nn.Parameter(torch.randn(g.experts + 1, g.hidden, g.ff) * 0.1 / math.sqrt(g.ff))
        self.register_buffer('load', torch.zeros(g.experts))
        if hashed:
            # Distinct experts for every token, drawn once.
            table = torch.rand(g.vocab, g.experts, generator=generator).argsort(1)[:, : g.experts_used]
            self.register_buffer('table', table.contiguous())
        else:
            self.register_buffer('bias', torch.zeros(g.experts))

    def forward(self, x, tokens):
        score = F.softplus(F.linear(x, self.router), threshold=20).sqrt()
        picked = self.table[tokens] if self.hashed else (score + self.bias).topk(self.g.experts_used).indices
        share = score.gather(1, picked)
        share = share / share.sum(1, keepdim=True) * self.g.routed_scale
        if self.training:
            self.load += torch.bincount(picked.flatten(), minlength=self.g.experts)
        return fused.experts(x, self.w13, self.w2, share, picked, self.g.clamp)

    def balance(self, step):
        """Moves the selection bias towards an even load (noaux); returns the largest load over the mean since the last call."""
        load, self.load = self.load, torch.zeros_like(self.load)
        if not self.hashed:
            self.bias += step * torch.sign(load.mean() - load)
        return float(load.max() / load.mean().clamp(min=1))


class V4(nn.Module):
    def __init__(self, geometry, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        g = self.g = geometry
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(g.vocab, g.hidden) * 0.3)
        self.attn_mix = nn.ModuleList(HyperConnection(g) for _ in g.ratios)
        self.attn = nn.ModuleList(AttentionLayer(g, ratio) for ratio in g.ratios)
        self.ffn_mix = nn.ModuleList(HyperConnection(g) for _ in g.ratios)
        self.ffn = nn.ModuleList(ExpertLayer(g, i < g.hash_layers, generator) for i in range(len(g.ratios)))
        self.head_fn = nn.Parameter(torch.randn(4, 4 * g.hidden) / math.sqrt(4 * g.hidden))
        self.head_scale = nn.Parameter(torch.full((1,), 0.1))
        self.head_base = nn.Parameter(torch.full((4,), -math.log(3)))
        self.head_norm = nn.Parameter(torch.ones(g.hidden))
        # Not tied, but equal at the start: what copies one token then copies all of them, and need not be learnt for each.
        self.head = nn.Parameter(self.embedding.detach() * (0.08 / 0.3))
        self.start_copying()
        self.tables = {}
        self.round_row = lambda row: row
        self.window = 128

    @torch.no_grad()
    def start_copying(self, written=0.3, copied=2.0):
        """Lets the network begin as one that copies: behind a token that came before, it expects what followed then.

        Copying needs two heads in a row: one that brings each token its predecessor, and one that looks for its own token among
        the predecessors and passes on what stands there. None of the products involved is worth anything without the others, so
        that gradients leave this saddle after millions of tokens only. So layer 0 begins with the first head, layer 1 with the
        second; everything else is random, and all of it is trained.

        Channel 0 is the same in every embedding: it drives the fastest rope pairs of the first head, one position apart. The
        last channels are left free for the predecessor's identity.
        """
        g, first, second = self.g, self.attn[0], self.attn[1]
        if g.ratios[0]:
            return
        generator = torch.Generator().manual_seed(5)
        plain = g.head_dim - g.rope_dims
        n = min(g.o_rank, plain // 2)
        kept = g.hidden - n
        identity, value = (torch.linalg.qr(torch.randn(kept - 1, n, generator=generator))[0].T for _ in range(2))
        self.embedding[:, 0], self.embedding[:, kept:] = 1, 0
        self.head[:, 0], self.head[:, kept:] = 0, 0

        first.w_in[:, 0] = 0
        first.w_in[0] = 0
        first.w_in[0, 0] = 1
        first.q_b[: g.head_dim] *= 0.1
        first.q_b[plain : g.head_dim] = 0
        rows = first.w_in[g.q_rank : g.q_rank + g.head_dim]
        rows[plain:] = 0
        for i, f in enumerate(frequencies(g, False)[:6].tolist()):
            first.q_b[plain + 2 * i, 0] = 1
            rows[plain + 2 * i, 0], rows[plain + 2 * i + 1, 0] = math.cos(f), math.sin(f)
        rows[:n] = 0
        rows[:n, 1:kept] = identity
        first.o_a[0] = 0
        first.o_a[0, :n, :n] = torch.eye(n)
        first.o_b[:, : g.o_rank] = 0
        first.o_b[kept:, :n] = torch.eye(n) * written

        second.w_in[:n] = 0
        second.w_in[:n, 1:kept] = identity
        second.q_b[: g.head_dim] *= 0.02
        second.q_b[:n, :n] = torch.eye(n)
        rows = second.w_in[g.q_rank : g.q_rank + g.head_dim]
        rows[plain:] *= 0.3
        rows[:plain] = 0
        rows[:n, kept:] = torch.eye(n) * 2
        rows[n : 2 * n, 1:kept] = value
        second.o_a[0] *= 0.1
        second.o_a[0, :n] = 0
        second.o_a[0, :n, n : 2 * n] = torch.eye(n)
        second.o_b[:, : g.o_rank] = 0
        second.o_b[1:kept, :n] = value.T * copied

        # Compressed rows begin as means of the raw rows that they stand for, gates the same for all dims: so a head that finds
        # a raw row finds the compressed one as well, and which of the four tokens matters is the next thing to learn.
        layers = [attn for attn in self.attn if attn.ratio == 4]
        if layers[-1] is not second:
            self.start_slots(layers[-1], identity, copied / 4)  # every head says the same of raw rows
        for attn in layers:
            _, row, values, gates = attn.w_in.split(attn.parts)
            values.copy_(row.repeat(2, 1))
            gates.view(2, -1, g.hidden).copy_(torch.randn(2, 1, g.hidden, generator=generator) * 0.1 / math.sqrt(g.hidden))
            attn.ape[:, : g.head_dim] = -3  # the four tokens before its own
        second.ape[:, g.head_dim :] = 0

    @torch.no_grad()
    def start_slots(self, attn, identity, copied):
        """Lets a CSA layer begin as one that keeps a little of each of the four tokens apart, with heads for each.

        A mean of four tokens does not say which followed which, so that values of several tokens cannot be read from it. Here
        each of the four has an own part of the row, with what came before it as key and itself as value. Raw rows have the same
        key and value in all four parts, so that every head reads them too.
        """
        g, generator = self.g, torch.Generator().manual_seed(6)
        n, kept, plain = len(identity), identity.shape[1] + 1, g.head_dim - g.rope_dims
        # A slot's dims: a quarter of the plain ones, and three of the slow rope pairs, which hardly turn in 2,000 tokens.
        slow = [range(g.head_dim - 2 * i, g.head_dim - 2 * i + 2) for i in range(12, 0, -1)]
        quarter = [list(range(slot * plain // 4, (slot + 1) * plain // 4)) for slot in range(4)]
        half = plain // 8 + 1
        keys = [quarter[slot][:half] + [*slow[slot]] for slot in range(4)]
        values = [quarter[slot][half:] + [*slow[4 + slot], *slow[8 + slot]] for slot in range(4)]
        key = torch.linalg.qr(torch.randn(n, len(keys[0]), generator=generator))[0].T
        value = torch.linalg.qr(torch.randn(kept - 1, len(values[0]), generator=generator))[0].T
        rows = attn.w_in[g.q_rank : g.q_rank + g.head_dim]
        attn.w_in[:n] = 0
        attn.w_in[:n, 1:kept] = identity
        attn.q_b *= 0.02
        rows[:plain] = 0
        rows[plain:] *= 0.3
        attn.o_a *= 0.1
        attn.o_a[:, : len(value)] = 0
        attn.ape[:, g.head_dim :] = 0
        for slot, (k, v) in enumerate(zip(keys, values)):
            rows[k], rows[v] = 0, 0
            rows[k, kept:], rows[v, 1:kept] = key * 2, value
            attn.kv_norm[k], attn.entry_norm[k] = 2, 2
            own = [g.head_dim + i for i in [*k, *v]]
            attn.ape[:, own] = -3
            attn.ape[slot, own] = 3
        for head in range(g.heads):
            k, v = keys[head % 4], values[head % 4]
            attn.q_b[[head * g.head_dim + i for i in k]] = 0
            attn.q_b[[head * g.head_dim + i for i in k], :n] = key
            group, at = divmod(head, g.heads // g.groups)
            attn.o_a[group, range(len(v)), [at * g.head_dim + i for i in v]] = 1
        for group in range(g.groups):
            begin = group * g.o_rank
            attn.o_b[:, begin : begin + len(value)] = 0
            attn.o_b[1:kept, begin : begin + len(value)] = value.T * copied

    def rope_tables(self, tokens, device):
        if (tokens, device) not in self.tables:
            angles = [torch.arange(tokens, dtype=torch.float64)[:, None] * frequencies(self.g, c) for c in (False, True)]
            self.tables[tokens, device] = [tuple(f(a).float().to(device) for f in (torch.cos, torch.sin)) for a in angles]
        return self.tables[tokens, device]

    def forward(self, tokens, wanted):
        """Logits of the positions `wanted`, a mask [B, T] or indices into [B * T]. T: at most 128, or a multiple of 128."""
        rows, flat = tokens.shape[1], tokens.reshape(-1)
        tables = self.rope_tables(rows, tokens.device)
        h = F.embedding(flat, self.embedding).unsqueeze(1).expand(-1, 4, -1).contiguous()
        for layer, ratio in enumerate(self.g.ratios):
            table = tables[ratio != 0]
            h = self.attn_mix[layer](h, lambda x: self.attn[layer](x, table, rows, self.round_row, self.window))
            h = self.ffn_mix[layer](h, lambda x: self.ffn[layer](x, flat))
        h = h[wanted.reshape(-1)]
        m = fused.rms(h.flatten(1)) @ self.head_fn.T
        w = torch.sigmoid(m * self.head_scale + self.head_base) + fused.EPS
        return F.linear(fused.rms((w.unsqueeze(-1) * h).sum(1)) * self.head_norm, self.head)

    def loss(self, tokens, target_mask):
        """Mean loss of predicting the tokens that the mask marks, and for each whether it was the first choice."""
        logits = self(tokens, F.pad(target_mask[:, 1:], (0, 1)))
        targets = tokens[:, 1:][target_mask[:, 1:]]
        # A row that is all text has no targets, and its mean would not be a number.
        loss = F.cross_entropy(logits, targets, reduction='sum') / max(len(targets), 1)
        return loss, logits.argmax(-1) == targets

    def muon_groups(self):
        """(parameter, cut): what Muon orthogonalises; cut gives its matrices as views [count, rows, columns]."""
        for attn, ffn in zip(self.attn, self.ffn):
            yield attn.w_in, lambda p, sizes=tuple(attn.parts): [v.unsqueeze(0) for v in p.split(sizes)]
            yield attn.q_b, lambda p: [p.unsqueeze(0)]
            yield attn.o_a, lambda p: [p]
            yield attn.o_b, lambda p, rank=self.g.o_rank: [v.unsqueeze(0) for v in p.split(rank, 1)]
            yield ffn.w13, lambda p, ff=self.g.ff: [p.view(-1, ff, p.shape[-1])]
            yield ffn.w2, lambda p: [p]

    def tensors(self):
        """(name, values) of every tensor of a GGUF file, numpy order."""
        g = self.g
        generator = torch.Generator().manual_seed(1)
        yield 'token_embd.weight', self.embedding
        yield 'output_norm.weight', self.head_norm
        yield 'output.weight', self.head
        yield 'output_hc_fn.weight', self.head_fn
        yield 'output_hc_base.weight', self.head_base
        yield 'output_hc_scale.weight', self.head_scale
        for layer, ratio in enumerate(g.ratios):
            b, attn, ffn = f'blk.{layer}.', self.attn[layer], self.ffn[layer]
            for kind, mix in (('attn', self.attn_mix[layer]), ('ffn', self.ffn_mix[layer])):
                yield f'{b}hc_{kind}_fn.weight', mix.fn
                yield f'{b}hc_{kind}_base.weight', mix.base
                yield f'{b}hc_{kind}_scale.weight', mix.scale
                yield f'{b}{kind}_norm.weight', mix.norm
            parts = attn.w_in.split(attn.parts)
            yield b + 'attn_sinks.weight', attn.sinks
            yield b + 'attn_q_a.weight', parts[0]
            yield b + 'attn_q_a_norm.weight', attn.q_norm
            yield b + 'attn_q_b.weight', attn.q_b
            yield b + 'attn_kv.weight', parts[1]
            yield b + 'attn_kv_a_norm.weight', attn.kv_norm
            yield b + 'attn_output_a.weight', attn.o_a.flatten(0, 1)
            yield b + 'attn_output_b.weight', attn.o_b
            if ratio:
                yield b + 'attn_compressor_kv.weight', parts[2]
                yield b + 'attn_compressor_gate.weight', parts[3]
                yield b + 'attn_compressor_ape.weight', attn.ape
                yield b + 'attn_compressor_norm.weight', attn.entry_norm
            if ratio == 4:
                c = g.indexer_dim
                untrained = {'indexer.attn_q_b': (g.indexer_heads * c, g.q_rank), 'indexer.proj': (g.indexer_heads, g.hidden),
                             'indexer_compressor_kv': (2 * c, g.hidden), 'indexer_compressor_gate': (2 * c, g.hidden)}
                for name, (rows, columns) in untrained.items():
                    yield f'{b}{name}.weight', torch.randn(rows, columns, generator=generator) / math.sqrt(columns)
                yield b + 'indexer_compressor_ape.weight', torch.zeros(4, 2 * c)
                yield b + 'indexer_compressor_norm.weight', torch.ones(c)
            yield b + 'ffn_gate_inp.weight', ffn.router
            if ffn.hashed:
                yield b + 'ffn_gate_tid2eid.weight', ffn.table.int()
            else:
                yield b + 'exp_probs_b.bias', ffn.bias
            gate, up = ffn.w13.split(g.ff, 1)
            for part, w in (('gate', gate), ('up', up), ('down', ffn.w2)):
                yield f'{b}ffn_{part}_exps.weight', w[:-1]
                yield f'{b}ffn_{part}_shexp.weight', w[-1]
