"""Reports: one JSON record, and Markdown, HTML and a terminal table as functions of it."""

from edgesr.report.markdown import markdown_table, to_markdown
from edgesr.report.record import SCHEMA, Report, complete, dumps, read, write
from edgesr.report.table import to_table
from edgesr.report.web import to_html

__all__ = [
    "SCHEMA",
    "Report",
    "complete",
    "dumps",
    "markdown_table",
    "read",
    "to_html",
    "to_markdown",
    "to_table",
    "write",
]
