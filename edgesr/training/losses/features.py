"""Distances of what student and teacher have inside, NCHW at input size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AFFINITY_SIDE = 24  # positions a side that affinities are taken between


class FeatureAdapter(nn.Module):
    """1×1 convolution from the student's features to the teacher's width.

    The hint layer of FitNets (Romero et al., ICLR 2015). Each side of each picture is divided
    by its own root mean square, as in attention transfer (Zagoruyko and Komodakis, ICLR 2017,
    eq. 2): one weight then serves teachers of any activation range, and no statistic is taken
    over the batch, so that it may be split over processes.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(student_width, teacher_width, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean absolute difference; about 1 for features that have nothing in common."""
        projected: Tensor = self.project(student)
        return (_unit(projected) - _unit(teacher)).abs().mean()


def _unit(x: Tensor) -> Tensor:
    mean_square = x.square().mean((1, 2, 3), keepdim=True)
    return x / torch.sqrt(mean_square + 1e-12)


def affinity(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of the spatial affinities (FAKD: He et al., ICIP 2020).

    The affinity of two positions is the cosine of their feature vectors; the widths of the
    two networks may differ. The matrix is HW×HW a picture, so larger features are first
    averaged over windows until at most 24 positions a side remain.
    """
    return (_affinities(student) - _affinities(teacher)).abs().mean()


def _affinities(x: Tensor) -> Tensor:
    window = math.ceil(max(x.shape[2:]) / AFFINITY_SIDE)
    if window > 1:
        x = F.avg_pool2d(x, window, ceil_mode=True, count_include_pad=False)
    flat = F.normalize(x.flatten(2), dim=1)
    return flat.transpose(1, 2) @ flat
