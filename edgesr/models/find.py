"""From a name or a path to a network: bundled models, teachers, files, folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
}
_RUN_STUDENT = "student.safetensors"
_WIDTH, _HEIGHT = 320, 180  # of the low-resolution picture that MACs are quoted for


@dataclass(frozen=True)
class ModelInfo:
    """A model by name, and its numbers.

    `files` has the paths (or None) of `onnx_fp32`, `onnx_int8` (ONNX Runtime's form) and
    `safetensors`; `macs_320x180` counts multiply-adds for one 320×180 input; `halo` is the
    receptive-field radius in input pixels.
    """

    name: str
    files: dict[str, str | None]
    params: int
    macs_320x180: int
    halo: int
    default: bool
    scale: int
    about: str


def load_network(name_or_path: Where) -> Checkpoint:
    """The network and weights of a name, a `.safetensors`, a foreign `.pth` or a run folder.

    Raises `UnknownName` for a name that is none, `BadModel` for a file that is missing or
    cannot be used, `MissingExtra` where an optional package is needed.
    """
    name = _name(name_or_path)
    if name is None:
        return _load_path(Path(name_or_path).expanduser())
    weights = _bundled(name, "safetensors")
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
    """The fp32 ONNX file of a model, any input size: a path, or bytes made on the spot.

    A bundled name, an `.onnx` path and a bundle folder need neither onnx nor safetensors; for
    anything else the file is written in memory. Raises as `load_network` does, and `BadConfig`
    for a bundle that was changed after its export.
    """
    name = _name(name_or_path)
    if name is not None:
        shipped = _bundled(name, "onnx_fp32")
        if shipped is not None:
            return shipped
        return _written(load_network(name))
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


def _name(name_or_path: Where) -> str | None:
    """The known name that is meant, or None for a path."""
    if isinstance(name_or_path, Path):
        return None
    known = {*_bundled_names(), *(t.name for t in TEACHERS)}
    if name_or_path in known:
        return name_or_path
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix.lower() in _SUFFIXES:
        return None
    if name_or_path and path.exists():
        return None
    raise UnknownName("model", name_or_path, known, "Or give a path to .safetensors, .pth, .onnx.")


def _bundled_names() -> set[str]:
    folder = resources.zoo()
    files = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return {f.removesuffix(s) for f in files for s in _FILES.values() if f.endswith(s)}


def _bundled(name: str, kind: str) -> Path | None:
    path = resources.zoo() / f"{name}{_FILES[kind]}"
    return path if path.is_file() else None


def _describe(name: str) -> ModelInfo:
    paths = {kind: _bundled(name, kind) for kind in _FILES}
    files = {kind: None if path is None else str(path) for kind, path in paths.items()}
    card = _card(resources.zoo() / f"{name}.json")
    about = str(card.get("about", ""))
    if paths["safetensors"] is not None:
        return _info(name, files, checkpoint.summary(paths["safetensors"]).graph, about)
    try:
        numbers = {key: int(card[key]) for key in ("params", "macs_320x180", "halo", "scale")}
    except (KeyError, TypeError, ValueError) as e:
        raise BadModel(f"bundled model '{name}' has neither weights nor a full card ({e})") from e
    return ModelInfo(name=name, files=files, default=name == DEFAULT, about=about, **numbers)


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


def _written(ckpt: Checkpoint) -> bytes:
    from edgesr.graph.onnx import to_onnx

    return to_onnx(ckpt.graph, ckpt.weights)
