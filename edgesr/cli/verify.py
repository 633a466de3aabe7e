"""`edgesr verify`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

_CHANGED, _LOST = 1, 3


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that export wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a bundle: every byte by its hash, every network by its golden tiles."""
    from edgesr.bundle import manifest
    from edgesr.bundle import verify as bundles
    from edgesr.runtime.ort import OrtRuntime

    about = manifest.read(bundle)
    targets = bundles.onnx_targets(
        bundle, about, OrtRuntime, "ONNX Runtime",
        open_as_written=partial(OrtRuntime, optimize=False),
    )  # fmt: skip
    report = bundles.verify(bundle, about, targets)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        typer.echo("\n".join(report.lines()))
    if report.changed:
        typer.echo(f"edgesr: {bundle} was changed after its export; copy it again", err=True)
        raise typer.Exit(_CHANGED)
    if not report.passed:
        raise typer.Exit(_LOST)
