"""Crops of what each network made, kept in the record so that a replay can show them.

No picture is sought out: of the scored ones those at even distances are taken, the first
among them, and in each the square where bicubic is furthest from the original, before any
network was run. Where there are no originals it is the timed input itself, at the place
where bicubic differs most from repeated pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesr.report.crops import SIDE, Pixels, pick_crop

MOST = 4  # pictures
SMALL_SIDE, FEW = 64, 3  # side of the crops, pixels, where more than so many networks are shown
MAX_PANELS = 8  # of one picture: the inputs, and the first networks
MAX_TEXT = 300_000  # characters of all panels together, as they stand in the JSON
LOW, BICUBIC, ORIGINAL = "low resolution", "bicubic", "original"


class Scored(Protocol):
    """A picture that was scored: the original, what was enlarged, and the result (uint8 RGB)."""

    @property
    def number(self) -> int:
        """Its number from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def name(self) -> str:
        """The file's name."""
        ...

    @property
    def hr(self) -> NDArray[np.uint8]:
        """The original."""
        ...

    @property
    def lr(self) -> NDArray[np.uint8]:
        """What was enlarged."""
        ...

    @property
    def sr(self) -> NDArray[np.uint8]:
        """What it became."""
        ...


@dataclass
class _Place:
    """A square of one picture: its corner and side in pixels of the original, its panels."""

    picture: str
    y: int
    x: int
    panels: dict[str, Pixels]


@dataclass
class Album:
    """Fills itself while pictures are scored; the first pass over them must be bicubic's."""

    most: int = MOST
    side: int = SIDE
    _places: dict[int, _Place] = field(default_factory=dict)

    @classmethod
    def of(cls, networks: int) -> Album:
        """One for that many networks: of many the crops are smaller, so that more fit."""
        return cls(side=SIDE if networks <= FEW else SMALL_SIDE)

    def keeper(self, who: str) -> Callable[[Scored], None]:
        """A function that keeps the crops of what `who` makes of each picture."""

        def keep(seen: Scored) -> None:
            if seen.number not in _even(seen.count, self.most):
                return
            if who == BICUBIC and seen.number not in self._places:  # it may be scored twice
                self._open(seen.number, seen.name, seen.lr, seen.sr, seen.hr)
            elif seen.number in self._places:
                self._add(seen.number, who, seen.sr)

        return keep

    def open_inputs(self, inputs: Mapping[str, tuple[Pixels, Pixels]]) -> None:
        """Begin with pictures that have no original: LR and bicubic by name."""
        for number, (name, (lr, bicubic)) in enumerate(list(inputs.items())[: self.most]):
            self._open(number, name, lr, bicubic, None)

    def add_output(self, number: int, who: str, sr: Pixels) -> None:
        """The whole result of `who` for the input of that number."""
        if number in self._places:
            self._add(number, who, sr)

    def record(self) -> list[dict[str, Any]]:
        """Plain data for the report; pictures are left out from where the text would be too long.

        Every panel is a PNG, without loss, in base64.
        """
        found: list[dict[str, Any]] = []
        room = MAX_TEXT
        for place in self._places.values():
            panels = [{"name": k, "png": _png(p)} for k, p in _ordered(place.panels)]
            room -= sum(len(p["png"]) for p in panels)
            if room < 0:
                break
            height, width = place.panels[BICUBIC].shape[:2]
            where = {"x": place.x, "y": place.y, "width": width, "height": height}
            found.append({"picture": place.picture, **where, "panels": panels})
        return found

    def _open(self, number: int, name: str, lr: Pixels, bicubic: Pixels, hr: Pixels | None) -> None:
        factor = bicubic.shape[0] // lr.shape[0]
        low = lr.repeat(factor, 0).repeat(factor, 1)
        # The function's names are those of a compression run; here it compares these two.
        pair = {"student": low if hr is None else hr, "bicubic": bicubic}
        y, x = pick_crop(pair, bicubic, self.side)
        self._places[number] = _Place(name, y, x, {})
        self._add(number, LOW, low)
        self._add(number, BICUBIC, bicubic)
        if hr is not None:
            self._add(number, ORIGINAL, hr)

    def _add(self, number: int, who: str, whole: Pixels) -> None:
        place = self._places[number]
        if who not in place.panels and len(place.panels) < MAX_PANELS:
            # A copy: a view would keep the whole picture in memory.
            rows, columns = (slice(k, k + self.side) for k in (place.y, place.x))
            place.panels[who] = whole[rows, columns].copy()


def _even(count: int, most: int) -> set[int]:
    """At most `most` of the numbers below `count`, at even distances, 0 among them."""
    return {k * count // most for k in range(most)} if count > most else set(range(count))


def _ordered(panels: Mapping[str, Pixels]) -> list[tuple[str, Pixels]]:
    """The inputs first, the original last, the networks between them as they came."""
    last = [(k, p) for k, p in panels.items() if k == ORIGINAL]
    return [(k, p) for k, p in panels.items() if k != ORIGINAL] + last


def _png(pixels: Pixels) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
