"""The power chip (PMIC) of the Raspberry Pi 5, through the firmware's `vcgencmd pmic_read_adc`.

It prints a line a quantity, `VDD_CORE_A current(7)=1.25A` and `VDD_CORE_V volt(15)=0.85V`: what
has both is a rail, and their product its power. These are the chip's outputs. What its own
converters lose, and what is taken from the 5 V input past it (USB, fan), is not seen; fits that
add it are no measurement, so none is applied here. A Raspberry Pi 4 tells no currents.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from edgesr.errors import Impossible
from edgesr.power.meter import Busy, NoMeter, Quantity, read_text

Ask = Callable[[], str]
COMMAND = ("vcgencmd", "pmic_read_adc")
TIMEOUT_S = 2.0
# Firmwares differ in the words and the index between the name and the value.
_LINE = re.compile(r"^\s*(\w+)_([AV])\b[^=]*=\s*(-?\d+(?:\.\d+)?)\s*[AV]?\s*$", re.MULTILINE)


class Pmic:
    """A `Meter` over the chip's rails; `ask` gives the text of one reading."""

    name = "Raspberry Pi 5 PMIC"
    quantity: Quantity = "W"
    scope = (
        "the sum of the PMIC's outputs; not its own losses, nor USB devices, a fan or a disk, "
        "nor the supply"
    )

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.rails = tuple(rails_w(ask()))
        self.total = self.rails

    def read(self) -> dict[str, float]:
        """Watts of each rail now."""
        try:
            watts = rails_w(self._ask())
        except FileNotFoundError as e:
            raise Impossible(f"the power sensor does not answer: {e.filename}: {e.strerror}") from e
        gone = [rail for rail in self.rails if rail not in watts]
        if gone:
            raise Impossible(f"the power sensor does not answer: {' '.join(COMMAND)}: no {gone[0]}")
        return {rail: watts[rail] for rail in self.rails}

    def conditions(self) -> dict[str, str]:
        """How it is read."""
        return {"command": " ".join(COMMAND)}


def rails_w(text: str) -> dict[str, float]:
    """Watts by rail from the command's output; empty when it tells no currents."""
    values = {(name, unit): float(value) for name, unit, value in _LINE.findall(text)}
    return {
        name: amperes * values[name, "V"]
        for (name, unit), amperes in values.items()
        if unit == "A" and (name, "V") in values
    }


def find(root: Path, ask: Ask | None = None) -> Pmic | NoMeter:
    """The PMIC's meter, or why there is none.

    Under another `root` than /sys its text is read from the file vcgencmd/pmic_read_adc there.
    """
    if ask is None:
        recorded = root / "vcgencmd" / "pmic_read_adc"
        ask = vcgencmd if root == Path("/sys") else lambda: _recorded(recorded)
    try:
        text = ask()
    except FileNotFoundError:
        return NoMeter("no Raspberry Pi 5 (vcgencmd)", "run on a Raspberry Pi 5")
    except Impossible as e:
        return NoMeter(str(e), "sudo usermod -aG video $USER, then log in again", present=True)
    if not rails_w(text):
        return NoMeter(
            "this Raspberry Pi tells voltages and no currents", "a Raspberry Pi 5 does", True
        )
    return Pmic(ask)


def vcgencmd() -> str:
    """What the command prints.

    Raises FileNotFoundError where it is not installed, `Busy` when it takes too long, and
    `Impossible` when it fails.
    """
    try:
        asked = subprocess.run(
            COMMAND, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise
    except subprocess.TimeoutExpired as e:
        raise Busy(f"{' '.join(COMMAND)} took longer than {TIMEOUT_S:g} s") from e
    except OSError as e:
        raise Impossible(f"{' '.join(COMMAND)} failed: {e}") from e
    if asked.returncode != 0:
        said = (asked.stderr.strip() or asked.stdout.strip() or "no message").splitlines()[0]
        raise Impossible(f"{' '.join(COMMAND)} failed: {said}")
    return asked.stdout


def _recorded(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise Impossible(f"the power sensor does not answer: {path}: {e.strerror}") from e
