"""What /proc and /sys tell of this machine; `root` is the folder that they are in."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """The file's text on one line, NULs taken for spaces; empty where it cannot be read."""
    return " ".join(_raw(path).replace("\0", " ").split())


def processor(root: Path) -> str:
    """The processor's name from /proc/cpuinfo; empty where it has none."""
    for line in _raw(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            return value.strip()
    return ""


def memory_bytes(root: Path, field: str) -> int | None:
    """A size from /proc/meminfo (`MemTotal`), in bytes: its "kB" are KiB; None if not there."""
    for line in _raw(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if key == field and words and words[0].isdigit():
            return int(words[0]) * 1024
    return None


def _raw(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
