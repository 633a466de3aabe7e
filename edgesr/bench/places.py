"""Where the state of a machine is read from: its root folder, its /sys, its commands.

A recorded tree stands in for all three; then no command of this machine is started.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import sysfs_root

_SYS = Path("/sys")
_PATIENCE_S = 2.0  # a command that takes longer says nothing


@dataclass(frozen=True)
class Places:
    """`root` has proc, etc and usr; `sys` is what is /sys on the machine itself."""

    root: Path = Path("/")
    sys: Path = _SYS

    @classmethod
    def here(cls) -> Places:
        """This machine; EDGESR_SYSFS_ROOT names another folder for /sys."""
        return cls(sys=sysfs_root())

    @classmethod
    def below(cls, root: Path) -> Places:
        """A recorded tree with all folders below `root`."""
        return cls(root, root / "sys")

    @property
    def recorded(self) -> bool:
        """Whether /sys is another folder, so that no driver or command of this machine counts."""
        return self.sys != _SYS

    def said(self, command: str, *arguments: str) -> str:
        """What a command prints; empty where there is none, or it fails or takes over 2 s.

        Of a recorded /sys it is the file COMMAND/ARGUMENTS there, without dashes: nvpmodel/q.
        """
        if self.recorded:
            return _recorded(self.sys / command / "_".join(a.lstrip("-") for a in arguments))
        try:
            asked = subprocess.run(
                [command, *arguments],
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return asked.stdout if asked.returncode == 0 else ""


def _recorded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
