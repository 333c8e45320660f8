"""Makes a checkpoint of a file that export.py wrote, so that training can go on from the repository alone.

    python tools/model/from_gguf.py models/nandu-dictionary.gguf RUN/checkpoint.pt [--scale 0.74]

Weights are the file's, rounded to its types; the optimizer begins anew and the clock at 0, so train.py wants --stage long.
The file's vocabulary replaces the tokenizer that data.py made: rows have to be in the tokens that the network knows.
--scale multiplies all logits, by way of the last norm: 1/1.35 undoes what average.py was asked for last.
"""

import argparse
import pathlib

import gguf
import torch

import data
import tokenizer
import train
import v4


def read(file: gguf.GGUFReader, geometry: str, seed: int) -> v4.V4:
    """The network of a file; raises SystemExit where it is of another geometry or seed."""
    values = {}
    for tensor in file.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        is_float = tensor.tensor_type != gguf.GGMLQuantizationType.I32
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type) if is_float else tensor.data
        values[tensor.name] = torch.from_numpy(array.copy()).view(shape)
    model = v4.V4(v4.GEOMETRIES[geometry], seed)
    with torch.no_grad():
        for name, weight in model.tensors():
            value = values.get(name)
            if value is None or value.shape != weight.shape:
                raise SystemExit(f'from_gguf: {name} is not of geometry {geometry}')
            if 'tid2eid' in name and not torch.equal(value, weight):
                raise SystemExit(f'from_gguf: {name} was not drawn by seed {seed}')
            weight.copy_(value)  # a view of the parameter that holds it
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('checkpoint', type=pathlib.Path)
    parser.add_argument('--geometry', choices=list(v4.GEOMETRIES), default='S')
    parser.add_argument('--seed', type=int, default=5, help="of the run: the hash-routed layer's table is drawn with it")
    parser.add_argument('--scale', type=float, default=1.0)
    args = parser.parse_args()
    file = gguf.GGUFReader(args.model)
    model = read(file, args.geometry, args.seed)
    tokens, merges = (file.fields[f'tokenizer.ggml.{part}'].contents() for part in ('tokens', 'merges'))
    tokenizer.rebuild(tokens, merges, str(data.TOKENIZER))
    with torch.no_grad():
        model.head_norm *= args.scale
    shared = train.Shared(model, 1)
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    train.save(argparse.Namespace(run=args.checkpoint.parent, geometry=args.geometry, seed=args.seed), shared,
               {'stage': 'long', 'step': 0, 'tokens': 0, 'stage_began': 0})


if __name__ == '__main__':
    main()
