"""NVIDIA cards through NVML, the driver's own library (package nvidia-ml-py, extra `nvml`).

`nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded (Volta and
newer; it steps some ten times a second, so windows must be seconds long). A card without it
tells its power: the field `NVML_FI_DEV_POWER_INSTANT`, or on older drivers
`nvmlDeviceGetPowerUsage`, which from Ampere on (but for GA100) is the mean of the last second.
NVML reference, "Device Queries". The whole card is measured and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgesr.errors import Impossible
from edgesr.power.meter import NoMeter, Quantity

Load = Callable[[], Any]  # gives the module pynvml, or raises ImportError
_COUNTER = "total energy counter"
_INSTANT = "instant power x time"
_MEAN = "power usage x time (mean of the last second on Ampere and newer)"


def pynvml() -> Any:
    """NVIDIA's binding; ImportError where it is not installed."""
    return importlib.import_module("pynvml")


class Nvml:
    """A `Meter` over all cards: joules where every card counts them, else watts.

    `lib` is the module pynvml, initialised; `cards` are its handles by rail name. Raises
    `Impossible` when a card tells neither energy nor power.
    """

    name = "NVML"
    scope = "the whole graphics card(s); not the processor, the board or the supply"

    def __init__(self, lib: Any, cards: Mapping[str, Any]) -> None:
        self._lib, self._cards = lib, dict(cards)
        self.rails = tuple(cards)
        self.total = self.rails
        self._how, self._ask = self._source()
        self.quantity: Quantity = "J" if self._how == _COUNTER else "W"
        start = {rail: self._ask(card) for rail, card in self._cards.items()}
        self._start = start if self.quantity == "J" else dict.fromkeys(self.rails, 0.0)

    def read(self) -> dict[str, float]:
        """Joules of each card since the meter was made, or its watts now."""
        found = {}
        for rail, card in self._cards.items():
            try:
                found[rail] = self._ask(card) - self._start[rail]
            except self._lib.NVMLError as e:
                raise Impossible(f"the power sensor does not answer: NVML, {rail}: {e}") from e
        return found

    def conditions(self) -> dict[str, str]:
        """What each card is, its power limit, the driver, and what is read."""
        lib = self._lib
        found = {"NVML": self._how, "driver": self._told(lib.nvmlSystemGetDriverVersion)}
        for rail, card in self._cards.items():
            found[f"{rail}/name"] = self._told(lib.nvmlDeviceGetName, card)
            limit = self._told(lib.nvmlDeviceGetEnforcedPowerLimit, card)  # mW
            found[f"{rail}/power_limit_w"] = f"{int(limit) / 1e3:g}" if limit else ""
        return {name: text for name, text in found.items() if text}

    def _source(self) -> tuple[str, Callable[[Any], float]]:
        """The best source that every card has, and why not if there is none."""
        why: Exception | None = None
        for how, ask in (
            (_COUNTER, self._counted_j),
            (_INSTANT, self._instant_w),
            (_MEAN, self._mean_w),
        ):
            try:
                for card in self._cards.values():
                    ask(card)
                return how, ask
            except (self._lib.NVMLError, AttributeError) as e:  # an old binding lacks the names
                why = e
        raise Impossible(f"NVML tells neither energy nor power of {', '.join(self._cards)}: {why}")

    def _counted_j(self, card: Any) -> float:
        return float(self._lib.nvmlDeviceGetTotalEnergyConsumption(card)) / 1e3

    def _instant_w(self, card: Any) -> float:
        field = self._lib.NVML_FI_DEV_POWER_INSTANT
        value = self._lib.nvmlDeviceGetFieldValues(card, [field])[0]
        if value.nvmlReturn != 0:
            raise self._lib.NVMLError(value.nvmlReturn)
        return float(value.value.uiVal) / 1e3

    def _mean_w(self, card: Any) -> float:
        return float(self._lib.nvmlDeviceGetPowerUsage(card)) / 1e3

    def _told(self, ask: Callable[..., Any], *arguments: Any) -> str:
        try:
            answer = ask(*arguments)
        except self._lib.NVMLError:
            return ""
        return answer.decode() if isinstance(answer, bytes) else str(answer)


def find(root: Path, load: Load = pynvml) -> Nvml | NoMeter:
    """The meter of this machine's cards, or why there is none.

    A recorded tree (`root` is not /sys) says with module/nvidia that NVML is to be asked.
    """
    here = root == Path("/sys")
    driver = (root / "module/nvidia").is_dir() or (here and Path("/dev/nvidiactl").exists())
    if not here and not driver:
        return NoMeter("no NVIDIA driver", "run on a machine with an NVIDIA card")
    try:
        lib = load()
    except ImportError:
        return NoMeter(
            "the NVIDIA card's meter needs nvidia-ml-py" if driver else "no NVIDIA driver",
            "pip install 'edgesr[nvml]'",
            present=driver,
        )
    try:
        lib.nvmlInit()
        count = lib.nvmlDeviceGetCount()
        cards = {f"gpu-{k}": lib.nvmlDeviceGetHandleByIndex(k) for k in range(count)}
    except lib.NVMLError as e:
        return NoMeter(
            f"NVML does not start ({e})" if driver else "no NVIDIA driver",
            "nvidia-smi must work first: install or restart NVIDIA's driver",
            present=driver,
        )
    return Nvml(lib, cards) if cards else NoMeter("no NVIDIA card", "plug one in")
