"""Before and after, one picture under the other, each under a slider: what `--compare` writes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from edgesr.report import slider
from edgesr.report.page import page

_STYLE = """
body { max-width: 66rem; }
.slide { width: calc(var(--w) * 1px); max-width: 100%; }
.slide .frame { background: repeating-conic-gradient(#bbb 0 25%, #eee 0 50%) 0 0 / 16px 16px; }
.slide .who { font-size: .92rem; color: var(--soft); }
.slide select { display: none; }
.slide img.top { background: inherit; }
.slide .frame img { background: inherit; }
.strip { display: flex; flex-wrap: wrap; gap: .8rem; }
.strip figure { width: calc(var(--w) * 1px); max-width: 100%; }
.with-script .strip { display: none; }
h2 { overflow-wrap: anywhere; }
"""
# The pictures side by side are for readers without a script only.
_SCRIPT = 'document.body.classList.add("with-script");' + slider.SCRIPT


@dataclass(frozen=True)
class Pair:
    """One piece at 100 %: sizes and places are (width, height) and (x, y) in pixels.

    `bicubic` and `result` are PNGs in base64.
    """

    name: str
    output: str
    before: tuple[int, int]
    after: tuple[int, int]
    place: tuple[int, int]  # of the piece in the result
    size: tuple[int, int]
    bicubic: str
    result: str


def to_html(pairs: Sequence[Pair], model: str, missing: int = 0) -> str:
    """One self-contained page of `pairs`; `missing` pictures of the run are not on it."""
    head = (
        "Left of the handle the picture as bicubic interpolation enlarges it, right of it the "
        f"result of {model}, pixel by pixel, where the picture has the most fine detail."
    )
    count = f"{missing} more picture{'' if missing == 1 else 's'} of the run: not shown here."
    parts = [
        "<h1>Before and after</h1>",
        f'<p class="head">{html.escape(head)}</p>',
        *(_section(pair, number, model) for number, pair in enumerate(pairs)),
        f'<p class="soft">{count}</p>' if missing else "",
    ]
    return page("EdgeSR: before and after", parts, style=slider.STYLE + _STYLE, script=_SCRIPT)


def _section(pair: Pair, number: int, model: str) -> str:
    (w, h), (x, y) = pair.size, pair.place
    sizes = f"{pair.before[0]}×{pair.before[1]} → {pair.after[0]}×{pair.after[1]} pixels"
    whole = pair.size == pair.after
    shown = "all of it" if whole else f"{w}×{h} of them at ({x}, {y})"
    style = f"--w: {w}; --h: {h}"
    left, right = "bicubic", html.escape(model)
    return (
        f"<h2>{html.escape(pair.name)}</h2>\n"
        f'<p class="soft">{html.escape(pair.output)}: {sizes}; shown: {shown}</p>\n'
        f'<div class="slide" data-strip="pair{number}" style="{style}" hidden>'
        f'<div class="who"><span>{left}</span><span>{right}</span>'
        f"{_fixed(0, left)}{_fixed(1, right)}</div>"
        f'<div class="frame" style="{style}"><img class="top" alt=""><img alt="">'
        '<input type="range" min="0" max="100" value="50"><span class="bar"></span></div></div>\n'
        f'<div class="strip" id="pair{number}" style="{style}">'
        f"{_figure(left, pair.bicubic)}{_figure(right, pair.result)}</div>"
    )


def _fixed(number: int, name: str) -> str:
    """A list of one choice, hidden: the slider's script reads its two pictures from lists."""
    return f'<select aria-hidden="true"><option value="{number}" selected>{name}</option></select>'


def _figure(name: str, png: str) -> str:
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{png}">'
        f"<figcaption>{name}</figcaption></figure>"
    )
