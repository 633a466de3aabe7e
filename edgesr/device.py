"""What is known about a target: one TOML file in `devices/`, every fact with its source.

`[sources]` of the file has an entry for each fact that is stated, named after its key; the
text says where the fact is from and starts with `unverified` where no document confirms it.
Rows of JetPack, power modes and power rails carry their own.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgesr import config, resources
from edgesr.errors import BadConfig, UnknownName

Kind = Literal["jetson", "gpu", "cpu"]
Precision = Literal["fp32", "fp16", "int8"]
UNVERIFIED = "unverified"
# On Q/DQ: NVIDIA/TensorRT issue 2222, NVIDIA/Model-Optimizer PR 1661. On the versions:
# TensorRT's pages "Working with DLA", 11.1 to 11.4.
DLA_REFUSED = (
    "the DLA cores are not used: up to TensorRT 10.7 they take int8 from its own calibrator and "
    "not the Q/DQ files that EdgeSR writes, from 10.8 to 11.4.0 TensorRT has no DLA (so none on "
    "JetPack 7.2), 11.4.1 has it on AGX Orin only, and nothing here was ever measured on one"
)
# What is a choice of ours or a label, and the tables whose rows carry their own source.
_NO_SOURCE = {"name", "title", "family", "kind", "boards", "sources", "tiles", "notes",
              "modes", "jetpack", "power"}  # fmt: skip
_RATES = ("peak_fp32_ops_s", "peak_fp16_ops_s", "peak_int8_ops_s", "peak_int8_sparse_ops_s")
_DLA_NAME = re.compile(r"(^|[^a-z])dla([^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class JetPack:
    """One JetPack release (a range of them): what it brings, by version number."""

    version: str
    l4t: str
    cuda: str
    tensorrt: str
    ubuntu: str
    python: str
    source: str


@dataclass(frozen=True)
class Mode:
    """A power mode of nvpmodel. Its label is no power: what it sets are clocks and cores.

    `gpu_mhz` is the GPU's highest clock in it with all multiprocessors on, and absent where no
    document says so; `bandwidth_bytes_s` only where the mode changes the memory's clock.
    """

    name: str
    source: str
    id: int | None = None
    default: bool = False
    gpu_mhz: int | None = None
    bandwidth_bytes_s: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Power:
    """The power rails of some boards, by label, and which of them add up to the total.

    `total` is a sum of rail labels; a rail that another one feeds is not in it.
    """

    boards: str
    chip: str
    rails: tuple[str, ...]
    total: str
    source: str
    caveat: str = ""

    def __post_init__(self) -> None:
        unknown = [r for r in self.total_rails if r not in self.rails]
        if unknown:
            raise ValueError(f"total '{self.total}' names {unknown[0]}, which is no rail")

    @property
    def total_rails(self) -> tuple[str, ...]:
        """The labels that are added up."""
        return tuple(part.strip() for part in self.total.split("+"))


@dataclass(frozen=True)
class Tile:
    """A fixed input size (low-resolution pixels) for which a network is exported."""

    name: str
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 16 or self.width < 16:
            raise ValueError(f"tile '{self.name}' is smaller than 16×16")


@dataclass(frozen=True)
class DeviceProfile:
    """A target of `export`. Facts that nobody could find are absent (None), never guessed.

    Rates count operations (a multiply-add is two) per second at `gpu_mhz`: fp16 and int8 of
    the tensor cores where there are any, fp32 of the CUDA cores (TF32 is not used). For a
    family the figures are those of its smallest board.
    """

    name: str
    title: str
    kind: Kind
    family: str
    boards: tuple[str, ...]
    precisions: tuple[Precision, ...]
    precision: Precision  # what `auto` means
    sparse_tensor_cores: bool
    width_step_fp16: int  # channel counts that are no multiple of it waste arithmetic
    tiles: tuple[Tile, ...]
    sources: dict[str, str]
    width_step_int8: int | None = None  # stated where int8 is one of precisions
    widths: tuple[int, ...] = ()  # measured to run well, where that is known
    compute_capability: str | None = None
    memory_bytes: int | None = None
    bandwidth_bytes_s: int | None = None
    gpu_mhz: int | None = None  # the clock of the peak rates
    peak_fp32_ops_s: int | None = None
    peak_fp16_ops_s: int | None = None
    peak_int8_ops_s: int | None = None
    peak_int8_sparse_ops_s: int | None = None
    dla: bool = False
    modes: tuple[Mode, ...] = ()
    jetpack: tuple[JetPack, ...] = ()
    power: tuple[Power, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        cc = self.compute_capability
        if cc is not None and not re.fullmatch(r"\d+\.\d", cc):
            raise ValueError(f"compute_capability '{cc}' is not of the form 8.7")
        if self.precision not in self.precisions:
            raise ValueError(f"precision '{self.precision}' is not one of precisions")
        if ("int8" in self.precisions) != (self.width_step_int8 is not None):
            raise ValueError("width_step_int8 belongs to a device with int8, and only there")
        if sum(mode.default for mode in self.modes) > 1:
            raise ValueError("modes: more than one is the default")
        if not self.tiles:
            raise ValueError("tiles: at least one is needed")
        if self.kind == "jetson" and not (cc and self.jetpack):
            raise ValueError("a jetson needs compute_capability and jetpack rows")
        missing = [key for key in self.facts() if key not in self.sources]
        if missing:
            raise ValueError(f"no source for '{missing[0]}'; state one, or '{UNVERIFIED}'")
        unknown = sorted(set(self.sources) - set(self.facts()))
        if unknown:
            raise ValueError(f"source for '{unknown[0]}', which is not stated")

    def facts(self) -> dict[str, Any]:
        """What the file claims about the device, by key: all that needs a source."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: v for k, v in values.items() if k not in _NO_SOURCE and v not in (None, ())}

    def verified(self, fact: str) -> bool:
        """Whether a document confirms `fact`; KeyError for one that is not stated."""
        return not self.sources[fact].startswith(UNVERIFIED)

    def widths_up_to(self, most: int, *, int8: bool = False) -> tuple[int, ...]:
        """The channel counts to choose from, ascending: `widths`, or multiples of the step.

        Raises `BadConfig` when int8 is asked of a device that has none.
        """
        step = self.width_step_int8 if int8 else self.width_step_fp16
        if step is None:
            has = " and ".join(self.precisions)
            raise BadConfig(f"{self.name} has no fast int8, only {has}: leave int8 out, or take "
                            "another target")  # fmt: skip
        every = range(step, most + 1, step)
        return tuple(w for w in self.widths if w <= most) if self.widths else tuple(every)

    def tensorrt_range(self) -> tuple[str, str] | None:
        """Oldest and newest TensorRT of the JetPack rows; None where there is none."""
        versions = sorted((_numbers(row.tensorrt), row.tensorrt) for row in self.jetpack)
        return (versions[0][1], versions[-1][1]) if versions else None

    def peak_ops_s(self, precision: Precision) -> int | None:
        """Operations a second in `precision` without sparsity; None where nobody knows."""
        rate: int | None = getattr(self, f"peak_{precision}_ops_s")
        return rate

    def in_mode(self, name: str) -> DeviceProfile:
        """The profile with rates and bandwidth of the power mode `name`.

        Rates follow the GPU's clock. Raises `UnknownName` for a mode that is none of `modes`,
        `BadConfig` for one whose clock is not known.
        """
        known = {mode.name: mode for mode in self.modes}
        if name not in known:
            raise UnknownName(f"power mode of {self.name}", name, known)
        mode = known[name]
        if mode.gpu_mhz is None or self.gpu_mhz is None:
            clear = ", ".join(m.name for m in self.modes if m.gpu_mhz) or "none"
            raise BadConfig(
                f"no GPU clock is known for mode {name} of {self.name}; known for: {clear}. On "
                "the board: cat /sys/class/devfreq/*gpu*/max_freq"
            )
        ratio = mode.gpu_mhz / self.gpu_mhz
        changes: dict[str, Any] = {
            rate: round(getattr(self, rate) * ratio)
            for rate in _RATES
            if getattr(self, rate) is not None
        }
        bandwidth = mode.bandwidth_bytes_s or self.bandwidth_bytes_s
        return dataclasses.replace(
            self, gpu_mhz=mode.gpu_mhz, bandwidth_bytes_s=bandwidth, **changes
        )

    def to_json(self) -> str:
        """The profile as JSON, `name` first: what a bundle carries as device.json."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def names(folder: Path | None = None) -> list[str]:
    """The known devices, sorted; `folder` stands in for the shipped devices/."""
    return sorted(p.stem for p in (folder or resources.folder("devices")).glob("*.toml"))


def load(name: str, folder: Path | None = None) -> DeviceProfile:
    """The profile called `name`.

    Raises `UnknownName` when there is none, `BadConfig` when its file is wrong or `name` asks
    for a DLA core.
    """
    folder = folder or resources.folder("devices")
    known = names(folder)
    if name not in known and _DLA_NAME.search(name):
        raise BadConfig(f"target '{name}': {DLA_REFUSED}. Take the board's own name")
    if name not in known:
        raise UnknownName("device", name, known, f"Add one with devices/{name}.toml")
    path = folder / f"{name}.toml"
    profile = config.load(DeviceProfile, path)
    if profile.name != name:
        raise BadConfig(f"{path}: name is '{profile.name}', should be '{name}' as the file is")
    return profile
