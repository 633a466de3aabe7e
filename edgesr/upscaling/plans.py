"""The plan of one picture: its output, size and memory, and whether in one piece or streamed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edgesr import image
from edgesr.enlarge import Cost, Enlarger, target_size
from edgesr.enlarge.enlarger import USABLE
from edgesr.enlarge.footprint import free_bytes, resident_bytes
from edgesr.enlarge.memory import megabytes
from edgesr.errors import Impossible
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options
from edgesr.upscaling.outputs import Outputs, output_path, why_skip
from edgesr.upscaling.results import Planned, Skipped

# Measured growth of the process over the bytes of the pixels, of 14 megapixels: what decoders hold
# at their peak (3.2, WebP 4.4), and encoders beside the pixels, the file among it.
DECODING = 3.5
ENCODING = {"PNG": 1.3, "TIFF": 1.3, "JPEG": 2.0, "BMP": 3.0, "WEBP": 7.5, "AVIF": 13.5}


@dataclass(frozen=True)
class Plan:
    """One picture that can be made; `size` is (height, width) of the result."""

    source: Source
    output: Path
    facts: image.Facts
    size: tuple[int, int]
    cost: Cost
    held_bytes: int  # what reading, waiting and writing take at most, beside the network's memory
    streamed: bool = False  # rows in, rows out: it does not fit in memory whole

    @property
    def need_bytes(self) -> int:
        """All that it takes beside the process itself."""
        return self.held_bytes + self.cost.working_bytes

    def shown(self) -> Planned:
        """The plan in figures, for who only wants to know."""
        height, width = self.size
        facts, memory = self.facts, self.need_bytes
        return Planned(
            str(self.source), str(self.output), facts.width, facts.height, width, height,
            self.cost.tile, memory, self.streamed, overwrites=self.output.exists(),
        )  # fmt: skip


class Planner:
    """Makes the plans of one run: no two of them have the same output."""

    def __init__(self, options: Options, enlarger: Enlarger, outputs: Outputs, room: int) -> None:
        self._options, self._enlarger = options, enlarger
        self._outputs, self._room = outputs, room

    def plan(self, source: Source) -> Plan | Skipped:
        """What to do for a picture; only its header is read.

        Raises `BadImage`, `WouldOverwrite` or `Impossible` with the reason where nothing can be
        done: what is written can hold no such picture, or memory does not suffice.
        """
        options, native = self._options, self._enlarger.scale
        maker = self._outputs.maker_of(source)
        if maker is not None:
            return Skipped(str(source), str(source), f"it is the output of {maker}")
        facts = image.probe(source.path, options.max_pixels)
        size = target_size(
            facts.height, facts.width,
            scale=options.scale, width_=options.width, height_=options.height, native=native,
        )  # fmt: skip
        output = output_path(source, size, native, options)
        self._outputs.claim(source, output)
        reason = why_skip(source.path, output, size, options)
        if reason:
            return Skipped(str(source), str(output), reason)
        image.check_writable(output, (*size, facts.channels), facts.dtype)
        cost = self._cost(source, facts, size)
        plan = Plan(source, output, facts, size, cost, held_bytes(cost, output))
        return plan if plan.need_bytes <= self._room else self._streamed(plan)

    def _cost(self, source: Source, facts: image.Facts, size: tuple[int, int]) -> Cost:
        try:
            return self._enlarger.cost(facts.height, facts.width, facts.channels, facts.bits, size)
        except Impossible as e:
            raise Impossible(f"{source}: {e}") from e
        except MemoryError as e:  # from running the network to see what it takes
            raise Impossible(
                f"{source}: not even a small part of it fits in memory; close other programs"
            ) from e

    def _streamed(self, plan: Plan) -> Plan:
        from edgesr.stream import can_stream, working_bytes

        path = plan.source.path
        why = can_stream(plan.facts, plan.output, path)
        held = 0 if why is not None else working_bytes(path, plan.facts, plan.size)
        streamed = replace(plan, streamed=True, held_bytes=held)
        if why is None and streamed.need_bytes <= self._room:
            return streamed
        need = (streamed if why is None else plan).need_bytes
        more = f", and cannot be streamed: {why}" if why is not None else "; raise --max-memory"
        height, width = plan.size
        raise Impossible(
            f"{plan.source}: {width}x{height} pixels take {megabytes(need)} more memory, and "
            f"{megabytes(max(0, self._room))} are left{more}"
        )


def held_bytes(cost: Cost, output: Path) -> int:
    """What reading a picture and writing it to `output` takes at most, the pixels among it."""
    encoding = ENCODING[image.SUFFIXES[output.suffix.lower()]]
    return int(DECODING * cost.source_bytes + (1 + encoding) * cost.result_bytes)


def room_bytes(max_bytes: int | None) -> int:
    """Bytes that this process may still take, of `max_bytes` or of what the machine has free."""
    free = free_bytes()
    left = sys.maxsize if free is None else int(free * USABLE)
    return left if max_bytes is None else min(left, max_bytes - (resident_bytes() or 0))
