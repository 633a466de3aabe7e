"""What a reader should hold against the figures: each check by name, its result in words.

A check that is not `ok` asks for a look. Those with `invalid` too say that the machine was not
the same throughout, by its own word: then the run is not valid. Its figures stay, since they
were measured; they should not be quoted.
"""

from __future__ import annotations

from typing import Any

from edgesr.power.alarms import alarms
from edgesr.power.meter import Trace
from edgesr.report import watching
from edgesr.report.derive import model_energy

MAX_DRIFT = 0.05
MANY_SAMPLES = 200
_FIXED_CONDITIONS = (
    "governor", "power_mode", "power_mode_id", "cores_usable", "clock_limits_khz", "gpu_governor",
    "gpu_clock_limits_mhz",
)  # fmt: skip


def checks(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries `{name, ok, text}`; `model` where one is about it, `invalid`: it voids the run."""
    found = [*_conditions(report), *_load(report), *_watched(report)]
    for model in report["models"]:
        found += _model(model)
        found += _clock(report, model)
    found += _meter(report)
    found += _energy(report)
    return found


def validity(report: dict[str, Any]) -> dict[str, Any]:
    """`valid`, the `reasons` why not, and what was `not_checked`; from `report["checks"]`."""
    reasons = [_about(c) + c["text"] for c in report["checks"] if c.get("invalid")]
    return {"valid": not reasons, "reasons": reasons, "not_checked": _not_checked(report)}


def _about(check: dict[str, Any]) -> str:
    return f"{check['model']}: " if "model" in check else ""


def _not_checked(report: dict[str, Any]) -> list[str]:
    done = {check["name"] for check in report["checks"]}
    if "watch" not in report:
        return ["clocks, temperatures and throttling: this record was made without watching them"]
    lacking = [name for name in ("clocks", "temperatures", "throttling") if name not in done]
    reasons = []
    if "clocks" in lacking and {"cpu_clock_mhz", "gpu_clock_mhz"} & report["watch"].keys():
        lacking.remove("clocks")
        reasons.append(f"clocks: fewer than {watching.LEAST_LOOKS} looks in each network's turns")
    if lacking:
        reasons.append(f"{', '.join(lacking)}: this machine does not tell them")
    if "missing" in report["power"]:
        reasons.append("over-current: only with a meter")
    return reasons


def _check(name: str, ok: bool, text: str, *, invalid: bool = False) -> dict[str, Any]:
    return {"name": name, "ok": ok, "text": text, **({"invalid": True} if invalid else {})}


def _conditions(report: dict[str, Any]) -> list[dict[str, Any]]:
    before, after = report["conditions"]["before"], report["conditions"]["after"]
    # What was told only once (nvpmodel took too long) tells of no change.
    told = [k for k in _FIXED_CONDITIONS if k in before and k in after]
    changed = [k for k in told if before[k] != after[k]]
    text = "power mode, governor, limits of clocks and cores stayed the same"
    if changed:
        moves = ", ".join(f"{k}: {_plain(before[k])} → {_plain(after[k])}" for k in changed)
        text = f"the machine's settings changed during the run ({moves}); measure again"
    return [_check("conditions", not changed, text, invalid=bool(changed))]


def _plain(setting: Any) -> str:
    """A setting as text; of several domains each by its name."""
    if isinstance(setting, dict):
        return ", ".join(f"{name} {value}" for name, value in setting.items())
    return str(setting)


def _load(report: dict[str, Any]) -> list[dict[str, Any]]:
    before = report["conditions"]["before"]
    load, cores = before.get("load_average_1min"), before.get("cores_usable")
    if load is None or not cores:
        return []
    ok = load <= 0.5 * cores
    text = f"load average {load:.2f} on {cores} cores before the run"
    return [_check("other load", ok, text if ok else f"{text}: other work may have slowed the run")]


def _watched(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Temperatures and throttling, where the record has looks at them."""
    if "watch" not in report:
        return []
    found = []
    if (heat := watching.heat(report["watch"])) is not None:
        (ok, text), reached = heat
        found.append(_check("temperatures", ok, text, invalid=reached))
    if (slowed := watching.slowed(report)) is not None:
        text = "; ".join(slowed) or "nothing says that the machine slowed itself"
        found.append(_check("throttling", not slowed, text, invalid=bool(slowed)))
    if (cost_ms := watching.cost_ms(report["watch"])) is not None:
        looks = len(report["watch"]["at_s"])
        text = f"{looks} looks at clocks and heat took {cost_ms:.2g} ms of processor time each"
        found.append(_check("watching", cost_ms <= watching.MAX_COST_MS, text))
    return found


def _clock(report: dict[str, Any], model: dict[str, Any]) -> list[dict[str, Any]]:
    if "watch" not in report or (move := watching.clock_move(report, model)) is None:
        return []
    what = "fastest core" if watching.on_cpu(model) else "GPU"
    ok = abs(move) <= watching.MAX_CLOCK_MOVE
    fixed = bool(report["conditions"]["before"].get("clocks_pinned"))
    text = f"clock of the {what} {move:+.1%}, last third of the looks against the first"
    fell = fixed and move < -watching.MAX_CLOCK_MOVE
    if not ok:
        text += ", although it was pinned" if fell else "; --lock-clocks holds it"
    return [{**_check("clocks", ok, text, invalid=fell), "model": model["name"]}]


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


def _meter(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Whether the meter went on to the end, and what it says of currents."""
    if "missing" in report["power"]:
        return []
    trace = Trace.from_json(report["power"]["trace"])
    found = []
    if trace.stopped:
        found.append(_check("meter", False, trace.stopped, invalid=True))
    over = alarms(trace)
    if over or any(key.endswith(("/crit", "/max")) for key in trace.conditions_after):
        text = "; ".join(over) or "no rail went over its limit of current"
        found.append(_check("over-current", not over, text, invalid=bool(over)))
    return found


def _energy(report: dict[str, Any]) -> list[dict[str, Any]]:
    if report["energy"] is None:
        return []
    found = [_check("energy", False, problem) for problem in report["energy"]["problems"]]
    for model in report["models"]:
        whole, _ = model_energy(model, report)
        found += [
            {**_check("energy", False, problem), "model": model["name"]}
            for problem in whole.problems
        ]
    return found or [_check("energy", True, "readings cover the run and idle power held still")]
