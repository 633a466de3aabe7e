"""The page of a benchmark: whole, needs nothing else, shows what the record holds."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from bench_records import quality, record, with_power
from PIL import Image

from edgesr.report import complete, to_html, to_markdown
from edgesr.report.pareto import Dot, front
from edgesr.report.svg import Chart, axis
from edgesr.report.traces import thinned
from edgesr.report.verdict import verdict

VOID = {"meta", "path", "polyline", "img", "input", "br"}


class Page(HTMLParser):
    """What is open, what is asked for from outside, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [str(v) for k, v in attrs if k in {"src", "href", "xlink:href", "srcset"}]
        self.tags.append((tag, dict(attrs)))
        assert tag not in {"link", "iframe", "object", "base"}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def png(seed: int, side: int = 8) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def full_record() -> dict[str, Any]:
    """With a meter, quality, crops, and one model that failed."""
    made = with_power()
    for m, psnr in zip(made["models"], (28.0, 27.0), strict=True):
        m["raw"]["quality"] = quality(psnr)
        m["file_bytes"] = 1_500_000
    made["baseline"] = {"name": "bicubic", "quality": quality(26.0)}
    made["models"][1]["name"] = "<small>"
    names = ("low resolution", "bicubic", "big", "<small>", "original")
    panels = [{"name": name, "png": png(k)} for k, name in enumerate(names)]
    made["crops"] = [
        {"picture": f"{p}.png", "x": 4, "y": 5, "width": 8, "height": 8, "panels": panels}
        for p in "ab"
    ]
    made["failed"] = [{"name": "broken", "reason": "no such file"}]
    return made


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = to_html(complete(full_record()))
    page = Page(text)
    assert page.open == [] and "http" not in text and "url(" not in text and "@import" not in text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for reach in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "EventSource"):
        assert reach not in text
    assert all(not attrs for attrs in page.all("script"))
    assert "&lt;small&gt;" in text and "<small>" not in text


def test_every_chart_is_drawn_and_nothing_lies_outside() -> None:
    text = to_html(complete(full_record()))
    charts = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]
    assert [c.get("aria-label") for c in charts] == [
        "PSNR-Y against time", "PSNR-Y against energy", "PSNR-Y against memory",
        "Wall time of every call over the run", "Power over the run"]  # fmt: skip
    inside = [float(v) for v in re.findall(r"M([-\d.]+) [-\d.]+h0", text)]
    assert all(0 <= v <= 720 for v in inside) and len(inside) == 3 * 2 + 110 + 2000


def test_without_data_there_is_no_chart_section_or_script() -> None:
    text = to_html(complete(record()))
    assert text.count("<svg") == 1 and "<script" not in text and "<h2>Quality" not in text
    assert "What it looks like" not in text and "<h2>Models" not in text


def test_power_has_the_colour_of_the_network_that_ran() -> None:
    """By `with_power`: 2 s of each network in 10–30 s, rest before and after; 50 readings a s."""
    text = to_html(complete(with_power()))
    chart = text[text.index('aria-label="Power over the run"') :]
    counts = {
        kind: len(re.findall("h0", path))
        for kind, path in re.findall(r'class="dots ([\w ]+)" stroke-width="\d" d="([^"]*)"', chart)
    }
    assert counts == {"faint": 1000, "c0": 500, "c1": 500}


def test_sliders_are_range_inputs_over_the_crops_of_the_record() -> None:
    made = complete(full_record())
    page = Page(to_html(made))
    ranges = page.all("input")
    assert len(ranges) == 2 and all(r["type"] == "range" for r in ranges)
    assert [(r["min"], r["max"], r["value"]) for r in ranges] == [("0", "100", "50")] * 2
    strips = [d["id"] for d in page.all("div") if d.get("class") == "strip"]
    slides = [d["data-strip"] for d in page.all("div") if d.get("class") == "slide"]
    assert strips == slides == ["crop0", "crop1"]
    shown = [i["src"] for i in page.all("img") if i.get("src")]
    kept = [p["png"] for c in made["crops"] for p in c["panels"]]
    assert shown == [f"data:image/png;base64,{p}" for p in kept]
    # Each slider has two lists of all crops: bicubic is chosen at the left, the student right.
    chosen = [o["value"] for o in page.all("option") if "selected" in o]
    assert len(page.all("select")) == 4 and chosen == ["1", "3"] * 2


def test_crops_are_shown_without_the_script_too() -> None:
    """Only the slider's frame is hidden until the script has filled it."""
    page = Page(to_html(complete(full_record())))
    hidden = [attrs["class"] for _, attrs in page.tags if "hidden" in attrs]
    assert hidden == ["slide", "slide"]


def test_the_front_holds_what_nothing_beats() -> None:
    dots = [Dot(k, n, cost, psnr) for k, (n, cost, psnr) in enumerate(
        [("a", 1.0, 27.0), ("worse", 2.0, 26.5), ("b", 3.0, 28.0), ("same", 3.0, 27.5),
         ("equal", 4.0, 28.0)])]  # fmt: skip
    assert [d.name for d in front(dots)] == ["a", "b"]


def test_names_do_not_cover_each_other_or_a_dot() -> None:
    chart = Chart("t", axis("x", [1.0, 100.0], log=True), axis("y", [0.0, 10.0]))
    places = [(10.0, 5.0), (10.3, 5.05), (10.6, 5.0), (95.0, 9.9), (1.05, 0.1)]
    chart.keep_clear(*zip(*places, strict=True))
    for k, (x, y) in enumerate(places):
        chart.name(x, y, f"network-{k}")
    found = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', chart.svg())
    boxes = [(float(x), float(y) - 11, float(x) + 7.2 * len(t), float(y) + 3) for x, y, t in found]
    dots = chart._taken[: len(places)]
    assert len(boxes) == len(places)
    for k, a in enumerate(boxes):
        assert a[0] >= 0 and a[2] <= 720
        for b in boxes[k + 1 :] + dots:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_thinning_keeps_the_outliers() -> None:
    points = [(float(k), 1.0) for k in range(10_000)]
    points[777], points[5001] = (777.0, 50.0), (5001.0, 0.1)
    kept = thinned(points, 1000)
    assert len(kept) <= 1000 and {points[777], points[5001]} <= set(kept)
    assert kept == sorted(kept) and thinned(points, 10_000) == points


@pytest.mark.parametrize(
    ("validity", "good", "says"),
    [
        (None, False, "checks ask for a look: samples"),
        ({"valid": True, "reasons": []}, False, "checks ask for a look: samples"),
        ({"valid": False, "reasons": ["throttled", "mode changed"]}, False,
         "Not valid: throttled; mode changed. The figures are kept"),
    ],
)  # fmt: skip
def test_the_verdict_is_one_plain_sentence(
    validity: dict[str, Any] | None, good: bool, says: str
) -> None:
    report = complete(record())
    report.pop("validity", None)
    if validity is not None:
        report["validity"] = validity
    found = verdict(report)
    assert found[0] is good and says in found[1]
    assert found[1] in to_markdown(report)
    report["checks"] = [c for c in report["checks"] if c["ok"]]
    report["validity"] = {"valid": True, "reasons": []}
    assert verdict(report) == (True, f"All {len(report['checks'])} checks passed.")


def test_models_that_failed_have_their_line_and_reason() -> None:
    made = complete(full_record())
    markdown = to_markdown(made)
    assert re.search(r"\| <small> \| ✓ \| 1\.50 \| 100 \| 10\.0 \| 28\.50 \| 0\.60\d \|", markdown)
    assert "| broken | ✗ | – | – | – | – | – |" in markdown
    assert "- ✗ broken: no such file." in markdown and "✗ broken: no such file." in to_html(made)
