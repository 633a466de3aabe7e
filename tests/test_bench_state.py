"""bench with a machine that is looked at, locked and put back, all on trees."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import machines
import pytest
from bench_world import World, tools
from typer.testing import CliRunner

from edgesr.bench.conditions import conditions
from edgesr.bench.config import BenchConfig
from edgesr.bench.lock import locked_clocks
from edgesr.bench.places import Places
from edgesr.bench.run import Tools, bench
from edgesr.bench.watch import Watcher
from edgesr.cli.main import app
from edgesr.errors import BadModel
from edgesr.report import complete, dumps, to_html, to_markdown

RUNNER = CliRunner()


def on(root: Path, world: World) -> Tools:
    """A world on the machine of that tree."""
    return dataclasses.replace(
        tools(world),
        conditions=partial(conditions, root),
        watcher=partial(Watcher, places=Places.below(root), interval_s=3600),
        lock=partial(locked_clocks, root / "sys"),
    )


def test_a_run_on_a_board_keeps_what_was_seen(tmp_path: Path) -> None:
    root = machines.orin_nano(tmp_path)
    report = bench(BenchConfig(duration_s=5), tools=on(root, World(srgan=1.0, balanced=0.1)))
    assert report["watch"]["temperatures_c"]["cpu-thermal"] == [48.5, 48.5]
    assert report["watch"]["at_s"][0] == 0.0 and report["watch"]["at_s"][1] > 5
    assert report["validity"]["valid"] and "locked" not in report["conditions"]
    assert complete(json.loads(dumps(report))) == report
    text = to_markdown(report)
    assert "| gpu clock mhz | 17000000.gpu 306 |" in text
    assert "| throttling |  | ok |" in text and "looks at clocks and heat" in text
    assert "p3767-0005" in to_html(report)


def test_a_mode_that_changes_in_the_run_is_said_first(tmp_path: Path) -> None:
    root, world = machines.orin_nano(tmp_path), World(srgan=1.0, balanced=0.1)
    some = on(root, world)

    def then() -> dict[str, Any]:
        found = conditions(root)
        machines.write(root, {"sys/nvpmodel/q": "NV Power Mode: 15W\n0"})
        return found

    report = bench(BenchConfig(duration_s=5), tools=dataclasses.replace(some, conditions=then))
    assert not report["validity"]["valid"]
    said = "Not valid: the machine's settings changed during the run (power_mode: 25W → 15W"
    assert said in to_markdown(report)
    (root / "r.json").write_text(dumps(report))
    done = RUNNER.invoke(app, ["bench", "--replay", str(root / "r.json")])
    lines = " ".join(done.stdout.split())
    assert done.exit_code == 0 and said in lines and lines.count("Not valid") == 1


def test_locked_clocks_are_in_the_record_and_back_afterwards(tmp_path: Path) -> None:
    root, world = machines.orin_nano(tmp_path), World(srgan=1.0, balanced=0.1)
    files = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    report = bench(BenchConfig(duration_s=5, lock_clocks=True), tools=on(root, world))
    for when in ("before", "after"):
        assert report["conditions"][when]["governor"] == "performance"
        assert report["conditions"][when]["clocks_pinned"] is True
    assert len(report["conditions"]["locked"]) == 5
    assert "| locked for the run | /sys/devices/" in to_markdown(report)
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == files


def test_locked_clocks_are_back_when_the_run_fails(tmp_path: Path) -> None:
    root, world = machines.orin_nano(tmp_path), World(srgan=1.0, balanced=0.1)
    files = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def broken(*_: Any) -> dict[str, Any]:
        assert (root / machines.CPU / "policy0/scaling_governor").read_bytes() == b"performance"
        raise BadModel("broken")

    some = dataclasses.replace(on(root, world), memory=broken)
    with pytest.raises(BadModel, match="broken"):
        bench(BenchConfig(duration_s=5, lock_clocks=True), tools=some)
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == files


def test_the_command_refuses_in_one_line_where_nothing_can_be_locked(tmp_path: Path) -> None:
    machines.virtual(tmp_path)
    arguments = ["bench", "--quick", "--lock-clocks"]
    done = RUNNER.invoke(app, arguments, env={"EDGESR_SYSFS_ROOT": str(tmp_path / "sys")})
    assert done.exit_code == 4 and done.stdout == ""
    assert (
        done.stderr == "edgesr: --lock-clocks: this machine shows no clocks that could be locked\n"
    )
