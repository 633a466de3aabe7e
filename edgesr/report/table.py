"""A report on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgesr.report import rows

if TYPE_CHECKING:
    from rich.table import Table


def to_table(report: dict[str, Any]) -> Table:
    """The summary as a rich table: a row for each model."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(rows.HEADERS):
        table.add_column(header, justify="right" if number else "left", no_wrap=True)
    for cells in rows.summary_rows(report):
        table.add_row(*(Text(cell) for cell in cells))
    return table
