"""Model cards: what is known of a bundled model, as data, and as rows for people.

A card is `NAME.json` beside the model's files in `edgesr/models/zoo`, written by
`tools/add_model.py`. `edgesr models show` and `docs/models.md` print the same rows of it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from edgesr import config, resources
from edgesr.errors import BadConfig, BadModel

SCHEMA: Final = "edgesr.card/1"
SETS = ("Set5", "Set14", "B100")

QUALITY_HEAD = ("set", "form", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "PSNR-Y gain")
FILE_WORDS = {
    "fp32.onnx": "fp32, ONNX",
    "int8.ort.onnx": "int8, ONNX Runtime's form",
    "safetensors": "fp32, weights to go on from",
    "int8.safetensors": "int8, weights and scales to export from",
}
HALF = "float16, weights to go on from; the ONNX file is written when it is asked for"


@dataclass(frozen=True)
class SetQuality:
    """Means over one test set: PSNR in dB, on luma and RGB, and SSIM on luma.

    Of the fp32 network, of bicubic and, where there is an int8 file, of that; `int8_loss_db` is
    what int8 costs in PSNR-Y.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    bicubic_psnr_rgb: float
    int8_psnr_y: float | None = None
    int8_ssim_y: float | None = None
    int8_psnr_rgb: float | None = None
    int8_loss_db: float | None = None


@dataclass(frozen=True)
class TrainingRun:
    """One run of `edgesr compress`: `form` says which of the model's networks came of it.

    `recipe` is the whole recipe as data. `start` is what it started from: empty for a new
    network, `run N` for the result of the N-th run here, else words. `steps` are those of all
    stages, `hours` the time spent in them. `hardware` is in plain words.
    """

    form: Literal["fp32", "int8"]
    recipe: dict[str, Any]
    teacher: str
    start: str
    steps: int
    hours: float
    hardware: str
    versions: dict[str, str]
    legs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Source:
    """Where training pictures come from: `pictures` originals, cut into `tiles` files."""

    source: str
    licence: str
    pictures: int
    tiles: int


@dataclass(frozen=True)
class Fail:
    """A place where the model fails: the worst square of a picture, in pixels of the result.

    `psnr_y` and `bicubic_psnr_y` (dB) are of that square alone, no border shaved.
    """

    case: str
    picture: str
    x: int
    y: int
    side: int
    psnr_y: float
    bicubic_psnr_y: float
    seen: str


@dataclass(frozen=True)
class Card:
    """Everything that is known of a bundled model.

    `macs_320x180` are multiply-adds for one 320×180 input, `halo` the receptive-field radius
    in input pixels. `file_bytes` and `sha256` are by suffix of the file, `quality` by test
    set. `credits` are those of the distillation teachers, `trained_on` of the pictures.
    """

    schema: Literal["edgesr.card/1"]
    name: str
    about: str
    purpose: str
    params: int
    macs_320x180: int
    halo: int
    scale: int
    file_bytes: dict[str, int]
    sha256: dict[str, str]
    convention: str
    quality: dict[str, SetQuality]
    training: tuple[TrainingRun, ...]
    lineage: dict[str, dict[str, Any]]
    trained_on: tuple[Source, ...]
    credits: tuple[str, ...]
    limits: tuple[str, ...]
    fails: tuple[Fail, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_int8(self) -> bool:
        """Whether an int8 file is bundled."""
        return "int8.ort.onnx" in self.file_bytes


def read(name: str) -> Card:
    """The card of the bundled model `name`.

    Raises `BadModel` when there is none, or it is damaged or of another form.
    """
    path = resources.zoo() / f"{name}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadModel(f"bundled model '{name}' has no card that can be read ({path.name})") from e
    return loads(text, path.name)


def loads(text: str, source: str) -> Card:
    """The card in JSON `text`; `source` is what messages call it. Raises `BadModel`."""
    try:
        return config.from_dict(Card, json.loads(text), source)
    except (BadConfig, ValueError, TypeError, AttributeError) as e:
        raise BadModel(f"{source}: damaged card of a bundled model ({e})") from e


def dumps(card: Card) -> str:
    """JSON that `loads` turns back into an equal card; figures that are missing are left out."""
    return json.dumps(_without_none(dataclasses.asdict(card)), indent=1, ensure_ascii=False) + "\n"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list | tuple) else value


def size_line(card: Card) -> str:
    """Parameters, multiply-adds, halo and scale in one line."""
    return (
        f"{card.params:,} parameters, {card.macs_320x180 / 1e9:.2f} G multiply-adds for a "
        f"320×180 picture, halo {card.halo} px, ×{card.scale}"
    )


def file_rows(card: Card) -> list[tuple[str, str]]:
    """Each file and its size: `("balanced.fp32.onnx", "581 kB: fp32, ONNX")`; kB are 1000 bytes."""
    # A model without an ONNX file is kept in half precision: tools/add_model.py --half.
    words = FILE_WORDS if "fp32.onnx" in card.file_bytes else {**FILE_WORDS, "safetensors": HALF}
    return [
        (f"{card.name}.{suffix}", f"{size / 1e3:,.0f} kB: {words.get(suffix, suffix)}")
        for suffix, size in card.file_bytes.items()
    ]


def quality_rows(card: Card) -> list[tuple[str, ...]]:
    """Cells for `QUALITY_HEAD`: on each set bicubic, fp32 (gain over bicubic), int8 (over fp32)."""
    rows: list[tuple[str, ...]] = []
    for name, q in card.quality.items():
        bicubic = (q.bicubic_psnr_y, q.bicubic_ssim_y, q.bicubic_psnr_rgb)
        rows.append((name, "bicubic", *_figures(bicubic), "–"))
        gain = _signed(q.psnr_y - q.bicubic_psnr_y)
        rows.append((name, "fp32", *_figures((q.psnr_y, q.ssim_y, q.psnr_rgb)), gain))
        if q.int8_psnr_y is not None and q.int8_ssim_y is not None and q.int8_psnr_rgb is not None:
            figures = _figures((q.int8_psnr_y, q.int8_ssim_y, q.int8_psnr_rgb))
            rows.append((name, "int8", *figures, f"{_signed(q.int8_psnr_y - q.psnr_y, 3)} to fp32"))
    return rows


def _figures(scores: tuple[float, float, float]) -> tuple[str, str, str]:
    psnr_y, ssim_y, psnr_rgb = scores
    return f"{psnr_y:.2f}", f"{ssim_y:.4f}", f"{psnr_rgb:.2f}"


def _signed(db: float, digits: int = 2) -> str:
    return f"{db:+.{digits}f}".replace("-", "−")


def run_line(card: Card, number: int) -> str:
    """What the run `number` (from 1) was: steps, time, hardware, teacher, start."""
    run = card.training[number - 1]
    start = f", started from {run.start}" if run.start else ""
    versions = ", ".join(f"{k} {run.versions[k]}" for k in ("edgesr", "torch") if k in run.versions)
    time = _duration(run.hours)
    return (
        f"Run {number} ({run.form}): {run.steps:,} steps in {time} on {run.hardware}"
        f"{start}; teacher: {run.teacher or 'none'}{f'; {versions}' if versions else ''}."
    )


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1.5 else f"{hours * 60:.1f} minutes"


def commands(card: Card, number: int) -> list[str]:
    """The shell lines that do the run `number` (from 1) again.

    `DIR` stands for the folder of pictures, `THAT` for a start that is known in words only.
    """
    run, stem = card.training[number - 1], f"{card.name}-{number}"
    before = run.start.removeprefix("run ")
    start = f"runs/{card.name}-{before}" if before.isdigit() else "THAT"
    verb, option = ("compress", "--student") if run.teacher else ("train", "--network")
    student = f" {option} {start}" if run.start else ""
    teacher = f" --teacher {run.teacher}" if run.teacher else ""
    return [
        f"edgesr models show {card.name} --recipe {number} > {stem}.toml",
        f"edgesr {verb} {stem}.toml --data DIR --out runs/{stem}{teacher}{student}",
    ]


def source_line(source: Source) -> str:
    """A source of training pictures with its licence."""
    tiles = f" ({source.tiles} tiles)" if source.tiles != source.pictures else ""
    pictures = "1 picture" if source.pictures == 1 else f"{source.pictures} pictures"
    return f"{source.source}: {pictures}{tiles}, {source.licence}"


def fail_line(fail: Fail) -> str:
    """What is seen in a place where the model fails, and the figures of that place."""
    return (
        f"{fail.case} ({fail.picture}): {fail.seen} Worst square: {fail.psnr_y:.2f} dB, "
        f"bicubic {fail.bicubic_psnr_y:.2f} dB."
    )
