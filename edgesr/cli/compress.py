"""`edgesr compress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesr.cli import running
from edgesr.cli.running import say


def compress(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file (TOML); or use --preset.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships: paper, quality, balanced, fast, tiny, gan, smoke; "
            "default: balanced, smoke without --data."
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
    data: running.Data = None,
    out: running.Out = None,
    budget: Annotated[
        str, typer.Option(help="What must remain: macs=25%, params=50k, bytes=300k, ms=20.")
    ] = "",
    max_drop: Annotated[
        float | None,
        typer.Option(help="dB that pruning and int8 may cost; more exits with 3.", min=0.0),
    ] = None,
    np: running.Processes = None,
    hosts: running.Hosts = None,
    resume: running.Resume = None,
    max_minutes: running.MaxMinutes = None,
    seed: running.Seed = None,
    device: running.Device = "cpu",
    threads: running.Threads = 0,
    compile_: running.Compile = False,
    as_json: running.AsJson = False,
) -> None:
    """Distil a teacher into a small student, prune it and quantise it."""
    running.refuse_ignored(ctx)
    from edgesr import extras

    extras.need_torch("compress")
    from edgesr import compress as verb

    if resume is not None:
        with running.ending("compress", resume, as_json):
            verb.resume(resume, processes=np, hosts=hosts, say=say)
        return
    name = recipe or preset or ("smoke" if data is None else "balanced")
    chosen = verb.load_recipe_for(name, budget=budget, seed=seed)
    request = running.request_of(
        data, teacher=teacher, student=student, max_drop=max_drop, device=device,
        threads=threads, compile_=compile_, processes=np, hosts=hosts,
    )  # fmt: skip
    folder = out or Path("runs") / chosen.name
    with running.ending("compress", folder, as_json):
        verb.compress(chosen, request, folder, max_minutes=max_minutes, say=say)
