"""The cells and sentences of a compression run that the terminal, Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgesr.progress import duration
from edgesr.report.rows import NONE, amount, digits, fixed, plain
from edgesr.report.table import figures_table
from edgesr.sparsity import FEW_ZEROS

if TYPE_CHECKING:
    from rich.table import Table

HEAD = ("", "parameters", "non-zeros", "MACs/px", "KiB", "CPU ms", "PSNR-Y", "SSIM-Y")
_COUNTED, _MEASURED = "counted", "measured"
_KINDS = ("", *[_COUNTED] * 4, *[_MEASURED] * 3)
_ZEROS = HEAD.index("non-zeros")

SIZE_HEAD = (
    "", "parameters", "of teacher", "non-zeros", "of its own", "KiB dense", "KiB coded",
    "PSNR-Y", "SSIM-Y",
)  # fmt: skip
SIZE_KINDS = ("", *[_COUNTED] * 6, *[_MEASURED] * 2)
QUALITY_HEAD = ("", "PSNR-Y", "PSNR-RGB", "SSIM-Y")
LPIPS = "LPIPS, lower is better"
LEG_HEAD = ("leg", "what", "steps", "change dB", "time", "waiting for data")
LEG_KINDS = ("", "", "", *[_MEASURED] * 3)
INT8_HEAD = (
    "leg", "fp32", "trained, TensorRT", "trained, ORT", "PTQ, TensorRT", "PTQ, ORT",
    "CPU ms fp32", "CPU ms int8", "file KiB, TensorRT", "file KiB, ORT",
)  # fmt: skip
INT8_KINDS = ("", *[_MEASURED] * 7, *[_COUNTED] * 2)
_INT8_KEYS = (
    "psnr_y_fp32", "psnr_y_int8_trt", "psnr_y_int8_ort", "psnr_y_ptq_trt", "psnr_y_ptq_ort",
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What the run achieved, in one figure: `figure` ("26.3×"), what it is, and how it is known."""

    figure: str
    text: str
    kind: str


def has_zeros(report: dict[str, Any]) -> bool:
    """Whether weights were set to zero: more of them than are zero by chance."""
    counts = [(net.get("nonzeros"), net["params"]) for net in report["legs"]]
    return any(some is not None and some < (1 - FEW_ZEROS) * every for some, every in counts)


def head(report: dict[str, Any]) -> tuple[str, ...]:
    """The titles over `table_rows`; non-zeros only where there are zeros."""
    return tuple(_shown(report, HEAD))


def kinds(report: dict[str, Any]) -> tuple[str, ...]:
    """How each column of `table_rows` is known: counted or measured."""
    return tuple(_shown(report, _KINDS))


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """The summary as text: bicubic, teacher, each leg, and what of the teacher is left."""
    bicubic = [*[NONE] * (len(HEAD) - 3), *_quality(report["bicubic"])]
    rows = [["bicubic", *bicubic]]
    if report["teacher"] is not None:
        rows.append([teacher_name(report), *_net(report["teacher"])])
    last = len(report["legs"]) - 1
    for i, leg in enumerate(report["legs"]):
        kept = ", kept" if i == report["chosen_leg"] != last else ""
        rows.append([f"{leg['leg']}{kept}", *_net(leg)])
    if report["teacher"] is not None:
        rows.append(["student / teacher", *_shares(report["student"], report["teacher"])])
    return [_shown(report, row) for row in rows]


def to_table(report: dict[str, Any]) -> Table:
    """The summary for the terminal, at most 100 columns wide; long names are folded."""
    titles = [f"{title}\n{kind}" for title, kind in zip(head(report), kinds(report), strict=True)]
    return figures_table(titles, table_rows(report))


def size_rows(report: dict[str, Any]) -> list[list[str]]:
    """Under `SIZE_HEAD`: the sizes of the teacher and after each leg, and what they are worth."""
    teacher = report["teacher"]
    return [
        [
            name,
            f"{net['params']:,}",
            _percent(net["params"], teacher and teacher["params"]),
            _whole(net.get("nonzeros")),
            _percent(net.get("nonzeros"), net["params"]),
            _kib(net.get("bytes_dense")),
            _kib(net.get("bytes_coded")),
            *_quality(net),
        ]
        for name, net in _named_nets(report)
    ]


def _named_nets(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The teacher, if there is one, and the legs."""
    legs = [(leg["leg"], leg) for leg in report["legs"]]
    return legs if report["teacher"] is None else [(teacher_name(report), report["teacher"]), *legs]


def quality_head(report: dict[str, Any]) -> tuple[str, ...]:
    """The titles over `quality_rows`; LPIPS only where a leg has it."""
    return (*QUALITY_HEAD, LPIPS) if _has_lpips(report) else QUALITY_HEAD


def quality_rows(report: dict[str, Any]) -> list[list[str]]:
    """Under `quality_head`: every measure, of bicubic, teacher and legs.

    [] where it would say no more than the summary: in a report without PSNR-RGB and LPIPS.
    """
    named = [("bicubic", report["bicubic"]), *_named_nets(report)]
    lpips = _has_lpips(report)
    if not lpips and all(net.get("psnr_rgb") is None for _, net in named):
        return []
    return [
        [
            name,
            fixed(net["psnr_y"], 2),
            fixed(net.get("psnr_rgb"), 2),
            fixed(net["ssim_y"], 4),
            *([fixed(net.get("lpips"), 4)] if lpips else []),
        ]
        for name, net in named
    ]


def _has_lpips(report: dict[str, Any]) -> bool:
    return any(leg.get("lpips") is not None for leg in report["legs"])


def leg_rows(report: dict[str, Any]) -> list[list[str]]:
    """Under `LEG_HEAD`: what each leg did; the change is against the leg before."""
    rows = []
    before: float | None = None
    for leg in report["legs"]:
        seconds, waited = (leg["timing"].get(key) for key in ("seconds", "data_wait"))
        method = leg.get("method")
        rows.append(
            [
                leg["leg"],
                f"{leg.get('kind', NONE)}{f' ({method})' if method else ''}",
                f"{leg['steps']:,}",
                _signed(leg["psnr_y"], before),
                NONE if seconds is None else duration(seconds),
                NONE if waited is None else f"{waited:.1%}",
            ]
        )
        before = leg["psnr_y"]
    return rows


def int8_rows(report: dict[str, Any]) -> list[list[str]]:
    """Under `INT8_HEAD`: held-out PSNR-Y (dB) of each quantised leg; [] where there is none."""
    return [
        [
            leg["leg"],
            *(fixed(leg.get(key), 2) for key in _INT8_KEYS),
            digits(_median_ms(leg, "cpu_ms")),
            digits(_median_ms(leg, "cpu_ms_int8")),
            _kib(leg.get("bytes_int8_trt")),
            _kib(leg.get("bytes_int8_ort")),
        ]
        for leg in report["legs"]
        if _is_int8(leg)
    ]


def _is_int8(net: dict[str, Any]) -> bool:
    return any(net.get(key) is not None for key in _INT8_KEYS[1:])


def condition_rows(report: dict[str, Any]) -> list[list[str]]:
    """The conditions of the run: name and value."""
    names = {"seconds": "time", "data_wait": "waiting for data"}
    return [
        [names.get(key, key.replace("_", " ")), _condition(key, x)]
        for key, x in report["conditions"].items()
    ]


def _condition(key: str, x: Any) -> str:
    if key == "seconds" and x is not None:
        return duration(x)
    return f"{x:.1%}" if key == "data_wait" and x is not None else plain(x)


def is_yardstick(teacher: dict[str, Any] | None) -> bool:
    """Whether a difference to the teacher's PSNR says anything: it is trained, and well enough.

    Not known to be, where the recipe asks for it (`set5_floor_db`), is no yardstick either.
    """
    if teacher is None or teacher["psnr_y"] is None:
        return False
    undertrained = teacher.get("undertrained")
    return undertrained is False or (undertrained is None and teacher.get("set5_floor_db") is None)


def title(report: dict[str, Any]) -> str:
    """What the report is about."""
    return f"{'Training' if report['teacher'] is None else 'Compression'}: {report['name']}"


def claims(report: dict[str, Any]) -> list[Claim]:
    """The student against the teacher; none about quality from one that is no yardstick."""
    if report["teacher"] is None:
        return list(_quality_claims(report))
    return [*_size_claims(report), *_speed_claims(report), *_quality_claims(report)]


def _size_claims(report: dict[str, Any]) -> Iterator[Claim]:
    teacher, student = report["teacher"], report["student"]
    names = {"params": "parameters", "macs_per_pixel": "MACs"}
    if has_zeros(report):
        names["nonzeros"] = "non-zeros"
    for key, name in names.items():
        big, small = teacher.get(key), student.get(key)
        if big and small:
            more = "fewer" if small < big else "more" if small > big else "as many"
            ratio = max(big, small) / min(big, small)
            yield Claim(f"{digits(ratio)}×", f"{more} {name}", _COUNTED)


def _speed_claims(report: dict[str, Any]) -> Iterator[Claim]:
    slow, fast = median_ms(report["teacher"]), median_ms(report["student"])
    if slow and fast:
        times, less = (slow / fast, "less") if slow >= fast else (fast / slow, "more")
        yield Claim(f"{digits(times)}×", f"{less} CPU time", _MEASURED)


def _quality_claims(report: dict[str, Any]) -> Iterator[Claim]:
    psnr = report["student"]["psnr_y"]
    teacher = report["teacher"]
    other = "teacher" if is_yardstick(teacher) else "bicubic"
    if psnr is not None and report[other]["psnr_y"] is not None:
        yield Claim(_signed(psnr, report[other]["psnr_y"]), f"dB PSNR-Y against {other}", _MEASURED)


def headline(report: dict[str, Any]) -> str:
    """The claims as a sentence."""
    parts = [f"{c.figure} {c.text} ({c.kind})" for c in claims(report)]
    return f"{subject(report)}: {', '.join(parts)}."


def subject(report: dict[str, Any]) -> str:
    """Whom the claims are about."""
    return "The network" if report["teacher"] is None else "The student against the teacher"


def notes(report: dict[str, Any]) -> list[str]:
    """What the tables cannot say, in plain sentences; each once."""
    found = [*_teacher_notes(report["teacher"]), *report["notes"], report["convention"]]
    found += [*_timing_notes(report), *_other_notes(report)]
    return list(dict.fromkeys(found))


def _teacher_notes(teacher: dict[str, Any] | None) -> Iterator[str]:
    if teacher is None:
        return
    set5, floor = teacher.get("set5_psnr_y"), teacher.get("set5_floor_db")
    less = "" if floor is None else f", less than {floor:g} dB"
    if teacher["psnr_y"] is None:
        yield "The teacher is untrained: its pictures were not measured."
    elif teacher.get("undertrained"):
        reached = "" if set5 is None else f": {set5:.2f} dB PSNR-Y on Set5{less}"
        yield f"The teacher is undertrained{reached}. No claim about quality is made from it."
    elif teacher.get("undertrained") is None and floor is not None:
        yield (
            "Whether the teacher is fully trained is not known: it was not measured on Set5. "
            "No claim about quality is made from it."
        )


def _timing_notes(report: dict[str, Any]) -> Iterator[str]:
    ms = report["student"]["timing"].get("cpu_ms")
    if ms is not None:
        threads = "1 thread" if ms["threads"] == 1 else f"{ms['threads']} threads"
        yield (
            f"CPU ms: CPU time of all threads together, median of {ms['samples']} calls of the "
            f"network alone, batch 1, {ms['size']} pixels in, ONNX Runtime with {threads}."
        )
    if int8_rows(report):
        yield (
            "PSNR, SSIM and CPU ms of a quantised leg are those of int8 in ONNX Runtime; its KiB "
            "those of the fp32 weights. The int8 files have the size given under Int8."
        )


def _other_notes(report: dict[str, Any]) -> Iterator[str]:
    held = len(report["held_out"])
    if _has_lpips(report):
        yield "LPIPS: version 0.1 on AlexNet's features, whole pictures; lower is better."
    yield f"{held} photograph{'s' if held != 1 else ''} held out."
    budget = report["budget"]
    if budget:
        yield f"Budget: {budget}{' of the teacher' if budget.endswith('%') else ''}."


def median_ms(net: dict[str, Any]) -> float | None:
    """The median CPU time of one call in ms, of the int8 form where there is one, if measured."""
    int8 = _median_ms(net, "cpu_ms_int8")
    return _median_ms(net, "cpu_ms") if int8 is None else int8


def _median_ms(net: dict[str, Any], key: str) -> float | None:
    found = net["timing"].get(key)
    return None if found is None else float(found["median"])


def _shown(report: dict[str, Any], row: tuple[str, ...] | list[str]) -> list[str]:
    zeros = has_zeros(report)
    return [cell for i, cell in enumerate(row) if zeros or i != _ZEROS]


def teacher_name(report: dict[str, Any]) -> str:
    """The teacher's name, and what must be known about it."""
    teacher = report["teacher"]
    state = " (untrained)" if teacher["psnr_y"] is None else ""
    return (
        f"teacher: {teacher['name']}{' (undertrained)' if teacher.get('undertrained') else state}"
    )


def _net(net: dict[str, Any]) -> list[str]:
    return [
        f"{net['params']:,}",
        _whole(net.get("nonzeros")),
        amount(net["macs_per_pixel"]),
        f"{_kib(net.get('bytes_dense'))}{' fp32' if _is_int8(net) else ''}",
        digits(median_ms(net)),
        *_quality(net),
    ]


def _shares(student: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    keys = ("params", "nonzeros", "macs_per_pixel", "bytes_dense")
    sizes = [_percent(student.get(key), teacher.get(key)) for key in keys]
    ms = _percent(median_ms(student), median_ms(teacher))
    gap = _signed(student["psnr_y"], teacher["psnr_y"]) if is_yardstick(teacher) else NONE
    return [*sizes, ms, gap, ""]


def _quality(q: dict[str, Any]) -> list[str]:
    return [fixed(q["psnr_y"], 2), fixed(q["ssim_y"], 4)]


def _percent(part: float | None, whole: float | None) -> str:
    return f"{part / whole:.1%}" if part is not None and whole else NONE


def _signed(value: float | None, other: float | None) -> str:
    if value is None or other is None:
        return NONE
    text = f"{value - other:+.2f}"
    return "0.00" if float(text) == 0 else text


def _whole(n: int | None) -> str:
    return NONE if n is None else f"{n:,}"


def _kib(n: int | None) -> str:
    return NONE if n is None else f"{n / 1024:,.1f}"
