"""How `edgesr upscale` shows its work: lines or JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import typer

from edgesr.progress import EVERY_S, duration, progress

if TYPE_CHECKING:
    from edgesr.progress import Progress
    from edgesr.upscaling.inputs import Source
    from edgesr.upscaling.results import Done, Failed, Outcome, Planned, Skipped

_LISTED = 20  # failures that the summary names
_SEEN = 10  # inputs whose lines are on the screen together


class TileBars:
    """Progress within one picture or film, where it takes more than one step."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> TileBars:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar = None
        self._stack.__exit__(*error)

    def tiles(self, name: str, done: int, total: int) -> None:
        """`done` of the `total` tiles of a picture are there."""
        if total > 1:
            self._shown(name, total, done)

    def frames(self, name: str, done: int, total: int | None, fps: float) -> None:
        """`done` of the `total` frames of a film are there (None: nobody knows how many)."""
        self._shown(name, total, done).note(f"{fps:.1f} frames/s")

    def close(self) -> None:
        """The picture is done."""
        self._bar = None
        self._stack.close()

    def _shown(self, name: str, total: int | None, done: int) -> Progress:
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(total, name))
        self._bar.advance(done - self._bar.done)
        return self._bar


class Report:
    """Shows outcomes as they come, and adds them up. `total` None shows no progress."""

    def __init__(self, as_json: bool, total: int | None, *, many: bool) -> None:
        self._json, self._total, self._many = as_json, total, many
        self._start = self._last = time.monotonic()
        self._counts = dict.fromkeys(("done", "planned", "skipped", "failed"), 0)
        self._failures: list[Failed] = []
        self._inner, self._stack = TileBars(), ExitStack()
        self._bar: Progress | None = None
        self._stdout = sys.stdout  # rich redirects it to its own while a bar is shown
        self.made: list[str] = []  # sources of pictures that were written

    def __enter__(self) -> Report:
        self._stack.enter_context(self._inner)
        if self._many and self._total is not None and sys.stderr.isatty():
            self._bar = self._stack.enter_context(progress(self._total, "upscale"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def tiles(self, source: Source, done: int, total: int) -> None:
        """Progress within a picture; of many it is shown on a terminal only."""
        if self._bar is not None or not self._many:
            self._inner.tiles(source.path.name, done, total)

    def frames(self, source: Source, done: int, total: int | None, fps: float) -> None:
        """Progress within a film."""
        self._inner.frames(source.path.name, done, total, fps)

    def show(self, outcome: Outcome) -> None:
        """One more input is done with."""
        from edgesr.upscaling.results import Done, Failed

        self._inner.close()
        kind = type(outcome).__name__.lower()
        self._counts[kind] += 1
        if isinstance(outcome, Done) and outcome.frames is None:
            self.made.append(outcome.source)
        if isinstance(outcome, Failed):
            self._failures.append(outcome)
            typer.echo(f"edgesr: {outcome.error}", err=True)
        if self._json:
            self._print(json.dumps({"event": kind, **_AS_JSON[kind](outcome)}))
        elif kind != "failed":
            self._print(_AS_LINE[kind](outcome))
        self._advance()

    def end(self, others: int) -> None:
        """The summary, where there were several inputs."""
        self._stack.close()
        self._bar = None
        if not self._many:
            return
        seconds = time.monotonic() - self._start
        if self._json:
            counts = {k: n for k, n in self._counts.items() if n or k != "planned"}
            rest = {"others": others, "seconds": round(seconds, 3)}
            self._print(json.dumps({"event": "summary", **counts, **rest}))
        typer.echo(f"edgesr: {self._summary()}; {seconds:.1f} s{_ignored(others)}", err=True)
        if sum(self._counts.values()) > _SEEN:  # else the failures are in sight
            for failure in self._failures[:_LISTED]:
                typer.echo(f"  failed: {failure.error}", err=True)
            if len(self._failures) > _LISTED:
                typer.echo(f"  failed: {len(self._failures) - _LISTED} more", err=True)

    def leave(self) -> None:
        """Exit with 1 when any failed; with its own code when there was only that one input."""
        if self._failures:
            raise typer.Exit(1 if self._many else self._failures[0].error.exit_code)

    def interrupted(self) -> str:
        """What an interruption leaves."""
        if not self._many:
            return "nothing was written"
        left = f" of {self._total}" if self._total is not None else ""
        return f"{self._counts['done']}{left} done; the same command with --resume goes on"

    def _summary(self) -> str:
        counted = [(n, kind) for kind, n in self._counts.items() if n or kind == "done"]
        if self._counts["planned"] or self._total is None:
            counted = [(n, kind) for kind, n in self._counts.items() if n]
        return ", ".join(f"{n} {kind}" for n, kind in counted) or "nothing to do"

    def _advance(self) -> None:
        if not self._many or self._total is None:
            return
        done, now = sum(self._counts.values()), time.monotonic()
        rate = done / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.note(f"{rate:.1f}/s")
            self._bar.advance()
        elif now - self._last >= EVERY_S and done < self._total:
            self._last = now
            left = duration((self._total - done) / rate)
            typer.echo(f"edgesr: {done}/{self._total}, {rate:.1f}/s, {left} left", err=True)

    def _print(self, line: str) -> None:
        # Above the bar where both are on one terminal, else to where stdout really goes.
        together = self._stdout.isatty() and self._bar is not None
        typer.echo(line, file=None if together else self._stdout)


def _done_line(d: Done) -> str:
    size = f"{d.width}x{d.height} → {d.new_width}x{d.new_height}"
    how = " streamed," if d.streamed else ""
    if d.frames is None:
        return f"{d.output}  {size} {how} {d.total_s:.2f} s (network {d.network_s:.2f} s)"
    rate = f", {d.fps:.1f} frames/s" if d.fps else ""
    live = f" of {d.source_fps:.1f}, {d.dropped} dropped" if d.source_fps else ""
    line = f"{d.output}  {size}  {d.frames} frames in {duration(d.total_s)}{rate}{live}"
    return "\n".join((line, *(f"  {note}" for note in d.notes)))


def _planned_line(p: Planned) -> str:
    size = f"{p.width}x{p.height} → {p.new_width}x{p.new_height}"
    parts = [f"{p.source} → {p.output}  {size}"]
    if p.tile is not None and p.memory_bytes is not None:
        from edgesr.enlarge.memory import megabytes

        parts.append(f"tiles of {p.tile[1]}x{p.tile[0]}, {megabytes(p.memory_bytes)}")
    parts += ["streamed"] * p.streamed + ["overwrites"] * p.overwrites
    return "  ".join(parts[:1]) + ("  " + ", ".join(parts[1:]) if parts[1:] else "")


def _skipped_line(s: Skipped) -> str:
    return f"{s.output}  skipped: {s.reason}"


def _ignored(others: int) -> str:
    plural = "s are" if others > 1 else " is"
    return f"; {others} other file{plural} no picture or film" if others else ""


def _done_json(d: Done) -> dict[str, Any]:
    found: dict[str, Any] = {
        "input": d.source, "output": d.output, "width": d.new_width, "height": d.new_height,
        "scale": d.scale, "network_s": round(d.network_s, 6), "total_s": round(d.total_s, 6),
        "streamed": d.streamed,
    }  # fmt: skip
    if d.frames is not None:
        found |= {"frames": d.frames, "fps": d.fps, "notes": list(d.notes)}
    if d.source_fps is not None:
        found |= {"source_fps": d.source_fps, "dropped": d.dropped}
    return found


def _planned_json(p: Planned) -> dict[str, Any]:
    return {
        "input": p.source, "output": p.output, "width": p.new_width, "height": p.new_height,
        "tile": list(p.tile[::-1]) if p.tile else None, "memory_bytes": p.memory_bytes,
        "streamed": p.streamed, "overwrites": p.overwrites,
    }  # fmt: skip


def _skipped_json(s: Skipped) -> dict[str, Any]:
    return {"input": s.source, "output": s.output, "reason": s.reason}


def _failed_json(f: Failed) -> dict[str, Any]:
    return {"input": f.source, "error": str(f.error), "exit_code": f.error.exit_code}


_AS_LINE: dict[str, Any] = {"done": _done_line, "planned": _planned_line, "skipped": _skipped_line}
_AS_JSON: dict[str, Any] = {
    "done": _done_json, "planned": _planned_json, "skipped": _skipped_json, "failed": _failed_json,
}  # fmt: skip
