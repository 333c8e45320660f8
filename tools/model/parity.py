"""Proves that v4.py computes what the engine computes: random weights to an F32 file, logits of both on the same random tokens.

    python tools/model/parity.py [--tokens 300] [--geometry B]        exits with 1 above 1e-4

Weights are random but not tame: norms, sinks, mixing coefficients and selection biases are spread, so that an exchanged
index or a forgotten term shows. Sequences reach past the window and two HCA entries.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

import export
import v4

ROOT = pathlib.Path(__file__).resolve().parents[2]


def spread(model):
    """Moves every vector away from its initial value."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight += torch.randn_like(weight) * (0.3 if 'base' in name or 'sinks' in name else 0.1)
            elif name.endswith('ape'):
                weight += torch.randn_like(weight) * 0.5
            elif name.endswith(('o_b', 'w2')):
                weight *= 10
        for name, bias in model.named_buffers():
            if name.endswith('bias'):
                bias += torch.randn_like(bias) * 0.2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tokens', type=int, default=300)
    parser.add_argument('--geometry', choices=list(v4.GEOMETRIES), default='B')
    args = parser.parse_args()

    model = v4.V4(v4.GEOMETRIES[args.geometry], seed=7).eval()
    spread(model)
    tokens = np.random.default_rng(11).integers(16, model.g.vocab, args.tokens)
    padded = np.pad(tokens, (0, -len(tokens) % 128), constant_values=2)
    with torch.no_grad():
        mine = model(torch.from_numpy(padded[None]), torch.arange(len(tokens))).numpy()
    with tempfile.TemporaryDirectory(prefix='nandu-parity-') as folder:
        folder = pathlib.Path(folder)
        export.write(model, folder / 'model.gguf', types='f32')
        (folder / 'tokens.txt').write_text(' '.join(map(str, tokens)))
        command = ['score', '--model', folder / 'model.gguf', '--tokens', folder / 'tokens.txt', '--numerics', 'f32']
        subprocess.run(['node', ROOT / 'bin/nandu.js', *command, '--logits', folder / 'logits.npy'], check=True)
        theirs = np.load(folder / 'logits.npy')
    worst = float(np.abs(mine - theirs).max())
    print(f'{len(tokens)} tokens: largest difference of a logit {worst:.2e}, spread {theirs.std():.2f}, '
          f'first choices equal {np.mean(mine.argmax(1) == theirs.argmax(1)):.4f}')
    sys.exit(worst > 1e-4)


if __name__ == '__main__':
    main()
