"""What the guides for boards tell people to type exists, and their tables are the profiles'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from edgesr import device
from edgesr.cli.main import app

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "docs" / name for name in ("jetson.md", "devices.md")]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def calls(text: str, tool: str) -> Iterator[str]:
    """Every use of `tool` in code, fenced or inline, up to a comment or the end."""
    code = re.findall(r"```\n(.*?)```", text, re.S)
    code += re.findall(r"`([^`\n]+)`", re.sub(r"```\n.*?```", "", text, flags=re.S))
    for part in code:
        for line in part.splitlines():
            for found in re.finditer(rf"(?:^|\s){re.escape(tool)}\s+([^#;|]*)", line):
                yield found[1].strip()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_edgesr_command_and_option_exists(guide: Path) -> None:
    found = list(calls(guide.read_text(encoding="utf-8"), "edgesr"))
    assert len(found) >= 4
    for call in found:
        verb = call.split()[0]
        assert verb in COMMANDS, call
        options = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", call)
        known = {name for param in COMMANDS[verb].params for name in param.opts}
        if verb == "devices":
            known |= {"--json"}
        assert set(options) <= known, call


def test_every_option_of_the_kit_exists() -> None:
    guide = GUIDES[0].read_text(encoding="utf-8")
    for script in ("build.py", "run.py"):
        source = (ROOT / "export" / script).read_text(encoding="utf-8")
        found = [o for call in calls(guide, script) for o in re.findall(r"--[a-z-]+", call)]
        assert found
        for option in found:
            assert f'"{option}"' in source, option


def test_the_table_of_jetpacks_is_that_of_the_profiles() -> None:
    """Every TensorRT of a profile below 11 has its row, with the same L4T and Python."""
    lines = GUIDES[0].read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if "|" in line]
    rows = {(row[3], row[4]): row for row in cells if len(row) == 8}
    seen = set()
    for profile in map(device.load, device.names()):
        for jetpack in profile.jetpack:
            if jetpack.tensorrt.startswith("11."):
                continue
            row = rows[(jetpack.tensorrt, jetpack.python)]
            seen.add((jetpack.tensorrt, jetpack.python))
            releases = re.findall(r"\d+\.\d+", jetpack.l4t)
            assert releases[-1] in row[1], row
    assert len(seen) == 7 == len(rows) - 2  # and the heading with its rule


def test_the_table_of_devices_is_that_of_the_profiles() -> None:
    text = GUIDES[1].read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| `", line)]
    named: dict[str, list[str]] = {}
    for line in rows:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([^`]+)`", cells[0]):
            if name in device.names():
                named[name] = cells
    assert len(named) >= 15  # a new device needs no row here
    for name, cells in named.items():
        profile = device.load(name)
        assert cells[2] == ", ".join(profile.precisions), name
        assert profile.kind == "gpu" or cells[1] == (profile.compute_capability or ""), name
        assert profile.kind == "gpu" or (cells[3] == "yes") == profile.sparse_tensor_cores, name
        assert cells[4].startswith("there") == profile.dla, name


def test_the_refusal_that_the_guide_promises() -> None:
    run = CliRunner().invoke(app, ["export", "--target", "jetson-orin-nx-dla"])
    assert run.exit_code == 1
    assert "DLA" in run.stderr
