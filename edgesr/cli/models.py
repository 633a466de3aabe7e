"""`edgesr models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgesr.models.find import ModelInfo


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the bundled models and the teachers known by name, with their numbers."""
    from edgesr.models.find import describe, describe_teachers

    bundled = describe()
    if as_json:
        import dataclasses
        import json

        typer.echo(json.dumps([dataclasses.asdict(model) for model in bundled], indent=2))
    else:
        _print(bundled, describe_teachers())


def _print(bundled: list[ModelInfo], teachers: list[ModelInfo]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in ("scale", "parameters", "MACs 320x180", "halo"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for kind, group in (("bundled", bundled), ("teacher", teachers)):
        for model in group:
            table.add_row(
                f"{escape(model.name)}{' (default)' if model.default else ''}",
                f"x{model.scale}",
                f"{model.params / 1e3:,.1f} k",
                f"{model.macs_320x180 / 1e9:,.2f} G",
                f"{model.halo} px",
                kind,
            )
    console = Console(highlight=False)
    console.print(table)
    for model in [*bundled, *teachers]:
        if model.about:
            console.print(f"{escape(model.name)}: {escape(model.about)}", soft_wrap=True)
