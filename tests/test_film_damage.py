"""Films with bytes changed, lost or added: a film or one line, never a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from films import RATE, enlarge, make_film, read, scale_size

from edgesr.errors import EdgeSRError
from edgesr.film import FilmOptions, upscale_film

KINDS = {
    ".mp4": {"subtitles": "mov_text", "chapters": True},
    ".mkv": {"subtitles": "subrip"},
    ".webm": {"codec": "libvpx-vp9", "sound": "libopus"},
    ".ts": {"codec": "mpeg2video", "sound": "mp2", "time_base": 1 / RATE, "times": range(8)},
}
TRIES = 12


def damaged(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(data))
        how = rng.random()
        if how < 0.6:
            data[at] = rng.randrange(256)
        elif how < 0.75:
            del data[at : at + rng.randint(1, 40)]
        elif how < 0.9:
            data[at:at] = rng.randbytes(rng.randint(1, 40))
        else:
            del data[max(50, at) :]
    return data


@pytest.mark.parametrize("suffix", KINDS)
def test_damaged_films_end_in_a_film_or_a_line(tmp_path: Path, suffix: str) -> None:
    seed = make_film(tmp_path / f"seed{suffix}", frames=8, **KINDS[suffix])
    rng = random.Random(suffix)
    source, output = tmp_path / f"in{suffix}", tmp_path / "out.mkv"
    for _ in range(TRIES):
        source.write_bytes(damaged(bytearray(seed.read_bytes()), rng))
        try:
            result = upscale_film(source, output, enlarge, scale_size, FilmOptions(yes=True))
            assert len(read(output).times) == result.frames > 0
        except EdgeSRError as e:
            assert "\n" not in str(e)
            assert not output.exists()
        output.unlink(missing_ok=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted((seed.name, source.name))
