"""What `edgesr upscale` does once its options are found good: one function for each way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgesr.cli.upscale_checks import Asked, check_found
from edgesr.cli.upscale_output import Report, TileBars

if TYPE_CHECKING:
    from edgesr.upscaling.comparing import Comparison
    from edgesr.upscaling.inputs import Found
    from edgesr.upscaling.options import Options

_PAGE = "compare.html"


def batch(asked: Asked) -> None:
    """Files, folders and patterns; exits with 1 when any failed, of one input with its own code."""
    from edgesr.upscaling.batch import upscale_files

    options = asked.options()
    found = _found(asked, options)
    comparison, page = _comparison(asked, options)
    many = asked.is_many
    with _terminated(), Report(asked.as_json, len(found.sources), many=many) as report:
        outcomes = upscale_files(
            found.sources,
            options,
            asked.network,
            runtime=asked.runtime,
            on_tiles=report.tiles,
            on_frames=report.frames,
            on_pair=comparison.add if comparison else None,
        )
        with closing(outcomes), _how_to_go_on(report):
            for outcome in outcomes:
                report.show(outcome)
        report.end(found.others)
    if comparison is not None and page is not None and report.made:
        from edgesr.atomic import write_text

        write_text(page, comparison.page(report.made, asked.network))
        typer.echo(f"edgesr: {page} shows bicubic beside the result", err=True)
    report.leave()


def dry_run(asked: Asked) -> None:
    """What `batch` would do."""
    from edgesr.upscaling.batch import plan_files

    options = asked.options()
    found = _found(asked, options)
    with _terminated(), Report(asked.as_json, None, many=asked.is_many) as report:
        for outcome in plan_files(found.sources, options, asked.network, runtime=asked.runtime):
            report.show(outcome)
        report.end(found.others)
    report.leave()


def standard(asked: Asked) -> None:
    """One picture through standard input or output."""
    from edgesr.upscaling.standard import upscale_standard

    to_stdout = str(asked.out or "-") == "-"
    if to_stdout and sys.stdout.isatty():
        raise typer.BadParameter(
            "a picture is no text for a terminal: add > FILE, or -o FILE", param_hint="-o"
        )
    with _terminated(), TileBars() as bars:
        upscale_standard(
            asked.inputs[0],
            asked.options(),
            sys.stdin.buffer,
            sys.stdout.buffer,
            asked.network,
            runtime=asked.runtime,
            on_tiles=lambda done, total: bars.tiles(asked.inputs[0], done, total),
        )


def live(asked: Asked) -> None:
    """A film of a camera or stream."""
    from edgesr.upscaling.batch import upscale_live

    with _terminated(), Report(asked.as_json, None, many=False) as report:
        done = upscale_live(
            asked.inputs[0],
            asked.options(),
            asked.network,
            runtime=asked.runtime,
            max_frames=asked.frames,
            max_seconds=asked.seconds,
            on_frames=report.frames,
        )
        report.show(done)


def _found(asked: Asked, options: Options) -> Found:
    from edgesr.upscaling.inputs import find

    found = find(asked.inputs, avoid=options.out if options.many else None)
    check_found(asked, found)
    return found


def _comparison(asked: Asked, options: Options) -> tuple[Comparison | None, Path | None]:
    """The page to make, and where it goes: refused now rather than after the work."""
    if not asked.compare:
        return None, None
    from edgesr.atomic import check_writable, refuse_overwrite
    from edgesr.upscaling.comparing import Comparison
    from edgesr.upscaling.outputs import is_folder

    page = asked.page
    if page is None:
        out, first = options.out, Path(asked.inputs[0])
        if out is not None:
            folder = out if is_folder(out, options.many) else out.parent
        else:
            folder = first if first.is_dir() else first.parent
        page = folder / _PAGE
    refuse_overwrite(page, options.yes)
    check_writable(page)
    return Comparison(), page


@contextmanager
def _how_to_go_on(report: Report) -> Iterator[None]:
    """Say with an interruption what is finished; `cli.main` ends it."""
    try:
        yield
    except KeyboardInterrupt as e:
        own = str(e)  # a film says how itself
        raise KeyboardInterrupt(own or report.interrupted()) from e


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
