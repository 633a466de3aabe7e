"""Records of a benchmark with figures that can be worked out by hand."""

from __future__ import annotations

from typing import Any

from edgesr.power.meter import Sample, Trace
from edgesr.report import SCHEMA

REPETITIONS = 5


def model(name: str, role: str, calls: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """A model of the record; `calls` is (start in s, wall ms) by repetition."""
    rows = [(r, *call) for r, group in enumerate(calls) for call in group]
    samples = {
        "repetition": [r for r, _, _ in rows],
        "frame": [0] * len(rows),
        "start_s": [s for _, s, _ in rows],
        "wall_ms": [ms for _, _, ms in rows],
        "cpu_ms": [2 * ms for _, _, ms in rows],
    }
    return {
        "name": name, "role": role, "runtime": "fake", "scale": 4, "untrained": False,
        "onnx_sha256": "0" * 64,
        "raw": {
            "counts": {"parameters": 1_545_238, "macs": 146_000_000_000},
            "warm_up": {"calls": 10, "seconds": 1.0, "cov": 0.01, "stable": True},
            "samples": samples,
            "memory": {"before_bytes": 50_000_000, "loaded_bytes": 60_000_000,
                       "peak_bytes": 90_000_000, "runs": 2},
            "quality": {"missing": "no folder"},
        },
    }  # fmt: skip


def record() -> dict[str, Any]:
    """A teacher of 1000 ms and a student of 100 ms a call, five turns of two seconds each."""
    teacher = [[(10 + 4 * r, 1000.0), (11 + 4 * r, 1000.0)] for r in range(REPETITIONS)]
    student = [[(12 + 4 * r + k / 10, 100.0) for k in range(20)] for r in range(REPETITIONS)]
    conditions = {
        "cpu": "Test <CPU> | one",
        "cores": 2,
        "cores_usable": 2,
        "load_average_1min": 0.1,
    }
    return {
        "schema": SCHEMA,
        "created_utc": "2026-01-02 03:04:05 UTC",
        "settings": {"width": 320, "height": 180, "batch": 1, "duration_s": 20.0,
                     "repetitions": REPETITIONS, "order": "ABBA", "threads": 2},
        "conditions": {"before": conditions, "after": dict(conditions)},
        "inputs": {"source": "photographs", "pictures": ["coffee"]},
        "models": [model("big", "teacher", teacher), model("small", "student", student)],
        "baseline": None,
        "power": {"missing": {"reason": "no power sensor here", "fix": "run it on the board"}},
    }  # fmt: skip


def with_power(idle_after: float = 4.0, total: tuple[str, ...] = ("IN",)) -> dict[str, Any]:
    """Idle 4 W in 0–10 s and 30–40 s; 10 W while the teacher runs, 6 W while the student does."""
    made = record()
    trace = Trace("fake", "W", ("IN", "PART"), total, "module", 0.02)
    for k in range(2000):
        t = 0.01 + k * 0.02
        watts = 10.0 if (t - 10) % 4 < 2 else 6.0
        watts = 4.0 if t < 10 else idle_after if t > 30 else watts
        trace.samples.append(Sample(t, t, {"IN": watts, "PART": 1.0}))
    made["power"] = {"trace": trace.to_json(), "idle": [0.1, 4.9],
                     "loaded_idle": [[5.0, 9.9], [30.1, 39.9]]}  # fmt: skip
    return made


def quality(psnr: float | None) -> dict[str, Any]:
    pictures = [{"name": n, "psnr_y": p, "ssim_y": 0.8, "psnr_rgb": 25.0, "ssim_rgb": 0.7}
                for n, p in (("a", psnr), ("b", 30.0))]  # fmt: skip
    return {"folder": "Set5", "convention": "Y of RGB", "pictures": pictures}
