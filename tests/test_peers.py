"""The table against the field: the peers are what they are called, and figures follow the samples.

Counts of peers are compared with published ones and with those of the authors' own networks, which
were measured once; multiply-adds are counted here from the ONNX file, not by what wrote it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference
from PIL import Image

from benchmarks.peers import figures, measure, networks, render, table
from benchmarks.peers.field import CITED, PEERS, Peer
from benchmarks.peers.nets import Net
from edgesr import resources
from edgesr.errors import BadConfig
from edgesr.models.find import describe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "peers"
RECORD = FOLDER / "results" / "cpu-2026-11.json"
CHART = ROOT / "docs" / "pareto.png"

# Parameters in thousands and 10⁹ multiply-adds for 256×256, as measured on the authors' networks in
# 2026-11. Where papers are the only source, their parameter count, and what it leaves out:
# FSRCNN and SESR count weights without biases and slopes; ECBSR one more vector a layer.
AUTHORS = {
    "ESPCN": (25, 1.61), "light-SAFMN++": (66, 4.32), "IESRNet": (143, 8.30),
    "DIPNet": (154, 9.04), "SPANF": (148, 9.68), "TSR": (164, 10.69), "SMRN": (165, 9.72),
    "EECNet": (210, 11.54), "ExpandRepNet": (213, 13.82), "RLFN": (317, 19.65),
    "EFQN": (441, 28.85), "RFDN": (433, 27.02), "EDSR-baseline": (1518, 129.97),
}  # fmt: skip
PAPERS = {"IMDN": 715, "ECBSR-M4C16": 11.9, "ECBSR-M10C32": 98.1}
PAPERS_WEIGHTS = {"FSRCNN": 12_464, "SESR-M5": 18_320}
NOT_TILEABLE = {
    "light-SAFMN++", "IESRNet", "DIPNet", "SMRN", "EECNet", "ExpandRepNet", "RLFN", "RFDN", "IMDN",
}  # fmt: skip


def counted(model: bytes) -> tuple[int, int]:
    """Elements of the trained tensors, and multiply-adds, read from an ONNX file."""
    proto = shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    }
    sizes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    parameters = macs = 0
    for node in proto.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            parameters += sum(math.prod(sizes[name]) for name in node.input[1:])
            # Each weight meets each pixel: of the output, transposed those of the input.
            seen = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            macs += math.prod(sizes[node.input[1]]) * seen[2] * seen[3]
        elif node.op_type == "PRelu":
            parameters += math.prod(sizes[node.input[1]])
    return parameters, macs


def session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, ["CPUExecutionProvider"])


def run(peer: Peer, x: NDArray[np.float32]) -> NDArray[np.float32]:
    net, output = peer.build(*x.shape[2:])
    result: NDArray[np.float32] = session(net.bytes(output)).run(None, {"input": x})[0]
    return result


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)
def test_counts_are_those_of_the_published_network(peer: Peer) -> None:
    net, output = peer.build(256, 256)
    parameters, macs = counted(net.bytes(output))
    assert (parameters, macs) == (net.parameters, net.macs)
    if peer.name in AUTHORS:
        thousands, billions = AUTHORS[peer.name]
        assert round(parameters / 1e3) == thousands
        assert macs / 1e9 == pytest.approx(billions, rel=2e-3, abs=0.006)
    elif peer.name in PAPERS:
        assert parameters / 1e3 == pytest.approx(PAPERS[peer.name], rel=6e-3)
    else:
        assert net.weights == PAPERS_WEIGHTS[peer.name]


def test_every_peer_has_a_known_count() -> None:
    assert {p.name for p in PEERS} == AUTHORS.keys() | PAPERS.keys() | PAPERS_WEIGHTS.keys()
    assert not {p.name for p in PEERS} & {c.name for c in CITED}


@pytest.mark.parametrize("peer", PEERS, ids=lambda p: p.name)
def test_tiles_are_exact_where_the_table_says_so(peer: Peer) -> None:
    # A tile that starts 5 pixels in against the same place of the whole picture, far from edges.
    net, _ = peer.build(32, 32)
    assert net.tileable == (peer.name not in NOT_TILEABLE)
    x = np.random.default_rng(1).random((1, net.x.channels, 104, 104), dtype=np.float32)
    whole, tile = run(peer, x), run(peer, np.ascontiguousarray(x[:, :, 5:93, 5:93]))
    middle, same = tile[:, :, 160:192, 160:192], whole[:, :, 180:212, 180:212]
    assert tile.shape[2:] == (352, 352) and np.isfinite(whole).all() and middle.std() > 0.01
    difference = np.abs(middle - same).max() / np.abs(same).max()
    assert difference < 1e-6 if net.tileable else difference > 1e-4


def test_attention_blocks_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    net = Net("blocks", 8, 40, 52)
    y = networks.esa(net, net.act(net.x, "gelu"), 4, mix=True)
    y = net.add(y, net.mul(y, net.deviation(y)))
    output = net.deconv(y, 2, 9, 4)
    model = net.bytes(output)
    w = [
        torch.from_numpy(numpy_helper.to_array(t).copy())
        for t in onnx.load_from_string(model).graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) in (1, 4)
    ]
    x = np.random.default_rng(2).random((1, 8, 40, 52), dtype=np.float32) - 0.5
    start = functional.gelu(torch.from_numpy(x))
    reduced = functional.conv2d(start, w[0], w[1])
    small = functional.max_pool2d(functional.conv2d(reduced, w[2], w[3], stride=2), 7, stride=3)
    small = functional.conv2d(small, w[4], w[5], padding=1)
    small = functional.interpolate(small, size=(40, 52), mode="bilinear", align_corners=False)
    mixed = small + functional.conv2d(reduced, w[6], w[7])
    z = start * torch.sigmoid(functional.conv2d(mixed, w[8], w[9]))
    z = z + z * z.std(dim=(2, 3), correction=0, keepdim=True)
    want = functional.conv_transpose2d(z, w[10], w[11], stride=4, padding=4, output_padding=3)
    got = session(model).run(None, {"input": x})[0]
    assert got.shape == (1, 2, 160, 208)
    np.testing.assert_allclose(got, want.numpy(), atol=2e-5)


def a_record() -> dict[str, Any]:
    """A generator at 100 ms of CPU time and a peer whose figures can be told by hand."""

    def net(name: str, group: str, rounds: list[int], cpu_ms: list[float]) -> dict[str, Any]:
        return {
            "name": name, "group": group, "origin": "a paper", "precision": "fp32",
            "weights": "random", "parameters": 12_345, "macs": 10**9, "tileable": group != "peer",
            "quality": {"psnr_y": {"Set5": 32.1, "Set14": None, "B100": 27.5},
                        "kind": "published" if group == "peer" else "measured", "source": "x"},
            "ratio_avx2": 4.0 if group == "peer" else None, "about": "",
            "input": [1, 1 if group == "peer" else 3, 180, 320],
            "samples": {"round": rounds, "cpu_ms": cpu_ms, "wall_ms": [c / 2 for c in cpu_ms]},
        }  # fmt: skip

    return {
        "schema": figures.SCHEMA,
        "created_utc": "2026-11-26T00:00:00+00:00",
        "protocol": {"runtime": "onnxruntime 1, CPU", "threads": 2, "height": 180, "width": 320,
                     "rounds": 3},
        "conditions": {"before": {"cpu": "a CPU", "cores_usable": 2, "load_average_1min": 0.1}},
        "instructions": ["avx2"],
        "networks": [
            net("gen", "baseline", [0, 1, 2], [100.0, 110.0, 90.0]),
            # Medians of the rounds: 20, 25, 15; the outlier 99 does not count.
            net("peer", "peer", [0, 0, 0, 1, 2, 2], [20.0, 99.0, 20.0, 25.0, 14.0, 16.0]),
            net("mine", "ours", [0, 1, 2], [10.0, 10.0, 10.0]),
        ],
        "cited": [{
            "name": "far", "origin": "y", "parameters": 1000, "tileable": None, "ratio_avx2": 7.0,
            "quality": {"psnr_y": {"Set5": 32.0, "Set14": 28.0, "B100": 27.0},
                        "kind": "measured", "source": "x"},
        }],
    }  # fmt: skip


def test_figures_are_medians_of_medians_and_ratios_of_those() -> None:
    record = figures.add_figures(a_record())
    got = {n["name"]: n["figures"] for n in record["networks"]}
    assert got["peer"]["cpu_ms"] == 20 and got["peer"]["wall_ms"] == 10
    assert got["peer"]["ratio_cpu"] == got["peer"]["ratio_wall"] == 5
    # 100/20, 110/25, 90/15 in the three rounds.
    assert got["peer"]["ratio_cpu_range"] == [4.4, 6.0]
    assert got["gen"]["ratio_cpu"] == 1 and got["mine"]["ratio_cpu"] == 10
    assert record["ratio_to_avx2"] == 1.25 and record["timed_on_both"] == 1


def test_table_is_fastest_first_and_marks_what_is_not_alike() -> None:
    rows = table.short_table(figures.add_figures(a_record())).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        ["**mine**", "**10**", "**32.10**", "–", "**27.50**", "**yes**"],
        ["far", "7 ‡", "32.00", "28.00", "27.00", "?"],
        ["peer (Y)", "5", "32.10 †", "–", "27.50 †", "no"],
        ["gen", "1", "32.10", "–", "27.50", "yes"],
    ]


def test_a_busy_machine_is_said_to_be_one() -> None:
    record = a_record()
    line = table.conditions_line(record)
    assert "a CPU (avx2), 2 cores" in line and "other jobs" not in line
    record["conditions"]["before"]["load_average_1min"] = 2.5
    assert "other jobs were running (load 2.5)" in table.conditions_line(record)


def test_only_the_section_changes() -> None:
    record = figures.add_figures(a_record())
    text = f"# Title\n\nbefore\n{table.BEGIN}\nstale\n{table.END}\nafter\n"
    filled = table.fill(text, record)
    assert filled.startswith(f"# Title\n\nbefore\n{table.BEGIN}\n")
    assert filled.endswith(f"{table.END}\nafter\n") and "stale" not in filled
    assert "| **mine** |" in filled and table.fill(filled, record) == filled


@pytest.mark.parametrize(
    "text",
    [
        "no section",
        f"{table.BEGIN}\n",
        f"{table.END}\n{table.BEGIN}\n",
        f"{table.BEGIN}\n{table.END}\n{table.BEGIN}\n{table.END}\n",
    ],
)
def test_missing_or_tangled_markers_are_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="peers:begin"):
        table.fill(text, figures.add_figures(a_record()))


def test_the_kept_record_follows_from_its_samples() -> None:
    record = figures.read(RECORD)
    bare = copy.deepcopy(record)
    for net in bare["networks"]:
        del net["figures"]
    assert figures.add_figures(bare) == record
    generator, *others = record["networks"]
    rounds = record["protocol"]["rounds"]
    assert generator["samples"]["round"] == list(range(rounds))
    for net in others:
        assert set(net["samples"]["round"]) == set(range(rounds)), net["name"]
        assert min(net["samples"]["cpu_ms"]) > 0


def test_the_kept_record_is_of_the_bundled_models_and_their_cards() -> None:
    timed = {n["name"]: n for n in figures.read(RECORD)["networks"] if n["group"] == "ours"}
    shipped = {}
    for info in describe():
        card = json.loads((resources.zoo() / f"{info.name}.json").read_text(encoding="utf-8"))
        for suffix, kind, key in (
            ("", "onnx_fp32", "psnr_y"),
            (" int8", "onnx_int8", "int8_psnr_y"),
        ):
            path = info.files[kind]
            if path is not None:
                shipped[info.name + suffix] = (
                    hashlib.sha256(Path(path).read_bytes()).hexdigest(),
                    card["quality"]["B100"].get(key),
                )
    again = "measure again: benchmarks/peers/README.md says how"
    found = {k: (n["sha256"], n["quality"]["psnr_y"]["B100"]) for k, n in timed.items()}
    assert found == shipped, again


def test_readmes_are_what_the_record_gives() -> None:
    record = figures.read(RECORD)
    own = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert table.fill(own, record) == own
    assert own.count("\n| TSR |") == 2  # figures, sources
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if table.BEGIN in readme:
        assert table.fill(readme, record) == readme
    copied = f"{readme.split(table.BEGIN)[0]}\n{table.BEGIN}\n{table.END}\n"
    filled = table.fill(copied, record)
    assert filled.startswith(readme.split(table.BEGIN)[0])
    for net in record["networks"]:
        shown = table.quality_known(net)
        assert (
            bool(re.search(rf"^\| (\*\*)?{re.escape(table.label(net))}(\*\*)? \|", filled, re.M))
            == shown
        )


def test_the_chart_was_drawn_from_the_kept_record() -> None:
    plot = pytest.importorskip("benchmarks.peers.plot")
    record = figures.read(RECORD)
    with Image.open(CHART) as picture:
        assert picture.width == 1600
        assert picture.info["Description"] == plot.fingerprint(record)
    drawn = {p.text: p for p in plot.points(record, "B100")}
    assert drawn["TSR"].exact and not drawn["DIPNet"].exact and drawn["EagleSR"].kind == "cited"
    assert drawn["balanced"].kind == "fp32"


def test_labels_stay_clear_of_points_and_of_each_other() -> None:
    plot = pytest.importorskip("benchmarks.peers.plot")
    record = figures.read(RECORD)
    for dataset, (fixed, labels) in plot.boxes(record).items():
        assert len(labels) == len(plot.points(record, dataset)) > 10
        for i, box in enumerate(labels):
            for other in (*fixed, *labels[:i]):
                assert plot.shared(box, other) < 1e-3, dataset


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


def test_measure_and_render_as_a_user_runs_them(tmp_path: Path) -> None:
    out, readme, chart = tmp_path / "r.json", tmp_path / "README.md", tmp_path / "c.png"
    options = ("--rounds", "2", "--threads", "1", "--size", "40x24", "--out", str(out))
    done = command("measure", *options)
    assert done.returncode == 0, done.stderr
    record = figures.read(out)
    names = [n["name"] for n in record["networks"]]
    assert names[0] == "SRGAN generator" and {p.name for p in PEERS} < set(names)
    assert {"SPAN-48", *(m.name for m in describe() if m.files["onnx_fp32"])} < set(names)
    for net in record["networks"]:
        assert set(net["samples"]["round"]) == {0, 1}
        assert net["name"] in done.stdout
    assert record["protocol"]["rounds"] == 2 and "cpu" in record["conditions"]["before"]
    readme.write_text(f"top\n{table.BEGIN}\n{table.END}\n")
    stale = command("render", str(out), "--readme", str(readme), "--check")
    assert (
        stale.returncode == 1 and stale.stderr.count("\n") == 1 and "render again" in stale.stderr
    )
    done = command("render", str(out), "--readme", str(readme), "--png", str(chart))
    assert done.returncode == 0, done.stderr
    assert "| TSR |" in readme.read_text() and chart.stat().st_size > 10_000
    assert command("render", str(out), "--readme", str(readme), "--check").returncode == 0


def test_nothing_is_overwritten_and_names_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.json"
    out.write_text("mine")
    assert measure.main(["--out", str(out)]) == 1
    assert "-y overwrites" in capsys.readouterr().err and out.read_text() == "mine"
    small = ["--size", "32x24", "--out", str(tmp_path / "n.json")]
    assert measure.main([*small, "--only", "TRS"]) == 1
    assert "Did you mean TSR?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        measure.main(["--size", "8x8", "--out", str(out)])
    assert render.main([str(out)]) == 1
    assert "not a record" in capsys.readouterr().err
