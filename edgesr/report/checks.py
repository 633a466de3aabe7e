"""What a reader should hold against the figures: each check by name, its result in words."""

from __future__ import annotations

from typing import Any

from edgesr.report.derive import model_energy

MAX_DRIFT = 0.05
MANY_SAMPLES = 200
_FIXED_CONDITIONS = ("governor", "power_mode", "cores_usable", "clock_limits_khz")


def checks(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries `{name, ok, text}`, and `model` where the check is about one of them."""
    found = [*_conditions(report), *_load(report)]
    for model in report["models"]:
        found += _model(model)
    found += _energy(report)
    return found


def _check(name: str, ok: bool, text: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "text": text}


def _conditions(report: dict[str, Any]) -> list[dict[str, Any]]:
    before, after = report["conditions"]["before"], report["conditions"]["after"]
    changed = [k for k in _FIXED_CONDITIONS if before.get(k) != after.get(k)]
    text = "power mode, governor and cores stayed the same"
    if changed:
        moves = ", ".join(f"{k}: {before.get(k)} → {after.get(k)}" for k in changed)
        text = f"the machine's settings changed during the run ({moves}); measure again"
    return [_check("conditions", not changed, text)]


def _load(report: dict[str, Any]) -> list[dict[str, Any]]:
    before = report["conditions"]["before"]
    load, cores = before.get("load_average_1min"), before.get("cores_usable")
    if load is None or not cores:
        return []
    ok = load <= 0.5 * cores
    text = f"load average {load:.2f} on {cores} cores before the run"
    return [_check("other load", ok, text if ok else f"{text}: other work may have slowed the run")]


def _model(model: dict[str, Any]) -> list[dict[str, Any]]:
    name, warm, n = model["name"], model["raw"]["warm_up"], len(model["raw"]["samples"]["wall_ms"])
    first, last = (model["figures"][f"latency_{k}_third_ms"]["value"] for k in ("first", "last"))
    drift = last / first - 1
    spread = "" if warm["cov"] is None else f", the last ones varied by {warm['cov']:.1%}"
    settled = "" if warm["stable"] else "; not steady to 2.5 % when its time was over"
    moved = f"last third of the calls {drift:+.1%} against the first"
    return [
        {
            **_check("warm-up", warm["stable"], f"{warm['calls']} calls{spread}{settled}"),
            "model": name,
        },
        {
            **_check("samples", n >= MANY_SAMPLES, f"{n} timed calls; p99 needs {MANY_SAMPLES}"),
            "model": name,
        },
        {
            **_check("drift", abs(drift) <= MAX_DRIFT, moved),
            "model": name,
            "drift": f"{drift:+.0%}",
        },
    ]


def _energy(report: dict[str, Any]) -> list[dict[str, Any]]:
    if report["energy"] is None:
        return []
    found = [_check("energy", False, problem) for problem in report["energy"]["problems"]]
    for model in report["models"]:
        whole, _ = model_energy(model, report["power"])
        found += [
            {**_check("energy", False, problem), "model": model["name"]}
            for problem in whole.problems
        ]
    return found or [_check("energy", True, "readings cover the run and idle power held still")]
