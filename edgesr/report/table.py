"""A report on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgesr.report import rows

if TYPE_CHECKING:
    from rich.table import Table


# Broken or shortened so that the table fits into 80 columns.
_NARROW = {"parameters": "params", "peak MB": "peak\nMB", "J/frame": "J/\nframe"}


def to_table(report: dict[str, Any]) -> Table:
    """The summary as a rich table: a row for each model.

    Where it is too wide names of models go over several lines; figures are never cut.
    """
    heads = [_NARROW.get(header, header) for header in rows.HEADERS]
    return figures_table(heads, rows.summary_rows(report))


def figures_table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> Table:
    """A rich table of names and figures: only the names, in the first column, are folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for number, head in enumerate(heads):
        figure = number > 0
        justify: Literal["left", "right"] = "right" if figure else "left"
        table.add_column(head, justify=justify, no_wrap=figure, overflow="fold")
    for cells in body:
        table.add_row(*(Text(cell) for cell in cells))
    return table
