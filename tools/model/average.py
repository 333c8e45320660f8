"""Makes a checkpoint of the mean of two of one run: of its weights and selection biases, the optimizer's state from the second.

    python tools/model/average.py FIRST.pt SECOND.pt OUT.pt [SCALE]

Two ends of a run whose rate rose to the full one in between lie apart by half of their length, each with faults of its own; what
both agree on stays and most of the rest cancels (weight averaging, Izmailov et al. 2018; model soups, Wortsman et al. 2022). What
cancels leaves the mean less sure than it is right. SCALE multiplies all logits, by way of the last norm: no first choice changes.
"""

import sys

import torch


def main() -> None:
    first, second = (torch.load(path, weights_only=True) for path in sys.argv[1:3])
    if first['geometry'] != second['geometry'] or first['seed'] != second['seed']:
        # The seed draws the table of the hash-routed layer, which is no weight.
        sys.exit('average: the checkpoints are of different runs')
    for part in ('weights', 'biases'):
        for name, value in second[part].items():
            value.lerp_(first[part][name], 0.5)
    second['weights']['head_norm'] *= float(sys.argv[4]) if len(sys.argv) > 4 else 1
    torch.save(second, sys.argv[3])


if __name__ == '__main__':
    main()
