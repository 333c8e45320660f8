"""Trains the default model: on a CPU as one process a core, on a GPU as one process.

    python tools/model/train.py --run DIR --minutes 90                      geometry B on two cores
    python tools/model/train.py --run DIR --minutes 40 --geometry A --device cuda --tokens 65536
    python tools/model/train.py --run DIR --minutes 120                     goes on from DIR/checkpoint.pt, with the new budget

A budget of minutes, not of steps, because the machine decides how many steps there are; time in which the process group
was stopped does not count. Weights and optimizer state lie in shared memory. Each process makes its own rows and its own
gradients; between two barriers it then updates the weights that it owns from the sum of all gradients. So there is
no copy of anything, no thread pool that waits for its slowest member within every operation, and both cores are busy.

Stages: `copy` until the model copies (or a share of the budget is spent), `mix`, and `long` with rows of up to 2,048 tokens.
The last fifth may have the rounding of the server's cache switched on. The rate is constant for two fifths of the budget and
then falls to 2 %.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

import data
import muon
import v4

LOG_EVERY = 10  # steps
WARM_UP = 60  # steps
BALANCE = 1.5e-3  # step of the routers' selection biases
# Kinds of rows (as data.py calls them) and their lengths, with their shares of a stage's tokens. Copying is kept alive in
# `mix`, and the last stage goes on with the dictionary: long rows alone would cost more than they bring.
SHARES = {
    'copy': {('copy', 64): 0.30, ('copy', 128): 0.30, ('facts', 128): 0.20, ('facts', 256): 0.20},
    'mix': {('mix', 64): 0.34, ('mix', 128): 0.22, ('mix', 256): 0.30, ('copy', 128): 0.06, ('long', 512): 0.08},
    # The dictionary alone, for the mini-training: two minutes do not suffice for more.
    'short': {('mix', 64): 0.8, ('mix', 128): 0.2},
    'long': {('mix', 64): 0.24, ('mix', 128): 0.04, ('mix', 256): 0.05, ('facts', 128): 0.03, ('facts', 256): 0.14,
             ('tools', 128): 0.06, ('tools', 256): 0.15, ('copy', 128): 0.01, ('long', 512): 0.11, ('long', 1024): 0.07,
             ('long', 2048): 0.10},
}
# How far raw rows reach in a batch. With the full window nearly all that a short row asks for can be read from raw rows, so
# that reading compressed rows would be learnt from long rows only, which cost many times as much for each answer.
WINDOWS = (16, 32, 64, 128)
ROUNDED = 0.2  # the last share of the budget, with the rounding of the server's cache


class Shared:
    """Flat storage that all processes see: weights, their gradients by process, optimizer state, biases, small counters."""

    def __init__(self, model: v4.V4, processes: int):
        cuts = {id(weight): cut for weight, cut in model.muon_groups()}
        self.names, self.shapes, self.cuts = [], [], []
        for name, weight in model.named_parameters():
            self.names.append(name)
            self.shapes.append(weight.shape)
            self.cuts.append(cuts.get(id(weight)))
        self.sizes = [shape.numel() for shape in self.shapes]
        device = next(model.parameters()).device
        share = (lambda t: t.share_memory_()) if device.type == 'cpu' else (lambda t: t)
        self.weights = share(torch.empty(sum(self.sizes), device=device))
        self.gradients = [share(torch.zeros_like(self.weights)) for _ in range(processes)]
        self.state = [share(torch.zeros(1 if cut else 2, n, device=device)) for n, cut in zip(self.sizes, self.cuts)]
        self.biases = {name: share(b.detach().clone()) for name, b in model.named_buffers() if name.endswith('bias')}
        self.loads = [share(torch.zeros(len(model.ffn), model.g.experts, device=device)) for _ in range(processes)]
        self.counts = torch.zeros(processes).share_memory_()  # targets of each process in this step
        self.stop = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.clock = torch.zeros(1, dtype=torch.float64).share_memory_()  # seconds that count, written by process 0
        self.right = torch.zeros(1, dtype=torch.float64).share_memory_()  # how well it copies, by process 0
        self.claim(model, 0, copy=True)

    def claim(self, model: v4.V4, rank: int, copy: bool = False) -> None:
        """Makes the model's weights, gradients, biases and loads views of the shared storage."""
        with torch.no_grad():
            for weight, mine, gradient in zip(model.parameters(), self.weights.split(self.sizes),
                                              self.gradients[rank].split(self.sizes)):
                if copy:
                    mine.copy_(weight.flatten())
                weight.data = mine.view_as(weight)
                weight.grad = gradient.view_as(weight)
        for layer, ffn in enumerate(model.ffn):
            ffn.load = self.loads[rank][layer]
            if not ffn.hashed:
                ffn.bias = self.biases[f'ffn.{layer}.bias']

    def optimizers(self, rank: int):
        """(slice, optimizer, is Muon) of the weights that this process updates: the dearest go round first."""
        cost = [(n * (30 if cut else 4), i) for i, (n, cut) in enumerate(zip(self.sizes, self.cuts))]
        owned, totals = set(), [0.0] * len(self.gradients)
        for price, i in sorted(cost, reverse=True):
            cheapest = totals.index(min(totals))
            totals[cheapest] += price
            if cheapest == rank:
                owned.add(i)
        at, out = 0, []
        for i, (size, shape, cut) in enumerate(zip(self.sizes, self.shapes, self.cuts)):
            part = slice(at, at := at + size)
            if i in owned:
                weight = self.weights[part].view(shape)
                out.append((part, muon.Muon(weight, self.state[i], cut) if cut else muon.Adam(weight, self.state[i]), bool(cut)))
        return out

    def balance(self, rate: float) -> float:
        """Moves the routers' selection biases against the load since the last call; the worst max/mean of a layer."""
        worst = 1.0
        for layer in range(len(self.loads[0])):
            load = sum(loads[layer] for loads in self.loads)
            if (bias := self.biases.get(f'ffn.{layer}.bias')) is not None:
                worst = max(worst, float(load.max() / load.mean().clamp(min=1)))
                bias += rate * torch.sign(load.mean() - load)
            for loads in self.loads:
                loads[layer].zero_()
        return worst


def answers_right(mask: torch.Tensor, right: torch.Tensor) -> tuple[int, int]:
    """How many runs of targets, that is answers, were right from end to end; and of how many."""
    flat = mask[:, 1:].reshape(-1).cpu()
    begins = flat & ~torch.cat([torch.zeros(1, dtype=torch.bool), flat[:-1]])
    run = begins.cumsum(0)[flat] - 1
    total = int(begins.sum())
    wrong = torch.zeros(total, dtype=torch.bool)
    wrong[run[~right.cpu()]] = True
    return total - int(wrong.sum()), total


def round_trip(row: torch.Tensor, plain_dims: int = 64) -> torch.Tensor:
    """A cache row as the server's reference mode keeps it: e4m3 in blocks of 64 with power-of-two scales on the dims before
    rope, bf16 on the others. Straight through: the rounding has no gradient of its own."""
    with torch.no_grad():
        x = row.bfloat16().float()
        blocks = x[..., :plain_dims].unflatten(-1, (-1, 64))
        amax = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-4)
        mantissa, exponent = torch.frexp(amax / 448)
        scale = torch.ldexp(torch.ones_like(amax), exponent - (mantissa == 0.5).int())
        packed = (blocks / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
        x[..., :plain_dims] = packed.flatten(-2)
        delta = x - row
    return row + delta


class Tally:
    """Loss and exactness by kind and length of the rows since the last line of the log."""

    def __init__(self):
        self.by = {}

    def add(self, kind: str, length: int | str, loss: float, mask: torch.Tensor, right: torch.Tensor) -> None:
        exact, answers = answers_right(mask, right)
        entry = self.by.setdefault(f'{kind}_{length}', [0.0, 0, 0, 0, 0])
        for i, value in enumerate((loss, len(right), int(right.sum()), exact, answers)):
            entry[i] += value

    def report(self) -> dict:
        total = [sum(e[i] for e in self.by.values()) for i in range(5)]
        line = {'loss': round(total[0] / max(total[1], 1), 4), 'right': round(total[2] / max(total[1], 1), 4),
                'exact': round(total[3] / max(total[4], 1), 4)}
        for name, e in sorted(self.by.items()):
            line[f'loss_{name}'] = round(e[0] / max(e[1], 1), 4)
            line[f'exact_{name}'] = round(e[3] / max(e[4], 1), 4)
        self.by = {}
        return line


def rate_at(progress: float, step: int, hold: float) -> float:
    """The share of the full rate: warm-up, constant up to a share of the budget, then down to 2 %."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * min(1.0, 1 - 0.98 * (progress - hold) / (1 - hold))


def worker(rank: int, args: argparse.Namespace, shared: Shared, begin: dict, barrier) -> None:
    torch.set_num_threads(1 if args.processes > 1 else args.threads)
    device = torch.device(args.device)
    model = v4.V4(v4.GEOMETRIES[args.geometry], args.seed).to(device)
    shared.claim(model, rank)
    optimizers = shared.optimizers(rank)
    stage, step, tokens_seen, stage_began = begin['stage'], begin['step'], begin['tokens'], begin['stage_began']
    tally, durations, log = Tally(), [], None
    last = time.monotonic()
    if rank == 0:
        log = open(args.run / 'log.jsonl', 'a', buffering=1)
        signal.signal(signal.SIGTERM, lambda *_: shared.stop.fill_(1))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    saved, line_began, line_tokens = float(shared.clock), float(shared.clock), tokens_seen
    copying = []
    while True:
        progress = step / args.steps if args.steps else float(shared.clock) / (args.minutes * 60)
        if progress >= 1 or int(shared.stop):
            break
        wanted = stage
        if stage == 'copy' and (float(shared.right) > args.copy_until or progress > args.copy_share):
            wanted = 'mix'
        elif stage == 'mix' and progress > 1 - args.long_share:
            wanted = 'long'
        if wanted != stage:
            stage, stage_began = wanted, step
        model.round_row = round_trip if args.round_trips and progress > 1 - ROUNDED else (lambda row: row)
        shares = SHARES[stage]
        kind, length = list(shares)[np.random.default_rng([args.seed, step]).choice(len(shares), p=list(shares.values()))]
        # Random tokens said again are more than compressed rows can hold.
        narrow = kind not in ('copy', 'tools') and length > 64 and stage != 'short'
        model.window = args.windows[np.random.default_rng([args.seed, step, 1]).choice(len(args.windows))] if narrow else WINDOWS[-1]
        share = args.tokens // args.processes
        wide = 0
        for micro in range(max(1, share // args.micro)):
            rng = np.random.default_rng([args.seed, step, rank, micro])
            rows, mask = data.batch(kind, rng, length, max(1, min(share, args.micro) // length))
            rows, mask = torch.from_numpy(rows).to(device), torch.from_numpy(mask).to(device)
            mask[:, 0] = False
            loss, right = model.loss(rows.long(), mask)
            loss = loss * len(right)
            loss.backward()
            wide += len(right)
            tally.add(kind, f'{length}_w{model.window}' if narrow else length, float(loss.detach()), mask, right)
            if stage == 'copy':
                copying.append(float(right.float().mean()))
        shared.counts[rank] = wide
        barrier.wait()
        # Everybody's gradients are there; what this process owns is updated from their sum.
        scale = rate_at(progress, step, args.hold)
        total = max(float(shared.counts.sum()), 1)  # rows that are all text have no targets
        for part, optimizer, is_muon in optimizers:
            gradient = shared.gradients[0][part]
            if args.processes > 1:
                gradient = torch.stack([g[part] for g in shared.gradients]).sum(0)
            optimizer.step(gradient / total, scale * (args.muon_rate if is_muon else args.adam_rate), step + 1)
        step += 1
        tokens_seen += share * args.processes
        if rank == 0:
            now = time.monotonic()
            spent, last = now - last, now
            usual = statistics.median(durations[-50:]) if len(durations) > 10 else 10.0
            # A step that took many times the usual was stopped by somebody: it counts as a usual one.
            shared.clock += spent if spent < 5 * usual + 2 else usual
            durations.append(min(spent, 5 * usual + 2))
            if copying:
                shared.right.fill_(statistics.fmean(copying[-100:]) if len(copying) >= 100 else 0)
            worst = shared.balance(BALANCE)
            if step % LOG_EVERY == 0:
                seconds = float(shared.clock) - line_began
                line = {'step': step, 'stage': stage, 'minutes': round(float(shared.clock) / 60, 2), 'tokens': tokens_seen,
                        **tally.report(), 'rate': round(scale, 3), 'load': round(worst, 2),
                        'tokens_s': round((tokens_seen - line_tokens) / max(seconds, 1e-3)), 'at': time.strftime('%H:%M:%S')}
                log.write(json.dumps(line) + '\n')
                line_began, line_tokens = float(shared.clock), tokens_seen
        barrier.wait()
        shared.gradients[rank].zero_()
        if rank == 0 and float(shared.clock) - saved > args.save_every:
            saved = float(shared.clock)
            save(args, shared, dict(stage=stage, step=step, tokens=tokens_seen, stage_began=stage_began))
            last = time.monotonic()
    barrier.wait()
    if rank == 0:
        save(args, shared, dict(stage=stage, step=step, tokens=tokens_seen, stage_began=stage_began))


def save(args, shared: Shared, position: dict) -> None:
    """The rows of a step follow from the seed and the step's number, so this is all there is."""
    if not torch.isfinite(shared.weights).all():
        sys.exit(f'train: step {position["step"]}: a weight is no number; the checkpoint before it is kept')
    part = args.run / 'checkpoint.part'
    torch.save({
        # As a tensor, for torch 1.13 reads no float from a file of weights only.
        'geometry': args.geometry, 'seed': args.seed, 'position': {**position, 'clock': shared.clock},
        'weights': dict(zip(shared.names, shared.weights.split(shared.sizes))),
        'state': dict(zip(shared.names, shared.state)), 'biases': shared.biases,
    }, part)
    part.rename(args.run / 'checkpoint.pt')


def load(path: pathlib.Path, device: str = 'cpu') -> tuple[v4.V4, dict]:
    """A model with the weights of a checkpoint, and the checkpoint."""
    saved = torch.load(path, map_location=device, weights_only=True)
    model = v4.V4(v4.GEOMETRIES[saved['geometry']], saved['seed']).to(device)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in saved['weights']:
                weight.copy_(saved['weights'][name].view_as(weight))
        for name, buffer in model.named_buffers():
            if name in saved['biases']:
                buffer.copy_(saved['biases'][name])
    return model, saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--run', type=pathlib.Path, required=True, help='folder of checkpoint and log')
    parser.add_argument('--minutes', type=float, default=90, help='the whole budget, what was trained before included')
    parser.add_argument('--steps', type=int, default=0, help='a budget of steps in place of minutes: the same on any machine')
    parser.add_argument('--geometry', choices=list(v4.GEOMETRIES), default='B')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--processes', type=int, default=0, help='0: two on a CPU, one on a GPU')
    parser.add_argument('--threads', type=int, default=1, help='of a single process')
    parser.add_argument('--tokens', type=int, default=4096, help='of one step, all processes together')
    parser.add_argument('--micro', type=int, default=2048, help='of one forward pass (65536 on a large GPU)')
    parser.add_argument('--muon-rate', type=float, default=0.02)
    parser.add_argument('--adam-rate', type=float, default=3e-3)
    parser.add_argument('--hold', type=float, default=0.4, help='share of the budget at the full rate')
    parser.add_argument('--copy-until', type=float, default=0.95, help='share of right tokens that ends the copy stage')
    parser.add_argument('--copy-share', type=float, default=0.1, help='of the budget, at most')
    parser.add_argument('--long-share', type=float, default=0.4)
    parser.add_argument('--save-every', type=float, default=300, help='seconds')
    parser.add_argument('--words', type=int, default=0, help='the most frequent words to learn; 0: as many as data.py says')
    parser.add_argument('--pool', type=int, default=data.POOL_UNITS, help='conversations that are made at a time, of each kind')
    parser.add_argument('--windows', type=int, nargs='+', default=WINDOWS, help='how far raw rows reach, drawn by batch')
    parser.add_argument('--stage', choices=list(SHARES), help='begin with, or go on with, this stage')
    parser.add_argument('--round-trips', action='store_true', help='round rows as the server does, in the last fifth')
    parser.add_argument('--seed', type=int, default=5)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    args.processes = args.processes or (2 if args.device == 'cpu' else 1)
    data.POOL_UNITS = args.pool
    # Made once, before the processes part; each then fills its own pools of conversations.
    data._rows = data.Rows(target=args.words) if args.words else data.Rows()

    checkpoint = args.run / 'checkpoint.pt'
    begin = {'stage': 'copy', 'step': 0, 'tokens': 0, 'stage_began': 0, 'clock': 0.0}
    if checkpoint.exists():
        model, saved = load(checkpoint, args.device)
        begin = saved['position']
        shared = Shared(model, args.processes)
        for name, state in zip(shared.names, shared.state):
            state.copy_(saved['state'][name])
        del saved
    else:
        shared = Shared(v4.V4(v4.GEOMETRIES[args.geometry], args.seed).to(args.device), args.processes)
    if args.stage and args.stage != begin['stage']:
        begin |= {'stage': args.stage, 'stage_began': begin['step']}
    shared.clock.fill_(float(begin['clock']))
    (args.run / 'pid').write_text(f'{os.getpid()}\n')

    if args.processes == 1:
        class Alone:
            def wait(self):
                pass
        worker(0, args, shared, begin, Alone())
        return
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(args.processes)
    signal.signal(signal.SIGTERM, lambda *_: shared.stop.fill_(1))
    workers = [context.Process(target=worker, args=(rank, args, shared, begin, barrier)) for rank in range(args.processes)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    sys.exit(max(process.exitcode for process in workers))


if __name__ == '__main__':
    main()
