"""The record as Markdown tables, and the sections of files that hold them.

A section is what stands between the two marker lines; nothing outside them is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.field import SETS
from edgesr.errors import BadConfig
from edgesr.report.markdown import markdown_table

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
FULL_BEGIN, FULL_END = "<!-- peers-full:begin -->", "<!-- peers-full:end -->"

SHORT_HEAD = ("network", "× faster, CPU", *SETS, "tiles exact")
FULL_HEAD = (
    "network", "parameters", "MACs", "CPU ms", "wall ms", "× CPU", "range", "× wall", "× AVX2",
    *SETS, "tiles exact",
)  # fmt: skip
SOURCES_HEAD = ("network", "from", "weights here", "PSNR from", "to know")
_TILES = {True: "yes", False: "no", None: "?"}


def short_table(record: dict[str, Any]) -> str:
    """Speed and quality of what has both, fastest first; ours in bold."""
    rows = [n for n in by_speed(record) if quality_known(n)]
    return markdown_table(SHORT_HEAD, [_short_row(n) for n in rows])


def _short_row(net: dict[str, Any]) -> list[str]:
    ours = net.get("group") == "ours"
    cells = [
        label(net),
        f"{net['figures']['ratio_cpu']:.3g}" if "figures" in net else f"{net['ratio_avx2']:g} ‡",
        *_psnr(net),
        _TILES[net["tileable"]],
    ]
    return [f"**{cell}**" if ours and cell != "–" else cell for cell in cells]


def full_table(record: dict[str, Any]) -> str:
    """Every network that was timed or cited, with all figures, fastest first."""
    return markdown_table(FULL_HEAD, [_full_row(n) for n in by_speed(record)])


def _full_row(net: dict[str, Any]) -> list[str]:
    timing = ["–"] * 5
    if "figures" in net:
        figures = net["figures"]
        low, high = figures["ratio_cpu_range"]
        timing = [
            f"{figures['cpu_ms']:.1f}",
            f"{figures['wall_ms']:.1f}",
            f"{figures['ratio_cpu']:.2f}",
            f"{low:.3g} – {high:.3g}",
            f"{figures['ratio_wall']:.2f}",
        ]
    return [
        label(net),
        f"{net['parameters'] / 1e3:.4g} k",
        f"{net['macs'] / 1e9:.3g} G" if "macs" in net else "–",
        *timing,
        "–" if net["ratio_avx2"] is None else f"{net['ratio_avx2']:g}",
        *_psnr(net),
        _TILES[net["tileable"]],
    ]


def sources_table(record: dict[str, Any]) -> str:
    """Where each network and its PSNR is from, in words."""
    return markdown_table(SOURCES_HEAD, [_sources_row(n) for n in by_speed(record)], words=True)


def _sources_row(net: dict[str, Any]) -> list[str]:
    quality = net["quality"] if quality_known(net) else None
    weights = net.get("weights", "not timed")
    psnr = f"{quality['kind']}: {quality['source']}" if quality else "none cited"
    return [label(net), net["origin"], weights, psnr, net.get("about") or "–"]


def by_speed(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All networks, timed and cited, the fastest first."""

    def ratio(net: dict[str, Any]) -> float:
        return float(net["figures"]["ratio_cpu"] if "figures" in net else net["ratio_avx2"])

    return sorted([*record["networks"], *record["cited"]], key=ratio, reverse=True)


def quality_known(net: dict[str, Any]) -> bool:
    """Whether there is a PSNR on any set."""
    return net["quality"] is not None and any(
        net["quality"]["psnr_y"][name] is not None for name in SETS
    )


def label(net: dict[str, Any]) -> str:
    """The name, with a mark where only the luma is enlarged."""
    luma = net.get("input", [1, 3])[1] == 1
    return str(net["name"]) + (" (Y)" if luma else "")


def _psnr(net: dict[str, Any]) -> list[str]:
    quality = net["quality"]
    if quality is None:
        return ["–"] * len(SETS)
    mark = " †" if quality["kind"] == "published" else ""
    values = [quality["psnr_y"][name] for name in SETS]
    return ["–" if v is None else f"{v:.2f}{mark}" for v in values]


def conditions_line(record: dict[str, Any]) -> str:
    """Machine, protocol and day in one line, with a warning when the machine was busy."""
    before, protocol = record["conditions"]["before"], record["protocol"]
    cores, load = before.get("cores_usable", 1), before.get("load_average_1min", 0.0)
    vectors = f" ({', '.join(record['instructions'])})" if record["instructions"] else ""
    line = (
        f"{before.get('cpu', 'unknown processor')}{vectors}, {cores} cores, {protocol['runtime']}, "
        f"{protocol['threads']} threads, spinning off; ×4 of one {protocol['width']}×"
        f"{protocol['height']} picture; median of {protocol['rounds']} interleaved rounds; "
        f"{record['created_utc'][:10]}"
    )
    return line + (f"; other jobs were running (load {load:g})" if load > cores / 2 else "")


def notes(record: dict[str, Any]) -> str:
    """Conditions of the short table and what its marks mean, for the README at the root."""
    lines = [
        f"*{conditions_line(record)}. × is the SRGAN generator's process CPU time over the "
        "network's; PSNR on luma, dB.*\n",
        "- Peers are the same architectures written anew with random weights, which do not change "
        "the time. Their PSNR was measured in 2026-11 on their authors' weights in the convention "
        "of ours; † as published, where conventions differ a little (the generator's is that of "
        "its PSNR phase).",
        "- (Y) enlarges luma only: it does less than the others.",
        "- ‡ is not timed here but has the ratio of another machine (AVX2 only), same protocol"
        + both(record),
        "- Tiles exact: no strided, pooled or global branch, so that a picture in tiles is the "
        "untiled one.",
        "- [benchmarks/peers](benchmarks/peers/README.md) has every figure, and what is not "
        "compared.",
    ]
    return "\n".join(lines)


def both(record: dict[str, Any]) -> str:
    """How this machine's ratios compare with the cited ones: the end of a sentence."""
    if record["ratio_to_avx2"] is None:
        return "."
    return (
        f". The {record['timed_on_both']} peers timed on both have {record['ratio_to_avx2']:g} "
        "times its ratio here (median)."
    )


def section(record: dict[str, Any], full: bool = False) -> str:
    """The markers and what stands between them: the short table with notes, or the full one."""
    if full:
        body = f"{conditions_line(record)}.\n\n{full_table(record)}\n{sources_table(record)}"
        return f"{FULL_BEGIN}\n\n{body}\n{FULL_END}"
    return f"{BEGIN}\n\n{short_table(record)}\n{notes(record)}\n\n{END}"


def fill(text: str, record: dict[str, Any]) -> str:
    """`text` with its sections (either or both) as the record gives them.

    Raises `BadConfig` when it has no section, or markers that are not one pair in order.
    """
    pairs: Sequence[tuple[str, str, bool]] = ((BEGIN, END, False), (FULL_BEGIN, FULL_END, True))
    found = [pair for pair in pairs if pair[0] in text or pair[1] in text]
    if not found:
        raise BadConfig(f"no section to fill: add the lines {BEGIN} and {END} where it should be")
    for begin, end, full in found:
        head, middle, tail = text.partition(begin)
        _, closing, rest = tail.partition(end)
        if not (middle and closing) or begin in tail or end in rest:
            raise BadConfig(f"{begin} and {end} must stand there once each, in this order")
        text = f"{head}{section(record, full)}{rest}"
    return text
