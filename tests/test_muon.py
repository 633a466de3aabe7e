"""Muon against the singular value decomposition, and its Adam against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgesr.models.student import student
from edgesr.training.muon import RMS, Muon, is_matrix, orthogonal
from edgesr.training.net import GraphNet
from edgesr.training.start import fresh_student


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_direction_is_about_the_polar_factor_of_the_svd() -> None:
    matrices = random(3, 24, 90)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    polar = left @ right
    found = orthogonal(matrices)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.65 and float(values.max()) < 1.25
    overlap = (found * polar).sum((1, 2)) / (found.norm(dim=(1, 2)) * polar.norm(dim=(1, 2)))
    assert float(overlap.min()) > 0.98
    # The gradient itself overlaps less: the iteration did something.
    before = (matrices * polar).sum((1, 2)) / (matrices.norm(dim=(1, 2)) * polar.norm(dim=(1, 2)))
    assert float(before.max()) < 0.98


def test_a_tall_matrix_is_its_transpose_made_orthogonal() -> None:
    wide = random(2, 8, 30)
    assert torch.allclose(orthogonal(wide.mT), orthogonal(wide).mT, atol=1e-6)


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not orthogonal(torch.zeros(1, 4, 9)).any()


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (48, 32, 3, 3), (8, 40, 1, 1)])
def test_an_entry_moves_by_a_fifth_of_the_rate_whatever_the_gradient(
    shape: tuple[int, ...],
) -> None:
    for size in (1e-4, 1e3):
        weight = nn.Parameter(torch.zeros(shape))
        optimizer = Muon([weight], lr=0.5)
        weight.grad = size * random(*shape)
        optimizer.step()
        rms = float(weight.detach().square().mean().sqrt())
        # The iteration leaves singular values between 0.7 and 1.2, so not exactly RMS.
        assert rms == pytest.approx(RMS * 0.5, rel=0.25)


def test_all_else_moves_as_with_torchs_adam() -> None:
    shapes = [(5,), (), (6, 4), (8, 3, 3, 3)]
    mine = [nn.Parameter(random(*s, seed=i)) for i, s in enumerate(shapes)]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    optimizer = Muon(mine, lr=1e-2)
    adam = torch.optim.Adam(theirs, lr=1e-2, betas=(0.9, 0.99))
    for step in range(7):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = random(*a.shape, seed=100 + step)
            b.grad = a.grad.clone()
        optimizer.step()
        adam.step()
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-7)


def test_what_reads_the_picture_is_left_to_adam() -> None:
    net = GraphNet(student(16, 2))
    moved = {name for name, p in net.named_parameters() if is_matrix(p)}
    assert moved == {"layers.body0.weight", "layers.body1.weight", "layers.tail.weight"}


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    net = fresh_student(student(8, 2), rep=True, seed=0)
    optimizer = Muon(net.parameters(), lr=1e-3)

    def run(net: GraphNet, optimizer: Muon, steps: range) -> list[torch.Tensor]:
        for step in steps:
            optimizer.zero_grad()
            picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            net(picture).square().mean().backward()
            optimizer.step()
        return [p.detach().clone() for p in net.parameters()]

    run(net, optimizer, range(3))
    other = copy.deepcopy(net)
    again = Muon(other.parameters(), lr=1e-3)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for a, b in zip(run(net, optimizer, range(3, 6)), run(other, again, range(3, 6)), strict=True):
        assert torch.equal(a, b)
