"""Device profiles: every shipped file is loaded and checked, and against the published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgesr import device, resources
from edgesr.cli.main import app
from edgesr.errors import BadConfig, UnknownName


@pytest.mark.parametrize("name", device.names())
def test_shipped_profile_loads_and_states_its_sources(name: str) -> None:
    profile = device.load(name)
    assert profile.name == name
    assert set(profile.sources) == set(profile.facts())
    assert all(text.strip() for text in profile.sources.values())
    assert all(row.source for row in profile.jetpack)
    assert all(row.source for row in profile.power)
    assert next(iter(json.loads(profile.to_json()))) == "name"


def test_the_family_has_the_smallest_figures_of_its_boards() -> None:
    family = device.load("jetson-orin")
    assert family.compute_capability == "8.7"
    members = [p for p in map(device.load, device.names()) if p.family == "jetson-orin"]
    assert len(members) > 1
    for key in ("memory_bytes", "bandwidth_bytes_s", "peak_fp16_ops_s", "peak_int8_ops_s"):
        assert getattr(family, key) == min(getattr(m, key) for m in members), key


# SMs × 4096 INT8 operations × clock, by hand: 4 × 625 MHz, 8 × 625, 8 × 918, 16 × 1300.
@pytest.mark.parametrize(
    ("name", "sms", "mhz"),
    [("jetson-orin", 4, 625), ("jetson-orin-nano", 8, 625), ("jetson-orin-nx", 8, 918),
     ("jetson-agx-orin", 16, 1300)],
)  # fmt: skip
def test_peak_rates_follow_from_multiprocessors_and_clock(name: str, sms: int, mhz: int) -> None:
    profile = device.load(name)
    assert profile.peak_int8_ops_s == pytest.approx(sms * 4096 * mhz * 1e6, rel=0.01)
    assert profile.peak_fp16_ops_s == pytest.approx(sms * 2048 * mhz * 1e6, rel=0.01)
    assert profile.peak_int8_sparse_ops_s == pytest.approx(sms * 8192 * mhz * 1e6, rel=0.01)


def test_agx_orin_total_leaves_out_the_rail_that_another_one_feeds() -> None:
    (power,) = device.load("jetson-agx-orin").power
    assert power.total_rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert "VDDQ_VDD2_1V8AO" in power.rails


def test_tensorrt_range_is_ordered_by_number_not_by_text() -> None:
    assert device.load("jetson-orin").tensorrt_range() == ("8.4.1", "11.4.1")
    assert device.load("cpu").tensorrt_range() is None


def test_unknown_device_lists_the_known_ones_and_says_what_to_add() -> None:
    with pytest.raises(UnknownName) as e:
        device.load("jetson-orim")
    for part in ("jetson-orin", "cpu", "Did you mean jetson-orin?", "devices/jetson-orim.toml"):
        assert part in str(e.value)


def _copy(tmp_path: Path, old: str, new: str) -> Path:
    text = (resources.folder("devices") / "cpu.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "cpu.toml").write_text(text.replace(old, new), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width_step_fp16 = 8", "width_step_fp17 = 8", "width_step_fp16"),
        ('name = "cpu"', 'name = "gpu"', "should be 'cpu'"),
        ("width_step_int8 = 16", "width_step_int8 = 16\nmemory_bytes = 1", "no source"),
        ("height = 256", "height = 8", "smaller than 16"),
        ('precision = "fp32"', 'precision = "int8"', "not one of precisions"),
    ],
)
def test_a_wrong_profile_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        device.load("cpu", _copy(tmp_path, old, new))


def test_a_new_device_is_one_file(tmp_path: Path) -> None:
    text = (resources.folder("devices") / "cpu.toml").read_text(encoding="utf-8")
    (tmp_path / "toaster.toml").write_text(text.replace('name = "cpu"', 'name = "toaster"', 1))
    assert device.names(tmp_path) == ["toaster"]
    assert device.load("toaster", tmp_path).name == "toaster"


def test_devices_on_the_command_line() -> None:
    run = CliRunner().invoke(app, ["devices", "--json"])
    assert run.exit_code == 0
    assert [p["name"] for p in json.loads(run.stdout)] == device.names()
    listed = CliRunner().invoke(app, ["devices"]).stdout
    assert all(name in listed for name in device.names())
    shown = CliRunner().invoke(app, ["devices", "show", "jetson-orin"])
    assert "compute_capability: 8.7" in shown.stdout
    assert "unverified" in shown.stdout
    wrong = CliRunner().invoke(app, ["devices", "show", "toaster"])
    assert wrong.exit_code == 1
    assert "devices/toaster.toml" in wrong.stderr
