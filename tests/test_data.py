"""Photographs to batches: exact low resolution, aligned crops, reproducible by step."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgesr import config
from edgesr.errors import BadConfig, BadImage, WriteFailed
from edgesr.resize import downscale_bicubic
from edgesr.training import data
from edgesr.training.degrade import Degrader
from edgesr.training.recipe import Recipe
from edgesr.training.samples import NAMES, sample_folder
from edgesr.training.validate import held_out

SCALE = 4


@pytest.fixture
def folder(tmp_path: Path, photograph, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESR_CACHE", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("coffee", "rocket", "chelsea", "astronaut"):
        crop = photograph(name)[50:213, 60:225]
        cv2.imwrite(str(pictures / f"{name}.png"), crop[:, :, ::-1])
    cv2.imwrite(str(pictures / "grey.png"), photograph("coffee")[:120, :90, 1])
    return pictures


def test_a_pack_holds_the_pictures_and_their_low_resolution(folder: Path, photograph) -> None:
    paths = data.photographs(folder)
    assert [p.name for p in paths] == ["astronaut.png", "chelsea.png", "coffee.png", "grey.png",
                                       "rocket.png"]  # fmt: skip
    pack = data.open_pack(paths, SCALE)
    entry = pack.entries[0]
    expected = photograph("astronaut")[50:210, 60:224]  # cut to multiples of 4
    np.testing.assert_array_equal(pack.hr(entry), expected)
    np.testing.assert_array_equal(pack.lr(entry), downscale_bicubic(expected, SCALE))
    grey = pack.hr(pack.entries[3])
    assert grey.shape == (120, 88, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_a_pack_is_made_once_and_again_when_a_picture_changes(folder: Path) -> None:
    first = data.open_pack(data.photographs(folder), SCALE)
    stamp = (first.folder / "hr.bin").stat().st_mtime_ns
    again = data.open_pack(data.photographs(folder), SCALE)
    assert again.folder == first.folder
    assert (again.folder / "hr.bin").stat().st_mtime_ns == stamp
    (folder / "rocket.png").unlink()
    assert data.open_pack(data.photographs(folder), SCALE).folder != first.folder


def test_crops_of_all_three_pictures_are_of_the_same_place(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)
    pack.cache_teacher("fake", lambda lr: lr.repeat(SCALE, 0).repeat(SCALE, 1))
    batches = data.Batches(pack, patch=12, batch=6, seed=1, teacher=True)
    for step in range(5):
        batch = batches[step]
        assert batch.lr.shape == (6, 3, 12, 12)
        assert batch.hr.shape == (6, 3, 48, 48)
        assert batch.teacher is not None
        # The fake teacher repeats pixels, so its every fourth pixel is the low resolution
        # itself, in whatever way the crop was turned.
        assert (batch.teacher[:, :, ::4, ::4] == batch.lr).all()
        close = (batch.hr.mean((2, 3)) - batch.lr.mean((2, 3))).abs().max()
        assert close < 0.05


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)

    def batch(seed: int, step: int) -> np.ndarray:
        return data.Batches(pack, patch=8, batch=2, seed=seed, teacher=False)[step].hr.numpy()

    assert (batch(1, 7) == batch(1, 7)).all()
    assert (batch(1, 7) != batch(1, 8)).any()
    assert (batch(1, 7) != batch(2, 7)).any()


def test_all_eight_orientations_come_up(folder: Path) -> None:
    one = [p for p in data.photographs(folder) if p.name == "grey.png"]
    pack = data.open_pack(one, SCALE)
    side = min(pack.entries[0].height, pack.entries[0].width)
    batches = data.Batches(pack, patch=side, batch=1, seed=0, teacher=False)
    entry = pack.entries[0]
    seen = set()
    for step in range(150):
        got = (batches[step].lr[0].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        for y in range(entry.height - side + 1):
            for turn in range(4):
                for flip in (False, True):
                    want = np.rot90(pack.lr(entry)[y : y + side], turn)
                    if (got == (want[:, ::-1] if flip else want)).all():
                        seen.add((turn, flip))
    assert len(seen) == 8


def test_the_split_holds_out_every_nth_and_always_one() -> None:
    paths = [Path(f"{i}.png") for i in range(10)]
    train, held = data.split(paths, 4)
    assert [p.name for p in held] == ["3.png", "7.png"]
    assert not set(train) & set(held)
    assert len(train) == 8
    assert [p.name for p in data.split(paths[:3], 50)[1]] == ["2.png"]
    with pytest.raises(BadImage, match="at least 2"):
        data.split(paths[:1], 4)


def test_the_samples_are_photographs_and_leave_the_demos_unseen_ones_out(tmp_path: Path) -> None:
    folder = sample_folder(tmp_path / "samples")
    names = {p.stem for p in data.photographs(folder)}
    assert names == set(NAMES)
    assert not names & {"astronaut", "chelsea", "motorcycle_right"}
    stamp = folder.stat().st_mtime_ns
    assert sample_folder(folder).stat().st_mtime_ns == stamp


def test_exclusion_and_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    assert len(data.photographs(folder, ["c*", "grey.png"])) == 2
    with pytest.raises(BadImage, match="leaving out"):
        data.photographs(folder, ["*"])
    with pytest.raises(BadImage):
        data.photographs(tmp_path / "none")


def test_a_damaged_cache_is_one_line_that_names_the_folder(folder: Path) -> None:
    paths = data.photographs(folder)
    pack = data.open_pack(paths, SCALE)
    cached = pack.folder / "teacher-x.bin"
    cached.write_bytes(b"short")
    with pytest.raises(BadImage, match=r"teacher-x\.bin: damaged cache .* delete it"):
        pack.cache_teacher("x", lambda lr: lr)
    with (pack.folder / "hr.bin").open("ab") as f:
        f.write(b"more")
    with pytest.raises(BadImage, match=f"{pack.folder}: damaged cache .* delete that folder"):
        data.open_pack(paths, SCALE)
    (pack.folder / "lr.bin").unlink()
    with pytest.raises(BadImage, match="delete that folder"):
        data.open_pack(paths, SCALE)


def test_pictures_smaller_than_a_patch_are_left_out_or_shrink_it(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)
    sides = {e.name: min(e.height, e.width) for e in pack.entries}
    assert sides["grey.png"] == 22
    some = data.Batches(pack, patch=30, batch=1, seed=0, teacher=False)
    assert "grey.png" not in {e.name for e in some.entries}
    assert len(some.entries) == 4
    all_small = data.Batches(pack, patch=64, batch=1, seed=0, teacher=False)
    assert all_small.patch == max(sides.values())
    assert all_small[0].lr.shape == (1, 3, all_small.patch, all_small.patch)


def test_held_out_pictures_that_cannot_be_measured_are_left_out(folder: Path) -> None:
    small, flat = folder / "small.png", folder / "flat.png"
    cv2.imwrite(str(small), np.arange(31 * 80 * 3).reshape(31, 80, 3) % 251)
    cv2.imwrite(str(flat), np.full((64, 64, 3), 77, np.uint8))
    tiny = folder / "tiny.png"
    cv2.imwrite(str(tiny), np.zeros((3, 3, 3), np.uint8))
    good = folder / "coffee.png"
    pairs, unread = held_out([flat, good, small, tiny], SCALE)
    assert [p.name for p in pairs] == ["coffee.png"]
    assert unread == []
    with pytest.raises(BadImage, match=r"\(flat.png, small.png, tiny.png\)"):
        held_out([flat, small, tiny], SCALE)


def test_damaged_pictures_are_skipped_named_and_counted(folder: Path) -> None:
    whole = cv2.imencode(".jpg", cv2.imread(str(folder / "rocket.png")))[1].tobytes()
    cut, text, empty = folder / "cut.jpg", folder / "text.png", folder / "void.png"
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("not a picture")
    empty.write_bytes(b"")
    paths = data.photographs(folder)
    assert len(paths) == 8
    for _ in range(2):  # made, and found in the cache
        pack = data.open_pack(paths, SCALE)
        assert [e.name for e in pack.entries] == ["astronaut.png", "chelsea.png", "coffee.png",
                                                  "grey.png", "rocket.png"]  # fmt: skip
        assert len(pack.skipped) == 3
        for line, path in zip(pack.skipped, (cut, text, empty), strict=True):
            assert line.startswith(f"{path.name}: ") and "\n" not in line
    # What comes after a damaged picture lies where it should.
    expected = cv2.imread(str(folder / "rocket.png"))[:160, :164, ::-1]
    np.testing.assert_array_equal(pack.hr(pack.entries[4]), expected)
    pairs, unread = held_out([cut, folder / "coffee.png", text], SCALE)
    assert [p.name for p in pairs] == ["coffee.png"]
    assert [line.split(": ")[0] for line in unread] == [cut.name, text.name]
    with pytest.raises(BadImage, match="each is damaged"):
        data.open_pack([cut, text], SCALE)


def test_ranks_together_see_the_batch_of_one_process_with_all_of_it(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)
    pack.cache_teacher("fake", lambda lr: lr.repeat(SCALE, 0).repeat(SCALE, 1))

    def crops(batch: int, rank: int, size: int) -> data.Batches:
        return data.Batches(pack, patch=12, batch=batch, seed=5, teacher=True, rank=rank, size=size)

    whole, parts = crops(6, 0, 1), [crops(2, rank, 3) for rank in range(3)]
    for step in (0, 1, 999):
        expected, got = whole[step], [part[step] for part in parts]
        for name in ("lr", "hr", "teacher"):
            together = torch.cat([getattr(batch, name) for batch in got])
            assert torch.equal(together, getattr(expected, name)), name
        assert not torch.equal(got[0].lr, got[1].lr)


def test_deep_pictures_are_rounded_to_8_bit(folder: Path, tmp_path: Path, photograph) -> None:
    pixels = photograph("coffee")[:64, :64]
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), pixels[:, :, ::-1].astype(np.uint16) * 257)
    pack = data.open_pack([deep], SCALE)
    np.testing.assert_array_equal(pack.hr(pack.entries[0]), pixels)


def test_a_degraded_pack_is_another_pack_and_a_plain_one_keeps_its_place(folder: Path) -> None:
    paths = data.photographs(folder)
    plain = data.open_pack(paths, SCALE)
    # The key as it was before there were degradations: caches of days must be found again.
    text = "".join(f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}\n" for p in paths)
    key = hashlib.sha256(f"pack 1 scale {SCALE}{text}".encode()).hexdigest()[:16]
    assert plain.folder.name == key
    assert data.open_pack(paths, SCALE, None).folder == plain.folder
    packs = [data.open_pack(paths, SCALE, Degrader("web", seed)) for seed in (0, 1)]
    assert len({p.folder for p in (plain, *packs)}) == 3
    for seed, pack in enumerate(packs):
        for entry in pack.entries:
            hr = pack.hr(entry)
            np.testing.assert_array_equal(hr, plain.hr(entry))
            want = Degrader("web", seed)(hr, SCALE, entry.name)
            np.testing.assert_array_equal(pack.lr(entry), want)
            assert (pack.lr(entry) != plain.lr(entry)).any()


class Slow:
    """A teacher that repeats pixels, counts its pictures, and breaks after `last` of them."""

    def __init__(self, last: int = 99, error: BaseException | None = None) -> None:
        self.seen, self.last, self.error = 0, last, error or KeyboardInterrupt()

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        if self.seen == self.last:
            raise self.error
        self.seen += 1
        return lr.repeat(SCALE, 0).repeat(SCALE, 1)


def test_an_interrupted_teacher_goes_on_where_it_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = data.photographs(folder)
    pack = data.open_pack(paths, SCALE)
    first = Slow(last=2)
    with pytest.raises(KeyboardInterrupt):
        pack.cache_teacher("slow", first)
    assert first.seen == 2 and not (pack.folder / "teacher-slow.bin").exists()
    partial = pack.folder / "teacher-slow.part"
    with partial.open("ab") as f:
        f.write(b"half a picture")  # as a kill -9 leaves it
    again, second = data.open_pack(paths, SCALE), Slow(last=1)
    with pytest.raises(KeyboardInterrupt):
        again.cache_teacher("slow", second)
    third = Slow()
    capsys.readouterr()
    again.cache_teacher("slow", third)
    assert (second.seen, third.seen) == (1, len(pack.entries) - 3)
    assert "teacher: done, 5/5" in capsys.readouterr().err
    assert not partial.exists()
    for entry in again.entries:
        want = again.lr(entry).repeat(SCALE, 0).repeat(SCALE, 1)
        np.testing.assert_array_equal(again.teacher(entry), want)
    none = Slow(last=0)
    data.open_pack(paths, SCALE).cache_teacher("slow", none)  # nothing left to do
    data.open_pack(paths, SCALE).cache_teacher("other", Slow())  # shares nothing with it
    assert len(list(pack.folder.glob("teacher-*.bin"))) == 2


def test_a_full_disk_says_how_to_go_on(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)
    full = OSError(28, "No space left on device")
    with pytest.raises(WriteFailed, match=r"No space left .* goes on where it stopped"):
        pack.cache_teacher("x", Slow(last=3, error=full))
    rest = Slow()
    pack.cache_teacher("x", rest)
    assert rest.seen == len(pack.entries) - 3


def test_a_limit_takes_pictures_evenly_along_their_names() -> None:
    paths = [Path(f"{i:02}.png") for i in range(10)]
    assert [p.stem for p in data.spread(paths, 4)] == ["00", "02", "05", "07"]
    assert data.spread(paths, 0) == data.spread(paths, 10) == data.spread(paths, 99) == paths
    many = [Path(f"{i:04}.png") for i in range(1000)]
    gaps = np.diff([int(p.stem) for p in data.spread(many, 230)])
    assert set(gaps) == {4, 5}


def test_the_teacher_can_stand_in_for_the_photograph(folder: Path) -> None:
    pack = data.open_pack(data.photographs(folder), SCALE)
    pack.cache_teacher("fake", lambda lr: lr.repeat(SCALE, 0).repeat(SCALE, 1))

    def batch(imitate: bool, teacher: bool) -> data.Batch:
        return data.Batches(
            pack, patch=8, batch=3, seed=2, teacher=teacher, imitate=imitate
        )[4]  # fmt: skip

    usual, imitating = batch(False, True), batch(True, False)
    assert usual.teacher is not None and imitating.teacher is None
    assert torch.equal(imitating.hr, usual.teacher)
    assert torch.equal(imitating.lr, usual.lr) and not torch.equal(imitating.hr, usual.hr)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("degrade_seed = 1", "degrade_seed does nothing"),
        ('truth = "teacher"', "needs cache_teacher = true"),
        ("limit = -1", "must not be negative"),
        ('degrade = "wob"', "degrade"),
    ],
)
def test_keys_that_make_no_sense_are_refused(table: str, said: str) -> None:
    text = f'name = "a"\n[data]\n{table}\n[[stages]]\nkind = "distill"\nsteps = 1\n'
    with pytest.raises(BadConfig, match=said):
        config.loads(Recipe, text, "a.toml")
