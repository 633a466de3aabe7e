"""The weighted sum that one step minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgesr.graph.hint import hint_layers
from edgesr.graph.spec import Graph
from edgesr.training.losses.features import FeatureAdapter, affinity
from edgesr.training.losses.pictures import distance, frequency
from edgesr.training.precision import autocast
from edgesr.training.recipe import LossSpec
from edgesr.training.vgg import PerceptualLoss


@dataclass
class Made:
    """What one step produced: NCHW, float32 or float64, pictures in [0, 1].

    `output` is the student's picture, not clipped. `features` and `teacher_features` hold the
    tensors that `StepLoss.student_layers` and `teacher_layers` name. What no term of the loss
    asks for may be None or empty.
    """

    output: Tensor
    photograph: Tensor
    teacher_output: Tensor | None
    features: dict[str, Tensor]
    teacher_features: dict[str, Tensor]


class StepLoss(nn.Module):
    """The loss of one leg. Its parameters, the adapters', are trained with the student's.

    `student_layers` and `teacher_layers` are the tensors to keep, paired in order; both are
    empty when no term looks at features. Networks that are not trained (VGG16) are no part of
    `state_dict`. Raises `MissingExtra` when `spec` asks for perceptual loss and its weights
    are not installed, and `BadModel` when a network is too shallow for `spec.hints`.
    """

    def __init__(
        self, spec: LossSpec, student: Graph, teacher: Graph | None, *, seed: int,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec, self.bf16 = spec, bf16
        self.student_layers: tuple[str, ...] = ()
        self.teacher_layers: tuple[str, ...] = ()
        self.adapters = nn.ModuleList()
        if spec.needs_features:
            assert teacher is not None
            self.student_layers = hint_layers(student, spec.hints)
            self.teacher_layers = hint_layers(teacher, spec.hints)
        if spec.feature:
            assert teacher is not None
            widths = [student.channels[n] for n in self.student_layers]
            wanted = [teacher.channels[n] for n in self.teacher_layers]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapters.extend(map(FeatureAdapter, widths, wanted))
        self.perceptual = PerceptualLoss() if spec.perceptual else None

    def forward(self, made: Made) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each weighted term by name, 0-dim and detached.

        Terms are computed in the precision of what comes in, whatever autocast says; only the
        convolutions of VGG16 run in bfloat16 with `bf16`.
        """
        with torch.autocast(made.output.device.type, enabled=False):
            terms = {
                name: getattr(self.spec, name) * term(made)
                for name, term in self._terms().items()
                if getattr(self.spec, name)
            }
            total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def _terms(self) -> dict[str, Callable[[Made], Tensor]]:
        """How each term is computed; the names are the weights' in `LossSpec`."""
        norm = self.spec.norm
        return {
            "pixel": lambda made: distance(norm, made.output, made.photograph),
            "teacher": lambda made: distance(norm, made.output, _there(made.teacher_output)),
            "frequency": lambda made: frequency(made.output, made.photograph),
            "feature": self._feature,
            "affinity": self._affinity,
            "perceptual": self._perceptual,
        }

    def _pairs(self, made: Made) -> list[tuple[Tensor, Tensor]]:
        return [
            (made.features[mine], made.teacher_features[theirs])
            for mine, theirs in zip(self.student_layers, self.teacher_layers, strict=True)
        ]

    def _feature(self, made: Made) -> Tensor:
        pairs = zip(self.adapters, self._pairs(made), strict=True)
        return torch.stack([adapter(*pair) for adapter, pair in pairs]).mean()

    def _affinity(self, made: Made) -> Tensor:
        return torch.stack([affinity(*pair) for pair in self._pairs(made)]).mean()

    def _perceptual(self, made: Made) -> Tensor:
        assert self.perceptual is not None
        with autocast(made.output.device.type, self.bf16):
            value: Tensor = self.perceptual(made.output, made.photograph)
        return value.to(made.output.dtype)


def _there(x: Tensor | None) -> Tensor:
    assert x is not None, "the recipe asks for the teacher's output"
    return x
