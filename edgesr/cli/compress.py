"""`edgesr compress`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from edgesr.errors import BadConfig, GateNotMet


def compress(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file (TOML); or use --preset.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships: smoke, balanced.  [default: balanced; smoke without --data]"
        ),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="What to distil from: span, a .safetensors or a .pth file.")
    ] = "span",
    student: Annotated[
        str | None,
        typer.Option(
            help="Start from this network, not from a new one: a name, a .safetensors or a .pth; "
            "the teacher too, to prune it."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs to train on.  [default: a few samples]"),
    ] = None,
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
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", min=0, max=2**32 - 1)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves it to torch.", min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON on stdout.")
    ] = False,
) -> None:
    """Distil a teacher into a small student and prune it."""
    _refuse_ignored(ctx)
    from edgesr import extras

    extras.need_torch("compress")
    from edgesr import compress as verb
    from edgesr.training.data import cache_root
    from edgesr.training.run import Request
    from edgesr.training.samples import sample_folder

    def say(text: str) -> None:
        typer.echo(text, err=True)

    if resume is not None:
        with _ending(resume, as_json):
            verb.resume(resume, say=say)
        return
    name = recipe or preset or ("smoke" if data is None else "balanced")
    chosen = verb.load_recipe_for(name, budget=budget, seed=seed)
    if data is None:
        data = sample_folder(cache_root() / "samples")
        say("no --data: training on the few sample photographs of scikit-image")
    if device not in ("cpu", "cuda"):
        raise BadConfig(f"no device '{device}'; cpu or cuda")
    start = None if student is None else _anchored(student)
    request = Request(_anchored(teacher), str(data.resolve()), max_drop, device, threads, start)
    folder = out or Path("runs") / chosen.name
    with _ending(folder, as_json):
        verb.compress(chosen, request, folder, max_minutes=max_minutes, say=say)


def _refuse_ignored(ctx: typer.Context) -> None:
    """Exit 2 for what was given and would do nothing, rather than leave it out silently."""
    given = [
        p.opts[0]
        for p in ctx.command.params
        if p.name and (source := ctx.get_parameter_source(p.name)) and source.name == "COMMANDLINE"
    ]
    if "--resume" in given and (extra := sorted(set(given) - {"--resume", "--json"})):
        raise typer.BadParameter(
            f"--resume goes on with what the run was asked; leave out {', '.join(extra)}"
        )
    if {"recipe", "--preset"} <= set(given):
        raise typer.BadParameter("give a recipe file or --preset, not both")


def _anchored(network: str) -> str:
    """`network`, absolute if it is a path: a run may be resumed from another folder."""
    from edgesr.models.find import describe, describe_teachers

    names = {m.name for m in (*describe(), *describe_teachers())}
    path = Path(network).expanduser()
    return str(path.resolve()) if network not in names and path.exists() else network


@contextmanager
def _ending(run: Path, as_json: bool) -> Iterator[None]:
    """Show the report however the run ends, a missed gate too; say how to go on with it."""
    try:
        yield
    except KeyboardInterrupt as e:
        if (run / "manifest.json").is_file():
            raise KeyboardInterrupt(f"edgesr compress --resume {run} goes on") from e
        raise
    except GateNotMet:
        _show(run, as_json)
        raise
    _show(run, as_json)


def _show(run: Path, as_json: bool) -> None:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report, run / "student.safetensors")


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
