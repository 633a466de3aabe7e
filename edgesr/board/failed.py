"""How the builder says that something cannot be done."""

import sys


class Failed(Exception):
    """One line that says what is wrong and what to do."""

    exit_code = 1


class NoTensorRT(Failed):
    """TensorRT cannot be used on this machine."""

    exit_code = 4


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)
