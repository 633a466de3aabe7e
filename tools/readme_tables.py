"""Write the benchmark tables of the README and the guides from the recorded runs.

    python tools/readme_tables.py [--check] [FILE…]

Between `<!-- bench:begin NAME.json -->` and `<!-- bench:end -->` stands the summary of the
record benchmarks/results/NAME.json, recomputed from its samples. With --check nothing is
written: what differs is named, and the exit code is 1. A test runs it so.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: its neighbours are modules of the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgesr import atomic
from edgesr.errors import BadConfig, EdgeSRError
from edgesr.report import markdown_table, read
from edgesr.report.rows import HEADERS, summary_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(
    r"(?P<begin><!-- bench:begin (?P<name>[^\s/]+\.json) -->\n)"
    r"(?P<body>.*?)(?P<end><!-- bench:end -->)",
    re.S,
)
_MARK = re.compile(r"<!-- bench:(?:begin|end)\b")


def pages() -> list[Path]:
    """The README and the guides."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def renewed(text: str, results: Path = RESULTS) -> str:
    """`text` with every table between the marks made anew.

    Raises `BadConfig` for a mark without its other one, or a record that cannot be read.
    """
    if len(_MARK.findall(text)) != 2 * len(_BLOCK.findall(text)):
        raise BadConfig("a mark bench:begin NAME.json or bench:end stands without its other one")
    return _BLOCK.sub(lambda m: m["begin"] + _table(results / m["name"]) + m["end"], text)


def _table(record: Path) -> str:
    """The summary with an empty line above and below, so that Markdown takes it for a table."""
    return f"\n{markdown_table(HEADERS, summary_rows(read(record)))}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all is as it should be, or was written; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    asked = parser.parse_args(arguments)
    code = 0
    for path in asked.files or pages():
        try:
            text = path.read_text(encoding="utf-8")
            new = renewed(text)
        except (OSError, EdgeSRError) as e:
            print(f"error: {path}: {e}", file=sys.stderr)
            code = 1
            continue
        if new == text:
            continue
        if asked.check:
            print(f"{path}: not what the records give; run python tools/readme_tables.py")
            code = 1
        else:
            atomic.write_text(path, new)
            print(f"written: {path}")
    return code


if __name__ == "__main__":
    sys.exit(main())
