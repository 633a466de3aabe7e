"""Checkpoints: what comes back, what the bytes are, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadModel, MissingExtra, WriteFailed
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Activation, Conv, Graph, PixelShuffle, Weights


def tiny() -> Checkpoint:
    graph = Graph(
        "tiny",
        (
            Conv("head", ("input",), out=5, kernel=3),
            Activation("act", ("head",), fn="prelu", shared=False),
            Conv("tail", ("act",), out=48, kernel=1, bias=False),
            PixelShuffle("up", ("tail",), factor=4),
        ),
    )
    rng = np.random.default_rng(0)
    weights: Weights = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in graph.weight_shapes().items()
    }
    return Checkpoint(graph, weights, {"parent": "none", "seed": 0}, {"set5": {"psnr_y": 30.5}})


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    before = tiny()
    checkpoint.save(tmp_path / "a.safetensors", before)
    after = checkpoint.load(tmp_path / "a.safetensors")
    assert after.graph == before.graph
    assert (after.lineage, after.metrics) == (before.lineage, before.metrics)
    assert after.weights.keys() == before.weights.keys()
    for name, weight in before.weights.items():
        np.testing.assert_array_equal(after.weights[name], weight)
        assert after.weights[name].dtype == np.float32
        assert after.weights[name].flags.writeable


def test_same_content_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    ckpt = tiny()
    swapped = Checkpoint(
        ckpt.graph, dict(reversed(ckpt.weights.items())), {"seed": 0, "parent": "none"},
        ckpt.metrics,
    )  # fmt: skip
    checkpoint.save(tmp_path / "a", ckpt)
    checkpoint.save(tmp_path / "b", swapped)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]  # no temporary file left


def test_the_package_safetensors_reads_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.safetensors", tiny())
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        about = json.loads(file.metadata()["edgesr"])
        assert set(file.keys()) == set(tiny().weights)
    assert (about["format"], about["scale"], about["graph"]["name"]) == (1, 4, "tiny")


def int8(scale: float = 0.25) -> QuantSpec:
    return QuantSpec({"input": float(np.float32(1 / 127)), "head": scale}, 7, ("tail",))


def test_int8_scales_come_back_and_need_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny()
    checkpoint.save(tmp_path / "plain", plain)
    assert checkpoint.load(tmp_path / "plain").quant is None
    with safetensors.safe_open(tmp_path / "plain", framework="numpy") as file:
        assert "quant" not in json.loads(file.metadata()["edgesr"])  # old files look like this
    checkpoint.save(tmp_path / "int8", dataclasses.replace(plain, quant=int8()))
    after = checkpoint.load(tmp_path / "int8")
    assert after.quant == int8()
    np.testing.assert_array_equal(after.weights["head.weight"], plain.weights["head.weight"])
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert checkpoint.summary(tmp_path / "int8").quant == int8()


def test_int8_scales_of_another_network_are_refused(tmp_path: Path) -> None:
    other = QuantSpec({"body": 0.5}, 8, ("tail",))
    with pytest.raises(BadModel, match="no scale for"):
        checkpoint.save(tmp_path / "a", dataclasses.replace(tiny(), quant=other))
    assert not list(tmp_path.iterdir())
    about = {"format": 1, "graph": json.loads(tiny().graph.to_json())}
    for quant in (other.to_json(), 3, {**int8().to_json(), "bits": 5}):
        refused(with_metadata(tmp_path / "x", {**about, "quant": quant}), "int8|scale")


def test_half_is_half_the_size_and_read_as_float32(tmp_path: Path) -> None:
    ckpt = tiny()
    checkpoint.save(tmp_path / "h", ckpt, half=True)
    after = checkpoint.load(tmp_path / "h")
    for name, weight in ckpt.weights.items():
        assert after.weights[name].dtype == np.float32
        np.testing.assert_array_equal(after.weights[name], weight.astype(np.float16))
    stored = safetensors.numpy.load_file(tmp_path / "h")
    assert {w.dtype.name for w in stored.values()} == {"float16"}


def test_half_refuses_what_would_overflow(tmp_path: Path) -> None:
    ckpt = tiny()
    ckpt.weights["head.bias"][0] = 70000.0
    with pytest.raises(BadModel, match="65504"):
        checkpoint.save(tmp_path / "h", ckpt, half=True)
    assert not list(tmp_path.iterdir())


def test_summary_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "a", tiny())
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    assert checkpoint.summary(tmp_path / "a").graph == tiny().graph
    with pytest.raises(MissingExtra, match=r"edgesr\[export\]"):
        checkpoint.load(tmp_path / "a")
    with pytest.raises(MissingExtra, match=r"edgesr\[export\]"):
        checkpoint.save(tmp_path / "b", tiny())


def test_save_refuses_weights_of_another_network(tmp_path: Path) -> None:
    ckpt = tiny()
    del ckpt.weights["tail.weight"]
    with pytest.raises(BadModel, match=r"tail\.weight"):
        checkpoint.save(tmp_path / "a", ckpt)
    assert not list(tmp_path.iterdir())


def test_save_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="cannot write"):
        checkpoint.save(tmp_path, tiny())


def refused(path: Path, match: str) -> None:
    for read in (checkpoint.load, checkpoint.summary):
        with pytest.raises(BadModel, match=match) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "cannot be read")
    refused(tmp_path, "cannot be read")
    for content, message in {
        b"": "empty file",
        b"hello": "not a safetensors",
        b"a text file that somebody renamed": "not a safetensors",
        b"\x10" + bytes(7) + b"{not json at all": "not a safetensors",
        b"\x00" * 64: "not a safetensors",
    }.items():
        (tmp_path / "x.safetensors").write_bytes(content)
        refused(tmp_path / "x.safetensors", message)


def test_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "PyTorch")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, keep: float) -> None:
    checkpoint.save(tmp_path / "a", tiny())
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BadModel, match="cut off"):
        checkpoint.load(tmp_path / "b")


def with_metadata(path: Path, about: object) -> Path:
    text = about if isinstance(about, str) else json.dumps(about)
    safetensors.numpy.save_file(tiny().weights, path, metadata={"edgesr": text})
    return path


def test_safetensors_of_others(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(tiny().weights, path)
    refused(path, "not an EdgeSR checkpoint")
    safetensors.numpy.save_file(tiny().weights, path, metadata={"format": "pt"})
    refused(path, "not an EdgeSR checkpoint")


def test_descriptions_that_cannot_be_used(tmp_path: Path) -> None:
    graph = json.loads(tiny().graph.to_json())
    path = tmp_path / "x"
    refused(with_metadata(path, {"format": 2, "graph": graph}), "update edgesr")
    refused(with_metadata(path, {"format": "1", "graph": graph}), "format '1'")
    refused(with_metadata(path, {"format": 1}), "cannot be read")
    refused(with_metadata(path, "{"), "cannot be read")
    refused(with_metadata(path, "[1]"), "cannot be read")
    refused(with_metadata(path, {"format": 1, "graph": {"layers": 3}}), "not an EdgeSR network")
    refused(with_metadata(path, {"format": 1, "graph": graph, "metrics": 3}), "metrics")
    graph["layers"][3]["factor"] = 0
    refused(with_metadata(path, {"format": 1, "graph": graph}), "x: ")


def test_weights_of_another_network(tmp_path: Path) -> None:
    graph = json.loads(tiny().graph.to_json())
    graph["layers"][0]["out"] = 6
    with pytest.raises(BadModel, match="weights do not fit"):
        checkpoint.load(with_metadata(tmp_path / "x", {"format": 1, "graph": graph}))


def test_other_number_types(tmp_path: Path) -> None:
    text = json.dumps({"format": 1, "graph": json.loads(tiny().graph.to_json())})
    doubles = {name: w.astype(np.float64) for name, w in tiny().weights.items()}
    safetensors.numpy.save_file(doubles, tmp_path / "x", metadata={"edgesr": text})
    with pytest.raises(BadModel, match="float64"):
        checkpoint.load(tmp_path / "x")
