"""Which layers stay in float32 when a forward pass runs in bfloat16."""

from __future__ import annotations

import pytest
import torch

from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.training import precision
from edgesr.training.net import GraphNet
from edgesr.training.precision import autocast, in_bf16, pictures
from edgesr.training.start import fresh_student


def test_layers_at_the_picture_stay_exact() -> None:
    assert pictures(student(16, 2)) == {"head", "anchor"}
    # A mean is taken off in front of the first convolution; nothing is added to the output.
    assert pictures(span(16)) == {"norm", "conv_1", "upsampler"}
    srgan = srresnet(2, 16)
    assert pictures(srgan) == {srgan.layers[0].name, srgan.layers[-1].name}


def test_bfloat16_keeps_the_picture_that_the_anchor_carries() -> None:
    # At the start a student's output is its input, repeated: bfloat16 would round it to 8 bits.
    net = fresh_student(student(16, 2), rep=True, seed=0)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = net(x)
        with autocast("cpu", True):
            near = net(x)
    assert near.dtype == torch.float32
    error = float((near - exact).abs().max())
    correction = float((exact - torch.nn.functional.interpolate(x, scale_factor=4)).abs().max())
    assert 0 < error < 2**-6 * correction  # of the correction, not of the picture
    assert float((exact.bfloat16().float() - exact).abs().max()) > error


@pytest.mark.parametrize(
    ("asked", "device", "native", "expected"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", False, True),
        ("bf16", "cpu", True, True),
        ("bf16", "cpu", False, False),
        ("bf16", "cuda", False, True),
        ("fp32", "cuda", True, False),
    ],
)
def test_precision_follows_recipe_and_hardware(
    asked: str, device: str, native: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: native)
    assert in_bf16(asked, device) is expected


def test_a_student_learns_the_same_in_bfloat16() -> None:
    losses = {}
    for on in (False, True):
        net = fresh_student(student(8, 2), rep=True, seed=0)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for step in range(30):
            rng = torch.Generator().manual_seed(step)
            x = torch.rand(2, 3, 8, 8, generator=rng)
            wanted = torch.nn.functional.interpolate(x, scale_factor=4, mode="bicubic")
            with autocast("cpu", on):
                made = net(x)
            loss = (made - wanted).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[on] = float(loss.detach())
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_what_is_computed_without_autocast_is_untouched() -> None:
    net = GraphNet(student(8, 1))
    x = torch.rand(1, 3, 8, 8).double()
    assert net.double()(x).dtype == torch.float64
