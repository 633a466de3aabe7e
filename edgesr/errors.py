"""What can go wrong, and how the process ends when it does.

    EdgeSRError            1  bad input or failure
    ├── BadImage           1  a picture that cannot be read, or of a kind we do not take
    ├── BadModel           1  a checkpoint or network that cannot be used
    ├── BadConfig          1  a recipe, device or manifest with a wrong key or value
    ├── UnknownName        1  no device, model, preset … of that name
    ├── WouldOverwrite     1  the output exists and nobody said -y
    ├── WriteFailed        1  disk full, no permission
    ├── WorkersFailed      1  the processes of a distributed run ended without a result
    ├── GateNotMet         3  a quality gate or budget was missed; the best result is kept
    └── Impossible         4  cannot be done on this machine
        └── MissingExtra   4  … until an optional package is installed

Every message is one line that says what is wrong and what to do. `cli.main` catches
`EdgeSRError` once and prints that line; `assert` is for our own bugs, never for input.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeSRError(Exception):
    """Base of everything EdgeSR raises on purpose; `exit_code` is the process's."""

    exit_code = 1


class BadImage(EdgeSRError):
    """A picture that cannot be read, or whose shape or type is not taken."""


class BadModel(EdgeSRError):
    """A checkpoint or network that cannot be used."""


class BadConfig(EdgeSRError):
    """A recipe, device file or manifest with a wrong key or value."""


class WouldOverwrite(EdgeSRError):
    """The output exists already and overwriting was not asked for."""


class WriteFailed(EdgeSRError):
    """An output could not be written (disk full, no permission)."""


class WorkersFailed(EdgeSRError):
    """The workers of a distributed run ended without a result; its checkpoints are kept."""


class GateNotMet(EdgeSRError):
    """A quality gate or budget was missed; the best result has been kept."""

    exit_code = 3


class Impossible(EdgeSRError):
    """Not possible on this machine: a sensor, memory or a package is missing."""

    exit_code = 4


class MissingExtra(Impossible):
    """An optional package is missing; names the pip command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'edgesr[{extra}]'")


class UnknownName(EdgeSRError):
    """No such device, model, preset …; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        tail = f" {hint}" if hint else ""
        super().__init__(f"no {kind} '{name}'; known: {', '.join(names)}.{guess}{tail}")
