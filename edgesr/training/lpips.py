"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), version 0.1."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgesr.errors import BadImage, BadModel, MissingExtra
from edgesr.training.pretrained import NetName, packaged_weights
from edgesr.training.vgg import ImageNet

MIN_SIDE = 32  # AlexNet's poolings leave nothing of smaller pictures
# The convolutions whose rectified outputs are compared: the last before each pooling of VGG16
# and its very last, and all of AlexNet's.
LAYERS: dict[NetName, tuple[int, ...]] = {"vgg": (1, 3, 6, 9, 12), "alex": (0, 1, 2, 3, 4)}


def lpips(a: NDArray[np.uint8], b: NDArray[np.uint8], net: NetName = "alex") -> float:
    """The distance of two pictures, HWC uint8 RGB of one shape; 0 for equal ones, lower is nearer.

    `alex` is what papers report, `vgg` is nearer to what a perceptual loss optimises. Raises
    `BadImage` for other arrays or sides under 32, `MissingExtra` without the weights.
    """
    for x in (a, b):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3 or min(x.shape[:2]) < MIN_SIDE:
            raise BadImage(f"LPIPS takes HWC uint8 RGB of at least 32x32, not {x.dtype} {x.shape}")
    if a.shape != b.shape:
        raise BadImage(f"LPIPS compares pictures of one size, not {a.shape} with {b.shape}")
    with torch.no_grad():
        return float(distance(_network(net), _linear(net), _tensor(a), _tensor(b)))


def why_not(net: NetName = "alex") -> str:
    """Why `lpips` cannot work here, '' where it can: the packaged weights are not there, or bad."""
    try:
        packaged_weights(net)
    except (MissingExtra, BadModel) as e:
        return str(e)
    return ""


def distance(network: ImageNet, linear: list[Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Eq. 1 of the paper for NCHW pictures in [0, 1], one number a picture (N,).

    At each of `LAYERS` both features are divided by their length at each position; their
    squared difference, weighed by channel with `linear` (C,), is averaged over positions.
    """
    keep = LAYERS[network.net]
    mine, theirs = network(a, keep), network(b, keep)
    total = torch.zeros(len(a), dtype=a.dtype, device=a.device)
    for i, weight in zip(keep, linear, strict=True):
        gap = (_unit(F.relu(mine[i])) - _unit(F.relu(theirs[i]))).square()
        total = total + (gap * weight.view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _tensor(x: NDArray[np.uint8]) -> Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))
    return planes.unsqueeze(0).float() / 255


@cache
def _network(net: NetName) -> ImageNet:
    return ImageNet(net)


@cache
def _linear(net: NetName) -> list[Tensor]:
    arrays = packaged_weights(net)
    layers = range(len(LAYERS[net]))
    return [torch.tensor(arrays[f"NetLinLayer_{i}/Conv_0/kernel"]).flatten() for i in layers]
