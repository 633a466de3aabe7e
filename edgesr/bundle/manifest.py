"""The manifest of a bundle: what is in it, with the hash of every file, its own included.

It is JSON in one canonical form (sorted keys, one space of indent), so that the same export
gives the same bytes and any changed byte is seen. Python 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgesr.bundle.wire import external_references
from edgesr.errors import BadConfig, BadModel

FORMAT = 2  # 2: int8 files, what each ONNX file is
FILE = "manifest.json"
ENGINES = "engines"  # what build.py makes on the board; no part of the export
_SEAL = "manifest_sha256"


@dataclass(frozen=True)
class Model:
    """One network of the bundle; sizes in low-resolution pixels, `tile` is (height, width).

    `onnx` maps the shape, `tile` (fixed) or `dynamic`, and the form (`fp32`, `fp16`,
    `int8.trt`, `int8.trt-fp16`, `int8.ort`) to a file name; `lineage` is what the checkpoint
    says about where its weights come from.
    """

    name: str
    scale: int
    halo: int
    parameters: int
    macs_per_pixel: int
    tile: tuple[int, int]
    onnx: dict[str, dict[str, str]]
    lineage: dict[str, Any]


@dataclass(frozen=True)
class Golden:
    """An input tile (uint8 HWC RGB, .npy) and what the fp32 network makes of it.

    `output` (.npy) holds float32 HWC, the `window` (top, left, height, width) of the whole
    output, in output pixels.
    """

    model: str
    shape: str
    input: str
    output: str
    window: tuple[int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """Hash and size of a file; of an ONNX file also what it is.

    `role` is `student` or `teacher`, `shape` `tile` or `dynamic`, `precision` `fp32`, `fp16` or
    `int8`, `form` `plain`, or for int8 the engine that it is written for: `trt` (builders that
    take types from flags), `trt-fp16` (strongly typed builders) or `ort`. `limits` are the
    thresholds of its gate: what it may lose against fp32.
    """

    sha256: str
    bytes: int
    role: str | None = None
    shape: str | None = None
    precision: str | None = None
    form: str | None = None
    limits: dict[str, float] | None = None


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says. `gates` is the record of the gates at export.

    `int8` says where the scales are from, which layers stay in higher precision and what that
    measured; None for a bundle without int8.
    """

    edgesr: str
    target: str
    precision: str
    sparsity: dict[str, Any]
    tensorrt: dict[str, str] | None
    models: dict[str, Model]
    golden: tuple[Golden, ...]
    limits: dict[str, dict[str, float]]
    gates: tuple[dict[str, Any], ...]
    gates_passed: bool
    files: dict[str, Entry]
    int8: dict[str, Any] | None = None

    def dumps(self) -> str:
        """The canonical text, sealed with its own hash."""
        data: dict[str, Any] = dataclasses.asdict(self)
        for name, about in data["files"].items():
            data["files"][name] = {k: v for k, v in about.items() if v is not None}
        data["format"] = FORMAT
        data[_SEAL] = hashlib.sha256(_canonical(data).encode()).hexdigest()
        return _canonical(data)


def read(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`.

    Raises `BadConfig` when there is none, when it is not canonical or not sealed by its own
    hash (somebody changed it), of a newer format, or names a file outside the bundle.
    """
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "not a text file"
        raise BadConfig(f"{folder} is no bundle: {FILE}: {reason}") from e
    try:
        data = json.loads(text)
        version, seal = data["format"], data.pop(_SEAL)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadConfig(f"{path}: not a bundle's manifest, or a damaged one ({e})") from e
    if isinstance(version, int) and version > FORMAT:
        raise BadConfig(f"{path}: bundle format {version}, this reads up to {FORMAT}")
    # Half of a surrogate pair can be escaped in JSON, and is no text: its hash is another.
    body = _canonical(data).encode("utf-8", "surrogatepass")
    sealed = hashlib.sha256(body).hexdigest()
    if sealed != seal or text != _canonical(dict(data, **{_SEAL: seal})):
        raise BadConfig(f"{path} was changed after the export; copy or export the bundle again")
    del data["format"]
    return _from_json(path, data)


def is_bundle(folder: Path) -> bool:
    """Whether `folder` has a bundle's manifest, sound or not; a run folder's is another."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and _SEAL in data


def entry(path: Path) -> Entry:
    """Hash and size of the file at `path`; OSError when it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
            size += len(block)
    return Entry(digest.hexdigest(), size)


def entries(folder: Path) -> dict[str, Entry]:
    """Every file below `folder` except the manifest, by its POSIX path."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / FILE)
    return {p.relative_to(folder).as_posix(): entry(p) for p in paths}


def changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """One line for each file that is missing, not what was exported, or leads out of the bundle."""
    lines = ((name, _problem(folder, name, want)) for name, want in sorted(manifest.files.items()))
    return [f"{name}: {problem}" for name, problem in lines if problem]


def _problem(folder: Path, name: str, want: Entry) -> str:
    path = folder / name
    try:
        if path.resolve() != folder.resolve() / name:
            return "a link, not the file that was exported"
        have = entry(path)
        if have.bytes != want.bytes:
            return f"{have.bytes} bytes, exported with {want.bytes}"
        if have.sha256 != want.sha256:
            return "its bytes were changed after the export"
        outside = external_references(path.read_bytes()) if name.endswith(".onnx") else []
    except OSError as e:
        return str(e.strerror or e)
    except BadModel as e:
        return f"{e}: not the file that was exported"
    if outside:
        return f"keeps weights in another file ('{outside[0]}'), which EdgeSR never writes"
    return ""


def _canonical(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _from_json(path: Path, data: dict[str, Any]) -> Manifest:
    try:
        models = {role: _model(m) for role, m in data["models"].items()}
        golden = tuple(Golden(**dict(g, window=tuple(g["window"]))) for g in data["golden"])
        files = {name: Entry(**e) for name, e in data["files"].items()}
        found = Manifest(
            **dict(data, models=models, golden=golden, files=files, gates=tuple(data["gates"]))
        )
        networks = {(role, shape): by for role, m in models.items() for shape, by in m.onnx.items()}
        used = [str(name) for by in networks.values() for name in by.values()]
        used += [str(name) for g in golden for name in (g.input, g.output)]
        forms = {form.split(".")[0] for by in networks.values() for form in by}
        unlimited = forms - set(data["limits"])
    except (KeyError, TypeError, AttributeError) as e:
        raise BadConfig(f"{path}: not a bundle's manifest ({e})") from e
    for name in [*files, *used]:
        if not _inside(name) or name not in files:
            raise BadConfig(f"{path} names '{name}', which is no file of this bundle")
    for part in (part for key in networks for part in key):  # build.py names engines so
        if not re.fullmatch("[a-z0-9_-]+", part):
            raise BadConfig(f"{path} names a network '{part}', which is no name")
    limits = [*found.limits.values(), *(e.limits for e in files.values() if e.limits is not None)]
    if not all(map(_are_limits, limits)):
        raise BadConfig(f"{path} has thresholds that nothing can be checked by")
    if set(networks) != {(g.model, g.shape) for g in golden} or unlimited:
        raise BadConfig(f"{path}: a network has no golden tile or no limits to be checked by")
    return found


def _model(data: dict[str, Any]) -> Model:
    return Model(**dict(data, tile=tuple(data["tile"])))


def _are_limits(limits: object) -> bool:
    """Whether `edgesr.bundle.gates.Limits` takes them and compares (NaN never would)."""
    return (
        isinstance(limits, dict)
        and set(limits) == {"psnr_db", "beyond_one_share", "mean_shift_levels"}
        and all(isinstance(v, (int, float)) and math.isfinite(v) for v in limits.values())
    )


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
