"""Check a bundle: every byte by its hash, every network by its golden tiles.

The same code runs behind `edgesr verify` and behind `python3 run.py --verify` on a board.
Python 3.8 and numpy only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesr.bundle import golden, manifest
from edgesr.bundle.gates import Difference, Limits, failures, worst
from edgesr.bundle.wire import external_references
from edgesr.errors import BadModel, EdgeSRError, Impossible
from edgesr.runtime.base import Runtime


@dataclass(frozen=True)
class Target:
    """A network to replay the golden tiles through; `open` gives a ready runtime.

    `limits` are what it may lose; None takes the manifest's for `precision` (`fp32`, `fp16` or
    `int8`; what follows a dot does not count).
    """

    label: str
    model: str
    shape: str
    precision: str
    open: Callable[[], Runtime]
    limits: dict[str, float] | None = None


@dataclass(frozen=True)
class Hop:
    """What one network made of the golden tiles; `failures` is empty when it holds."""

    name: str
    difference: Difference | None
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """`changed`: files that are not what was exported; `hops`: the golden replays."""

    target: str
    changed: tuple[str, ...]
    hops: tuple[Hop, ...]
    gates_passed_at_export: bool

    @property
    def passed(self) -> bool:
        """No byte changed and no decibel lost."""
        return not self.changed and all(not h.failures for h in self.hops)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return dict(dataclasses.asdict(self), passed=self.passed)

    def lines(self) -> list[str]:
        """The report in words, one line each finding."""
        text = [f"CHANGED  {line}" for line in self.changed]
        for hop in self.hops:
            if hop.failures:
                text.append(f"LOST     {hop.name}: {'; '.join(hop.failures)}")
            elif hop.difference:
                found = hop.difference
                text.append(
                    f"ok       {hop.name}: {found.psnr_db:.1f} dB, "
                    f"{100 * found.differing_share:.2f} % of 8-bit values differ"
                )
        if not self.gates_passed_at_export:
            text.append("note     a gate was not met when this bundle was exported")
        return text


def onnx_targets(
    folder: Path,
    about: manifest.Manifest,
    open_onnx: Callable[[Path], Runtime],
    runtime: str,
    *,
    open_as_written: Callable[[Path], Runtime] | None = None,
) -> list[Target]:
    """Every ONNX file of the bundle; `runtime` names what `open_onnx` runs them with.

    The int8 files for TensorRT need `open_as_written`, which must not optimise them (see
    `edgesr.graph.onnx_int8`); without it they are left out: their engines are what counts.
    """
    targets = []
    for role, model in sorted(about.models.items()):
        for shape, files in sorted(model.onnx.items(), reverse=True):
            for form, name in sorted(files.items(), reverse=True):
                opener = open_as_written if form.startswith("int8.trt") else open_onnx
                if opener is not None:
                    limits = about.files[name].limits
                    call = functools.partial(_open_checked, opener, folder / name)
                    targets.append(Target(f"{name} on {runtime}", role, shape, form, call, limits))
    return targets


def verify(folder: Path, about: manifest.Manifest, targets: Iterable[Target]) -> Report:
    """Hash every file and replay the golden tiles through `targets`."""
    changed = manifest.changed_files(folder, about)
    hops = tuple(replay(folder, about, target) for target in targets)
    return Report(about.target, tuple(changed), hops, about.gates_passed)


def replay(folder: Path, about: manifest.Manifest, target: Target) -> Hop:
    """The worst that `target` makes of its golden tiles, against the limits of its precision.

    A network that does not load or run is a failed hop; `Impossible` (no such runtime here)
    is raised.
    """
    cases = [g for g in about.golden if g.model == target.model and g.shape == target.shape]
    try:
        runtime = target.open()
        try:
            found = worst([golden.replay(folder, case, runtime) for case in cases])
        finally:
            runtime.close()
    except Impossible:
        raise  # this machine cannot say anything about the bundle
    except EdgeSRError as e:
        return Hop(target.label, None, (str(e),))
    limits = Limits(**(target.limits or about.limits[target.precision.split(".")[0]]))
    return Hop(target.label, found, tuple(failures(found, limits)))


def _open_checked(open_onnx: Callable[[Path], Runtime], path: Path) -> Runtime:
    """Open a file that does not lead out of the bundle; `BadModel` for one that does."""
    try:
        outside = external_references(path.read_bytes())
    except OSError as e:
        raise BadModel(f"{path.name}: {e.strerror}") from e
    except BadModel as e:
        raise BadModel(f"{path.name}: {e}") from e
    if outside:
        raise BadModel(f"{path.name} keeps weights in another file ('{outside[0]}'): refused")
    return open_onnx(path)
