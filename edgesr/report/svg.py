"""Small charts as inline SVG; colours are CSS variables, so they follow the page's theme."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

WIDTH, HEIGHT = 720, 300
COLOURS = 10  # classes c0 to c9 of the page's style
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 18, 46


@dataclass(frozen=True)
class Axis:
    """One axis: its label, its range of values, and whether it is logarithmic."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies: 0 at the low end, 1 at the high end."""
        if self.log:
            low, high, value = (math.log10(x) for x in (self.low, self.high, value))
            return (value - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside the range."""
        return _log_ticks(self) if self.log else _linear_ticks(self)


def axis(label: str, values: Sequence[float], *, log: bool = False) -> Axis:
    """An axis that holds `values` with a little room on both sides."""
    low, high = min(values), max(values)
    if log:
        return Axis(label, low / 1.25, high * 1.25, True)
    room = (high - low) * 0.08 or max(abs(high) * 0.05, 0.5)
    return Axis(label, low - room, high + room)


# Left, top, right and bottom in pixels.
_Box: TypeAlias = tuple[float, float, float, float]


@dataclass
class Chart:
    """A chart that is filled with points, lines and labels, then read as SVG text."""

    title: str
    x: Axis
    y: Axis
    _parts: list[str] = field(default_factory=list)
    _taken: list[_Box] = field(default_factory=list)

    def points(self, xs: Sequence[float], ys: Sequence[float], colour: int, width: float) -> None:
        """Dots of `width` pixels in the colour of series `colour`."""
        self._dots(xs, ys, f"dots c{colour % COLOURS}", width)

    def faint(self, xs: Sequence[float], ys: Sequence[float], width: float) -> None:
        """Dots of `width` pixels that belong to no series."""
        self._dots(xs, ys, "dots faint", width)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: int, *, dashed: bool = True
    ) -> None:
        """A thin line through the given points."""
        pairs = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        kind = "line" if dashed else "line solid"
        self._parts.append(f'<polyline class="{kind} c{colour % COLOURS}" points="{pairs}"/>')

    def starts(self, marks: Sequence[tuple[float, str]]) -> None:
        """Upright lines where parts of the run begin, named where there is room for it."""
        free = 0.0
        for x, name in dict(marks).items():  # of those at one place the last
            at = self._x(x)
            self._parts.append(f'<path class="start" d="M{at:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
            end = at + 4 + 7 * (len(name) + 1)
            if at >= free and end <= WIDTH:
                self._parts.append(_text(at + 4, HEIGHT - _BOTTOM - 6, name, "start", "part"))
                free = end

    def label(self, x: float, y: float, text: str) -> None:
        """Text beside a point; to its left where the right side has no room."""
        px, py = self._x(x), self._y(y)
        left = px > WIDTH - 200
        anchor, shift = ("end", -9) if left else ("start", 9)
        self._parts.append(_text(px + shift, py - 7, text, anchor, "name"))

    def keep_clear(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """No name is to be put over these points by `name`."""
        places = zip(map(self._x, xs), map(self._y, ys), strict=True)
        self._taken += [(x - 6, y - 6, x + 6, y + 6) for x, y in places]

    def name(self, x: float, y: float, text: str) -> None:
        """Text beside a point, where it covers neither another name nor a point kept clear."""
        px, py, width = self._x(x), self._y(y), 7.2 * len(text)
        places = [
            (px + dx if dx > 0 else px + dx - width, py + dy)
            for dx in (9, -9)
            for dy in (15, -8, 4, 26, -19, 37, -30, 48)
        ]
        free = [at for at in places if self._is_free(_box(*at, width))]
        left, base = (free or places)[0]
        self._taken.append(_box(left, base, width))
        self._parts.append(_text(left, base, text, "start", "name"))

    def _is_free(self, box: _Box) -> bool:
        inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM
        return inside and not any(_overlap(box, other) for other in self._taken)

    def svg(self) -> str:
        """The chart as one `<svg>` element."""
        name = html.escape(self.title)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
            + "".join(self._grid())
            + "".join(self._parts)
            + "</svg>"
        )

    def _grid(self) -> list[str]:
        right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        parts = []
        for tick in self.y.ticks():
            y = self._y(tick)
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{tick:g}", "end"))
        for tick in self.x.ticks():
            x = self._x(tick)
            parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
            parts.append(_text(x, bottom + 18, f"{tick:g}", "middle"))
        parts.append(_text((_LEFT + right) / 2, HEIGHT - 8, self.x.label, "middle", "axis"))
        parts.append(_text(_LEFT, _TOP - 6, self.y.label, "start", "axis"))
        return parts

    def _dots(self, xs: Sequence[float], ys: Sequence[float], kind: str, width: float) -> None:
        path = "".join(f"M{self._x(x):.1f} {self._y(y):.1f}h0" for x, y in zip(xs, ys, strict=True))
        self._parts.append(f'<path class="{kind}" stroke-width="{width}" d="{path}"/>')

    def _x(self, value: float) -> float:
        return _LEFT + self.x.place(value) * (WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - self.y.place(value) * (HEIGHT - _TOP - _BOTTOM)


def _box(left: float, base: float, width: float) -> _Box:
    """What a line of text of the class `name` covers, whose baseline begins there."""
    return left, base - 11, left + width, base + 3


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _log_ticks(a: Axis) -> list[float]:
    first, last = math.floor(math.log10(a.low)), math.ceil(math.log10(a.high))
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
    found = [t for t in ticks if a.low <= t <= a.high]
    if len(found) < 2:  # a narrow range, where the two scales look alike
        return _linear_ticks(a)
    return found if len(found) <= 8 else [t for t in found if f"{t:e}".startswith("1.0")]


def _linear_ticks(a: Axis) -> list[float]:
    raw = (a.high - a.low) / 6
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(a.low / step)
    return [float(f"{k * step:.6g}") for k in range(first, math.floor(a.high / step) + 1)]
