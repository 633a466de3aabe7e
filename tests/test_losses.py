"""Each loss term against its formula written out in numpy, and where gradients go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import small_networks
from numpy.typing import NDArray
from torch import Tensor

from edgesr.errors import BadModel
from edgesr.graph.hint import hint_layer, hint_layers
from edgesr.graph.spec import Conv, Graph
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.training.losses import FeatureAdapter, Made, StepLoss, affinity, distance, frequency
from edgesr.training.net import GraphNet
from edgesr.training.recipe import LossSpec

Array = NDArray[np.float64]
STUDENT, TEACHER = student(width=8, depth=6), srresnet(blocks=3, width=12, tail_kernel=3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, shape))


# Pictures.


@pytest.mark.parametrize(("norm", "want"), [("l1", 0.25), ("l2", 0.0625)])
def test_distances_of_a_constant_shift(norm: str, want: float) -> None:
    a = random(2, 3, 4, 5)
    assert float(distance(norm, a, a + 0.25)) == pytest.approx(want, rel=1e-12)


def test_charbonnier_is_the_root_of_the_square_and_a_millionth() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.0, 0.003]]]])
    by_hand = (1e-3 + np.sqrt(0.003**2 + 1e-6)) / 2
    assert float(distance("charbonnier", a, b)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7)])
def test_frequency_is_the_difference_of_the_spectra(height: int, width: int) -> None:
    a, b = random(2, 3, height, width, seed=1), random(2, 3, height, width, seed=2)

    def transform(x: Array) -> NDArray[np.complex128]:
        # The definition: a matrix of roots of unity from either side, divided by √(HW).
        def roots(n: int) -> NDArray[np.complex128]:
            k = np.arange(n)
            return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)

        return (roots(height) @ x @ roots(width))[..., : width // 2 + 1]

    gap = transform(a.numpy()) - transform(b.numpy())
    by_hand = np.mean(np.abs(np.stack([gap.real, gap.imag])))
    assert float(frequency(a, b)) == pytest.approx(by_hand, rel=1e-10)


def test_frequency_of_a_wave_is_one_coefficient() -> None:
    x = torch.arange(8, dtype=torch.float64)
    wave = torch.cos(2 * np.pi * x / 8).expand(1, 1, 8, 8)
    # Amplitude 1/2 at ±1 of 8 columns, times √64; one of 2 · 8 · 5 numbers is not 0.
    assert float(frequency(wave, torch.zeros_like(wave))) == pytest.approx(0.5 * 8 / 80, rel=1e-10)


# Features.


def test_adapter_by_hand() -> None:
    adapter = FeatureAdapter(2, 3).double()
    mine, theirs = random(2, 2, 4, 5, seed=3), random(2, 3, 4, 5, seed=4)
    weight = adapter.project.weight.detach().numpy()[:, :, 0, 0]
    bias = adapter.project.bias.detach().numpy()[:, None, None]
    projected = np.einsum("oi,nihw->nohw", weight, mine.numpy()) + bias

    def unit(x: Array) -> Array:
        return x / np.sqrt((x**2).mean((1, 2, 3), keepdims=True))

    by_hand = np.abs(unit(projected) - unit(theirs.numpy())).mean()
    assert float(adapter(mine, theirs).detach()) == pytest.approx(by_hand, rel=1e-9)


def test_the_teachers_range_does_not_matter_to_features() -> None:
    adapter, mine, theirs = FeatureAdapter(4, 4).double(), random(2, 4, 6, 6), random(2, 4, 6, 6)
    small = float(adapter(mine, theirs).detach())
    large = float(adapter(mine, 255 * theirs).detach())
    assert large == pytest.approx(small, rel=1e-9)
    assert float(affinity(mine, 255 * theirs)) == pytest.approx(float(affinity(mine, theirs)))


@pytest.mark.parametrize("loss", ["feature", "affinity"])
def test_a_batch_is_the_mean_of_its_halves(loss: str) -> None:
    mine, theirs = random(4, 3, 6, 6, seed=5), random(4, 3, 6, 6, seed=6)
    term = FeatureAdapter(3, 3).double() if loss == "feature" else affinity
    with torch.no_grad():
        halves = [float(term(mine[half], theirs[half])) for half in (slice(2), slice(2, 4))]
        whole = float(term(mine, theirs))
    assert whole == pytest.approx(sum(halves) / 2, rel=1e-12)


def cosines(x: Array) -> Array:
    flat = x.reshape(x.shape[0], -1)
    unit = flat / np.sqrt((flat**2).sum(0))
    return unit.T @ unit


def test_affinity_is_the_difference_of_cosines() -> None:
    mine, theirs = random(2, 3, 4, 5, seed=7), random(2, 6, 4, 5, seed=8)
    pairs = zip(mine.numpy(), theirs.numpy(), strict=True)
    by_hand = np.mean([np.abs(cosines(a) - cosines(b)).mean() for a, b in pairs])
    assert float(affinity(mine, theirs)) == pytest.approx(by_hand, rel=1e-10)


def test_large_features_are_averaged_over_windows_first() -> None:
    mine, theirs = random(1, 3, 48, 48, seed=9), random(1, 3, 48, 48, seed=10)

    def pooled(x: Tensor) -> Array:
        return x[0].numpy().reshape(3, 24, 2, 24, 2).mean((2, 4))

    by_hand = np.abs(cosines(pooled(mine)) - cosines(pooled(theirs))).mean()
    assert float(affinity(mine, theirs)) == pytest.approx(by_hand, rel=1e-10)
    # An odd rest is averaged over what is there, so that a constant stays one.
    assert float(affinity(torch.ones(1, 2, 33, 25), torch.ones(1, 5, 33, 25))) < 1e-6


def test_features_of_zeros_are_finite() -> None:
    zeros = torch.zeros(1, 4, 6, 6, requires_grad=True)
    total = affinity(zeros, torch.rand(1, 4, 6, 6)) + FeatureAdapter(4, 4)(zeros, zeros.detach())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(zeros.grad).all()


# Places of hints.


@pytest.mark.parametrize("graph", small_networks().values(), ids=small_networks())
def test_hints_are_at_input_size_in_order_and_end_with_the_old_one(graph: Graph) -> None:
    for count in (1, 2):
        places = hint_layers(graph, count)
        order = [x.name for x in graph.layers]
        assert len(set(places)) == count and places[-1] == hint_layer(graph)
        assert [order.index(n) for n in places] == sorted(order.index(n) for n in places)
        assert {graph.sizes[n] for n in places} == {1}


@pytest.mark.parametrize(
    ("graph", "places"),
    [
        # 34 convolutions before the hint: block n ends at the (2n + 3)rd, so at 11 and 23.
        (srresnet(), ("b4", "b10", "skip")),
        (rrdb(), ("b7", "b14", "skip")),
        (span(), ("block_1", "block_4", "conv_cat")),
        (student(32, 14), ("body3_act", "body8_act", "skip")),
    ],
    ids=["srresnet", "rrdb", "span", "student"],
)
def test_hints_lie_at_the_ends_of_blocks(graph: Graph, places: tuple[str, ...]) -> None:
    assert hint_layers(graph, 3) == places


def test_every_count_up_to_the_depth_gives_that_many_places() -> None:
    graph = student(4, 7)
    depth = sum(isinstance(x, Conv) and x.name not in ("tail", "anchor") for x in graph.layers)
    for count in range(1, depth + 1):
        assert len(set(hint_layers(graph, count))) == count
    with pytest.raises(BadModel, match="lower hints"):
        hint_layers(graph, depth + 1)


# The sum.


def made(loss: StepLoss, seed: int = 0, *, side: int = 8) -> Made:
    """One step of a random student and teacher on random pictures."""
    torch.manual_seed(seed)
    mine, theirs = GraphNet(STUDENT), GraphNet(TEACHER).requires_grad_(False)
    x = torch.rand(2, 3, side, side)
    output, features = mine.run(x, loss.student_layers)
    target, their_features = theirs.run(x, loss.teacher_layers)
    photograph = torch.rand(2, 3, 4 * side, 4 * side)
    return Made(output, photograph, target, features, their_features)


ALL = LossSpec(pixel=1.0, teacher=0.5, frequency=0.1, feature=0.2, affinity=0.3, hints=3)


def test_the_sum_is_of_the_weighted_terms_by_name() -> None:
    loss = StepLoss(ALL, STUDENT, TEACHER, seed=1)
    step = made(loss)
    total, terms = loss(step)
    assert list(terms) == ["pixel", "teacher", "frequency", "feature", "affinity"]
    assert float(total.detach()) == pytest.approx(sum(float(t) for t in terms.values()), rel=1e-6)
    assert all(t.ndim == 0 and not t.requires_grad for t in terms.values())
    with torch.no_grad():
        teacher = float((step.output - step.teacher_output).abs().mean())
        pairs = zip(loss.student_layers, loss.teacher_layers, strict=True)
        each = [float(affinity(step.features[a], step.teacher_features[b])) for a, b in pairs]
    assert float(terms["teacher"]) == pytest.approx(0.5 * teacher, rel=1e-6)
    assert len(each) == 3
    assert float(terms["affinity"]) == pytest.approx(0.3 * sum(each) / 3, rel=1e-6)


def test_gradients_reach_student_and_adapters_only() -> None:
    loss = StepLoss(ALL, STUDENT, TEACHER, seed=1)
    step = made(loss)
    for x in (step.photograph, step.teacher_output, *step.teacher_features.values()):
        x.requires_grad_(True)
    step.output.retain_grad()
    for x in step.features.values():
        x.retain_grad()
    loss(step)[0].backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in loss.parameters())
    assert len(list(loss.parameters())) == 3 * 2
    assert float(step.output.grad.abs().sum()) > 0
    assert all(float(x.grad.abs().sum()) > 0 for x in step.features.values())


def test_terms_that_are_not_asked_for_need_nothing() -> None:
    loss = StepLoss(LossSpec(), STUDENT, None, seed=0)
    assert loss.student_layers == loss.teacher_layers == ()
    assert not list(loss.parameters()) and not loss.state_dict()
    picture = torch.rand(1, 3, 8, 8)
    total, terms = loss(Made(picture, picture, None, {}, {}))
    assert float(total) == 0 and list(terms) == ["pixel"]


def test_affinity_alone_has_no_adapters() -> None:
    loss = StepLoss(LossSpec(affinity=1.0, hints=2), STUDENT, TEACHER, seed=0)
    assert len(loss.student_layers) == 2 and not list(loss.parameters())


def test_the_seed_alone_decides_the_adapters() -> None:
    before = torch.random.get_rng_state()
    spec = LossSpec(feature=1.0)
    a, b, c = (StepLoss(spec, STUDENT, TEACHER, seed=s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["adapters.0.project.weight"], c["adapters.0.project.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_step_is_deterministic_and_draws_nothing() -> None:
    loss = StepLoss(ALL, STUDENT, TEACHER, seed=1)
    step = made(loss)
    before = torch.random.get_rng_state()
    first, second = loss(step)[0], loss(step)[0]
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_features_can_be_learnt_by_the_adapters_alone() -> None:
    loss = StepLoss(LossSpec(pixel=0.0, feature=1.0), STUDENT, TEACHER, seed=0)
    step = made(loss)
    name, theirs = loss.student_layers[0], loss.teacher_layers[0]
    # Features that are a linear map of the student's, in a range a thousand times larger.
    mix = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    mine = step.features[name].detach()
    step.features[name] = mine
    step.teacher_features[theirs] = 1000 * torch.einsum("oi,nihw->nohw", mix, mine)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    begun = float(loss(step)[0].detach())
    for _ in range(60):
        optimizer.zero_grad()
        total = loss(step)[0]
        total.backward()
        optimizer.step()
    assert float(total.detach()) < 0.2 * begun


def test_autocast_outside_does_not_coarsen_the_terms() -> None:
    loss = StepLoss(ALL, STUDENT, TEACHER, seed=1)
    step = made(loss)
    want = loss(step)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(step)[0], want)
