"""What a benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesr.errors import BadConfig

DEFAULT_TEACHER = "srgan"
REPETITIONS = 5
QUICK_S, DEFAULT_S, PUBLISH_S = 20.0, 60.0, 600.0
MIN_DURATION_S = 1.0
MAX_DURATION_S = 86_400.0
MAX_SIDE = 8192
MAX_FPS = 1000.0


@dataclass(frozen=True)
class BenchConfig:
    """Students against a teacher at one input size; raises `BadConfig` for what cannot be.

    `width` and `height` are low-resolution pixels. `duration_s` is for the timed calls of all
    networks together; a slow network may overrun it, since each gets five calls at least.
    `teacher` None is `DEFAULT_TEACHER`, or none where packages that make it are not installed.
    `quality` is a folder of originals for PSNR and SSIM. `power` measures energy if there is
    a meter, `require_power` fails without one. `threads` None: the runtime's choice. `fps`
    starts the calls on a grid of that rate; None: back to back. `throughput` adds windows at
    larger batches and in two streams, half of `duration_s` again. `tolerant` lists students
    that cannot be run, with the reason, and goes on without them. `lock_clocks` holds the
    clocks of processor and GPU at their highest for the run.
    """

    models: tuple[str, ...] = ("balanced",)
    teacher: str | None = None
    width: int = 320
    height: int = 180
    duration_s: float = DEFAULT_S
    repetitions: int = REPETITIONS
    power: bool = False
    require_power: bool = False
    quality: Path | None = None
    threads: int | None = None
    fps: float | None = None
    throughput: bool = False
    tolerant: bool = False
    lock_clocks: bool = False

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
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:  # NaN is not either
            raise BadConfig(f"--fps: above 0, at most {MAX_FPS:g} frames/s, not {self.fps:g}")

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
