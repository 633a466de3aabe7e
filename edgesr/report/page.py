"""The frame, the look and the parts that the HTML reports share."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from edgesr.report.svg import COLOURS

STYLE = """
:root { color-scheme: light dark; --bg: #fff; --ink: #1c2024; --soft: #5d6570; --rule: #dde1e6;
  --c0: #6b7785; --c1: #0b6bcb; --c2: #c2410c; --c3: #15803d; --c4: #7e22ce; --c5: #a16207;
  --c6: #be185d; --c7: #0f766e; --c8: #4d7c0f; --c9: #3730a3; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --ink: #e6e9ec; --soft: #9aa4ae;
  --rule: #30363c; --c0: #98a4b0; --c1: #5cb0ff; --c2: #fb923c; --c3: #4ade80; --c4: #c084fc;
  --c5: #facc15; --c6: #f472b6; --c7: #2dd4bf; --c8: #a3e635; --c9: #818cf8; } }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--bg);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.head { color: var(--soft); margin: .2rem 0 1.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: .85rem; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.words td, table.words th { text-align: left; vertical-align: top; }
table.figures td { white-space: nowrap; }
ul.notes { color: var(--soft); font-size: .92rem; padding-left: 1.2rem; }
.look { color: var(--c2); font-weight: 600; }
.key { display: inline-block; margin-right: 1.2rem; } .key i { display: inline-block; width: .7rem;
  height: .7rem; border-radius: 50%; margin-right: .4rem; background: currentColor; }
.key span { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); } svg .axis { font-weight: 600; }
svg .name { fill: var(--ink); font-size: 13px; }
.grid { stroke: var(--rule); fill: none; }
.dots { fill: none; stroke: currentColor; stroke-linecap: round; }
.line { fill: none; stroke: currentColor; stroke-width: 1.4; stroke-dasharray: 5 4; }
.line.solid { stroke-dasharray: none; }
svg .part, svg .name { paint-order: stroke; stroke: var(--bg); stroke-width: 3px; }
.start { stroke: var(--c0); stroke-dasharray: 1 3; fill: none; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); } .c8 { color: var(--c8); }
.c9 { color: var(--c9); }
.dots.faint { color: var(--soft); opacity: .45; }
"""


def page(title: str, parts: Iterable[str], *, style: str = "", script: str = "") -> str:
    """One self-contained page of the parts that are not empty; `style` is added CSS.

    `script` is run at its end; what is on the page must be readable without it.
    """
    code = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n{code}</body>\n</html>\n"
    )


def legend(names: Sequence[str], *, first: int = 0) -> str:
    """Which colour is whose, for the series from number `first` on."""
    keys = (
        f'<span class="key c{k % COLOURS}"><i></i><span>{html.escape(name)}</span></span>'
        for k, name in enumerate(names, first)
    )
    return f"<p>{''.join(keys)}</p>"


def table(
    headers: Sequence[str],
    body: Iterable[Sequence[str]],
    kind: str,
    kinds: Sequence[str] = (),
) -> str:
    """A table of texts; `kind` is `figures` or `words`, `kinds` a word under each header."""
    below = [*kinds, *[""] * (len(headers) - len(kinds))]
    head = "".join(_head(h, k) for h, k in zip(headers, below, strict=True))
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>\n" for row in body)
    return f'<div class="wide"><table class="{kind}"><tr>{head}</tr>\n{lines}</table></div>'


def bullets(items: Iterable[str]) -> str:
    """Sentences as a list."""
    return '<ul class="notes">' + "".join(f"<li>{html.escape(i)}</li>\n" for i in items) + "</ul>"


def _head(text: str, kind: str) -> str:
    small = f"<br><small>{html.escape(kind)}</small>" if kind else ""
    return f"<th>{html.escape(text)}{small}</th>"


def _cell(text: str) -> str:
    kind = ' class="look"' if text in ("look", "not valid") else ""
    return f"<td{kind}>{html.escape(text)}</td>"
