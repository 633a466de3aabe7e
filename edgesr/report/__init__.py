"""Reports: one JSON record, and Markdown, HTML, CSV and a terminal table as functions of it."""

from collections.abc import Callable

from edgesr.report.csv import samples_to_csv, to_csv
from edgesr.report.markdown import markdown_table, to_markdown
from edgesr.report.record import SCHEMA, Report, complete, dumps, read, write
from edgesr.report.table import to_table
from edgesr.report.web import to_html

# What a report can be written as, by the name of the option.
FORMS: dict[str, Callable[[Report], str]] = {
    "json": dumps,
    "html": to_html,
    "md": to_markdown,
    "csv": to_csv,
    "csv-samples": samples_to_csv,
}

__all__ = [
    "FORMS",
    "SCHEMA",
    "Report",
    "complete",
    "dumps",
    "markdown_table",
    "read",
    "samples_to_csv",
    "to_csv",
    "to_html",
    "to_markdown",
    "to_table",
    "write",
]
