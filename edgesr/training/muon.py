"""Muon: steps whose matrix of every convolution is orthogonal.

The momentum of a convolution's (out, in·k²) matrix is replaced by the nearest semi-orthogonal one,
so that all its directions are learned equally fast, not only those of the largest gradients.
Muon (Jordan et al., 2024), with the step's size tied to Adam's (Liu et al., "Muon is scalable for
LLM training", 2025): an entry moves by 0.2 · lr in the root mean square, so Adam's learning rates
are of the right order. What is no such matrix (biases, slopes, the 1×1 branches of `RepConv`, the
convolutions that read the picture) is left to Adam. `benchmarks/optimizers.py` compares the two.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
RMS = 0.2
ITERATIONS = 5
# Of Jordan's quintic iteration: they take every singular value to about 1 in five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
ADAM_BETAS = (0.9, 0.99)
ADAM_EPS = 1e-8
COLOURS = 3


class Muon(torch.optim.Optimizer):
    """Muon for convolutions with more than 3 input channels, Adam for all else, at one `lr`."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        everything = list(parameters)
        matrices = [p for p in everything if is_matrix(p)]
        others = [p for p in everything if not is_matrix(p)]
        groups: list[dict[str, Any]] = [{"params": others, "matrices": False, "step": 0}]
        if matrices:
            groups.append({"params": matrices, "matrices": True, "step": 0})
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient. `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            group["step"] += 1
            if group["matrices"]:
                self._step_matrices(moved, group["lr"])
            else:
                self._step_adam(moved, group["lr"], group["step"])

    def _kept(self, name: str, parameters: list[nn.Parameter]) -> list[Tensor]:
        """What is remembered of these parameters under `name`, zeros at first."""
        for p in parameters:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in parameters]

    def _step_matrices(self, parameters: list[nn.Parameter], lr: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = self._kept("momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        # Matrices of one shape go through the iteration together.
        alike: defaultdict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for p, towards in zip(parameters, ahead, strict=True):
            alike[p.shape].append((p, towards.reshape(p.shape[0], -1)))
        for shape, pairs in alike.items():
            size = RMS * math.sqrt(max(pairs[0][1].shape))
            directions = orthogonal(torch.stack([matrix for _, matrix in pairs]))
            for (p, _), direction in zip(pairs, directions, strict=True):
                p.sub_(direction.reshape(shape), alpha=lr * size)

    def _step_adam(self, parameters: list[nn.Parameter], lr: float, step: int) -> None:
        first, second = ADAM_BETAS
        gradients = [p.grad for p in parameters if p.grad is not None]
        means, squares = self._kept("mean", parameters), self._kept("square", parameters)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        bottom = torch._foreach_sqrt(squares)
        torch._foreach_div_(bottom, math.sqrt(1 - second**step))
        torch._foreach_add_(bottom, ADAM_EPS)
        torch._foreach_addcdiv_(list[Tensor](parameters), means, bottom, -lr / (1 - first**step))


def is_matrix(parameter: Tensor) -> bool:
    """Whether Muon moves this parameter: a convolution's weight that reads features."""
    return parameter.ndim == 4 and parameter.shape[1] > COLOURS


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest semi-orthogonal matrix of each in (N, rows, columns).

    Five rounds of Newton and Schulz: singular values come out between about 0.7 and 1.2. A matrix
    of zeros stays one.
    """
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
