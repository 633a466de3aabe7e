"""Device profiles: every shipped file is loaded and checked, and against the published figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgesr import device, resources
from edgesr.cli.main import app
from edgesr.errors import BadConfig, UnknownName
from edgesr.power.rails import known_total

WANTED = {
    "cpu", "jetson-agx-orin", "jetson-agx-orin-32gb", "jetson-agx-xavier", "jetson-nano",
    "jetson-orin", "jetson-orin-nano", "jetson-orin-nano-4gb", "jetson-orin-nx",
    "jetson-orin-nx-8gb", "jetson-thor", "jetson-tx2", "jetson-xavier-nx", "raspberry-pi-4",
    "raspberry-pi-5", "rtx",
}  # fmt: skip
# From the slowest of the boards (Nano) to the fastest (Thor), with room on both sides.
RANGES = {
    "memory_bytes": (2 << 30, 256 << 30),
    "bandwidth_bytes_s": (10e9, 1000e9),
    "gpu_mhz": (300, 3000),
    "peak_fp32_ops_s": (0.1e12, 50e12),
    "peak_fp16_ops_s": (0.3e12, 1000e12),
    "peak_int8_ops_s": (5e12, 2000e12),
    "peak_int8_sparse_ops_s": (10e12, 4000e12),
    "width_step_fp16": (1, 64),
    "width_step_int8": (4, 64),
}


def numbers(version: str) -> tuple[int, ...]:
    """The first number in a text: `36.2 to 36.3` is (36, 2)."""
    found = re.search(r"\d+(\.\d+)*", version)
    assert found, version
    return tuple(int(part) for part in found[0].split("."))


def test_every_target_has_its_file() -> None:
    assert set(device.names()) >= WANTED


@pytest.mark.parametrize("name", device.names())
def test_shipped_profile_loads_and_states_its_sources(name: str) -> None:
    profile = device.load(name)
    assert profile.name == name
    assert set(profile.sources) == set(profile.facts())
    rows = [*profile.jetpack, *profile.power, *profile.modes]
    sources = [*profile.sources.values(), *(row.source for row in rows)]
    assert all(text.strip() for text in sources)
    assert next(iter(json.loads(profile.to_json()))) == "name"


@pytest.mark.parametrize("name", device.names())
def test_figures_of_a_shipped_profile_are_plausible(name: str) -> None:
    profile = device.load(name)
    facts = profile.facts()
    for key, (low, high) in RANGES.items():
        assert key not in facts or low <= facts[key] <= high, key
    assert ("int8" in profile.precisions) == (profile.width_step_int8 is not None)
    if profile.peak_int8_sparse_ops_s is not None:
        assert profile.sparse_tensor_cores
        assert profile.peak_int8_ops_s is not None
        ratio = profile.peak_int8_sparse_ops_s / profile.peak_int8_ops_s
        assert ratio == pytest.approx(2, rel=0.01)
    if profile.peak_int8_ops_s is not None:
        assert profile.peak_fp16_ops_s is not None
        assert profile.peak_int8_ops_s == pytest.approx(2 * profile.peak_fp16_ops_s, rel=0.01)
    if profile.kind == "jetson":
        assert profile.bandwidth_bytes_s
        assert profile.peak_fp16_ops_s


@pytest.mark.parametrize("name", device.names())
def test_rows_of_jetpack_are_in_order(name: str) -> None:
    rows = device.load(name).jetpack
    for key in ("version", "tensorrt", "ubuntu", "python"):
        versions = [numbers(getattr(row, key)) for row in rows]
        assert versions == sorted(versions), key
    majors = [numbers(row.cuda)[0] for row in rows]  # one row says 13.x
    assert majors == sorted(majors)
    releases = [numbers(row.l4t) for row in rows if row.l4t != "unverified"]
    assert releases == sorted(releases)


@pytest.mark.parametrize("name", device.names())
def test_power_rails_add_up_to_what_the_meter_takes(name: str) -> None:
    """The profile's formula is the one that the meter derives from the rails by itself."""
    for power in device.load(name).power:
        assert set(power.total_rails) <= set(power.rails)
        assert len(set(power.rails)) == len(power.rails)
        if power.chip.startswith("INA3221"):
            assert set(known_total(power.rails)) == set(power.total_rails)


@pytest.mark.parametrize("name", device.names())
def test_modes_have_one_name_each_and_at_most_one_default(name: str) -> None:
    modes = device.load(name).modes
    assert len({mode.name for mode in modes}) == len(modes)
    assert sum(mode.default for mode in modes) <= 1


def test_the_family_has_the_smallest_figures_of_its_boards() -> None:
    family = device.load("jetson-orin")
    assert family.compute_capability == "8.7"
    members = [p for p in map(device.load, device.names()) if p.family == "jetson-orin"]
    assert len(members) >= 7
    for key in ("memory_bytes", "bandwidth_bytes_s", "peak_fp32_ops_s", "peak_fp16_ops_s",
                "peak_int8_ops_s"):  # fmt: skip
        assert getattr(family, key) == min(getattr(m, key) for m in members), key


# SMs × 4096 INT8 operations × clock, by hand: 4 × 625 MHz, 8 × 625, 8 × 918, 16 × 1300 …
# and 128 CUDA cores of two operations in each.
ORIN = [("jetson-orin", 4, 625), ("jetson-orin-nano-4gb", 4, 625), ("jetson-orin-nano", 8, 625),
        ("jetson-orin-nx-8gb", 8, 765), ("jetson-orin-nx", 8, 918),
        ("jetson-agx-orin-32gb", 14, 930), ("jetson-agx-orin", 16, 1300)]  # fmt: skip


@pytest.mark.parametrize(("name", "sms", "mhz"), ORIN)
def test_peak_rates_follow_from_multiprocessors_and_clock(name: str, sms: int, mhz: int) -> None:
    profile = device.load(name)
    assert profile.gpu_mhz == mhz
    assert profile.peak_fp32_ops_s == sms * 256 * mhz * 10**6
    assert profile.peak_int8_ops_s == pytest.approx(sms * 4096 * mhz * 1e6, rel=0.01)
    assert profile.peak_fp16_ops_s == pytest.approx(sms * 2048 * mhz * 1e6, rel=0.01)
    assert profile.peak_int8_sparse_ops_s == pytest.approx(sms * 8192 * mhz * 1e6, rel=0.01)


# CUDA cores × 2 × clock in FP32, twice that in FP16, as NVIDIA publishes them: 0.47 and 1.33.
@pytest.mark.parametrize(
    ("name", "cores", "mhz", "published"),
    [("jetson-nano", 128, 921, 0.47e12), ("jetson-tx2", 256, 1300, 1.33e12)],
)
def test_boards_without_tensor_cores(name: str, cores: int, mhz: int, published: float) -> None:
    profile = device.load(name)
    assert profile.peak_fp32_ops_s == cores * 2 * mhz * 10**6
    assert profile.peak_fp16_ops_s == pytest.approx(published, rel=0.01)
    assert profile.precisions == ("fp32", "fp16")
    assert not profile.sparse_tensor_cores
    assert profile.peak_int8_ops_s is None
    with pytest.raises(BadConfig, match="no fast int8, only fp32 and fp16"):
        profile.widths_up_to(64, int8=True)
    assert profile.widths_up_to(32) == (8, 16, 24, 32)


def test_the_super_mode_of_orin_nano_has_the_published_rates() -> None:
    board = device.load("jetson-orin-nano").in_mode("MAXN_SUPER")
    assert board.bandwidth_bytes_s == 102_000_000_000
    assert board.peak_int8_ops_s == pytest.approx(33.4e12, rel=0.01)
    assert board.peak_int8_sparse_ops_s == pytest.approx(66.8e12, rel=0.01)
    assert board.memory_bytes == 8 << 30


def test_a_mode_that_caps_the_clock_lowers_the_rates() -> None:
    """Orin NX: 408 of 918 MHz in its 25 W mode."""
    whole, capped = device.load("jetson-orin-nx"), device.load("jetson-orin-nx").in_mode("25W")
    assert whole.peak_fp16_ops_s and capped.peak_fp16_ops_s
    assert capped.peak_fp16_ops_s / whole.peak_fp16_ops_s == pytest.approx(408 / 918)
    assert capped.bandwidth_bytes_s == whole.bandwidth_bytes_s


def test_modes_that_are_none_or_have_no_clock_are_refused() -> None:
    board = device.load("jetson-orin-nano")
    with pytest.raises(UnknownName, match="MAXN_SUPER"):
        board.in_mode("MAXN")
    with pytest.raises(BadConfig, match=r"no GPU clock .* known for: 15W, MAXN_SUPER"):
        board.in_mode("7W")


def test_agx_orin_total_leaves_out_the_rail_that_another_one_feeds() -> None:
    (power,) = device.load("jetson-agx-orin").power
    assert power.total_rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert "VDDQ_VDD2_1V8AO" in power.rails


def test_tensorrt_range_is_ordered_by_number_not_by_text() -> None:
    assert device.load("jetson-orin").tensorrt_range() == ("8.4.1", "11.4.1")
    assert device.load("jetson-nano").tensorrt_range() == ("8.2.1", "8.2.1")
    assert device.load("cpu").tensorrt_range() is None


def test_unknown_device_lists_the_known_ones_and_says_what_to_add() -> None:
    with pytest.raises(UnknownName) as e:
        device.load("jetson-orim")
    for part in ("jetson-orin", "cpu", "Did you mean jetson-orin?", "devices/jetson-orim.toml"):
        assert part in str(e.value)


@pytest.mark.parametrize("name", ["jetson-agx-orin-dla", "dla", "jetson-orin-nx:dla0", "DLA1"])
def test_the_dla_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(BadConfig, match=r"DLA cores are not used: .*10\.7.*11\.4\.1"):
        device.load(name)


@pytest.mark.parametrize("command", ["export", "plan"])
def test_the_dla_is_refused_on_the_command_line(command: str) -> None:
    run = CliRunner().invoke(app, [command, "--target", "jetson-agx-orin-dla"])
    assert run.exit_code == 1
    assert "DLA cores are not used" in run.stderr


def _copy(tmp_path: Path, old: str, new: str, name: str = "cpu") -> Path:
    text = (resources.folder("devices") / f"{name}.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / f"{name}.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width_step_fp16 = 8", "width_step_fp17 = 8", "width_step_fp16"),
        ('name = "cpu"', 'name = "gpu"', "should be 'cpu'"),
        ("width_step_int8 = 16", "width_step_int8 = 16\nmemory_bytes = 1", "no source"),
        ("width_step_int8 = 16\n", "", "belongs to a device with int8"),
        ("height = 256", "height = 8", "smaller than 16"),
        ('precision = "fp32"', 'precision = "fp8"', "may be 'fp32'"),
        ('precision = "fp32"\n', 'precision = "bf16"\n', "may be 'fp32'"),
        ('"fp32", "fp16", "int8"]', '"fp16", "int8"]', "not one of precisions"),
    ],
)
def test_a_wrong_profile_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(BadConfig, match=message):
        device.load("cpu", _copy(tmp_path, old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('total = "VDD_IN"', 'total = "VDD_IN + VDD_GPU"', "VDD_GPU, which is no rail"),
        ('name = "7W"', 'name = "7W"\ndefault = true', "more than one is the default"),
        ('compute_capability = "8.7"', 'compute_capability = "sm87"', "not of the form 8.7"),
    ],
)
def test_a_wrong_board_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        device.load("jetson-orin-nano", _copy(tmp_path, old, new, "jetson-orin-nano"))


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
    wrong = CliRunner().invoke(app, ["devices", "show", "toaster"])
    assert wrong.exit_code == 1
    assert "devices/toaster.toml" in wrong.stderr


@pytest.mark.parametrize("name", device.names())
def test_show_prints_every_fact_and_source_within_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["devices", "show", name]).stdout
    assert max(map(len, shown.splitlines())) <= 80
    unbroken = " ".join(shown.split())
    profile = device.load(name)
    rows = [*profile.jetpack, *profile.power, *profile.modes]
    said = [*profile.sources.values(), *(row.source for row in rows), *profile.notes]
    said += [f"{fact}: " for fact in profile.facts()] + [power.total for power in profile.power]
    for text in said:
        assert " ".join(text.split()) in unbroken, text


def test_show_says_what_the_figures_are() -> None:
    shown = CliRunner().invoke(app, ["devices", "show", "jetson-orin-nano"]).stdout
    for text in (
        "compute_capability: 8.7", "memory_bytes: 8 GiB", "peak_int8_ops_s: 20.5 Tops/s",
        "MAXN_SUPER: number 2, GPU at 1020 MHz, 102 GB/s", "unverified",
        "6.1 to 6.2.2: TensorRT 10.3, CUDA 12.6", "Orin Nano: total = VDD_IN",
    ):  # fmt: skip
        assert text in shown
    as_json = CliRunner().invoke(app, ["devices", "show", "jetson-orin-nano", "--json"]).stdout
    assert json.loads(as_json)["modes"][3]["gpu_mhz"] == 1020
