"""The operations of the V4 network that are not matrix products, each with its gradient: one C++ pass on a CPU, plain
PyTorch elsewhere.

kernels.cpp is compiled on first use into ~/.cache/nandu. Every function here has two bodies that compute the same; `python
fused.py` compares their values and gradients. Shapes: N tokens of B sequences of T, d hidden, H heads of D, blocks of
min(T, 128) queries.
"""

import ctypes
import hashlib
import os
import pathlib
import subprocess

import torch

EPS = 1e-6
SOURCE = pathlib.Path(__file__).with_name('kernels.cpp')
FLAGS = ['-O3', '-march=native', '-ffast-math', '-fopenmp', '-shared', '-fPIC', '-std=c++17']
_library = None


def library():
    global _library
    if _library is None:
        key = hashlib.sha256(SOURCE.read_bytes() + ' '.join(FLAGS).encode()).hexdigest()[:16]
        path = pathlib.Path(os.environ.get('XDG_CACHE_HOME', pathlib.Path.home() / '.cache')) / 'nandu' / f'kernels-{key}.so'
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f'.{os.getpid()}')
            subprocess.run(['g++', *FLAGS, '-o', str(partial), str(SOURCE)], check=True)
            partial.rename(path)
        _library = ctypes.CDLL(str(path))
    return _library


class SoftmaxShape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ('batch', 'blocks', 'heads', 'block', 'width', 'count', 'ratio', 'window')]


def call(name, *arguments):
    """Tensors go as pointers, int as int64, float as float, None as a null pointer."""
    converted = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, int):
            converted.append(ctypes.c_int64(argument))
        elif isinstance(argument, float):
            converted.append(ctypes.c_float(argument))
        elif argument is None:
            converted.append(ctypes.c_void_p(0))
        else:
            converted.append(argument)
    getattr(library(), name)(*converted)


def native(x):
    return x.device.type == 'cpu' and x.dtype == torch.float32 and not FORCE_PLAIN


FORCE_PLAIN = False


def rms(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


# --- mHC -----------------------------------------------------------------------------------------------------------


def sinkhorn(logits, iterations=20):
    comb = logits.softmax(-1) + EPS
    comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    for _ in range(iterations - 1):
        comb = comb / (comb.sum(-1, keepdim=True) + EPS)
        comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    return comb


class HcPre(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, fn, scale, base, w):
        n, streams, d = h.shape
        m = h.view(n, -1) @ fn.T
        x, pre, post, comb = h.new_empty(n, d), h.new_empty(n, 4), h.new_empty(n, 4), h.new_empty(n, 4, 4)
        rho, rx = h.new_empty(n), h.new_empty(n)
        call('hc_pre_forward', n, d, h, m, scale, base, w, x, pre, post, comb, rho, rx)
        ctx.save_for_backward(h, fn, scale, base, w, m, pre, post, rho, rx)
        return x, post, comb

    @staticmethod
    def backward(ctx, dx, dpost, dcomb):
        h, fn, scale, base, w, m, pre, post, rho, rx = ctx.saved_tensors
        n, _, d = h.shape
        dh, dm = torch.empty_like(h), torch.empty_like(m)
        dscale, dbase, dw = torch.zeros_like(scale), torch.zeros_like(base), torch.zeros_like(w)
        call('hc_pre_backward', n, d, h, m, scale, base, w, pre, post, rho, rx, dx.contiguous(), dpost.contiguous(),
             dcomb.contiguous(), dh, dm, dscale, dbase, dw)
        dh.view(n, -1).addmm_(dm, fn)
        return dh, dm.T @ h.view(n, -1), dscale, dbase, dw


def hc_pre(h, fn, scale, base, w):
    """Sub-layer input [N, d] from the streams [N, 4, d], already normalised with w; and post [N, 4], comb [N, 4, 4]."""
    if native(h) and len(h) % 16 == 0:
        return HcPre.apply(h, fn, scale, base, w)
    m = rms(h.flatten(1)) @ fn.T
    pre = torch.sigmoid(m[:, :4] * scale[0] + base[:4]) + EPS
    post = 2 * torch.sigmoid(m[:, 4:8] * scale[1] + base[4:8])
    comb = sinkhorn((m[:, 8:] * scale[2] + base[8:]).view(-1, 4, 4))
    return rms((pre.unsqueeze(-1) * h).sum(1)) * w, post, comb


class HcPost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, h, post, comb):
        out = torch.empty_like(h)
        call('hc_post_forward', len(h), h.shape[2], y, h, post, comb, out)
        ctx.save_for_backward(y, h, post, comb)
        return out

    @staticmethod
    def backward(ctx, g):
        y, h, post, comb = ctx.saved_tensors
        dy, dh, dpost, dcomb = torch.empty_like(y), torch.empty_like(h), torch.empty_like(post), torch.empty_like(comb)
        call('hc_post_backward', len(h), h.shape[2], y, h, post, comb, g.contiguous(), dy, dh, dpost, dcomb)
        return dy, dh, dpost, dcomb


def hc_post(y, h, post, comb):
    if native(h):
        return HcPost.apply(y.contiguous(), h, post, comb)
    return post.unsqueeze(-1) * y.unsqueeze(1) + torch.einsum('njk,njd->nkd', comb, h)


# --- norm and rope -------------------------------------------------------------------------------------------------


def rotate(x, cosine, sine):
    """Rope on the last pairs of [..., D]; cosine and sine broadcast against [..., pairs]."""
    pairs = cosine.shape[-1]
    if not pairs:
        return x
    head, tail = x[..., : x.shape[-1] - 2 * pairs], x[..., x.shape[-1] - 2 * pairs :]
    a, b = tail[..., 0::2], tail[..., 1::2]
    return torch.cat([head, torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)], -1)


class NormRope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, cosine, sine, heads, tokens, block, gain):
        n, dim = x.shape[0], x.shape[1] // heads
        out = x.new_empty(n * heads, dim)
        ctx.shape = (n, heads, dim, x.stride(0), tokens, block, cosine.shape[-1], gain)
        call('norm_rope_forward', *ctx.shape, x, w, cosine, sine, out)
        ctx.save_for_backward(x, w, cosine, sine)
        return out

    @staticmethod
    def backward(ctx, g):
        x, w, cosine, sine = ctx.saved_tensors
        dx = torch.empty(x.shape)
        dw = None if w is None else torch.zeros_like(w)
        call('norm_rope_backward', *ctx.shape, x, w, cosine, sine, g.contiguous(), dx, dw)
        return dx, dw, None, None, None, None, None, None


def norm_rope(x, w, cosine, sine, heads, tokens, block, gain=1.0):
    """[N, heads * D] -> [B * blocks * heads * block, D]: RMSNorm by head, times w and gain, rope by position."""
    if native(x) and x.stride(1) == 1:
        return NormRope.apply(x, w, cosine, sine, heads, tokens, block, gain)
    n, dim = x.shape[0], x.shape[1] // heads
    v = rms(x.reshape(-1, tokens, heads, dim)) * (1 if w is None else w) * gain
    v = rotate(v, cosine[:tokens, None], sine[:tokens, None])
    return v.view(-1, tokens // block, block, heads, dim).transpose(2, 3).reshape(n * heads, dim)


class Unrope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, o, cosine, sine, heads, groups, tokens, block):
        dim = o.shape[1]
        n = o.shape[0] // heads
        ctx.arguments = (n, heads, dim, groups, tokens, block, cosine.shape[-1], cosine, sine)
        out = o.new_empty(groups, n, heads // groups * dim)
        call('unrope', *ctx.arguments, ctypes.c_int(0), o, out)
        return out

    @staticmethod
    def backward(ctx, g):
        n, heads, dim = ctx.arguments[:3]
        out = g.new_empty(n * heads, dim)
        call('unrope', *ctx.arguments, ctypes.c_int(1), g.contiguous(), out)
        return out, None, None, None, None, None, None


def unrope(o, cosine, sine, heads, groups, tokens, block):
    """Attention's output in norm_rope's order, turned back at the query's position -> [groups, N, H / groups * D]."""
    if native(o):
        return Unrope.apply(o.contiguous(), cosine, sine, heads, groups, tokens, block)
    n, dim = o.shape[0] // heads, o.shape[1]
    v = o.view(-1, tokens // block, heads, block, dim).transpose(2, 3).reshape(-1, tokens, heads, dim)
    v = rotate(v, cosine[:tokens, None], -sine[:tokens, None])
    return v.reshape(n, groups, -1).transpose(0, 1)


# --- attention -----------------------------------------------------------------------------------------------------


def window_keys(kv, blocks):
    """[B, T, D] -> [B * blocks, width, D]: what the queries of a block can see: it alone, or the block before and it."""
    batch, tokens, dim = kv.shape
    if blocks == 1:
        return kv
    own = kv.view(batch, blocks, -1, dim)
    before = torch.cat([torch.zeros_like(own[:, :1]), own[:, :-1]], 1)
    return torch.cat([before, own], 2).view(batch * blocks, -1, dim)


def visibility(tokens, block, blocks, count, ratio, window, device):
    """Masks [blocks, block, width] and [blocks, block, count] of what the query at t may read."""
    t = torch.arange(tokens, device=device).view(blocks, block, 1)
    width = block if blocks == 1 else 2 * block
    key = torch.arange(width, device=device) + t[:, :1] - (width - block)
    raw = (key <= t) & (key > t - window) & (key >= 0)
    entry = torch.arange(count, device=device) < (t + 1) // ratio if ratio else torch.zeros(blocks, block, 0, dtype=torch.bool)
    return raw, entry.to(device)


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, entries, sinks, ratio, window):
        batch, tokens, dim = kv.shape
        heads, count = len(sinks), entries.shape[1]
        block = min(tokens, 128)
        blocks = tokens // block
        keys = window_keys(kv, blocks)
        q1, q2 = q.view(batch * blocks, heads * block, dim), q.view(batch, -1, dim)
        raw = q1 @ keys.transpose(1, 2)
        scores = q2 @ entries.transpose(1, 2)
        share = q.new_empty(len(q))
        ctx.geometry = SoftmaxShape(batch, blocks, heads, block, keys.shape[1], count, ratio, window)
        call('softmax_forward', ctypes.byref(ctx.geometry), sinks, raw, scores, share)
        out = raw @ keys
        if count:
            out.view(batch, -1, dim).baddbmm_(scores, entries)
        ctx.save_for_backward(q, keys, entries, sinks, raw, scores, share)
        return out.view(-1, dim)

    @staticmethod
    def backward(ctx, g):
        q, keys, entries, sinks, raw, scores, share = ctx.saved_tensors
        s, dim = ctx.geometry, q.shape[1]
        g = g.contiguous()
        g1, g2 = g.view(raw.shape[0], -1, dim), g.view(s.batch, -1, dim)
        q1, q2 = q.view(g1.shape), q.view(g2.shape)
        draw, dscores = g1 @ keys.transpose(1, 2), g2 @ entries.transpose(1, 2)
        dkeys = raw.transpose(1, 2) @ g1
        dsinks = torch.zeros_like(sinks)
        call('softmax_backward', ctypes.byref(s), raw, scores, share, draw, dscores, dsinks)
        dq = draw @ keys
        dkeys.baddbmm_(draw.transpose(1, 2), q1)
        dentries = torch.zeros_like(entries)
        if s.count:
            dq.view(g2.shape).baddbmm_(dscores, entries)
            dentries = torch.baddbmm(scores.transpose(1, 2) @ g2, dscores.transpose(1, 2), q2)
        if s.blocks > 1:
            dkeys = dkeys.view(s.batch, s.blocks, 2, s.block, dim)
            own = dkeys[:, :, 1].clone()
            own[:, :-1] += dkeys[:, 1:, 0]
            dkeys = own.view(s.batch, -1, dim)
        return dq.view(-1, dim), dkeys, dentries, dsinks, None, None


def attention(q, kv, entries, sinks, ratio, window=128):
    """Scores of raw rows in the window (of 128 at most) and of visible entries, one softmax with a sink by head; values are
    the keys.

    q: in norm_rope's order, already scaled; kv [B, T, D]; entries [B, count, D].
    """
    if native(q):
        return Attention.apply(q, kv, entries, sinks, ratio, window)
    batch, tokens, dim = kv.shape
    heads, block = len(sinks), min(tokens, 128)
    blocks = tokens // block
    keys = window_keys(kv, blocks).view(batch, blocks, 1, -1, dim)
    q = q.view(batch, blocks, heads, block, dim)
    raw, entry = visibility(tokens, block, blocks, entries.shape[1], ratio, window, q.device)
    scores = torch.cat([
        (q @ keys.transpose(-1, -2)).masked_fill(~raw[:, None], -torch.inf),
        (q @ entries[:, None, None].transpose(-1, -2)).masked_fill(~entry[:, None], -torch.inf),
        sinks.view(1, 1, heads, 1, 1).expand(batch, blocks, heads, block, 1),
    ], -1).softmax(-1)
    width = keys.shape[-2]
    out = scores[..., :width] @ keys + scores[..., width:-1] @ entries[:, None, None]
    return out.reshape(-1, dim)


# --- compressors ---------------------------------------------------------------------------------------------------


class CompressOverlapping(torch.autograd.Function):
    @staticmethod
    def forward(ctx, k, g, ape, tokens):
        width = k.shape[1] // 2
        out = k.new_empty(len(k) // 4, width)
        ctx.shape = (len(k), tokens, width, k.stride(0))
        call('compress_forward', *ctx.shape, k, g, ape, out)
        ctx.save_for_backward(k, g, ape, out)
        return out

    @staticmethod
    def backward(ctx, dout):
        k, g, ape, out = ctx.saved_tensors
        dk, dg, dape = torch.zeros(k.shape), torch.zeros(g.shape), torch.zeros_like(ape)
        call('compress_backward', *ctx.shape, k, g, ape, out, dout.contiguous(), dk, dg, dape)
        return dk, dg, dape, None


def compress(k, g, ape, tokens):
    """Entries before norm and rope, [B * (T // r), D], r = rows of ape; r = 4 also reads the window before (§2.4)."""
    ratio = len(ape)
    count = tokens // ratio
    if ratio == 4 and native(k) and tokens % 4 == 0 and k.stride(0) == g.stride(0):
        return CompressOverlapping.apply(k, g, ape, tokens)
    k, g = (v.reshape(-1, tokens, v.shape[1])[:, : count * ratio].reshape(-1, count, ratio, v.shape[1]) for v in (k, g))
    g = g + ape
    if ratio == 4:
        width = k.shape[-1] // 2
        before_k = torch.cat([torch.zeros_like(k[:, :1, :, :width]), k[:, :-1, :, :width]], 1)
        before_g = torch.cat([torch.full_like(g[:, :1, :, :width], -torch.inf), g[:, :-1, :, :width]], 1)
        k, g = torch.cat([before_k, k[..., width:]], 2), torch.cat([before_g, g[..., width:]], 2)
    return (g.softmax(2) * k).sum(2).flatten(0, 1)


# --- experts -------------------------------------------------------------------------------------------------------


class Experts(torch.autograd.Function):
    """Routed experts on tokens sorted by expert, and the shared one (the last of w13, w2) on all tokens."""

    @staticmethod
    def forward(ctx, x, w13, w2, share, picked, limit):
        n, d = x.shape
        picks, experts, f = picked.shape[1], len(w13) - 1, w2.shape[2]
        order = picked.flatten().argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        counts = torch.bincount(picked.flatten(), minlength=experts).tolist() + [n]
        token = order // picks
        rows = n * picks
        xs = x.new_empty(rows + n, d)
        torch.index_select(x, 0, token, out=xs[:rows])
        xs[rows:] = x
        weight = torch.cat([share.flatten()[order], share.new_ones(n)])
        gu, y = x.new_empty(rows + n, 2 * f), x.new_empty(rows + n, d)
        a = x.new_empty(rows + n, f)
        for e, (at, count) in enumerate(spans(counts)):
            if count:
                torch.mm(xs[at : at + count], w13[e].T, out=gu[at : at + count])
        call('swiglu_forward', rows + n, f, limit, gu, weight, a)
        for e, (at, count) in enumerate(spans(counts)):
            if count:
                torch.mm(a[at : at + count], w2[e].T, out=y[at : at + count])
        out = torch.empty_like(x)
        call('gather_sum', n, d, picks, y[rows:], y, place, out)
        ctx.save_for_backward(xs, w13, w2, weight, gu, a, order, place)
        ctx.counts, ctx.picks, ctx.limit = counts, picks, limit
        return out

    @staticmethod
    def backward(ctx, dout):
        xs, w13, w2, weight, gu, a, order, place = ctx.saved_tensors
        n, d = dout.shape
        rows, f = n * ctx.picks, w2.shape[2]
        dy = dout.new_empty(rows + n, d)
        torch.index_select(dout, 0, order // ctx.picks, out=dy[:rows])
        dy[rows:] = dout
        da, dgu, dxs = torch.empty_like(a), torch.empty_like(gu), torch.empty_like(xs)
        dweight, dw13, dw2 = torch.empty_like(weight), torch.zeros_like(w13), torch.zeros_like(w2)
        for e, (at, count) in enumerate(spans(ctx.counts)):
            if count:
                torch.mm(dy[at : at + count].T, a[at : at + count], out=dw2[e])
                torch.mm(dy[at : at + count], w2[e], out=da[at : at + count])
        call('swiglu_backward', rows + n, f, ctx.limit, gu, weight, da, dgu, dweight)
        for e, (at, count) in enumerate(spans(ctx.counts)):
            if count:
                torch.mm(dgu[at : at + count].T, xs[at : at + count], out=dw13[e])
                torch.mm(dgu[at : at + count], w13[e], out=dxs[at : at + count])
        dx = torch.empty_like(dout)
        call('gather_sum', n, d, ctx.picks, dxs[rows:], dxs, place, dx)
        return dx, dw13, dw2, dweight[place].view(n, ctx.picks), None, None


def spans(counts):
    at = 0
    for count in counts:
        yield at, count
        at += count


def experts(x, w13, w2, share, picked, limit):
    """x [N, d]; w13 [E + 1, 2F, d] gate above up, w2 [E + 1, d, F], the shared expert last; share, picked [N, picks]."""
    if native(x):
        return Experts.apply(x.contiguous(), w13, w2, share, picked, limit)
    gate, up = torch.einsum('nd,efd->nef', x, w13).chunk(2, -1)
    a = torch.nn.functional.silu(gate.clamp(max=limit)) * up.clamp(-limit, limit)
    weight = torch.zeros(len(x), len(w13), device=x.device, dtype=x.dtype).scatter(1, picked, share)
    weight = torch.cat([weight[:, :-1], torch.ones_like(weight[:, :1])], 1)
    return torch.einsum('nef,edf->nd', a * weight.unsqueeze(-1), w2)


# --- self-test -----------------------------------------------------------------------------------------------------


def compare(name, function, *inputs):
    """Values and gradients of both bodies on the same random inputs."""
    global FORCE_PLAIN
    results = []
    for FORCE_PLAIN in (False, True):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        sum((o * torch.randn(o.shape, generator=generator)).sum() for o in outputs).backward()
        results.append([*outputs, *(leaf.grad for leaf in leaves)])
    FORCE_PLAIN = False
    worst = max(float((a - b).detach().abs().max() / (b.abs().max() + 1e-9)) for a, b in zip(*results) if a.numel())
    print(f'{name:28} relative difference {worst:.1e}')
    assert worst < 2e-4, name


def main():
    torch.manual_seed(0)
    rand = torch.randn
    n, d, heads, dim, groups = 768, 256, 4, 128, 2
    compare('hc_pre', hc_pre, rand(n, 4, d), rand(24, 4 * d) / 32, rand(3), rand(24), rand(d))
    compare('hc_post', hc_post, rand(n, d), rand(n, 4, d), rand(n, 4), rand(n, 4, 4))
    for tokens in (64, 128, 384):
        block = min(tokens, 128)
        angle = torch.arange(tokens)[:, None] * torch.logspace(0, -3, 32)
        cosine, sine = angle.cos(), angle.sin()
        compare(f'norm_rope T={tokens}', lambda x, w: norm_rope(x, w, cosine, sine, heads, tokens, block, 0.5),
                rand(n, heads * dim), rand(dim))
        compare(f'unrope T={tokens}', lambda o: unrope(o, cosine, sine, heads, groups, tokens, block), rand(n * heads, dim))
        for ratio, count in ((0, 0), (4, tokens // 4), (128, tokens // 128)):
            for window in (128, 24):
                compare(f'attention T={tokens} r={ratio} w={window}', lambda q, kv, e, s: attention(q, kv, e, s, ratio, window),
                        rand(n * heads, dim) / 8, rand(n // tokens, tokens, dim), rand(n // tokens, count, dim), rand(heads))
        compare(f'compress T={tokens}', lambda k, g, a: compress(k, g, a, tokens), rand(n, 256), rand(n, 256),
                rand(4, 256))
    picked = torch.stack([torch.randperm(15)[:2] for _ in range(n)])
    compare('experts', lambda x, w13, w2, share: experts(x, w13, w2, share, picked, 10.0), rand(n, d), rand(17, 256, d) / 16,
            rand(17, d, 128) / 11, rand(n, 2))


if __name__ == '__main__':
    main()
