"""Quality in the run that timed: the engine that was timed is the one that is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgesr.bench.album import BICUBIC, Album, Scored
from edgesr.bench.frames import Frames
from edgesr.bench.subjects import UNTRAINED, Subject
from edgesr.errors import EdgeSRError
from edgesr.image import load_folder
from edgesr.progress import progress
from edgesr.resize import upscale_bicubic
from edgesr.runtime.base import Runtime
from edgesr.tiling import upscale_tiles

NO_FOLDER = "no folder of pictures given; --quality DIR names one"


class Score(Protocol):
    """Scores a network (None: bicubic resizing) on a folder of originals.

    Gives `{"convention": …, "pictures": [{"name", "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}]}`,
    an infinite PSNR as None; with `perceptual` each picture has `lpips` too, or the whole has
    `lpips_missing`, which says why not. `on_progress` takes (done, total), `on_picture` sees
    each picture.
    """

    def __call__(
        self,
        folder: Path,
        runtime: Runtime | None,
        scale: int,
        *,
        on_progress: Callable[[int, int], None],
        on_picture: Callable[[Scored], None],
        perceptual: bool,
    ) -> dict[str, Any]:
        """The scores, picture by picture."""
        ...


@dataclass
class Quality:
    """Scores on `folder`, and the crops that the report shows; without `score` neither.

    Without a folder the crops are of the timed inputs. With `tolerant` a network that fails
    on the pictures has the reason instead of its scores.
    """

    folder: Path | None
    score: Score | None
    frames: Frames
    tolerant: bool = False
    album: Album = field(default_factory=Album)

    @staticmethod
    def check(folder: Path | None) -> None:
        """Raise `BadImage` for a folder without pictures."""
        if folder is not None:
            load_folder(folder / "HR" if (folder / "HR").is_dir() else folder)

    def baseline(self, scale: int) -> dict[str, Any] | None:
        """Bicubic's scores, without LPIPS, which loads torch.

        To be called before anything is timed: a damaged picture must not cost the run.
        """
        if self.folder is None or self.score is None:
            return None
        return {"name": BICUBIC, "quality": self._scored(BICUBIC, None, scale, False)}

    def networks(
        self, subjects: Sequence[Subject], runtimes: Sequence[Runtime]
    ) -> list[dict[str, Any]]:
        """The scores of each network; to be called when everything else has been measured."""
        if self.folder is None or self.score is None:
            if self.score is not None:
                self._show_inputs(subjects, runtimes)
            return [{"missing": UNTRAINED if s.untrained else NO_FOLDER} for s in subjects]
        return [self._network(s, r) for s, r in zip(subjects, runtimes, strict=True)]

    def baseline_again(
        self, baseline: dict[str, Any] | None, found: Sequence[dict[str, Any]], scale: int
    ) -> dict[str, Any] | None:
        """`baseline` with LPIPS where the networks `found` have it."""
        pictures = [p for quality in found for p in quality.get("pictures", ())]
        if baseline is None or not any("lpips" in p for p in pictures):
            return baseline
        return {"name": BICUBIC, "quality": self._scored(BICUBIC, None, scale, True)}

    def crops(self) -> list[dict[str, Any]]:
        """What the record keeps of the pictures."""
        return self.album.record()

    def _network(self, subject: Subject, runtime: Runtime) -> dict[str, Any]:
        if subject.untrained:
            return {"missing": UNTRAINED}
        try:
            return self._scored(subject.name, runtime, runtime.scale, True)
        except EdgeSRError as e:
            if not self.tolerant:
                raise
            return {"missing": str(e)}

    def _scored(
        self, name: str, runtime: Runtime | None, scale: int, perceptual: bool
    ) -> dict[str, Any]:
        assert self.score is not None and self.folder is not None
        with progress(100, f"bench: quality of {name}") as bar:
            scores = self.score(
                self.folder,
                runtime,
                scale,
                on_progress=lambda done, all_: bar.advance(100 * done // all_ - bar.done),
                on_picture=self.album.keeper(name),
                perceptual=perceptual,
            )
        return {"folder": self.folder.absolute().name, **scores}

    def _show_inputs(self, subjects: Sequence[Subject], runtimes: Sequence[Runtime]) -> None:
        """Crops of the timed inputs, of networks whose weights are trained."""
        shown = [(s, r) for s, r in zip(subjects, runtimes, strict=True) if not s.untrained]
        if not shown:
            return
        scale = shown[0][1].scale
        inputs = dict(zip(self.frames.names, self.frames.pictures, strict=True))
        self.album.open_inputs({k: (p, upscale_bicubic(p, scale)) for k, p in inputs.items()})
        with progress(len(shown), "bench: pictures to show") as bar:
            for subject, runtime in shown:
                bar.note(subject.name)
                for number, picture in enumerate(inputs.values()):
                    if runtime.scale == scale:
                        whole = upscale_tiles(picture, runtime)
                        self.album.add_output(number, subject.name, whole)
                bar.advance()
