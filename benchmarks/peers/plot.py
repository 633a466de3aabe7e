"""PSNR against CPU time as a PNG: one panel for B100, one for Set5, from a record."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MultipleLocator, NullLocator
from matplotlib.transforms import Bbox

from benchmarks.peers.table import both, conditions_line, label

PANELS = ("B100", "Set5")
LOWEST_DB = {"B100": 26.6, "Set5": 30.2}
STEP_DB = {"B100": 0.2, "Set5": 0.5}
TICKS = (1, 2, 5, 10, 20, 50, 100, 200)
BLUE, ORANGE, GREY, INK = "#1565c0", "#d9580d", "#6b7280", "#1f2937"
DOT = 44.0  # area in points²
# Where a label may stand, from its point: direction and distance in points, the best first.
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 68, 292, 112, 248)
REACHES = (6, 12, 19, 27, 36, 46)
GAP = 2.0  # points kept free beside a label

Boxes: TypeAlias = tuple[list[Bbox], list[Bbox]]


@dataclass(frozen=True)
class Point:
    """A network in one panel: `x` times faster, `y` dB."""

    text: str
    x: float
    y: float
    kind: str  # fp32, int8, peer, cited
    exact: bool  # in tiles


def points(record: dict[str, Any], dataset: str) -> list[Point]:
    """What has a PSNR on `dataset` that belongs on the chart; ours first."""
    found = []
    for net in [*record["networks"], *record["cited"]]:
        db = (net["quality"] or {"psnr_y": {}})["psnr_y"].get(dataset)
        if db is None or db < LOWEST_DB[dataset]:
            continue
        timed = "figures" in net
        kind = "peer" if timed else "cited"
        if net.get("group") == "ours":
            kind = net["precision"]
        x = net["figures"]["ratio_cpu"] if timed else net["ratio_avx2"]
        published = net["quality"]["kind"] == "published"
        text = label(net) + ("†" if published else "")
        found.append(Point(text, x, db, kind, net["tileable"] is True))
    return sorted(found, key=lambda p: (p.kind not in ("fp32", "int8"), -p.x))


def png(record: dict[str, Any]) -> bytes:
    """The chart, 1600 pixels wide, to be shown at 800; it names the record it was made from."""
    figure, _ = _drawn(record)
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Description": fingerprint(record)})
    return out.getvalue()


def boxes(record: dict[str, Any]) -> dict[str, Boxes]:
    """What the labels of each panel must keep clear of (points, legend), and the labels."""
    return _drawn(record)[1]


def _drawn(record: dict[str, Any]) -> tuple[Figure, dict[str, Boxes]]:
    with matplotlib.rc_context({"font.size": 8.5, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(8, 9.4), dpi=200, facecolor="white")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 1, sharex=True)
        figure.subplots_adjust(left=0.075, right=0.985, top=0.92, bottom=0.148, hspace=0.06)
        for axes, dataset in zip(panels, PANELS, strict=True):
            _panel(axes, points(record, dataset), dataset)
        panels[1].set_xlabel(
            "times faster than the SRGAN generator (CPU time, log scale) →", color=INK
        )
        panels[0].legend(
            handles=_legend(), loc="lower left", frameon=False, fontsize=8, labelcolor=INK
        )
        figure.suptitle("×4 super-resolution on a CPU: quality against speed", x=0.075, y=0.985,
                        ha="left", fontsize=12, fontweight="bold", color=INK)  # fmt: skip
        figure.text(0.075, 0.938, "up and to the right is better; PSNR on luma", color=GREY)
        figure.text(0.075, 0.012, _caption(record), fontsize=7.2, color=GREY, linespacing=1.5)
        # Limits are those of both panels only now: labels come last.
        placed = {
            dataset: _labels(axes, points(record, dataset))
            for axes, dataset in zip(panels, PANELS, strict=True)
        }
    return figure, placed


def fingerprint(record: dict[str, Any]) -> str:
    """sha256 of the record, which the PNG carries as its description."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _panel(axes: Axes, found: list[Point], dataset: str) -> None:
    axes.set_xscale("log")
    xs, ys = [p.x for p in found], [p.y for p in found]
    axes.set_xlim(min(xs) * 0.82, max(xs) * 1.45)
    axes.set_ylim(min(ys) - 0.12, max(ys) + 0.08 * (max(ys) - min(ys)))
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{t}×" for t in TICKS])
    axes.yaxis.set_major_locator(MultipleLocator(STEP_DB[dataset]))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%.1f"))
    axes.set_ylabel(f"{dataset}, dB", color=INK)
    axes.grid(color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#d1d5db")
    for kind, style in (("fp32", "-"), ("int8", "--")):
        mine = sorted((p for p in found if p.kind == kind), key=lambda p: p.x)
        axes.plot([p.x for p in mine], [p.y for p in mine], style, lw=1.2, color=_colour(kind),
                  alpha=0.55, zorder=2)  # fmt: skip
    for p in found:
        axes.scatter(p.x, p.y, **_dot(p.kind, p.exact))


def _dot(kind: str, exact: bool) -> dict[str, Any]:
    colour = _colour(kind)
    size = DOT * (1.5 if kind in ("fp32", "int8") else 0.8)
    face = "white" if kind == "cited" else colour
    marker = "o" if exact else "s"
    return {"s": size, "marker": marker, "facecolor": face, "edgecolor": colour, "linewidth": 1.1,
            "zorder": 4 if kind in ("fp32", "int8") else 3}  # fmt: skip


def _colour(kind: str) -> str:
    return {"fp32": BLUE, "int8": ORANGE}.get(kind, GREY)


def _legend() -> list[Line2D]:
    rows = (
        ("EdgeSR, fp32", "fp32", True),
        ("EdgeSR, int8", "int8", True),
        ("peer, timed in this run", "peer", True),
        ("… whose tiles are not exact (strided, pooled or global branch)", "peer", False),
        ("peer, time cited from another machine (AVX2 only), tiles not examined or not exact",
         "cited", False),
    )  # fmt: skip
    return [
        Line2D([], [], linestyle="", label=text, marker="o" if exact else "s",
               markersize=6.5 if kind in ("fp32", "int8") else 5.5, color=_colour(kind),
               markerfacecolor="white" if kind == "cited" else _colour(kind))
        for text, kind, exact in rows
    ]  # fmt: skip


def _labels(axes: Axes, found: list[Point]) -> Boxes:
    """A label for each point, moved to where it hides neither a point nor another label."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    scale = figure.dpi / 72
    dots = [axes.transData.transform((p.x, p.y)) for p in found]
    fixed = [Bbox.from_bounds(x - 3.6 * scale, y - 3.6 * scale, 7.2 * scale, 7.2 * scale)
             for x, y in dots]  # fmt: skip
    legend = axes.get_legend()
    if legend is not None:
        fixed.append(legend.get_window_extent(renderer))
    inside = axes.get_window_extent(renderer)
    labels: list[Bbox] = []
    for p, dot in zip(found, dots, strict=True):
        ours = p.kind in ("fp32", "int8")
        text = axes.text(
            p.x, p.y, p.text, fontsize=8.8 if ours else 7.4, zorder=5, va="center",
            fontweight="bold" if ours else "normal",
            color=_colour(p.kind) if ours else INK,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )  # fmt: skip
        box = text.get_window_extent(renderer).padded(GAP * scale, 0)
        centre, place = _place(dot, box.width, box.height, fixed + labels, inside, scale)
        labels.append(place)
        x, y = axes.transData.inverted().transform(centre)
        text.set(x=x, y=y, ha="center")
        _leader(axes, dot, place, scale)
    return fixed, labels


def _place(
    dot: Any, width: float, height: float, taken: list[Bbox], inside: Bbox, scale: float
) -> tuple[tuple[float, float], Bbox]:
    """Centre and box of a label of this size, in pixels: the nearest free place, else the best."""
    best: tuple[float, tuple[float, float], Bbox] | None = None
    for reach in REACHES:
        for angle in ANGLES:
            dx, dy = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            x = dot[0] + dx * (reach * scale + width / 2)
            y = dot[1] + dy * (reach * scale + height / 2)
            box = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
            hidden = sum(shared(box, other) for other in taken)
            hidden += width * height - shared(box, inside)
            if best is None or hidden < best[0] - 1e-6:
                best = hidden, (x, y), box
            if hidden <= 1e-6:
                return (x, y), box
    assert best is not None
    return best[1], best[2]


def shared(a: Bbox, b: Bbox) -> float:
    """Area in which two boxes overlap."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0) * max(height, 0))


def _leader(axes: Axes, dot: Any, box: Bbox, scale: float) -> None:
    """A thin line from the point to its label where they stand apart."""
    near = np.clip(dot, (box.x0, box.y0), (box.x1, box.y1))
    if np.hypot(*(near - dot)) > 9 * scale:
        ends = axes.transData.inverted().transform([dot, near])
        axes.plot(ends[:, 0], ends[:, 1], color="#9ca3af", lw=0.6, zorder=1)


def _caption(record: dict[str, Any]) -> str:
    lines = [
        conditions_line(record) + ".",
        "Peers: same architecture, re-implemented; their PSNR measured on the authors' weights "
        "(2026-11), † as published. (Y): enlarges luma only.",
        "Hollow points: the ratio of another machine, same protocol, not rescaled" + both(record),
    ]
    return "\n".join(_wrapped(lines))


def _wrapped(lines: Iterable[str], columns: int = 138) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, columns)]
