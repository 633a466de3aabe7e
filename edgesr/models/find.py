"""From a name or a path to a network: bundled models, teachers, files, folders.

`balanced` is a bundled model's fp32 network, `balanced:int8` its int8 one, where it has one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from edgesr import checkpoint, resources
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadModel, UnknownName
from edgesr.graph.counts import macs, parameters
from edgesr.graph.reach import halo
from edgesr.graph.spec import Graph
from edgesr.models.table import DEFAULT, TEACHERS

Where: TypeAlias = "str | Path"

_FOREIGN = {".pth", ".pt", ".tar", ".ckpt"}
_SUFFIXES = {".safetensors", ".onnx", *_FOREIGN}
_FILES = {
    "onnx_fp32": ".fp32.onnx",
    "onnx_int8": ".int8.ort.onnx",
    "safetensors": ".safetensors",
    "safetensors_int8": ".int8.safetensors",
}
_INT8 = ":int8"
_RUN_STUDENT = "student.safetensors"
_WIDTH, _HEIGHT = 320, 180  # of the low-resolution picture that MACs are quoted for


@dataclass(frozen=True)
class ModelInfo:
    """A model by name, and its numbers.

    `files` has the paths (or None) of `onnx_fp32`, `onnx_int8` (ONNX Runtime's form),
    `safetensors` and `safetensors_int8` (weights and int8 scales); `macs_320x180` counts
    multiply-adds for one 320×180 input; `halo` is the receptive-field radius in input pixels.
    `psnr_y` and `psnr_y_int8` are the dB on each test set that the card states.
    """

    name: str
    files: dict[str, str | None]
    params: int
    macs_320x180: int
    halo: int
    default: bool
    scale: int
    about: str
    psnr_y: dict[str, float] = field(default_factory=dict)
    psnr_y_int8: dict[str, float] = field(default_factory=dict)


def load_network(name_or_path: Where) -> Checkpoint:
    """The network and weights of a name, a `.safetensors`, a foreign `.pth` or a run folder.

    That of `NAME:int8` has its int8 scales. Raises `UnknownName` for a name that is none,
    `BadModel` for a file that is missing or cannot be used, `MissingExtra` where an optional
    package is needed.
    """
    name = _name(name_or_path)
    if name is None:
        return _load_path(Path(name_or_path).expanduser())
    plain, int8 = _parted(name)
    weights = _bundled(plain, "safetensors_int8" if int8 else "safetensors")
    if weights is not None:
        return checkpoint.load(weights)
    for teacher in TEACHERS:
        if teacher.name == name:
            return teacher.load()
    raise BadModel(f"model '{name}' is bundled as ONNX only; it has no weights to go on from")


def check(name_or_path: Where) -> None:
    """Raise `UnknownName` or `BadModel` for a name or path that is not there; loads nothing."""
    if _name(name_or_path) is None:
        path = Path(name_or_path).expanduser()
        if not path.exists():
            raise BadModel(f"{path}: no such file")


def onnx_of(name_or_path: Where) -> Path | bytes:
    """The ONNX file of a model, any input size: a path, or bytes made on the spot.

    It is fp32, but of `NAME:int8` int8 in ONNX Runtime's form. A bundled name, an `.onnx` path
    and a bundle folder need neither onnx nor safetensors; for anything else the file is written
    in memory. Raises as `load_network` does, and `BadConfig` for a bundle that was changed after
    its export.
    """
    name = _name(name_or_path)
    if name is not None:
        plain, int8 = _parted(name)
        shipped = _bundled(plain, "onnx_int8" if int8 else "onnx_fp32")
        if shipped is not None:
            return shipped
        return _written(load_network(name), int8=int8)
    path = Path(name_or_path).expanduser()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise BadModel(f"{path}: no such file")
        return path
    if path.is_dir() and not (path / _RUN_STUDENT).is_file() and not _is_run(path):
        return _of_bundle(path)
    return _written(_load_path(path))


def describe() -> list[ModelInfo]:
    """The bundled models, cheapest first; reads neither weights nor ONNX.

    Raises `BadModel` when the files of a bundled model are damaged.
    """
    return sorted((_describe(name) for name in _bundled_names()), key=lambda m: m.macs_320x180)


def describe_teachers() -> list[ModelInfo]:
    """The teachers that are not bundled but known by name; they have no files."""
    bundled = _bundled_names()
    return [
        _info(t.name, dict.fromkeys(_FILES), t.graph(), t.about)
        for t in TEACHERS
        if t.name not in bundled
    ]


def int8_name(name_or_path: Where) -> str | None:
    """`NAME:int8` for a bundled model's name with trained scales, else None."""
    name = str(name_or_path)
    has = name in _bundled_names() and _bundled(name, "safetensors_int8") is not None
    return f"{name}{_INT8}" if has and not isinstance(name_or_path, Path) else None


def _name(name_or_path: Where) -> str | None:
    """The known name that is meant, or None for a path."""
    if isinstance(name_or_path, Path):
        return None
    bundled = _bundled_names()
    names = {*bundled, *(t.name for t in TEACHERS)}
    known = names | {f"{n}{_INT8}" for n in bundled if _has_int8(n)}
    if name_or_path in known:
        return name_or_path
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix.lower() in _SUFFIXES:
        return None
    if name_or_path and path.exists():
        return None
    if name_or_path.endswith(_INT8) and name_or_path.removesuffix(_INT8) in names:
        have = ", ".join(sorted(known - names)) or "no model"
        raise BadModel(
            f"model '{name_or_path.removesuffix(_INT8)}' has no int8 file ({have} has); leave out "
            f"{_INT8}, or make one with a quantize stage of edgesr compress"
        )
    raise UnknownName("model", name_or_path, known, "Or give a path to .safetensors, .pth, .onnx.")


def _bundled_names() -> set[str]:
    folder = resources.zoo()
    files = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    # The longest first: NAME.int8.safetensors is not a model called NAME.int8.
    suffixes = sorted(_FILES.values(), key=len, reverse=True)
    ends = ((f, next((s for s in suffixes if f.endswith(s)), "")) for f in files)
    return {f.removesuffix(suffix) for f, suffix in ends if suffix}


def _parted(name: str) -> tuple[str, bool]:
    """A known name without its `:int8`, and whether it had that."""
    return name.removesuffix(_INT8), name.endswith(_INT8)


def _has_int8(name: str) -> bool:
    return any(_bundled(name, kind) for kind in ("onnx_int8", "safetensors_int8"))


def _bundled(name: str, kind: str) -> Path | None:
    path = resources.zoo() / f"{name}{_FILES[kind]}"
    return path if path.is_file() else None


def _describe(name: str) -> ModelInfo:
    paths = {kind: _bundled(name, kind) for kind in _FILES}
    files = {kind: None if path is None else str(path) for kind, path in paths.items()}
    card = _card(resources.zoo() / f"{name}.json")
    about = str(card.get("about", ""))
    fp32, int8 = _psnr(card, "psnr_y"), _psnr(card, "int8_psnr_y")
    if paths["safetensors"] is not None:
        graph = checkpoint.summary(paths["safetensors"]).graph
        return replace(_info(name, files, graph, about), psnr_y=fp32, psnr_y_int8=int8)
    try:
        numbers = {key: int(card[key]) for key in ("params", "macs_320x180", "halo", "scale")}
    except (KeyError, TypeError, ValueError) as e:
        raise BadModel(f"bundled model '{name}' has neither weights nor a full card ({e})") from e
    return ModelInfo(
        name=name, files=files, default=name == DEFAULT, about=about,
        psnr_y=fp32, psnr_y_int8=int8, **numbers,
    )  # fmt: skip


def _psnr(card: dict[str, Any], key: str) -> dict[str, float]:
    """A figure of the card by test set; empty where it has none."""
    quality = card.get("quality")
    sets = quality.items() if isinstance(quality, dict) else ()
    return {
        name: float(values[key])
        for name, values in sets
        if isinstance(values, dict) and isinstance(values.get(key), int | float)
    }


def _info(name: str, files: dict[str, str | None], graph: Graph, about: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        files=files,
        params=parameters(graph),
        macs_320x180=macs(graph, _HEIGHT, _WIDTH),
        halo=halo(graph),
        default=name == DEFAULT,
        scale=graph.scale,
        about=about,
    )


def _card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BadModel(f"{path}: damaged card of a bundled model ({e})") from e
    return card if isinstance(card, dict) else {}


def _load_path(path: Path) -> Checkpoint:
    suffix = path.suffix.lower()
    if path.is_dir():
        return checkpoint.load(_student_of(path))
    if not path.is_file():
        raise BadModel(f"{path}: no such file")
    if suffix == ".safetensors":
        return checkpoint.load(path)
    if suffix in _FOREIGN:
        from edgesr.models.foreign import load_foreign

        return load_foreign(path)
    if suffix == ".onnx":
        raise BadModel(f"{path}: an ONNX file has no weights to go on from; give its .safetensors")
    raise BadModel(f"{path}: not a model; give a .safetensors, a .pth or an .onnx")


def _student_of(folder: Path) -> Path:
    student = folder / _RUN_STUDENT
    if student.is_file():
        return student
    if _is_run(folder):
        raise BadModel(f"{folder}: run without a student yet; edgesr compress --resume {folder}")
    if (folder / "manifest.json").is_file():
        raise BadModel(f"{folder}: a bundle has no weights to go on from; give its .safetensors")
    raise BadModel(f"{folder}: neither a run folder ({_RUN_STUDENT}) nor a bundle (manifest.json)")


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.toml").is_file()


def _of_bundle(folder: Path) -> Path:
    from edgesr.bundle import manifest

    if not (folder / manifest.FILE).is_file():
        return _student_of(folder)  # says what is missing
    student = manifest.read(folder).models.get("student")
    file = student.onnx.get("dynamic", {}).get("fp32") if student else None
    if file is None or not (folder / file).is_file():
        raise BadModel(f"{folder}: this bundle has no fp32 student; export it again")
    return folder / file


def _written(ckpt: Checkpoint, *, int8: bool = False) -> bytes:
    if int8:
        from edgesr.graph.onnx_int8 import to_onnx_int8

        if ckpt.quant is None:
            raise BadModel(f"'{ckpt.graph.name}' holds no int8 scales; install edgesr again")
        return to_onnx_int8(ckpt.graph, ckpt.weights, ckpt.quant, form="ort")
    from edgesr.graph.onnx import to_onnx

    return to_onnx(ckpt.graph, ckpt.weights)
