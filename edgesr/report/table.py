"""A report on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgesr.report import models_table as lines
from edgesr.report import rows, time_rows

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


def models_table(report: dict[str, Any]) -> Table | None:
    """A line for each model, also for those that failed; None unless `--models` asked for it."""
    if not lines.is_asked_for(report):
        return None
    return figures_table(lines.HEADERS, lines.table_rows(report))


def time_tables(report: dict[str, Any]) -> Iterator[Table]:
    """Times of whole pictures, then frames a second by batch, as far as they were measured."""
    if body := time_rows.time_rows(report):
        named = {"network": "network\nms", "whole call": "whole call\nms",
                 "file to file": "file to file\nms"}  # fmt: skip
        yield figures_table([named.get(head, head) for head in time_rows.TIME_HEADERS], body)
    if body := time_rows.throughput_rows(report):
        heads = [head.replace("best, ", "best\n") for head in time_rows.THROUGHPUT_HEADERS]
        heads[2] = f"frames/s\n{heads[2]}"
        yield figures_table(heads, body)


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
