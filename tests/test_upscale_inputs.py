"""Which pictures are found, which outputs are there already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgesr.errors import BadImage, WouldOverwrite
from edgesr.image import Picture, write
from edgesr.upscaling.inputs import Source, find, natural
from edgesr.upscaling.options import FORMATS, Options
from edgesr.upscaling.outputs import Outputs, why_skip
from edgesr.upscaling.results import Failed
from tests.upscale_world import noise, pictures


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def found(*arguments: object, avoid: Path | None = None) -> list[str]:
    sources = find([str(a) for a in arguments], avoid).sources
    return [str(s) if isinstance(s, Source) else f"failed {s.source}" for s in sources]


def test_natural_order() -> None:
    names = ["b.png", "IMG10.png", "img2.png", "img2_x4.png", "a1.png", "a01.png", "img1.5.png"]
    assert sorted(names, key=natural) == [
        "a01.png", "a1.png", "b.png", "img1.5.png", "img2.png", "img2_x4.png", "IMG10.png"
    ]  # fmt: skip


def test_a_folder_with_all_below_it(tmp_path: Path) -> None:
    tree(tmp_path, "p10.png", "p2.JPG", "film.mp4", "sub/deep/q.webp", "sub/r.tif", "notes.txt",
         ".hidden.png", ".hidden/h.png", "sub/Thumbs.db", "empty/readme")  # fmt: skip
    result = find([str(tmp_path)])
    assert [
        (s.path.relative_to(tmp_path).as_posix(), s.below.as_posix(), s.film)
        for s in result.sources
        if isinstance(s, Source)
    ] == [
        ("film.mp4", ".", True),
        ("p2.JPG", ".", False),
        ("p10.png", ".", False),
        ("sub/r.tif", "sub", False),
        ("sub/deep/q.webp", "sub/deep", False),
    ]
    assert result.others == 3


def test_several_folders_keep_their_names(tmp_path: Path) -> None:
    tree(tmp_path, "one/a.png", "two/a.png", "two/in/b.png")
    sources = find([str(tmp_path / "one"), str(tmp_path / "two")]).sources
    assert [s.below.as_posix() for s in sources if isinstance(s, Source)] == [
        "one", "two", "two/in"
    ]  # fmt: skip


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "in/a2.png", "in/a10.png", "in/x/a3.png", "in/x/y/b.png", "in/x/n.txt",
         "in/.a.png")  # fmt: skip
    assert found(tmp_path / "in/a*.png") == [str(tmp_path / f"in/a{n}.png") for n in (2, 10)]
    result = find([str(tmp_path / "in/**/*")])
    assert [s.below.as_posix() for s in result.sources if isinstance(s, Source)] == [
        ".", ".", "x", "x/y"
    ]  # fmt: skip
    assert result.others == 1
    monkeypatch.chdir(tmp_path)
    assert found("in/*/*.png") == ["in/x/a3.png"]
    (tmp_path / "in/a[1].png").write_text("")  # a name, though it looks like a pattern
    assert found("in/a[1].png") == ["in/a[1].png"]


def test_each_comes_once_in_the_order_given(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    b, a = tmp_path / "b.png", tmp_path / "a.png"
    assert found(b, tmp_path, tmp_path / "*.png", a) == [str(b), str(a)]


def test_the_output_folder_is_not_read(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "out/a_x4.png", "out/sub/b_x4.png", "outer/c.png")
    assert found(tmp_path, avoid=tmp_path / "out") == [
        str(tmp_path / "a.png"), str(tmp_path / "outer/c.png")
    ]  # fmt: skip
    assert found(tmp_path / "**/*.png", avoid=tmp_path / "out") == found(
        tmp_path, avoid=tmp_path / "out"
    )
    # The folder itself, or one above it, hides nothing.
    for above in (tmp_path, tmp_path.parent):
        assert len(found(tmp_path, avoid=above)) == 4
        assert len(found(tmp_path / "**/*.png", avoid=above)) == 4


def test_links(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "away/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/b.png").symlink_to(tmp_path / "away/b.png")
    assert found(tmp_path / "in") == [str(tmp_path / "in/a.png"), str(tmp_path / "in/b.png")]


def test_nothing_found(tmp_path: Path) -> None:
    tree(tmp_path, "empty/n.txt", "a.png")
    for argument, why in (("empty", "no pictures or films in it"), ("*.webp", "matches no")):
        with pytest.raises(BadImage, match=why):
            find([str(tmp_path / argument)])
    both = find([str(tmp_path / "empty"), str(tmp_path / "a.png")]).sources
    assert [type(s) for s in both] == [Failed, Source]
    assert found(tmp_path / "missing.png") == [str(tmp_path / "missing.png")]  # reading it tells


def test_two_sources_never_go_to_one_output(tmp_path: Path) -> None:
    outputs, first = Outputs(), Source(tmp_path / "a.png")
    outputs.claim(first, tmp_path / "a_x4.png")
    outputs.claim(first, tmp_path / "a_x4.png")
    with pytest.raises(WouldOverwrite, match=r"a\.jpg: its output .*a_x4\.png is that of .*a\.png"):
        outputs.claim(Source(tmp_path / "a.jpg"), tmp_path / "sub" / ".." / "a_x4.png")
    assert outputs.maker_of(Source(tmp_path / "a_x4.png")) == first
    assert outputs.maker_of(first) is None


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_done(tmp_path: Path, suffix: str) -> None:
    """Whole, newer than its source, and of the right size: nothing else counts as done."""
    pictures(tmp_path, "a.png")
    source, output, size = tmp_path / "a.png", tmp_path / f"a_x4.{suffix}", (24, 24)
    options = Options(resume=True)
    assert why_skip(source, output, size, options) == ""
    write(output, Picture(noise(*size, 3)))
    assert why_skip(source, output, size, options) == "done already"
    with pytest.raises(WouldOverwrite, match="exists already; -y"):
        why_skip(source, output, size, Options())
    whole = output.read_bytes()

    def refused(why: str, size: tuple[int, int] = size) -> None:
        with pytest.raises(WouldOverwrite, match=f"exists already and {why}; -y makes it again"):
            why_skip(source, output, size, options)
        assert why_skip(source, output, size, Options(resume=True, yes=True)) == ""

    refused("is 24x24, not 48x48", (48, 48))
    late = source.stat().st_mtime + 100
    os.utime(source, (late, late))
    refused("is older than its source")
    os.utime(source, (1, 1))
    output.write_bytes(b"")
    refused("is not whole")
    output.write_bytes(whole[:-20])
    refused("is not whole")
