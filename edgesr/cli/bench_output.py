"""What `edgesr bench` writes and prints, measured or replayed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgesr.report import Report

STDOUT = Path("-")
_PLAIN_WIDTH = 110  # columns where stdout is no terminal


def check(outputs: Mapping[str, Path | None], yes: bool) -> None:
    """Refuse, before anything is measured, what cannot be written; `outputs` by option."""
    from edgesr.atomic import check_writable, refuse_overwrite

    if list(outputs.values()).count(STDOUT) > 1:
        *first, last = (f"--{name}" for name in outputs)
        raise typer.BadParameter(f"only one of {', '.join(first)} and {last} may print on stdout")
    for path in outputs.values():
        if path is not None and path != STDOUT:
            refuse_overwrite(path, yes)
            check_writable(path)


def put_out(
    report: Report, outputs: Mapping[str, Path | None], replayed: Path | None = None
) -> None:
    """Write the asked-for forms, and print one of them or the tables.

    Raises `BadConfig` when the record `replayed` lacks what a form shows.
    """
    from edgesr.report.record import damaged_is_said

    with nullcontext() if replayed is None else damaged_is_said(replayed):
        _put_out(report, outputs)


def _put_out(report: Report, outputs: Mapping[str, Path | None]) -> None:
    from edgesr.errors import WriteFailed
    from edgesr.report import FORMS, write

    failed: WriteFailed | None = None
    forms = [(path, FORMS[name]) for name, path in outputs.items()]
    # Files first: a reader of stdout that goes away (`| head`) must not cost the run.
    for path, form in forms:
        if path is not None and path != STDOUT:
            try:
                write(path, form(report))
            except WriteFailed as e:  # what was measured is shown all the same
                failed = failed or e
            else:
                typer.echo(f"written: {path}", err=True)
    piped = [form for path, form in forms if path == STDOUT]
    if piped:
        typer.echo(piped[0](report), nl=False)
    else:
        _show(report)
    if failed is not None:
        raise failed


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    from edgesr.report import to_table
    from edgesr.report.models_table import failure_notes
    from edgesr.report.rows import notes
    from edgesr.report.table import models_table, time_tables
    from edgesr.report.time_rows import time_notes
    from edgesr.report.verdict import verdict

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    console.print(models_table(report) or to_table(report))
    console.print()
    for table in time_tables(report):
        console.print(table)
        console.print()
    if not report["validity"]["valid"]:
        console.print(Text(f"· {verdict(report)[1]}"))
    for note in [*failure_notes(report), *notes(report), *time_notes(report)]:
        console.print(Text(f"· {note}"))
