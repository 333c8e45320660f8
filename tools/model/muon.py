"""Muon for the matrices between activations, Adam for everything else, both on plain tensors that the caller owns.

Muon replaces a gradient by the nearest orthogonal matrix, so that rare directions (the words seen once in a while) are
learnt as fast as common ones: on this task it needs a third of Adam's exposures. Stacks of matrices go as one batch.
"""

from __future__ import annotations

import torch

MOMENTUM = 0.95
BETAS = (0.9, 0.95)
# Odd polynomials a x + b x^3 + c x^5, applied in turn: each is the best one for the range of singular values that those
# before it leave (the "Polar Express" of Amsel et al., 2025). Four bring everything above 1 % of the norm close to one.
POLYNOMIALS = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
]


def orthogonalise(g: torch.Tensor) -> torch.Tensor:
    """[n, rows, columns] -> the same singular vectors, singular values near 1."""
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] * 1.02 + 1e-7)
    for a, b, c in POLYNOMIALS:
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon:
    """One weight; `cut` gives the stacks of matrices [n, rows, columns] that it holds, as views."""

    def __init__(self, weight: torch.Tensor, state: torch.Tensor, cut):
        self.weight, self.momentum, self.cut = weight, state[0].view_as(weight), cut

    def step(self, gradient: torch.Tensor, rate: float, _: int) -> None:
        g = gradient.view_as(self.weight)
        self.momentum.lerp_(g, 1 - MOMENTUM)
        for weight, direction in zip(self.cut(self.weight), self.cut(g.lerp(self.momentum, MOMENTUM))):
            # A matrix that widens is scaled up, so that outputs change by about the rate whatever the shape.
            scale = max(1.0, weight.shape[1] / weight.shape[2]) ** 0.5
            weight.sub_(orthogonalise(direction), alpha=rate * scale)


class Adam:
    def __init__(self, weight: torch.Tensor, state: torch.Tensor):
        self.weight = weight
        self.mean, self.square = state[0].view_as(weight), state[1].view_as(weight)

    def step(self, gradient: torch.Tensor, rate: float, number: int) -> None:
        """`number` counts from 1."""
        g = gradient.view_as(self.weight)
        self.mean.lerp_(g, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        first, second = 1 - BETAS[0] ** number, 1 - BETAS[1] ** number
        self.weight.addcdiv_(self.mean, (self.square / second).sqrt_().add_(1e-9), value=-rate / first)
