"""`plan`: its figures against sums by hand, its advice against the boards' facts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import networks
import pytest
from planned import ORIN_NANO
from typer.testing import CliRunner

from edgesr import checkpoint, device
from edgesr.cli.main import app
from edgesr.errors import BadConfig, UnknownName
from edgesr.graph.counts import macs
from edgesr.graph.live import IO_BYTES, largest_live_set
from edgesr.graph.reach import halo
from edgesr.graph.spec import INPUT, Conv, Graph, PixelShuffle
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.plan import advice, roofline
from edgesr.plan.run import Request, graph_of, plan
from edgesr.plan.windows import choose_tile, cut

# ---------------------------------------------------------------- windows


def test_windows_of_a_full_hd_picture_by_hand() -> None:
    """Halo 16 of a tile of 256: 240 rows at the border, then 224 each: 5 rows, 9 columns."""
    graph = student(8, 14)
    assert halo(graph) == 16
    tile = choose_tile(graph, ORIN_NANO, 2)
    assert (tile.height, tile.width, tile.fits) == (256, 256, True)
    found = cut(graph, tile, 1920, 1080)
    assert found.sizes == {256 * 256: 45}
    assert found.overlap == pytest.approx(45 * 256 * 256 / (1920 * 1080))


def test_a_picture_below_the_tile_goes_as_it_is() -> None:
    graph = student(8, 14)
    found = cut(graph, choose_tile(graph, ORIN_NANO, 2), 200, 100)
    assert (found.sizes, found.fixed, found.overlap) == ({200 * 100: 1}, False, 1.0)


def test_the_tile_is_one_whose_memory_fits() -> None:
    """SRGAN in fp16 needs 4,096 bytes an input pixel: 2²⁸ bytes at 256, a quarter at 128.

    Four times that must fit in half of the device's memory.
    """
    graph = srresnet()
    sides = {}
    for memory in (2 << 30, (2 << 30) - 2, 1 << 29, (1 << 29) - 2):
        tile = choose_tile(graph, replace(ORIN_NANO, memory_bytes=memory), 2)
        sides[memory] = (tile.width, tile.fits)
    assert list(sides.values()) == [(256, True), (128, True), (128, True), (128, False)]


def test_a_tile_without_a_middle_is_refused_with_one_that_has() -> None:
    with pytest.raises(BadConfig, match=r"looks 40 pixels far.*--tile 192"):
        choose_tile(srresnet(), ORIN_NANO, 2, side=64)


# ---------------------------------------------------------------- advice


def chain(width: int, count: int = 3) -> Graph:
    """`count` convolutions of `width` channels between head and tail."""
    layers: list[Any] = [Conv("head", (INPUT,), width, 3)]
    layers += [Conv(f"c{i}", (layers[-1].name if i == 0 else f"c{i - 1}",), width, 3)
               for i in range(count)]  # fmt: skip
    layers += [Conv("tail", (f"c{count - 1}",), 48, 3), PixelShuffle("up", ("tail",), 4)]
    return Graph("chain", tuple(layers))


def test_padding_of_36_channels_to_64_by_hand() -> None:
    found = advice.padding(chain(36), "int8", 32)
    real = 3 * 36 + 3 * 36 * 36 + 36 * 48
    padded = 32 * 64 + 3 * 64 * 64 + 64 * 64
    assert found.share == pytest.approx(1 - real / padded)
    assert found.widths == {36: (64, 4)}  # head and three; the tail's 48 are the picture's
    said = advice.padding_verdict(found)
    assert "36 → 64 in 4 layers" in said and "steps of 32" in said
    assert advice.padding(chain(36), "fp16", 8).widths == {36: (40, 4)}
    assert advice.padding(chain(64), "int8", 32).widths == {}


def test_widths_that_ran_badly_on_cpus_are_named() -> None:
    measured = device.load("cpu").widths
    assert advice.strangers(chain(40), measured) == (40,)
    assert advice.strangers(chain(32), measured) == ()
    assert advice.strangers(chain(40), ()) == ()
    said = advice.strangers_verdict((40,), measured)
    assert said.startswith("40 channels are none") and "24, 32, 48, 64" in said


def test_channels_that_a_shuffle_leaves_are_padded_too() -> None:
    """128 channels become 8 at four times the size: those are padded like the picture's 3."""
    graph = Graph("two", (
        Conv("a", (INPUT,), 32, 3), Conv("b", ("a",), 128, 3), PixelShuffle("up", ("b",), 4),
        Conv("c", ("up",), 32, 3), Conv("d", ("c",), 3, 3),
    ))  # fmt: skip
    found = advice.padding(graph, "int8", 32)
    real = 3 * 32 + 32 * 128 + 16 * (8 * 32 + 32 * 3)
    padded = 32 * 32 + 32 * 128 + 16 * (32 * 32 + 32 * 32)
    assert found.share == pytest.approx(1 - real / padded)
    assert found.widths == {}
    assert "a shuffle's go in" in advice.padding_verdict(found)


@pytest.mark.parametrize(
    ("graph", "counts"),
    [(srresnet(), (37, 35, 0)), (chain(256), (5, 4, 3)), (chain(24), (5, 0, 0))],
    ids=["srresnet", "256 channels", "24 channels"],
)
def test_shapes_for_two_four(graph: Graph, counts: tuple[int, int, int]) -> None:
    """Inputs in 16s, outputs in 8s; the head reads 3. Wide: 256 both ways, so not the tail."""
    found = advice.sparsity(graph)
    assert (found.convolutions, found.eligible, found.wide) == counts


@pytest.mark.parametrize(
    ("target", "graph", "said"),
    [
        ("jetson-orin", chain(64), "none has 256 channels"),
        ("jetson-orin", chain(256), "may help: 4 of 5"),
        ("jetson-xavier-nx", chain(256), "cannot help on jetson-xavier-nx (Volta"),
        ("jetson-nano", chain(256), "no tensor cores at all"),
        ("raspberry-pi-5", chain(256), "multiplies zeros like any number"),
        ("rtx", chain(64), "depends on the card"),
    ],
)
def test_what_two_four_can_bring(target: str, graph: Graph, said: str) -> None:
    assert said in advice.sparsity_verdict(device.load(target), advice.sparsity(graph))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("jetson-nano", "cannot help: jetson-nano computes fp32 and fp16 only"),
        ("cpu", "edgesr bench decides"),
        ("rtx", "cannot be bounded"),
    ],
)
def test_what_int8_can_bring(target: str, said: str) -> None:
    assert said in advice.int8_verdict(device.load(target), None, None)


def test_int8_is_bounded_by_the_rates() -> None:
    """Twice the rate and half of the bytes: no more than two."""
    windows = {65536: 10}
    fp16 = roofline.times(chain(64), ORIN_NANO, "fp16", windows)
    int8 = roofline.times(chain(64), ORIN_NANO, "int8", windows)
    assert fp16 is not None and int8 is not None
    gain = fp16.layers_s / int8.layers_s
    assert 1 < gain <= 2.01
    assert f"at most {gain:.1f} times" in advice.int8_verdict(ORIN_NANO, fp16, int8)


# ---------------------------------------------------------------- the whole plan


def request(**changes: Any) -> Request:
    known: dict[str, Any] = {"model": "balanced", "target": "jetson-orin-nano", "teacher": None,
                             "width": 1920, "height": 1080}  # fmt: skip
    return Request(**known | changes)


def figures(made: Any) -> Iterator[dict[str, Any]]:
    """Every figure in a plan, however deep."""
    if isinstance(made, dict):
        if "unit" in made:
            yield made
        made = list(made.values())
    if isinstance(made, list):
        for part in made:
            yield from figures(part)


@pytest.mark.parametrize("target", device.names())
def test_every_figure_for_every_device_is_estimated(target: str) -> None:
    made = plan(request(target=target, teacher="srgan"))
    found = list(figures(made))
    assert len(found) >= 20
    assert {figure["kind"] for figure in found} == {"estimated"}
    times = [model["figures"]["floor_ms"] for model in made["models"].values()]
    for figure in times:
        assert (figure["value"] is None) == bool(figure.get("note"))
    assert made["dla"] == ("none on this device" if not device.load(target).dla
                           else device.DLA_REFUSED)  # fmt: skip
    json.dumps(made)


def test_the_plan_counts_as_the_counters_do() -> None:
    """One window exactly: MACs of the picture, and their time at 10.2 Tops/s in fp16."""
    graph = graph_of("balanced")
    made = plan(request(width=256, height=256))["models"]["student"]
    work = macs(graph, 256, 256)
    assert made["figures"]["macs"]["value"] == work
    assert made["figures"]["windows"]["value"] == 1
    assert made["figures"]["overlap"]["value"] == 1
    spent = sum(layer["arithmetic"]["value"] for layer in made["layers"])
    assert spent == pytest.approx(1e3 * 2 * work / ORIN_NANO.peak_fp16_ops_s, rel=1e-4)  # type: ignore[operator]
    live = largest_live_set(graph, 2)
    assert made["figures"]["live_bytes"]["value"] == live.bytes_per_pixel * 256 * 256
    assert sum(made["live_set"]["bytes"].values()) == made["figures"]["live_bytes"]["value"]
    assert IO_BYTES == 4


def test_more_pixels_slower_clocks_and_wider_values_never_make_it_faster() -> None:
    def floor(**changes: Any) -> float:
        value: float = plan(request(**changes))["models"]["student"]["figures"]["floor_ms"]["value"]
        return value

    assert floor() < floor(width=3840) < floor(width=3840, height=2160)
    assert floor(mode="MAXN_SUPER") < floor(mode="15W") == floor()
    assert floor(precision="int8") < floor(precision="fp16") < floor(precision="fp32")
    assert floor(tile=512) < floor(tile=128)  # less overlap


def test_a_board_that_starts_in_another_mode_says_so() -> None:
    said = "the board starts in mode 30W, its GPU at a clock that is not known here"
    assert said in plan(request(target="jetson-agx-orin"))["notes"]
    assert said not in plan(request(target="jetson-agx-orin", mode="MAXN"))["notes"]
    assert not any("starts in mode" in note for note in plan(request())["notes"])


def test_the_teacher_is_planned_beside_the_student() -> None:
    models = plan(request(teacher="srgan"))["models"]
    student_ms, teacher_ms = (m["figures"]["layers_ms"]["value"] for m in models.values())
    assert list(models) == ["student", "teacher"]
    assert teacher_ms > 5 * student_ms


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"target": "toaster"}, UnknownName, "devices/toaster.toml"),
        ({"target": "jetson-nano", "precision": "int8"}, BadConfig, "has no int8; it has fp32"),
        ({"precision": "bf16"}, BadConfig, "may be auto, fp32, fp16, int8"),
        ({"width": 0}, BadConfig, "0x1080"),
        ({"mode": "7W"}, BadConfig, "no GPU clock"),
        ({"target": "jetson-orin", "mode": "7W"}, BadConfig, "no power modes are known"),
        ({"model": "balancd"}, UnknownName, "Did you mean balanced"),
        ({"tile": 32}, BadConfig, "no exact middle"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        plan(request(**changes))


def test_a_checkpoint_of_ones_own_is_planned(tmp_path: Path) -> None:
    graph = networks.small_networks()["student"]
    path = tmp_path / "mine.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(graph, networks.random_weights(graph)))
    assert graph_of(str(path)) == graph


# ---------------------------------------------------------------- the command


def test_the_command_prints_the_plan_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke(
        app, ["plan", "--target", "jetson-agx-orin", "--image", "1920x1080", "--mode", "MAXN"]
    )
    assert run.exit_code == 0, run.stderr
    lines = run.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(run.stdout.split())
    for said in ("All of it is estimated; nothing was run.", "7680×4320 out", "GPU at 1300 MHz",
                 "balanced", "srgan", "up1_shuffle", "pictures a second, at most", "int8",
                 "none has 256 channels", "DLA cores are not used"):  # fmt: skip
        assert said in text, said


def test_a_device_without_rates_says_why_there_is_no_time() -> None:
    run = CliRunner().invoke(app, ["plan", "--target", "raspberry-pi-5", "--no-teacher"])
    assert run.exit_code == 0
    text = " ".join(run.stdout.split())
    assert "time, at least" in text and "not known" in text
    assert "raspberry-pi-5 states no peak rate in fp32 and no memory bandwidth" in text
    assert "largest live set" in text


def test_two_networks_of_one_name_are_told_apart() -> None:
    run = CliRunner().invoke(app, ["plan", "srgan", "--target", "jetson-nano"])
    assert run.exit_code == 0
    heading = next(line for line in run.stdout.splitlines() if "estimated  " in line)
    assert "student" in heading and "teacher" in heading


def test_json_is_the_plan_and_nothing_else() -> None:
    run = CliRunner().invoke(app, ["plan", "--json", "--image", "640x360"])
    made = json.loads(run.stdout)
    assert made["target"] == "jetson-orin"
    assert made["image"] == {"width": 640, "height": 360}
    assert made["models"]["student"]["layers"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--image", "big"], 2, "1920x1080"),
        (["--image", "0x10"], 1, "0x10"),
        (["--image", "9999999x9"], 1, "1 to 1048576 a side"),
        (["--image", "9" * 5000 + "x9"], 2, "1920x1080"),
        (["--target", "jetson-nano", "--precision", "int8"], 1, "has no int8"),
    ],
)
def test_wrong_arguments(arguments: list[str], code: int, said: str) -> None:
    run = CliRunner().invoke(app, ["plan", *arguments])
    assert run.exit_code == code
    assert said in run.stderr


def test_planning_loads_neither_torch_nor_an_engine() -> None:
    probe = (
        "import sys\nfrom edgesr.plan.run import Request, plan\n"
        "plan(Request(model='balanced', target='jetson-orin', width=640, height=360))\n"
        "print(*(m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_the_guides_worked_example_is_what_plan_says() -> None:
    guide = Path(__file__).parents[1] / "docs" / "devices.md"
    text = " ".join(guide.read_text(encoding="utf-8").split())
    found = plan(request(model="srgan"))["models"]["student"]["figures"]
    value = {key: figure["value"] for key, figure in found.items()}
    for said in (
        f"{value['windows']} windows and {value['overlap']:.2f} pixels",
        f"{value['macs'] / 1e9:,.0f} GMAC",
        f"{value['floor_ms']:,.0f} ms at least, {value['layers_ms']:,.0f} ms layer by layer",
        f"{value['live_bytes'] / 1e6:.1f} MB",
    ):
        assert said in text, said
