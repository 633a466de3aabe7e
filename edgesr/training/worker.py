"""One worker of a distributed run: `edgesr` itself, which tells its launcher two things.

horovodrun passes no exit code on, and after a loss another process becomes rank 0. So a worker
writes lines of its own to stderr: which rank it has, and how it ended. The launcher
(`edgesr.training.launch`) reads them and shows none. Run by hand or by the user's own
horovodrun, there is no launcher and no such line.
"""

from __future__ import annotations

import os
import runpy
import sys

MARK = "#edgesr-worker"
LAUNCHED = "EDGESR_LAUNCHED"  # set in the environment of workers that have a launcher


def tell_launcher(word: str, value: int) -> None:
    """Write the line `#edgesr-worker WORD VALUE` to stderr, if a launcher reads it."""
    if LAUNCHED in os.environ:
        print(f"{MARK} {word} {value}", file=sys.stderr, flush=True)


def exit_status(code: object) -> int:
    """What the interpreter makes of the argument of SystemExit."""
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def main() -> int:
    """Run `python -m edgesr` with this process's arguments; the status for horovodrun.

    It is 0 when rank 0 ended by its own decision, whatever its exit code: for horovodrun
    another status is a lost worker, whose work the others would take up again. An exception
    that nobody expected passes through, and does make this a lost worker.
    """
    code = 0
    try:
        runpy.run_module("edgesr", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = exit_status(stop.code)
    tell_launcher("exit", code)
    return 0 if os.environ.get("HOROVOD_RANK") == "0" else code


if __name__ == "__main__":
    sys.exit(main())
