"""The first inputs of the fuzz run in benchmarks/fuzz, which has 20,000 of each format."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz.images import FORMATS, made, run
from benchmarks.fuzz.seeds import seeds
from edgesr import image
from edgesr.errors import BadImage
from edgesr.image.opening import has_avif


@pytest.mark.parametrize("fmt", FORMATS)
def test_damaged_files_are_refused_or_are_pictures(tmp_path: Path, fmt: str) -> None:
    if fmt == "AVIF" and not has_avif():
        pytest.skip("this Pillow has no AVIF")
    tally = run(fmt, 300, tmp_path / "kept")
    assert tally.failures == []
    assert tally.inputs == 300
    assert tally.decoded + sum(tally.refused.values()) == 300
    assert tally.decoded > 10 and len(tally.refused) > 1  # neither is all there is
    assert not (tmp_path / "kept").exists()


def test_an_input_is_made_again_from_its_number() -> None:
    assert made("PNG", 7) == made("PNG", 7) != made("PNG", 8)


def test_seeds_are_sound() -> None:
    for kinds in seeds().values():
        for kind, data in kinds.items():
            if kind in ("animation", "pages"):
                continue
            assert image.decode(data, kind).pixels.size


def test_a_worker_that_dies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of memory too low for anything stands for a decoder that crashes."""
    from benchmarks.fuzz import images

    monkeypatch.setattr(images.sys, "executable", "false")
    tally = run("BMP", 2, tmp_path)
    assert [text.split(":")[0] for text in tally.failures] == ["BMP 0", "BMP 1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bmp-0", "bmp-1"]
    with pytest.raises(BadImage):
        image.read(tmp_path / "none")
