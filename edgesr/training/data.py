"""Photographs → memory-mapped pixels → augmented batches.

A folder is decoded once into a *pack*: every picture's pixels and its low resolution (MATLAB's
bicubic, or a degraded one), one after the other in two flat files that are memory-mapped. A pack
is keyed by the pictures' names, sizes and times and by the degradation, so a changed folder makes
a new one.

Batches are a pure function of (seed, step): an interrupted run needs to remember one
number to go on exactly.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgesr import image, resize
from edgesr.errors import BadImage, WriteFailed
from edgesr.progress import progress
from edgesr.training.degrade import Degrader

MIN_LR_SIDE = 8


@dataclass(frozen=True)
class Entry:
    """One picture in a pack: low-resolution height and width, and where its pixels start."""

    name: str
    height: int
    width: int
    lr_at: int
    hr_at: int


class Pack:
    """Memory-mapped pictures: uint8 RGB, low and high resolution.

    `skipped` says which pictures are not in it, and why. Raises `BadImage` when `folder` is
    not a whole pack.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = json.loads((folder / "index.json").read_text())
            self.scale: int = facts["scale"]
            self.skipped: tuple[str, ...] = tuple(facts.get("skipped", ()))
            self.entries = tuple(Entry(*row) for row in facts["entries"])
            last = self.entries[-1]
            pixels = last.height * last.width * 3
            self._lr = _mapped(folder / "lr.bin", last.lr_at + pixels)
            self._hr = _mapped(folder / "hr.bin", last.hr_at + pixels * self.scale**2)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
            raise BadImage(f"{folder}: damaged cache of photographs; delete that folder") from e
        self._teacher: NDArray[np.uint8] | None = None

    def lr(self, entry: Entry) -> NDArray[np.uint8]:
        """Low-resolution picture, HWC uint8 RGB."""
        size = entry.height * entry.width * 3
        flat = self._lr[entry.lr_at : entry.lr_at + size]
        return flat.reshape(entry.height, entry.width, 3)

    def hr(self, entry: Entry) -> NDArray[np.uint8]:
        """The photograph, HWC uint8 RGB."""
        return self._large(self._hr, entry)

    def teacher(self, entry: Entry) -> NDArray[np.uint8]:
        """The cached output of the distillation teacher, HWC uint8 RGB."""
        assert self._teacher is not None
        return self._large(self._teacher, entry)

    def _large(self, flat: NDArray[np.uint8], entry: Entry) -> NDArray[np.uint8]:
        height, width = entry.height * self.scale, entry.width * self.scale
        return flat[entry.hr_at : entry.hr_at + height * width * 3].reshape(height, width, 3)

    def cache_teacher(
        self, name: str, upscale: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    ) -> None:
        """Run `upscale` (HWC uint8 → HWC uint8) over all pictures once and keep the result.

        What an interrupted process had finished is kept, and done once only.
        """
        path = self.folder / f"teacher-{name}.bin"
        with _alone(path.with_suffix(".lock")):
            self._make_teacher(path, upscale)
        try:
            self._teacher = _mapped(path, self._hr.size)
        except (OSError, ValueError) as e:
            raise BadImage(f"{path}: damaged cache of the teacher's pictures; delete it") from e

    def _make_teacher(
        self, path: Path, upscale: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    ) -> None:
        if path.is_file():
            return
        partial = path.with_suffix(".part")
        try:
            with partial.open("ab") as f:
                done = self._whole(f.tell())
                f.truncate(self._end(done))
                with progress(len(self.entries), "teacher", begun=done) as bar:
                    for entry in self.entries[done:]:
                        f.write(upscale(self.lr(entry)).tobytes())
                        f.flush()
                        bar.advance()
                os.fsync(f.fileno())
            partial.replace(path)
        except OSError as e:
            raise WriteFailed(
                f"cannot write {path}: {e.strerror}; make room there and start again, it goes on "
                "where it stopped, or set EDGESR_CACHE to a folder with more room"
            ) from e

    def _whole(self, size: int) -> int:
        """How many pictures are whole in the first `size` bytes of the large ones."""
        return sum(self._end(i + 1) <= size for i in range(len(self.entries)))

    def _end(self, count: int) -> int:
        """Where the first `count` large pictures end."""
        return self.entries[count].hr_at if count < len(self.entries) else self._hr.size


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    flat = np.memmap(path, np.uint8, "r")
    if flat.size != size:
        raise ValueError(f"{path} has {flat.size} bytes, should have {size}")
    return flat


def photographs(folder: Path, exclude: Sequence[str] = ()) -> list[Path]:
    """The pictures in `folder`, sorted, without those matching a glob in `exclude`."""
    found = [p for p in image.load_folder(folder) if not any(fnmatch(p.name, g) for g in exclude)]
    if not found:
        raise BadImage(f"{folder} has no pictures left after leaving out {', '.join(exclude)}")
    return found


def split(paths: Sequence[Path], holdout: int) -> tuple[list[Path], list[Path]]:
    """(to train on, held out): every `holdout`-th is held out, at least one."""
    held = {p for i, p in enumerate(paths) if i % holdout == holdout - 1} or {paths[-1]}
    train = [p for p in paths if p not in held]
    if not train:
        raise BadImage("one picture is too few: one is held out to measure on, give at least 2")
    return train, sorted(held)


def spread(paths: Sequence[Path], limit: int) -> list[Path]:
    """At most `limit` of them (0: all), evenly along their order."""
    count = min(limit or len(paths), len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def cache_root() -> Path:
    """Where packs are kept between runs: `EDGESR_CACHE`, or the user's cache folder."""
    own = os.environ.get("EDGESR_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgesr"
    return Path(own) if own else base


def open_pack(paths: Sequence[Path], scale: int, degrader: Degrader | None = None) -> Pack:
    """The pack of these pictures, made now or found in the cache.

    Its low resolution is what `degrader` makes, or MATLAB's bicubic without one.
    """
    key = _key(paths, scale, degrader)
    folder = cache_root() / "packs" / key
    if not (folder / "index.json").is_file():
        try:
            with _alone(folder.parent / f"{key}.lock"):
                if not (folder / "index.json").is_file():
                    _build(paths, scale, degrader, key, folder)
        except OSError as e:
            raise WriteFailed(
                f"cannot write the training pack to {folder}: {e.strerror}; "
                "set EDGESR_CACHE to a folder with more room"
            ) from e
    return Pack(folder)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let the processes of this machine in one after the other: the first does the work."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as e:
        raise WriteFailed(f"cannot write {lock}: {e.strerror}; set EDGESR_CACHE") from e
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def low_resolution(
    hr: NDArray[np.uint8], scale: int, degrader: Degrader | None, name: str
) -> NDArray[np.uint8]:
    """What a network is given of `hr`: HWC uint8 RGB, sides that are multiples of `scale`."""
    if degrader is None:
        return resize.downscale_bicubic(hr, scale)
    return degrader(hr, scale, name)


def _key(paths: Sequence[Path], scale: int, degrader: Degrader | None) -> str:
    digest = hashlib.sha256(f"pack 1 scale {scale}".encode())
    if degrader is not None:  # else the key is what it was before there were degradations
        digest.update(f" degraded {degrader.key}\n".encode())
    for p in paths:
        facts = p.stat()
        digest.update(f"{p.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _build(
    paths: Sequence[Path], scale: int, degrader: Degrader | None, key: str, folder: Path
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
    rows: list[tuple[str, int, int, int, int]] = []
    skipped: list[str] = []
    lr_at = hr_at = 0
    try:
        with (
            (partial / "lr.bin").open("wb") as lr_file,
            (partial / "hr.bin").open("wb") as hr_file,
            progress(len(paths), "decode photographs") as bar,
        ):
            for path in paths:
                bar.advance()
                try:
                    hr = image.read_rgb8(path)
                except BadImage as e:
                    skipped.append(str(e).replace(str(path), path.name))
                    continue
                height, width = hr.shape[0] // scale, hr.shape[1] // scale
                if min(height, width) >= MIN_LR_SIDE:
                    hr = np.ascontiguousarray(hr[: height * scale, : width * scale])
                    lr = low_resolution(hr, scale, degrader, path.name)
                    rows.append((path.name, height, width, lr_at, hr_at))
                    lr_at += lr_file.write(lr.tobytes())
                    hr_at += hr_file.write(hr.tobytes())
                else:
                    skipped.append(f"{path.name}: smaller than {MIN_LR_SIDE * scale} pixels a side")
        if not rows:
            raise BadImage(
                f"no picture to train on: each is damaged or smaller than {MIN_LR_SIDE * scale} "
                "pixels a side"
            )
        index = {"scale": scale, "entries": rows, "skipped": skipped}
        (partial / "index.json").write_text(json.dumps(index))
        try:
            partial.rename(folder)
        except OSError:
            # Another run made the same pack meanwhile; its content is equal by its key.
            if not (folder / "index.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Batch:
    """NCHW float32 in [0, 1]: low resolution, truth, and the cached teacher output.

    The truth `hr` is the photograph, or what stands in for it: see `Batches`.
    """

    lr: Tensor
    hr: Tensor
    teacher: Tensor | None

    def to(self, device: str, dtype: torch.dtype = torch.float32) -> Batch:
        """The same batch on a device and in a type."""
        lr, hr = (t.to(device, dtype, non_blocking=True) for t in (self.lr, self.hr))
        teacher = self.teacher
        if teacher is not None:
            teacher = teacher.to(device, dtype, non_blocking=True)
        return Batch(lr, hr, teacher)


class Batches:
    """Random crops, flipped and rotated, as a pure function of the step.

    With `size` processes a step has `batch` × `size` crops, of which process `rank` gets its
    own `batch`: together they see what one process with the whole batch would. With `imitate`
    the teacher's cached output stands in for the photograph.
    """

    def __init__(
        self, pack: Pack, *, patch: int, batch: int, seed: int, teacher: bool,
        imitate: bool = False, rank: int = 0, size: int = 1,
    ) -> None:  # fmt: skip
        # Pictures smaller than a patch are left out, unless all are: then patches shrink.
        self.patch = min(patch, max(min(e.height, e.width) for e in pack.entries))
        self.entries = [e for e in pack.entries if min(e.height, e.width) >= self.patch]
        self.pack, self.batch, self.seed, self.teacher = pack, batch, seed, teacher
        self._truth = pack.teacher if imitate else pack.hr
        self.rank, self.size = rank, size
        area = np.array([e.height * e.width for e in self.entries], np.float64)
        self._edges = np.cumsum(area / area.sum())

    def __getitem__(self, step: int) -> Batch:
        mine = range(self.rank * self.batch, (self.rank + 1) * self.batch)
        crops = [self._crop(step, index) for index in mine]
        lr, hr = (_tensor([c[i] for c in crops]) for i in range(2))
        teacher = _tensor([c[2] for c in crops]) if self.teacher else None
        return Batch(lr, hr, teacher)

    def _crop(self, step: int, index: int) -> list[NDArray[np.uint8]]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index, step]))
        last = len(self._edges) - 1
        entry = self.entries[min(int(np.searchsorted(self._edges, rng.random())), last)]
        y = int(rng.integers(entry.height - self.patch + 1))
        x = int(rng.integers(entry.width - self.patch + 1))
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        pictures = [(self.pack.lr(entry), 1), (self._truth(entry), self.pack.scale)]
        if self.teacher:
            pictures.append((self.pack.teacher(entry), self.pack.scale))
        crops = []
        for pixels, s in pictures:
            crop = pixels[y * s : (y + self.patch) * s, x * s : (x + self.patch) * s]
            crop = np.rot90(crop, turn)
            crops.append(crop[:, ::-1] if flip else crop)
        return crops


def _tensor(crops: list[NDArray[np.uint8]]) -> Tensor:
    # numpy, not torch: this runs in the loader's thread, where torch would start a second
    # team of workers that fights with the network's.
    scaled = np.true_divide(np.stack(crops), np.float32(255))
    # NHWC memory seen as NCHW is torch's channels_last, the layout its CPU kernels like best.
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)
