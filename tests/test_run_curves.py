"""The curves of a compression run, from its log; each by hand."""

from __future__ import annotations

import dataclasses
import json

from run_reports import log_lines

from edgesr.report.run_curves import MOST_POINTS, TERMS, curves_of
from edgesr.training.recipe import LossSpec


def test_steps_are_those_of_the_whole_run() -> None:
    curves = curves_of(log_lines())
    assert curves["legs"] == [[0, "0-distill"], [100, "1-prune-1of1"]]
    assert curves["psnr_y"] == [[50, 27.0], [150, 28.0]]
    assert curves["psnr_y_legs"] == [[100, 28.0], [200, 29.0]]
    assert list(curves["loss"]) == ["total", "pixel", "teacher"]  # what else is logged is no loss
    assert curves["loss"]["total"] == [[s, 0.5] for s in range(0, 200, 10)]
    assert curves["lr"][-1] == [190, 0.1]


def test_a_killed_and_resumed_run_has_the_curves_of_a_whole_one() -> None:
    whole = log_lines()
    # Killed in the second leg while writing step 60; the last checkpoint was at step 40. To show
    # which of the two counts, step 50 differs the first time, as it would not in a real run.
    assert '"step": 50' in whole[19] and '"leg": 1' in whole[19]
    killed = [*whole[:19], whole[19].replace("0.5", "0.7")]
    torn = whole[20][:30]
    resumed = json.dumps({"event": "resumed", "leg": 1, "step": 40})
    assert curves_of(killed) != curves_of(whole[:20])
    assert curves_of([*killed, torn, resumed, *whole[18:]]) == curves_of(whole)
    assert curves_of([*killed, torn + resumed, *whole[18:]]) == curves_of(whole)
    assert curves_of([*whole, '{"event": "step", "le']) == curves_of(whole)
    assert curves_of(line + "\n" for line in whole) == curves_of(whole)


def test_a_step_that_was_skipped_leaves_no_point() -> None:
    lines = log_lines()
    lines[1] = '{"event": "step", "leg": 0, "step": 0, "lr": 0.1, "loss": NaN, "pixel": Infinity}'
    curves = curves_of(lines)
    assert curves["loss"]["total"][0] == [10, 0.5] and curves["loss"]["pixel"][0] == [10, 0.3]
    assert curves["lr"][0] == [0, 0.1]
    nothing = curves_of([])
    assert nothing == {"legs": [], "loss": {}, "lr": [], "psnr_y": [], "psnr_y_legs": []}
    # A leg that nobody announced has the steps that were seen.
    unknown = curves_of(line for line in log_lines() if '"event": "leg"' not in line)
    assert unknown["loss"]["total"][10] == [91, 0.5]


def test_long_curves_are_thinned_to_means_within_a_leg() -> None:
    lines = []
    for i, value in enumerate((1.0, 3.0)):
        lines.append(json.dumps({"event": "leg", "leg": i, "name": f"{i}", "steps": 1501}))
        lines += [
            json.dumps({"event": "step", "leg": i, "step": s, "loss": value + s % 2})
            for s in range(1501)
        ]
    thin = curves_of(lines)["loss"]["total"]
    # 3002 points in groups of 8: 187 whole ones and one of 5 a leg.
    assert len(thin) == 376 <= MOST_POINTS
    assert thin[0] == [7, 1.5] and thin[187] == [1500, 1.4]
    assert thin[188] == [1508, 3.5] and thin[-1] == [3001, 3.4]


def test_every_loss_of_a_recipe_is_a_term() -> None:
    weights = {f.name for f in dataclasses.fields(LossSpec)} - {"norm", "hints"}
    assert weights <= set(TERMS)
