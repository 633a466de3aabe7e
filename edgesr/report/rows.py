"""The cells and sentences that the terminal, Markdown and HTML share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from edgesr.report.figures import Figure

NONE = "–"
_DRAWN_TOGETHER = ("energy", "warm-up", "drift", "samples")  # the last has a column of its own
HEADERS = ("model", "parameters", "MACs", "ms", "×", "peak MB", "J/frame", "PSNR-Y", "SSIM-Y")
DETAIL_HEADERS = (
    "model", "calls", "min", "p50", "p90", "p95", "p99", "max", "CPU ms", "frames/s", "output MP/s",
)  # fmt: skip
QUALITY_HEADERS = ("model", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB", "LPIPS")


def _label(model: dict[str, Any], *, alone: bool) -> str:
    """The name, with the role where it is plain: of several models not all are students."""
    named = model["role"] == "teacher" or alone
    return f"{model['name']} ({model['role']})" if named else str(model["name"])


def summary_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row of texts for each model under `HEADERS`, and one for the bicubic baseline."""
    speedups = {c["student"]: c["figures"]["speedup"]["value"] for c in report["comparisons"]}
    rows = []
    for model in report["models"]:
        f = model["figures"]
        times = speedups.get(model["name"])
        rows.append(
            [
                _label(model, alone=len(report["models"]) == 2),
                amount(value(f["parameters"])),
                amount(value(f["macs"])),
                digits(value(f["latency_p50_ms"])),
                NONE if times is None else f"{digits(times)}×",
                digits(value(f["memory_model_mb"])),
                digits(value(f["energy_j_per_frame"])),
                fixed(value(f["psnr_y_db"]), 2),
                fixed(value(f["ssim_y"]), 4),
            ]
        )
    if report.get("baseline"):
        f = report["baseline"]["figures"]
        quality = [fixed(value(f["psnr_y_db"]), 2), fixed(value(f["ssim_y"]), 4)]
        rows.append([report["baseline"]["name"], *[NONE] * 6, *quality])
    return rows


def detail_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row of times in ms and of throughput for each model, under `DETAIL_HEADERS`."""
    names = ("min", "p50", "p90", "p95", "p99", "max")
    rows = []
    for model in report["models"]:
        f = model["figures"]
        times = [digits(value(f[f"latency_{name}_ms"])) for name in names]
        rest = ("cpu_median_ms", "throughput_fps", "throughput_mps")
        calls = str(f["latency_p50_ms"]["samples"])
        rows.append([model["name"], calls, *times, *(digits(value(f[name])) for name in rest)])
    return rows


def quality_rows(report: dict[str, Any]) -> list[list[str]]:
    """Every measure of quality under `QUALITY_HEADERS`: the networks with any, then bicubic."""
    named = [(m["name"], m["figures"]) for m in report["models"]]
    if report.get("baseline"):
        named.append((report["baseline"]["name"], report["baseline"]["figures"]))
    places = {"psnr_y_db": 2, "ssim_y": 4, "psnr_rgb_db": 2, "ssim_rgb": 4, "lpips": 4}
    found = [
        [name, *(fixed(value(f[key]) if key in f else None, n) for key, n in places.items())]
        for name, f in named
    ]
    return [row for row in found if set(row[1:]) != {NONE}]


def notes(report: dict[str, Any]) -> list[str]:
    """What the table cannot say, in plain sentences; Markdown may show them as a list."""
    why = report.get("no_teacher")
    return [
        *_host_note(report),
        *([f"No teacher to compare with: {why}."] if why else []),
        *_comparison_notes(report),
        _timing_note(report),
        _memory_note(report),
        *_energy_notes(report),
        *_quality_notes(report),
        *_check_notes([check for check in report["checks"] if not check["ok"]]),
    ]


def _host_note(report: dict[str, Any]) -> Iterable[str]:
    """Where it was measured, if not on the machine that wrote the report."""
    if "host" in report:
        about = report["host"]
        yield f"Measured on {about['name']}, with the bundle {about['bundle']} ({about['target']})."


def condition_rows(report: dict[str, Any]) -> list[list[str]]:
    """What the machine was: name, before the run, after it (empty where it did not change)."""
    before, after = report["conditions"]["before"], report["conditions"]["after"]
    rows = []
    for key in before:
        first, last = _condition(key, before[key]), _condition(key, after.get(key))
        name = key.removesuffix("_bytes").replace("_", " ")
        rows.append([name, first, "" if first == last else last])
    locked = report["conditions"].get("locked", [])
    if locked:
        held = (f"{change['file']}: {change['was']} → {change['set']}" for change in locked)
        rows.append(["locked for the run", ", ".join(held), ""])
    return rows


def _condition(key: str, x: Any) -> str:
    return f"{x / 2**30:.1f} GiB" if key.endswith("_bytes") and x is not None else plain(x)


def value(f: Figure) -> float | None:
    """The figure's number, None when it is missing."""
    found = f["value"]
    return None if found is None else float(found)


def amount(n: float | None) -> str:
    """A count to three significant digits: `1.55 M`, `146 G`."""
    if n is None:
        return NONE
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size * 0.9995:
            return digits(n / size) + unit
    return f"{n:.0f}"


def digits(x: float | None) -> str:
    """A number to three significant digits, whole from 100 on."""
    if x is None:
        return NONE
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}"
    places = 2 - math.floor(math.log10(abs(float(f"{x:.3g}"))))
    return f"{x:.{min(max(places, 0), 6)}f}"


def fixed(x: float | None, places: int) -> str:
    """A number with so many decimals."""
    return NONE if x is None else f"{x:.{places}f}"


def plain(x: Any) -> str:
    """A value of the conditions as text."""
    if isinstance(x, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in x.items())
    if isinstance(x, list):
        return ", ".join(plain(v) for v in x)
    if isinstance(x, float):
        return f"{x:g}"
    return NONE if x is None else str(x)


def check_rows(report: dict[str, Any]) -> list[list[str]]:
    """Every check: its name, the model it is about, the result, and what was found.

    Then what was not checked, and why.
    """
    found = [[c["name"], c.get("model", ""), _result(c), c["text"]] for c in report["checks"]]
    for line in (report.get("validity") or {}).get("not_checked", ()):
        name, _, why = line.partition(": ")
        found.append([name, "", "not checked", why])
    return found


def _result(check: dict[str, Any]) -> str:
    return "ok" if check["ok"] else "not valid" if check.get("invalid") else "look"


def _check_notes(failed: list[dict[str, Any]]) -> Iterable[str]:
    """The failed checks; those of several models are drawn together."""
    for check in failed:
        # What makes the run invalid stands in the verdict.
        if check["name"] not in _DRAWN_TOGETHER and not check.get("invalid"):
            where = f"{check['model']}: " if "model" in check else ""
            yield f"Look: {where}{check['text']}."
    for check in failed:
        if check["name"] == "energy":
            where = f" of {check['model']}" if "model" in check else ""
            yield f"Look: energy{where}: {check['text']}."
    unsteady = [c["model"] for c in failed if c["name"] == "warm-up"]
    if unsteady:
        yield f"Look: times had not settled after the warm-up: {', '.join(unsteady)}."
    moved = [f"{c['model']} {c['drift']}" for c in failed if c["name"] == "drift"]
    if moved:
        yield (
            f"Look: times moved during the run ({', '.join(moved)}, last third of the calls "
            "against the first): other work, or the clocks changed."
        )


def _comparison_notes(report: dict[str, Any]) -> Iterable[str]:
    for c in report["comparisons"]:
        speed = c["figures"]["speedup"]
        text = f"{c['student']} is {digits(speed['value'])} times as fast as {c['teacher']}"
        if "ci95" in speed:
            low, high = speed["ci95"]
            text += (
                f" (ratio of medians; 95 % interval {digits(low)} to {digits(high)}, "
                f"from {speed['samples']} interleaved repetitions)"
            )
        gain = value(c["figures"]["psnr_y_gain_db"])
        if gain is not None:
            text += f", at {gain:+.2f} dB PSNR-Y"
        yield text + ("." if "note" not in speed else f": {speed['note']}.")


def _timing_note(report: dict[str, Any]) -> str:
    s, scale = report["settings"], report["models"][0]["scale"]
    w, h = s["width"], s["height"]
    threads = {None: "", 1: " with 1 thread"}.get(s["threads"], f" with {s['threads']} threads")
    return (
        f"ms: median wall time of the network's call alone, batch 1, {w}x{h} to "
        f"{w * scale}x{h * scale}, {report['models'][0]['runtime']}{threads}, on "
        f"{report['inputs']['source']}."
    )


def _memory_note(report: dict[str, Any]) -> str:
    figure = report["models"][0]["figures"]["memory_model_mb"]
    if figure["value"] is None:
        return f"peak MB: not measured: {figure['note']}."
    return (
        "peak MB: high water of a fresh process that loaded and ran only this network, less what "
        "it held before loading."
    )


def _energy_notes(report: dict[str, Any]) -> Iterable[str]:
    if report["energy"] is None:
        missing = report["power"]["missing"]
        fix = f" To measure it: {missing['fix']}." if missing["fix"] else ""
        yield f"J/frame: not measured: {missing['reason']}.{fix}"
        return
    e = report["energy"]
    yield (
        f"J/frame: gross, by {e['meter']}, {e['total']}: {e['scope']}; {e['samples']} readings at "
        f"random instants, one in each {1000 * e['nominal_s']:.0f} ms."
    )


def _quality_notes(report: dict[str, Any]) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for model in report["models"]:
        quality = model["raw"]["quality"]
        if "missing" in quality:
            reasons.setdefault(quality["missing"], []).append(model["name"])
    for reason, names in reasons.items():
        yield f"PSNR and SSIM of {', '.join(names)}: not measured: {reason}."
    measured = [m for m in report["models"] if "missing" not in m["raw"]["quality"]]
    if measured:
        quality = measured[0]["raw"]["quality"]
        count = len(quality["pictures"])
        yield (
            f"PSNR-Y and SSIM-Y: mean of {count} picture{'s' if count != 1 else ''} of "
            f"{quality['folder']}; {quality['convention']}."
        )
        yield from _lpips_notes(report)


def _lpips_notes(report: dict[str, Any]) -> Iterable[str]:
    named = [(m["name"], m["figures"]) for m in report["models"]]
    if report.get("baseline"):
        named.append((report["baseline"]["name"], report["baseline"]["figures"]))
    known = [(name, f["lpips"]) for name, f in named if "lpips" in f]
    measured = [f"{name} {fixed(value(f), 4)}" for name, f in known if value(f) is not None]
    if measured:
        yield f"LPIPS 0.1 on AlexNet, lower is nearer: {', '.join(measured)}."
    reasons = {m["raw"]["quality"].get("lpips_missing", "") for m in report["models"]} - {""}
    for reason in sorted(reasons):
        yield f"LPIPS: not measured: {reason}."
