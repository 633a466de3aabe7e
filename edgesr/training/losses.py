"""What a step minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesr.training.recipe import LossSpec


def distance(norm: str, a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of two pictures: `l1`, `l2` (squared), or `charbonnier`.

    Charbonnier is sqrt(d² + 1e-6), the differentiable L1 of Lai et al. (CVPR 2017).
    """
    if norm == "l1":
        return (a - b).abs().mean()
    if norm == "l2":
        return (a - b).square().mean()
    return torch.sqrt((a - b).square() + 1e-6).mean()


class FeatureAdapter(nn.Module):
    """1×1 convolution from the student's features to the teacher's width.

    The hint layer of FitNets (Romero et al., ICLR 2015). Both sides are divided by the
    teacher's own spread, so that one weight serves teachers of any activation range.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(student_width, teacher_width, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean absolute difference, in units of the teacher's standard deviation."""
        spread = teacher.std() + 1e-8
        projected: Tensor = self.project(student)
        return ((projected - teacher) / spread).abs().mean()


def step_loss(
    spec: LossSpec,
    output: Tensor,
    photograph: Tensor,
    teacher_output: Tensor | None,
    feature: Tensor | None,
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum and each term by name.

    `output`, `photograph` and `teacher_output` are NCHW float32 in [0, 1]; `feature` is
    the adapter's loss. A term whose weight is 0 may be None.
    """
    terms: dict[str, Tensor] = {}
    if spec.pixel:
        terms["pixel"] = spec.pixel * distance(spec.norm, output, photograph)
    if spec.teacher:
        assert teacher_output is not None
        terms["teacher"] = spec.teacher * distance(spec.norm, output, teacher_output)
    if spec.feature:
        assert feature is not None
        terms["feature"] = spec.feature * feature
    total = torch.stack(list(terms.values())).sum()
    return total, {name: float(value.detach()) for name, value in terms.items()}
