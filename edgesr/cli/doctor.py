"""`edgesr doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgesr.doctor import Diagnosis, Machine


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    horovod: Annotated[
        bool, typer.Option("--horovod", help="Print how to build Horovod for this torch.")
    ] = False,
) -> None:
    """Say what works on this machine, and the one line that mends what does not."""
    from edgesr.doctor import HOROVOD_STEPS, diagnose

    if horovod and not as_json:
        typer.echo("\n".join(HOROVOD_STEPS))
        return
    diagnosis = diagnose()
    if as_json:
        import json

        steps = {"horovod_steps": list(HOROVOD_STEPS)} if horovod else {}
        typer.echo(json.dumps(diagnosis.as_json() | steps, indent=2))
    else:
        _print(diagnosis)


def _print(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"works": "green", "partly": "yellow", "missing": "red"}
    console = Console(highlight=False)
    console.print(f"EdgeSR {diagnosis.edgesr}")
    for line in _machine(diagnosis.machine):
        console.print(escape(line), soft_wrap=True)
    table = Table(pad_edge=False)
    for title in ("command", "here", "what was found"):
        table.add_column(title, no_wrap=title != "what was found")
    for check in diagnosis.checks:
        state = f"[{colours[check.state]}]{check.state}[/]"
        table.add_row(escape(check.command), state, escape(check.detail))
    console.print(table)
    mends = [check for check in diagnosis.checks if check.remedy]
    if mends:
        console.print("To mend it:")
    for check in mends:
        console.print(escape(f"  {check.command}: {check.remedy}"), soft_wrap=True)


def _machine(machine: Machine) -> list[str]:
    processor = f"{machine.processor or 'processor not named'}, {machine.cpus} CPUs usable"
    memory = "memory not known"
    if machine.memory_bytes:
        memory = f"{machine.memory_bytes / 2**30:.1f} GiB of memory"
        if machine.available_bytes:
            memory += f", {machine.available_bytes / 2**30:.1f} available"
    lines = [f"{machine.system}; {machine.python}", f"{processor}; {memory}"]
    return [machine.board, *lines] if machine.board else lines
