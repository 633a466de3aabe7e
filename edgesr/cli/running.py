"""What `compress` and `train` have in common: options, and how a run is shown when it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from edgesr.errors import BadConfig, GateNotMet

if TYPE_CHECKING:
    from edgesr.training.run import Request

Data: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder of photographs to train on; default: a few samples.")
]
Out: TypeAlias = Annotated[Path | None, typer.Option(help="Run folder; default: runs/PRESET.")]
Processes: TypeAlias = Annotated[
    int | None, typer.Option("--np", help="Processes on this machine (Horovod).", min=1)
]
Hosts: TypeAlias = Annotated[
    str | None, typer.Option(help="Machines and their processes (Horovod): a:8,b:8.")
]
Resume: TypeAlias = Annotated[
    Path | None, typer.Option(help="Go on with an interrupted run folder.")
]
MaxMinutes: TypeAlias = Annotated[
    float | None, typer.Option(help="Shorten the recipe to fit.", min=0.1)
]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Seed of the run.", min=0, max=2**32 - 1)]
Device: TypeAlias = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads: TypeAlias = Annotated[
    int, typer.Option(help="CPU threads of each process; 0: its share of the cores.", min=0)
]
Compile: TypeAlias = Annotated[
    bool, typer.Option("--compile", help="Train through torch.compile (for GPUs).")
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the report as JSON on stdout.")
]


def say(text: str) -> None:
    """A line about the run, on stderr."""
    typer.echo(text, err=True)


def refuse_ignored(ctx: typer.Context) -> None:
    """Exit 2 for what was given and would do nothing, rather than leave it out silently."""
    given = [
        p.opts[0]
        for p in ctx.command.params
        if p.name and (source := ctx.get_parameter_source(p.name)) and source.name == "COMMANDLINE"
    ]
    with_resume = {"--resume", "--json", "--np", "--hosts"}
    if "--resume" in given and (extra := sorted(set(given) - with_resume)):
        raise typer.BadParameter(
            f"--resume goes on with what the run was asked; leave out {', '.join(extra)}"
        )
    for one, other in (("recipe", "--preset"), ("--np", "--hosts")):
        if {one, other} <= set(given):
            names = "a recipe file" if one == "recipe" else one
            raise typer.BadParameter(f"give {names} or {other}, not both")


def request_of(
    data: Path | None,
    *,
    teacher: str = "",
    student: str | None = None,
    max_drop: float | None = None,
    device: str = "cpu",
    threads: int = 0,
    compile_: bool = False,
    processes: int | None = None,
    hosts: str | None = None,
) -> Request:
    """What the options ask for, checked; without `data` the sample photographs."""
    from edgesr.training.data import cache_root
    from edgesr.training.launch import parse_hosts
    from edgesr.training.run import Request
    from edgesr.training.samples import sample_folder

    if device not in ("cpu", "cuda"):
        raise BadConfig(f"no device '{device}'; cpu or cuda")
    if hosts is not None:
        parse_hosts(hosts)
    if data is None:
        data = sample_folder(cache_root() / "samples")
        say("no --data: training on the few sample photographs of scikit-image")
    return Request(
        teacher=_anchored(teacher) if teacher else "",
        data=str(data.resolve()),
        max_drop=max_drop,
        device=device,
        threads=threads,
        student=None if student is None else _anchored(student),
        compile=compile_,
        processes=processes or 1,
        hosts=hosts or "",
    )


def _anchored(network: str) -> str:
    """`network`, absolute if it is a path: a run may be resumed from another folder."""
    from edgesr.models.find import describe, describe_teachers

    names = {m.name for m in (*describe(), *describe_teachers())}
    path = Path(network).expanduser()
    return str(path.resolve()) if network not in names and path.exists() else network


@contextmanager
def ending(verb: str, run: Path, as_json: bool) -> Iterator[None]:
    """Show the report however the run ends, a missed gate too; say how to go on with it.

    A worker of a distributed run leaves that to the process that started it.
    """
    from edgesr.training.session import speaks

    try:
        yield
    except KeyboardInterrupt as e:
        if (run / "manifest.json").is_file():
            raise KeyboardInterrupt(f"edgesr {verb} --resume {run} goes on") from e
        raise
    except GateNotMet:
        if speaks():
            _show(run, as_json)
        raise
    if speaks():
        _show(run, as_json)


def _show(run: Path, as_json: bool) -> None:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(report))
        return
    from rich.console import Console

    from edgesr.report.run import to_table

    console = Console()
    console.print(to_table(report))
    for note in report["notes"]:
        console.print(f"· {note}", highlight=False, soft_wrap=True)
    for what, name in (("student", "student.safetensors"), ("report ", "report.html")):
        console.print(f"{what}  {run / name}", highlight=False, soft_wrap=True)
