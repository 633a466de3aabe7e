#!/usr/bin/env python3
"""Upscale a picture with this bundle, or check the bundle, without EdgeSR installed.

    python3 run.py photo.png              writes photo_x4.png beside it
    python3 run.py photo.png -o big.png   writes big.png
    python3 run.py --precision int8 …     the int8 network
    python3 run.py --verify               every hash, every golden tile

With engines/ there (build.py makes it) TensorRT runs the network, else ONNX Runtime. Needs
Python 3.8, numpy and OpenCV; alpha and grey and 16 bits are kept, metadata is not.

Exit code: 0 done, 1 bad input, 2 wrong usage, 3 the golden tiles lost quality,
4 no runtime on this machine.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError as error:
    print(f"run.py: import numpy: {error}; on a Jetson: apt-get install python3-numpy",
          file=sys.stderr)  # fmt: skip
    sys.exit(4)
try:
    import numpy.typing
except ImportError:  # numpy 1.17 of Ubuntu 20.04: annotations use it, nothing evaluates them
    sys.modules["numpy.typing"] = types.ModuleType("numpy.typing")
    sys.modules["numpy.typing"].NDArray = np.ndarray  # type: ignore[attr-defined]

try:
    from edgesr.bundle import manifest, verify
    from edgesr.errors import BadImage, EdgeSRError, Impossible, WouldOverwrite, WriteFailed
    from edgesr.runtime.base import Runtime
    from edgesr.runtime.tensorrt import TensorRtRuntime
    from edgesr.tiling import upscale_tiles
except (ImportError, SyntaxError, ValueError) as error:  # a lost or damaged file cannot verify
    sys.exit(f"run.py: its own modules do not load ({error}): copy the bundle again")

FOLDER = Path(__file__).resolve().parent
JPEG = (".jpg", ".jpeg")
EIGHT_BITS = (*JPEG, ".webp", ".bmp")
PRECISIONS = ("fp32", "fp16", "int8")


# ---------------------------------------------------------------- pictures


def read_picture(cv2: Any, path: Path) -> np.ndarray:
    """HWC, 1 to 4 channels in the order RGBA, uint8 or uint16."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as e:
        raise BadImage(f"{path}: {e.strerror}") from e
    # Only UNCHANGED keeps alpha and 16 bits; only the other turns a JPEG upright.
    flags = cv2.IMREAD_ANYCOLOR if data[:2].tolist() == [0xFF, 0xD8] else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadImage(f"{path}: not a picture that OpenCV reads, or a damaged one")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"{path}: its values are {pixels.dtype}; 8 or 16 bits are taken")
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return np.ascontiguousarray(swapped(pixels))


def swapped(pixels: np.ndarray) -> np.ndarray:
    """BGR(A) ↔ RGB(A)."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return pixels[:, :, order] if pixels.shape[2] >= 3 else pixels


def encode(cv2: Any, path: Path, pixels: np.ndarray) -> np.ndarray:
    """The bytes of a file in the format that the suffix of `path` names, as uint8."""
    suffix = path.suffix.lower()
    if suffix in JPEG and pixels.shape[2] in (2, 4):
        raise WriteFailed(f"{path}: JPEG holds no transparency; name it .png")
    if pixels.dtype == np.uint16 and suffix in EIGHT_BITS:  # OpenCV would cut off, not scale
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in JPEG else []
    try:
        done, data = cv2.imencode(suffix, swapped(pixels), options)
    except cv2.error as e:
        raise WriteFailed(f"{path}: OpenCV writes no such file; name it .png") from e
    if not done:
        raise WriteFailed(f"{path}: OpenCV could not encode it")
    return np.asarray(data)


def write_picture(cv2: Any, path: Path, pixels: np.ndarray) -> None:
    """Encode and write, whole or not at all."""
    data = encode(cv2, path, pixels)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.tobytes())
        os.replace(temporary, path)
    except OSError as e:
        if temporary.exists():
            temporary.unlink()
        raise WriteFailed(f"{path}: {e.strerror}") from e


def upscale(cv2: Any, pixels: np.ndarray, network: Runtime, tile: int | None) -> np.ndarray:
    """The network on the colours, OpenCV's cubic on alpha."""
    colours = pixels.shape[2] - (pixels.shape[2] + 1) % 2
    result = upscale_tiles(np.ascontiguousarray(pixels[:, :, :colours]), network, tile, report)
    if colours == pixels.shape[2]:
        return result
    size = (result.shape[1], result.shape[0])
    alpha = cv2.resize(pixels[:, :, -1], size, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([result, alpha[:, :, None]], axis=2)


def report(done: int, total: int) -> None:
    """Tiles done, on stderr."""
    if total > 1:
        print(f"\rtile {done}/{total}", end="\n" if done == total else "", file=sys.stderr)


# ---------------------------------------------------------------- runtimes


def engine_of(args: argparse.Namespace, role: str, shape: str) -> Path:
    """Where build.py puts the engine."""
    return Path(args.engines) / f"{role}.{shape}.engine"


def engine_source(engine: Path, about: manifest.Manifest) -> tuple[str, str]:
    """What build.py says it built: precision and ONNX file.

    Raises `Impossible` if it was not built from this bundle's network.
    """
    try:
        built = json.loads(Path(f"{engine}.json").read_text(encoding="utf-8"))
        precision, onnx = str(built["precision"]), str(built["onnx"])
        source = built["key"]["sha256 of " + onnx]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise Impossible(f"{engine.name} has no readable {engine.name}.json: run build.py") from e
    # An older bundle's engines stay where a newer bundle is copied over it.
    if onnx not in about.files or about.files[onnx].sha256 != source:
        raise Impossible(f"{engine.name} was built from another {onnx}: run build.py")
    return precision, onnx


def chosen(args: argparse.Namespace) -> str:
    """`tensorrt` or `onnxruntime`: what was asked for, else what is there."""
    if args.runtime != "auto":
        return str(args.runtime)
    if any(Path(args.engines).glob("*.engine")):
        return "tensorrt"
    try:
        importlib.import_module("onnxruntime")
    except ImportError as e:
        raise Impossible(
            "no engines and no onnxruntime: run build.py (on a Jetson) or pip install onnxruntime"
        ) from e
    return "onnxruntime"


def open_onnx(path: Path) -> Runtime:
    """The file on ONNX Runtime's CPU provider."""
    try:
        from edgesr.runtime.ort import OrtRuntime

        return OrtRuntime(path)
    except ImportError as e:
        raise Impossible(f"{e}: pip install onnxruntime") from e


def open_engine(args: argparse.Namespace, engine: Path, model: manifest.Model) -> Runtime:
    """The engine on TensorRT."""
    return TensorRtRuntime(engine, scale=model.scale, halo=model.halo, module=args.trt_module)


def open_model(
    args: argparse.Namespace, about: manifest.Manifest, height: int, width: int
) -> tuple[Runtime, int | None]:
    """A runtime that takes a picture of that size, and the tile for it (None: fixed)."""
    if args.model not in about.models:
        known = ", ".join(sorted(about.models))
        raise EdgeSRError(f"no model '{args.model}' in this bundle; known: {known}")
    model = about.models[args.model]
    precision = about.precision if args.precision == "auto" else args.precision
    runtime = chosen(args)
    if runtime == "onnxruntime" and precision == "fp32" and "dynamic" in model.onnx:
        # A fixed shape brings nothing there, and its kernels round a little differently.
        return open_onnx(FOLDER / model.onnx["dynamic"]["fp32"]), None
    shape = "tile" if height >= model.tile[0] and width >= model.tile[1] else "dynamic"
    if shape not in model.onnx:
        least = f"{model.tile[1]}×{model.tile[0]}"
        raise BadImage(f"{args.model} of this bundle takes pictures from {least} on")
    # A tile's halo is inside the window, and the window at most the fixed tile.
    tile = None if shape == "tile" else min(model.tile) - 2 * model.halo
    if runtime == "tensorrt":
        engine = engine_of(args, args.model, shape)
        built, _ = engine_source(engine, about)
        if args.precision not in ("auto", built) and shape == "tile":
            wanted = f"python3 build.py --precision {args.precision}"
            raise Impossible(f"{engine.name} is {built}, not {args.precision}: {wanted}")
        return open_engine(args, engine, model), tile
    return open_onnx(FOLDER / onnx_file(args, model.onnx[shape], precision)), tile


def onnx_file(args: argparse.Namespace, files: dict[str, str], precision: str) -> str:
    """The file for ONNX Runtime; fp32 where the shape has no other and none was asked for."""
    form = "int8.ort" if precision == "int8" else precision
    if form in files:
        return files[form]
    if args.precision != "auto":
        known = ", ".join(p for p in PRECISIONS if any(form.startswith(p) for form in files))
        raise EdgeSRError(
            f"no {precision} {args.model} for pictures of this size in this bundle ({known})"
        )
    return files["fp32"]


# ---------------------------------------------------------------- commands


def engine_targets(args: argparse.Namespace, about: manifest.Manifest) -> list[verify.Target]:
    """Every engine that was built here."""
    targets = []
    for role, model in sorted(about.models.items()):
        for shape in sorted(model.onnx, reverse=True):
            engine = engine_of(args, role, shape)
            if engine.is_file():
                label = f"{engine.name} on TensorRT"
                precision, onnx = engine_source(engine, about)
                opener = functools.partial(open_engine, args, engine, model)
                limits = about.files[onnx].limits if precision == "int8" else None
                targets.append(verify.Target(label, role, shape, precision, opener, limits))
    return targets


def run_verify(args: argparse.Namespace, about: manifest.Manifest) -> int:
    """Hashes and golden tiles; 1 for changed files, 3 for lost quality."""
    runtime = chosen(args)
    if runtime == "tensorrt":
        targets = engine_targets(args, about)
        if not targets:
            raise Impossible(f"no engines in {args.engines}: run build.py first")
    else:
        targets = verify.onnx_targets(FOLDER, about, open_onnx, "ONNX Runtime")
    found = verify.verify(FOLDER, about, targets)
    if args.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        print("\n".join(found.lines()))
    if found.changed:
        return 1
    return 0 if found.passed else 3


def run_picture(args: argparse.Namespace, about: manifest.Manifest) -> int:
    """One picture in, one out."""
    try:
        cv2: Any = importlib.import_module("cv2")
    except (ImportError, OSError) as e:
        raise Impossible(f"import cv2: {e}; on a Jetson: apt-get install python3-opencv") from e
    source = Path(args.picture)
    scale = about.models[args.model].scale if args.model in about.models else 0
    target = Path(args.output or source.with_name(f"{source.stem}_x{scale}{source.suffix}"))
    if target.exists() and not args.yes:
        raise WouldOverwrite(f"{target} exists already; -y overwrites it")
    pixels = read_picture(cv2, source)
    encode(cv2, target, pixels[:1, :1])  # refuses now what it would refuse after the work
    network, tile = open_model(args, about, pixels.shape[0], pixels.shape[1])
    try:
        result = upscale(cv2, pixels, network, tile)
    finally:
        network.close()
    write_picture(cv2, target, result)
    size = f"{result.shape[1]}×{result.shape[0]}"
    if args.json:
        facts = {"output": str(target), "width": result.shape[1], "height": result.shape[0]}
        print(json.dumps(dict(facts, runtime=network.name, model=args.model)))
    else:
        print(f"{target}: {size}, {args.model} on {network.name}")
    return 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Upscale a picture with this bundle.")
    parser.add_argument("picture", nargs="?", help="PNG, JPEG, WebP …: what OpenCV reads")
    parser.add_argument("-o", "--output", help="default: <picture>_x<scale> beside it")
    parser.add_argument("-y", "--yes", action="store_true", help="overwrite the output")
    parser.add_argument("--model", default="student", help="student or teacher")
    parser.add_argument("--runtime", default="auto", choices=["auto", "tensorrt", "onnxruntime"])
    parser.add_argument("--precision", default="auto", choices=["auto", *PRECISIONS])
    parser.add_argument("--engines", default=str(FOLDER / manifest.ENGINES), metavar="DIR")
    parser.add_argument("--trt-module", default=os.environ.get("EDGESR_TRT_MODULE", "tensorrt"))
    parser.add_argument("--verify", action="store_true", help="check the bundle, no picture")
    parser.add_argument("--json", action="store_true", help="print only JSON on stdout")
    args = parser.parse_args(argv)
    if args.verify == bool(args.picture):
        parser.error("give a picture, or --verify")
    return args


def main(argv: list[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""
    args = arguments(argv)
    try:
        about = manifest.read(FOLDER)
        return run_verify(args, about) if args.verify else run_picture(args, about)
    except EdgeSRError as e:
        print(f"run.py: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
