"""The page of a compression run: whole, self-contained, its charts to scale."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from run_reports import crops_of, log_lines, report

from edgesr.report.crops import sheets
from edgesr.report.run import render
from edgesr.report.run_curves import curves_of


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[bytes] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe"}
        found = dict(attrs)
        assert not {"href", "xlink:href"} & found.keys()
        if tag == "img":
            prefix, _, content = str(found["src"]).partition(",")
            assert prefix == "data:image/png;base64"
            self.pictures.append(base64.b64decode(content))
        elif tag not in {"meta", "path", "polyline", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_holds_the_very_pixels() -> None:
    crops = crops_of(["<a>.png", "b.png"])
    made = report(crops=crops, missed="x < y")
    page = render(made, crops)["html"]
    assert page.startswith("<!doctype html>") and "url(" not in page and "http" not in page
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    shown = [np.asarray(Image.open(io.BytesIO(p))) for p in parser.pictures]
    panels = [pixels for crop in crops for pixels in crop.panels.values()]
    assert len(shown) == 8
    assert all(np.array_equal(a, b) for a, b in zip(shown, panels, strict=True))
    assert "&lt;a&gt;.png" in page and "x &lt; y" in page and "a &lt;fast&gt; one" in page
    assert [c["file"] for c in made["crops"]] == list(sheets(crops))
    assert "](crops/b.png)" in render(made, crops)["md"]


def polylines(page: str) -> list[list[list[tuple[float, float]]]]:
    """The points of the solid lines of each chart."""
    charts = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    return [
        [
            [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]  # type: ignore[misc]
            for line in chart.iter("polyline")
            if "solid" in line.attrib["class"]
        ]
        for chart in charts
    ]


def test_the_curves_are_drawn_to_scale_and_stay_inside() -> None:
    lines = log_lines()
    lines.append(json.dumps({"event": "validated", "leg": 0, "step": 0, "psnr_y": 9.0}))
    page = render(report(curves=curves_of(lines)))["html"]
    (psnr,), loss = polylines(page)
    # x: 0 to 200 steps over 64 to 700 pixels; the beginning at 9 dB is left out, and said.
    assert [x for x, _ in psnr] == [223.0, 541.0]
    assert "Not drawn, since below 25.0 dB: 1 of 3 points." in page
    assert psnr[0][1] > psnr[1][1]
    ends = re.findall(r'<path class="dots c3"[^>]* d="M([-.\d]+) ([-.\d]+)h0M', page)
    assert ends == [("382.0", f"{psnr[1][1]:.1f}")]  # both are 28 dB
    assert len(loss) == 3 and {len(line) for line in loss} == {20}
    heights = [line[0][1] for line in loss]  # total 0.5, pixel 0.3, teacher 0.2: logarithmic
    ratio = (heights[2] - heights[1]) / (heights[1] - heights[0])
    assert ratio == pytest.approx(np.log(3 / 2) / np.log(5 / 3), abs=0.01)
    everything = [y for line in [psnr, *loss] for _, y in line]
    assert all(18 <= y <= 254 for y in everything)
