"""A report on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgesr.report import rows

if TYPE_CHECKING:
    from rich.table import Table


# Broken or shortened so that the table fits into 80 columns.
_NARROW = {"parameters": "params", "peak MB": "peak\nMB", "J/frame": "J/\nframe"}


def to_table(report: dict[str, Any]) -> Table:
    """The summary as a rich table: a row for each model.

    Where it is too wide names of models go over several lines; figures are never cut.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for number, header in enumerate(rows.HEADERS):
        figure = number > 0
        table.add_column(
            _NARROW.get(header, header),
            justify="right" if figure else "left",
            no_wrap=figure,
            overflow="fold",
        )
    for cells in rows.summary_rows(report):
        table.add_row(*(Text(cell) for cell in cells))
    return table
