"""`edgesr compress`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgesr.errors import BadConfig


def compress(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file (TOML); or use --preset.")
    ] = None,
    preset: Annotated[str, typer.Option(help="A recipe that ships: smoke, balanced.")] = "balanced",
    teacher: Annotated[
        str, typer.Option(help="What to distil from: span, a .safetensors or a .pth file.")
    ] = "span",
    data: Annotated[Path | None, typer.Option(help="Folder of photographs to train on.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: runs/PRESET]")] = None,
    budget: Annotated[
        str, typer.Option(help="What must remain: macs=25%, params=50k, bytes=300k.")
    ] = "",
    max_drop: Annotated[
        float | None, typer.Option(help="dB that pruning may cost; more exits with 3.", min=0.0)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run folder.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Shorten the recipe to fit.", min=0.1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", min=0)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves it to torch.", min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON on stdout.")
    ] = False,
) -> None:
    """Distil a teacher into a small student and prune it."""
    from edgesr import extras

    extras.need_torch("compress")
    from edgesr import compress as verb
    from edgesr.training.run import Request

    def say(text: str) -> None:
        typer.echo(text, err=True)

    if resume is not None:
        result = verb.resume(resume, say=say)
    else:
        chosen = verb.load_recipe_for(recipe or preset, budget=budget, seed=seed)
        if data is None:
            raise BadConfig("compress needs --data DIR: a folder of photographs to train on")
        if device not in ("cpu", "cuda"):
            raise BadConfig(f"no device '{device}'; cpu or cuda")
        request = Request(teacher, str(data.resolve()), max_drop, device, threads)
        folder = out or Path("runs") / chosen.name
        result = verb.compress(chosen, request, folder, max_minutes=max_minutes, say=say)
    if as_json:
        typer.echo(json.dumps(result.report))
        return
    _print(result.report, result.student)


def _print(report: dict[str, object], student: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgesr.report.run import HEAD, table_rows

    table = Table(title=f"compress: {report['name']}")
    for i, title in enumerate(HEAD):
        table.add_column(title, justify="left" if i == 0 else "right")
    for row in table_rows(report):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"student  {student}", highlight=False, soft_wrap=True)
    console.print(f"report   {student.parent / 'report.html'}", highlight=False, soft_wrap=True)
