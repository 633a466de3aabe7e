"""The table of `bench --models`: one line for each model, whether it ran or not."""

from __future__ import annotations

from typing import Any

from edgesr.report.rows import NONE, digits, fixed, value

RAN, FAILED = "✓", "✗"
HEADERS = ("model", "", "size MB", "ms", "frames/s", "PSNR-Y", "J/frame")


def is_asked_for(report: dict[str, Any]) -> bool:
    """Whether the run was one of `--models`."""
    return "failed" in report


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """A row of texts for each model under `HEADERS`, those that failed at the end."""
    found = []
    for model in report["models"]:
        f = model["figures"]
        found.append(
            [
                model["name"],
                RAN,
                digits(value(f["file_mb"])) if "file_mb" in f else NONE,
                digits(value(f["latency_p50_ms"])),
                digits(value(f["throughput_fps"])),
                fixed(value(f["psnr_y_db"]), 2),
                digits(value(f["energy_j_per_frame"])),
            ]
        )
    dashes = [NONE] * (len(HEADERS) - 2)
    return found + [[failed["name"], FAILED, *dashes] for failed in report["failed"]]


def failure_notes(report: dict[str, Any]) -> list[str]:
    """Why each model that failed did, one sentence each."""
    return [f"{FAILED} {f['name']}: {f['reason'].rstrip('.')}." for f in report.get("failed", ())]
