"""Outputs are whole or absent, and nothing is overwritten unasked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgesr.atomic import (
    atomic_file,
    atomic_folder,
    check_writable,
    refuse_overwrite,
    write_bytes,
    write_text,
)
from edgesr.errors import WouldOverwrite, WriteFailed


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.png"
    with atomic_file(target) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == target.parent
        temporary.write_bytes(b"x")
        assert not target.exists()
    assert names(tmp_path) == ["new", "new/deep", "new/deep/a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_failure_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    expected = WriteFailed if error is OSError else error
    with pytest.raises(expected), atomic_file(target) as temporary:
        temporary.write_text("new")
        raise error("stop")
    assert target.read_text() == "old"
    with pytest.raises(expected), atomic_file(tmp_path / "b" / "c.txt"):
        raise error("stop")
    with pytest.raises(expected), atomic_folder(tmp_path / "d" / "e") as folder:
        (folder / "f").write_text("new")
        raise error("stop")
    assert names(tmp_path) == ["a.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "ü")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "ours").read_bytes() == "ü".encode()


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "may write to"),
        (errno.EROFS, "read-only"),
        (errno.EIO, ""),
    ],
)
def test_system_errors_become_one_line(tmp_path: Path, number: int, hint: str) -> None:
    with pytest.raises(WriteFailed) as e, atomic_file(tmp_path / "a.png"):
        raise OSError(number, os.strerror(number), "/some/temporary/name")
    text = str(e.value)
    assert text.startswith(f"cannot write {tmp_path / 'a.png'}: {os.strerror(number)}")
    assert hint in text
    assert "\n" not in text
    assert "temporary" not in text
    assert names(tmp_path) == []


def test_folders_and_devices_are_no_targets(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="name a file"):
        write_bytes(tmp_path, b"x")
    with pytest.raises(WriteFailed, match="name a file"):
        write_bytes(Path("/dev/null"), b"x")
    assert not Path("/dev/null").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="name a folder"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(WriteFailed, match="not a folder"):
        write_bytes(tmp_path / "file" / "a.png", b"x")
    with pytest.raises(WriteFailed, match="not a folder"):
        write_bytes(tmp_path / "file" / "deeper" / "a.png", b"x")
    with pytest.raises(WriteFailed, match="not a folder"), atomic_folder(tmp_path / "file" / "d"):
        pass
    assert names(tmp_path) == ["file"]


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for name in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / name).write_text(name)
    assert names(tmp_path) == ["run", "run/two"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A real refusal by the system: files may not grow beyond 4 kB in the child."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from edgesr.atomic import write_bytes\n"
        "from edgesr.errors import WriteFailed\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_bytes(Path(sys.argv[1]), b'x' * 9000)\n"
        "except WriteFailed as e: print(e)\n"
    )
    target = tmp_path / "a.bin"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"cannot write {target}: File too large")
    assert names(tmp_path) == []


def test_overwriting_is_refused(tmp_path: Path) -> None:
    file, folder, link = tmp_path / "f", tmp_path / "d", tmp_path / "l"
    refuse_overwrite(file, yes=False)
    folder.mkdir()
    refuse_overwrite(folder, yes=False)  # empty
    file.write_text("")
    (folder / "x").write_text("")
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, folder, link):
        with pytest.raises(WouldOverwrite, match="exists already; -y overwrites it"):
            refuse_overwrite(path, yes=False)
        refuse_overwrite(path, yes=True)


def test_a_trial_of_writing_leaves_nothing_and_tells_what_would_fail(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("old")
    for path in (there, tmp_path / "new" / "deep" / "a.json"):
        check_writable(path)
    assert names(tmp_path) == ["there.json"] and there.read_text() == "old"
    for path, says in ((there / "a.json", "a file, not a folder"), (tmp_path, "it is a folder")):
        with pytest.raises(WriteFailed, match=says):
            check_writable(path)
    assert names(tmp_path) == ["there.json"]
