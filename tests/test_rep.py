"""The training-only branches fold into one convolution exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import random_weights

from edgesr.models.student import student
from edgesr.training.net import GraphNet
from edgesr.training.rep import RepConv
from edgesr.training.start import Trained, continued_student, fresh_student


@pytest.fixture
def astronaut(photograph: Callable[[str], np.ndarray]) -> np.ndarray:
    return photograph("astronaut")


def _crop(astronaut: np.ndarray) -> torch.Tensor:
    crop = astronaut[100:148, 120:168].transpose(2, 0, 1)[None].astype(np.float32) / 255
    return torch.from_numpy(crop)


def _shaken(net: GraphNet) -> GraphNet:
    torch.manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return net


class _ByBranches(GraphNet):
    """The same network with every re-parameterised convolution computed branch by branch."""

    def __init__(self, net: GraphNet) -> None:
        super().__init__(net.graph, rep=True)
        self.load_state_dict(net.state_dict())
        for module in self.layers.values():
            if isinstance(module, RepConv):
                module.forward = module.branches  # type: ignore[method-assign]


def test_folded_equals_unfolded_on_a_real_crop(astronaut: np.ndarray) -> None:
    x = _crop(astronaut)
    net = _shaken(fresh_student(student(16, 6), rep=True, seed=1))
    plain = GraphNet(net.graph)
    plain.load_weights(net.weights())
    with torch.no_grad():
        unfolded, folded, trained = _ByBranches(net)(x), plain(x), net(x)
    assert (unfolded - folded).abs().max() <= 1e-5
    assert (trained - folded).abs().max() <= 1e-5
    assert sum(isinstance(m, RepConv) for m in net.layers.values()) == 7  # 6 body + tail


def test_unfolding_keeps_the_function(astronaut: np.ndarray) -> None:
    graph = student(8, 3)
    weights = random_weights(graph)
    back = continued_student(Trained(graph, weights), rep=True, seed=0).weights()
    for name, value in weights.items():
        np.testing.assert_allclose(back[name], value, atol=1e-6)


def test_a_fresh_student_is_near_nearest_upsampling(astronaut: np.ndarray) -> None:
    x = _crop(astronaut)
    for rep in (True, False):
        with torch.no_grad():
            y = fresh_student(student(32, 14), rep=rep, seed=0)(x)
        nearest = torch.nn.functional.interpolate(x, scale_factor=4, mode="nearest")
        assert (y - nearest).abs().mean() < 0.15
        assert y.abs().mean() > 0.15


def test_the_same_seed_gives_the_same_student() -> None:
    a, b = (fresh_student(student(8, 2), rep=True, seed=s).weights() for s in (5, 5))
    other = fresh_student(student(8, 2), rep=True, seed=6).weights()
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert any(not np.array_equal(a[k], other[k]) for k in a)
