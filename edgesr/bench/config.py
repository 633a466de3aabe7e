"""What a benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesr.errors import BadConfig

DEFAULT_TEACHER = "srgan"
REPETITIONS = 5
MIN_DURATION_S = 1.0
MAX_DURATION_S = 86_400.0
MAX_SIDE = 8192


@dataclass(frozen=True)
class BenchConfig:
    """Students against a teacher at one input size; raises `BadConfig` for what cannot be.

    `width` and `height` are low-resolution pixels. `duration_s` is for the timed calls of all
    networks together; a slow network may overrun it, since each gets five calls at least.
    `teacher` None is `DEFAULT_TEACHER`, or none where packages that make it are not installed.
    `quality` is a folder of originals for PSNR and SSIM. `power` measures energy if there is
    a meter, `require_power` fails without one. `threads` None: the runtime's choice.
    """

    models: tuple[str, ...] = ("balanced",)
    teacher: str | None = None
    width: int = 320
    height: int = 180
    duration_s: float = 20.0
    repetitions: int = REPETITIONS
    power: bool = False
    require_power: bool = False
    quality: Path | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        names = self.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise BadConfig(f"'{twice[0]}' is named twice; compare different models")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BadConfig(f"--size: each side must be 1 to {MAX_SIDE} pixels")
        if not MIN_DURATION_S <= self.duration_s <= MAX_DURATION_S:  # NaN is not either
            limits = f"{MIN_DURATION_S:g} to {MAX_DURATION_S:g} s"
            raise BadConfig(f"--duration: {limits}, not {self.duration_s:g}")
        if self.repetitions < 1:
            raise BadConfig("at least one repetition is needed")
        if self.threads is not None and self.threads < 1:
            raise BadConfig("--threads: at least 1")

    @property
    def names(self) -> tuple[str, ...]:
        """The teacher, then the students."""
        return (self.teacher or DEFAULT_TEACHER, *self.models)

    @property
    def measures_power(self) -> bool:
        """Whether energy is asked for."""
        return self.power or self.require_power


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from `320x180`; raises `BadConfig` for anything else."""
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise BadConfig(f"--size must look like 320x180, not '{text}'")
    return int(width), int(height)
