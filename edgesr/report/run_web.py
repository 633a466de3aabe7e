"""The report of a compression run as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

from edgesr.report import run_rows as rows
from edgesr.report.crops import Crop, label, png
from edgesr.report.page import bullets, legend, page, table
from edgesr.report.svg import Axis, Chart, axis

_STYLE = """
.claims { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem;
  margin: 1.2rem 0; }
.claims div { border: 1px solid var(--rule); border-radius: .5rem; padding: .6rem .9rem; }
.claims b { display: block; font-size: 1.6rem; line-height: 1.3; }
.claims small, th small { color: var(--soft); font-weight: 400; }
table.sum tr:last-child td { font-weight: 600; }
table.sum td { white-space: nowrap; }
.wide td, .wide th { padding: .35rem .5rem; }
.wide td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9rem;
  max-width: 15rem; position: sticky; left: 0; background: var(--bg); }
.missed { border-left: 4px solid var(--c2); padding: .4rem 1rem; }
.wide svg { min-width: 34rem; }
.soft { color: var(--soft); font-size: .92rem; }
.crops { display: grid; grid-template-columns: repeat(4, minmax(0, 13rem)); gap: .6rem; }
@media (max-width: 36rem) { .crops { grid-template-columns: 1fr 1fr; } }
.crops figure { margin: 0; }
.crops img { width: 100%; display: block; image-rendering: pixelated; }
.crops figcaption { color: var(--soft); font-size: .85rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem; }
"""
_ROOM_DB = 1.0  # what of the PSNR's beginning is shown, below bicubic and the legs' results


def to_html(report: dict[str, Any], crops: Sequence[Crop] = ()) -> str:
    """The whole report, light and dark; no script, no external file, the same for the same."""
    title = rows.title(report)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="head">{rows.subject(report)}</p>',
        _claims(report),
        _missed(report),
        table(rows.head(report), rows.table_rows(report), "sum", rows.kinds(report)),
        bullets(rows.notes(report)),
        _psnr_chart(report),
        _loss_chart(report),
        _crops(crops),
        _section("Sizes", rows.SIZE_HEAD, rows.SIZE_KINDS, rows.size_rows(report)),
        _section("Quality (measured)", rows.quality_head(report), (), rows.quality_rows(report)),
        _section("Legs", rows.LEG_HEAD, rows.LEG_KINDS, rows.leg_rows(report)),
        _section(
            "Int8: held-out PSNR-Y in dB", rows.INT8_HEAD, rows.INT8_KINDS, rows.int8_rows(report)
        ),
        _section("Conditions", ("", ""), (), rows.condition_rows(report), "words"),
    ]
    return page(title, parts, style=_STYLE)


def _section(
    title: str,
    head: Sequence[str],
    kinds: Sequence[str],
    body: list[list[str]],
    look: str = "figures",
) -> str:
    """A headed table, nothing where it would be empty."""
    return f"<h2>{html.escape(title)}</h2>\n{table(head, body, look, kinds)}" if body else ""


def _claims(report: dict[str, Any]) -> str:
    tiles = (
        f"<div><b>{html.escape(c.figure)}</b>{html.escape(c.text)} <small>{c.kind}</small></div>"
        for c in rows.claims(report)
    )
    return f'<div class="claims">{"".join(tiles)}</div>'


def _missed(report: dict[str, Any]) -> str:
    if not report["missed"]:
        return ""
    text = html.escape(report["missed"])
    return f'<p class="missed">Not met: {text}. The best so far was kept.</p>'


def _steps_axis(report: dict[str, Any]) -> Axis:
    curves = report["curves"]
    shown = [curves["psnr_y"], curves["psnr_y_legs"], *curves["loss"].values()]
    last = max((point[0] for curve in shown for point in curve), default=0)
    return Axis("steps", 0.0, max(1.0, float(last)))


def _psnr_chart(report: dict[str, Any]) -> str:
    while_training, at_ends = (report["curves"][key] for key in ("psnr_y", "psnr_y_legs"))
    levels = _levels(report)
    floor = min([*levels.values(), *(y for _, y in at_ends)], default=0.0) - _ROOM_DB
    shown = [point for point in while_training if point[1] >= floor]
    if not shown and not at_ends:
        return ""
    x = _steps_axis(report)
    y_axis = axis("PSNR-Y, dB", [*levels.values(), *(y for _, y in [*shown, *at_ends])])
    chart = Chart("Held-out PSNR-Y over the steps", x, y_axis)
    if shown:
        chart.line(*_columns(shown), 1, dashed=False)
        chart.points(*_columns(shown), 1, 4 if len(shown) < 100 else 2)
    chart.points(*_columns(at_ends), 3, 9)
    for colour, (who, psnr) in enumerate(levels.items()):
        chart.line([x.low, x.high], [psnr, psnr], 2 * colour)
        chart.label(x.high, psnr, who)
    chart.starts(report["curves"]["legs"])
    said = ["Large dots: after each leg, on all photographs held out, as the dashed lines."]
    if shown:
        said.append("Line: while training, on the first of them only; compare it with itself.")
    left = len(while_training) - len(shown)
    if left:
        said.append(
            f"Not drawn, since below {floor:.1f} dB: {left} of {len(while_training)} points."
        )
    return _figure("PSNR-Y on the held-out photographs", "", chart, " ".join(said))


def _levels(report: dict[str, Any]) -> dict[str, float]:
    """PSNR-Y of bicubic and, unless it is untrained, of the teacher, by name."""
    levels = {"bicubic": report["bicubic"]["psnr_y"]}
    if report["teacher"] is not None:
        levels[rows.teacher_name(report)] = report["teacher"]["psnr_y"]
    return {who: psnr for who, psnr in levels.items() if psnr is not None}


def _columns(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _loss_chart(report: dict[str, Any]) -> str:
    loss = report["curves"]["loss"]
    terms = sorted(loss.keys() - {"total"})
    # A single term is the total. A logarithmic axis holds positive values only.
    names = ["total", *(terms if len(terms) > 1 else [])]
    curves = {name: [point for point in loss.get(name, []) if point[1] > 0] for name in names}
    drawn = {name: curve for name, curve in curves.items() if curve}
    if not drawn:
        return ""
    values = [y for curve in drawn.values() for _, y in curve]
    y_axis = axis("loss (logarithmic)", values, log=True)
    chart = Chart("Loss over the steps", _steps_axis(report), y_axis)
    for number, curve in enumerate(drawn.values(), 1):
        chart.line(*_columns(curve), number, dashed=False)
    chart.starts(report["curves"]["legs"])
    said = "In long runs a point is the mean of neighbouring steps."
    return _figure("Loss", legend(list(drawn), first=1), chart, said)


def _figure(title: str, above: str, chart: Chart, below: str) -> str:
    note = f'<p class="soft">{html.escape(below)}</p>' if below else ""
    return f'<h2>{title}</h2>\n{above}<div class="wide">{chart.svg()}</div>{note}'


def _crops(crops: Sequence[Crop]) -> str:
    if not crops:
        return ""
    said = (
        "The place of each picture where student and bicubic differ most, of the pictures where "
        "they differ most; dB: PSNR-Y of the crop."
    )
    return f'<h2>Crops</h2>\n<p class="soft">{said}</p>' + "\n".join(map(_crop, crops))


def _crop(crop: Crop) -> str:
    figures = (
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,'
        f'{base64.b64encode(png(pixels)).decode()}"><figcaption>{html.escape(label(crop, name))}'
        "</figcaption></figure>"
        for name, pixels in crop.panels.items()
    )
    where = html.escape(f"{crop.name}, at ({crop.x}, {crop.y})")
    return f'<h3>{where}</h3><div class="crops">{"".join(figures)}</div>'
