"""Writes what people read from a record: the chart, and the tables in README files.

    python -m benchmarks.peers.render RECORD --png docs/pareto.png --readme README.md

A README is changed only between its marker lines (`benchmarks.peers.table`). `--check` writes
nothing and fails when a README is not what the record gives.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.peers import figures, table
from edgesr import atomic
from edgesr.errors import EdgeSRError


def main(arguments: list[str] | None = None) -> int:
    """Render what was asked for; 1 with one line on an error or, with `--check`, a difference."""
    args = _arguments(arguments)
    try:
        record = figures.read(args.record)
        stale = [path for path in args.readme if not _readme(path, record, args.check)]
        if stale:
            names = ", ".join(map(str, stale))
            print(f"render: {names}: not what the record gives; render again", file=sys.stderr)
            return 1
        if args.png and not args.check:
            from benchmarks.peers import plot

            atomic.write_bytes(args.png, plot.png(record))
    except (EdgeSRError, OSError) as e:
        print(f"render: {e}", file=sys.stderr)
        return 1
    if not args.readme and not args.png:
        print(table.full_table(record))
    return 0


def _readme(path: Path, record: dict[str, object], check: bool) -> bool:
    text = path.read_text(encoding="utf-8")
    filled = table.fill(text, record)
    if not check:
        atomic.write_text(path, filled)
    return not check or filled == text


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--png", type=Path, help="chart to write")
    parser.add_argument("--readme", type=Path, nargs="+", default=[], help="files with a section")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
