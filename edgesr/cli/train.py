"""`edgesr train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from edgesr.cli import running
from edgesr.cli.running import say


def train(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file (TOML); or use --preset.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A recipe that ships; default: srgan; train-smoke without --data."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Go on from this network: a name, a .safetensors or a .pth. A plain student "
            "is set into SRGAN's generator, which then starts at its quality."
        ),
    ] = None,
    data: running.Data = None,
    out: running.Out = None,
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
    """Train a generator on photographs alone: a PSNR phase, then a GAN phase."""
    running.refuse_ignored(ctx)
    from edgesr import extras

    extras.need_torch("train")
    from edgesr import train as verb
    from edgesr.training.recipe import load_recipe

    if resume is not None:
        with running.ending("train", resume, as_json):
            verb.resume(resume, processes=np, hosts=hosts, say=say)
        return
    chosen = load_recipe(recipe or preset or ("train-smoke" if data is None else "srgan"))
    if seed is not None:
        chosen = dataclasses.replace(chosen, seed=seed)
    request = running.request_of(
        data, student=network, device=device, threads=threads, compile_=compile_,
        processes=np, hosts=hosts,
    )  # fmt: skip
    folder = out or Path("runs") / chosen.name
    with running.ending("train", folder, as_json):
        verb.train(chosen, request, folder, max_minutes=max_minutes, say=say)
