"""Parts of a compression run's report, to build one from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edgesr.report.crops import Crop, Pixels, telling_crops
from edgesr.report.run import build
from edgesr.report.run_curves import curves_of

ZEROS = "Zeros alone do not speed anything up."


def cpu_ms(median: float) -> dict[str, Any]:
    return {"median": median, "samples": 30, "size": "320x180", "threads": 2}


def leg(name: str, psnr: float, **more: Any) -> dict[str, Any]:
    return {
        "leg": name, "kind": "distill", "method": None, "steps": 1000, "params": 1000,
        "nonzeros": 1000, "macs_per_pixel": 500, "bytes_dense": 4096, "bytes_coded": 4096,
        "cpu_ms": cpu_ms(5.0), "psnr_y": psnr, "ssim_y": 0.8, "seconds": 61.0, "data_wait": 0.012,
        **more,
    }  # fmt: skip


def teacher(**more: Any) -> dict[str, Any]:
    return {
        "name": "big.safetensors", "params": 2000, "nonzeros": 2000, "macs_per_pixel": 5000,
        "bytes_dense": 8192, "bytes_coded": 8192, "cpu_ms": cpu_ms(20.0), "psnr_y": 30.0,
        "ssim_y": 0.85, "set5_psnr_y": 32.0, "undertrained": False, **more,
    }  # fmt: skip


def log_lines(steps: int = 100) -> list[str]:
    """Two legs, logged every tenth step."""
    lines = []
    for i, name in enumerate(("0-distill", "1-prune-1of1")):
        lines.append(json.dumps({"event": "leg", "leg": i, "name": name, "steps": steps}))
        for step in range(0, steps, 10):
            terms = {"pixel": 0.3, "teacher": 0.2, "wait_s": 9.0}
            event = {"event": "step", "leg": i, "step": step, "lr": 0.1, "loss": 0.5, **terms}
            lines.append(json.dumps({"time": 1.0, **event}))
        event = {"event": "validated", "leg": i, "step": steps // 2, "psnr_y": 27.0 + i}
        lines.append(json.dumps(event))
        lines.append(json.dumps({"event": "measured", "leg": name, "psnr_y": 28.0 + i}))
    return lines


def report(**more: Any) -> dict[str, Any]:
    legs = [
        leg("0-distill", 29.0),
        leg("1-prune-1of1", 28.9, kind="prune", method="magnitude", nonzeros=820),
    ]
    parts: dict[str, Any] = {
        "name": "trial", "legs": legs, "chosen": 1, "missed": "", "budget": "",
        "student": legs[1], "teacher": teacher(), "bicubic": {"psnr_y": 26.0, "ssim_y": 0.7},
        "held_out": ["a.png", "b.png"], "curves": curves_of(log_lines()), "notes": [ZEROS],
        "conditions": {"processor": "a <fast> one", "seconds": 3700.0, "data_wait": 0.01},
    }  # fmt: skip
    return build(**{**parts, **more})


def pictures(seed: int = 0, size: tuple[int, int] = (160, 200)) -> dict[str, Pixels]:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return {"hr": hr, "bicubic": np.full_like(hr, 128), "student": hr // 2 + 64, "teacher": hr}


def crops_of(names: list[str]) -> list[Crop]:
    found = []
    for k, name in enumerate(names):
        p = pictures(k)
        p["student"] = p["bicubic"] + np.uint8(k)  # the later the name, the more it tells
        found.append((name, {k: p[k] for k in ("student", "bicubic", "teacher")}, p["hr"]))
    return telling_crops(found, side=32)
