"""Crops of real pixels, and a slider that lays two of them over each other.

The crops stand side by side without any script; the script, a few lines inside the page,
only puts two of them into one frame. The slider is a range input: mouse, touch and keys work
as in any other.
"""

from __future__ import annotations

import html
from typing import Any

STYLE = """
.crop { display: grid; grid-template-columns: minmax(0, 24rem) minmax(0, 1fr); gap: 1.2rem;
  align-items: start; }
@media (max-width: 45rem) { .crop { grid-template-columns: minmax(0, 1fr); } }
.slide .frame { position: relative; --at: 50%; line-height: 0; border-radius: .4rem;
  overflow: hidden; }
.slide .frame:focus-within { outline: 3px solid var(--c1); outline-offset: 2px; }
.slide img { width: 100%; aspect-ratio: var(--w) / var(--h); }
.slide .top { position: absolute; inset: 0; z-index: 1;
  clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.slide .bar { position: absolute; z-index: 1; top: 0; bottom: 0; left: var(--at); width: 2px;
  margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.slide .bar::after { content: "⇔"; position: absolute; top: 50%; left: 50%;
  width: 1.7rem; height: 1.7rem; text-align: center; background: #fff; color: #111;
  font: 1rem/1.7 sans-serif;
  border-radius: 50%; transform: translate(-50%, -50%); box-shadow: 0 0 3px #000; }
.slide input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  z-index: 2; cursor: ew-resize; touch-action: pan-y; }
.slide .who { display: flex; justify-content: space-between; gap: .5rem; margin: 0 0 .4rem; }
.slide select { font: inherit; font-size: .92rem; color: inherit; background: var(--bg);
  border: 1px solid var(--rule); border-radius: .3rem; padding: .2rem .3rem; max-width: 48%; }
.slide img, .strip img { image-rendering: pixelated; display: block; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .6rem; }
.strip figure { margin: 0; } .strip img { width: 100%; }
.strip figcaption { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; }
p.soft { color: var(--soft); font-size: .92rem; }
"""

SCRIPT = """
for (const slide of document.querySelectorAll(".slide")) {
  const frame = slide.querySelector(".frame"), range = slide.querySelector("input");
  const images = slide.querySelectorAll("img"), choices = slide.querySelectorAll("select");
  // Both in this order: left (the one on top, cut off at the slider), right.
  const strip = document.getElementById(slide.dataset.strip).querySelectorAll("img");
  const show = () => {
    const names = [...choices].map((c) => c.selectedOptions[0].text);
    choices.forEach((c, k) => { images[k].src = strip[c.value].src; images[k].alt = names[k]; });
    range.setAttribute("aria-label", `Share of ${names[0]} (left) over ${names[1]} (right), %`);
  };
  range.addEventListener("input", () => frame.style.setProperty("--at", range.value + "%"));
  choices.forEach((c) => c.addEventListener("change", show));
  show();
  slide.hidden = false;
}
"""

_SAID_ORIGINALS = (
    "Pixels as they came out of the engines that were timed. Pictures at even distances through "
    "the folder, and in each the square where bicubic is furthest from the original: chosen "
    "before any network was run."
)
_SAID_INPUTS = (
    "Pixels as they came out of the engines that were timed, of the timed input itself, at the "
    "place where bicubic changes it most. There is no original of it."
)
_ORIGINAL = "original"


def crops_section(report: dict[str, Any]) -> str:
    """Heading, sliders and crops; nothing for a record without crops."""
    crops = report.get("crops") or []
    if not crops:
        return ""
    has_original = any(p["name"] == _ORIGINAL for c in crops for p in c["panels"])
    said = _SAID_ORIGINALS if has_original else _SAID_INPUTS
    parts = ["<h2>What it looks like</h2>", f'<p class="soft">{said}</p>']
    parts += [_crop(crop, number, report) for number, crop in enumerate(crops)]
    return "\n".join(parts)


def script(report: dict[str, Any]) -> str:
    """What moves the sliders; nothing where there are none."""
    return SCRIPT if report.get("crops") else ""


def _crop(crop: dict[str, Any], number: int, report: dict[str, Any]) -> str:
    place = (
        f"{crop['picture']}, {crop['width']}×{crop['height']} pixels at ({crop['x']}, {crop['y']})"
    )
    panels = "".join(_panel(panel) for panel in crop["panels"])
    return (
        f'<h3>{html.escape(place)}</h3>\n<div class="crop">{_slide(crop, number, report)}'
        f'<div class="strip" id="crop{number}">{panels}</div></div>'
    )


def _panel(panel: dict[str, Any]) -> str:
    name = html.escape(panel["name"])
    source = html.escape(panel["png"])
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{source}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _slide(crop: dict[str, Any], number: int, report: dict[str, Any]) -> str:
    """The empty frame that the script fills: bicubic at the left, the first student right."""
    names = [panel["name"] for panel in crop["panels"]]
    left, right = _first_shown(names, report)
    lists = _choice(names, left, "left") + _choice(names, right, "right")
    size = f"--w: {int(crop['width'])}; --h: {int(crop['height'])}"
    return (
        f'<div class="slide" data-strip="crop{number}" hidden>'
        f'<div class="who">{lists}</div>'
        f'<div class="frame" style="{size}"><img class="top" alt=""><img alt="">'
        '<input type="range" min="0" max="100" value="50"><span class="bar"></span></div></div>'
    )


def _first_shown(names: list[str], report: dict[str, Any]) -> tuple[int, int]:
    students = [m["name"] for m in report["models"] if m["role"] == "student"]
    right = next((names.index(s) for s in students if s in names), len(names) - 1)
    return (names.index("bicubic") if "bicubic" in names else 0), right


def _choice(names: list[str], chosen: int, side: str) -> str:
    options = "".join(
        f'<option value="{k}"{" selected" if k == chosen else ""}>{html.escape(name)}</option>'
        for k, name in enumerate(names)
    )
    return f'<select aria-label="Picture at the {side}">{options}</select>'
