"""Put a trained student into the box: its files, its card, and its part of `docs/models.md`.

    python tools/add_model.py RUN NAME --about "…" --for "…" --eval DIR [--int8 RUN2]

`RUN` is a finished run folder of `edgesr compress`, `RUN2` one with a `quantize` stage that
started from it. Into `edgesr/models/zoo` go NAME.safetensors, NAME.fp32.onnx, NAME.int8.ort.onnx,
NAME.int8.safetensors (the int8 scales, for `edgesr export`) and the card NAME.json; into `docs`
models.md and models/NAME-fails.png. All figures are measured now, through ONNX Runtime. All
files appear together, or none does; an int8 file of an earlier NAME does not stay behind.
With `--half` the box holds float16 weights alone, of what is too large for it otherwise: a teacher.
Its figures are those of the rounded weights, and its ONNX file is written when it is asked for.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: its neighbours are modules of the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgesr import checkpoint, resources
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, BadImage, BadModel, EdgeSRError, WouldOverwrite, WriteFailed
from edgesr.evaluate import evaluate
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.graph.reach import halo
from edgesr.metrics import CONVENTION
from edgesr.models import cards
from edgesr.models.cards import Card, SetQuality, Source, TrainingRun
from edgesr.runtime.ort import OrtRuntime
from tools import fail_sheets, model_docs, model_run
from tools.model_past import Past, past_of
from tools.model_run import FinishedRun

MOST_BYTES = 1_500_000  # of a bundled file: the wheel stays small
MOST_BYTES_HALF = 3_200_000  # SRGAN's generator in float16
STATED = (320, 180)  # width and height of the input at which MACs are stated
SUFFIXES = ("safetensors", "fp32.onnx", "int8.ort.onnx", "int8.safetensors", "json")
SOURCES = Path(__file__).parent / "training_sources.json"
PSNR_LIMITS = (
    "×4 of clean pictures that were reduced by bicubic filtering. Noise, the blocks of JPEG and "
    "blur in the input are enlarged with the rest.",
    "Trained for PSNR: what the input does not determine comes out smooth, not grainy.",
    "Patterns finer than two pixels of the input, and small text, can come out wrong though sharp: "
    "no evidence for what was there.",
)
INT8_LIMIT = "The int8 figures were measured on one {} CPU only."
GAN_LIMITS = (
    "×4 of pictures as phones and the web give them. Detail is invented where the input has none: "
    "no evidence for what was there.",
    "Lower PSNR than a model trained for it, by design.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, check everything, measure, and write all files in one go."""
    args = _parser().parse_args(arguments)
    try:
        card = add(args)
    except EdgeSRError as e:
        print(f"add_model: {e}", file=sys.stderr)
        raise SystemExit(e.exit_code) from e
    for row in cards.quality_rows(card):
        print("  ".join(row))
    for fail in card.fails:
        print(cards.fail_line(fail))
    print(f"look at {args.docs}/models/{card.name}-fails.png: the words above must be true of it")


def add(args: argparse.Namespace) -> Card:
    """The card of the model that was added. Raises `EdgeSRError` before anything is written."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", args.name):
        raise BadConfig(f"'{args.name}' is no name for a model: small letters, digits and dashes")
    present = [args.box / f"{args.name}.{suffix}" for suffix in SUFFIXES]
    present = [path for path in present if path.exists()]
    if present and not args.yes:
        raise WouldOverwrite(f"{present[0]} exists already; -y replaces the model '{args.name}'")
    chain = [model_run.open_run(path) for path in (*args.earlier, args.run)]
    past = past_of(chain[0], args.box)
    model_run.check_chain(chain, past.weights_hash)
    int8 = model_run.open_run(args.int8) if args.int8 else None
    if args.half and int8 is not None:
        raise BadConfig("--half keeps float16 weights alone: leave out --int8")
    about_runs = {
        **_credited(chain + ([int8] if int8 else []), past, args),
        "training": _training(chain, int8, past, args.hardware),
        "limits": (*_limits(chain[-1], int8), *args.limit),
    }
    if args.half:
        chain[-1] = _rounded(chain[-1])
    onnx = _onnx(chain[-1], int8)
    quality = measure(onnx["fp32.onnx"], onnx.get("int8.ort.onnx"), args.eval, args.threads)
    files = {**({} if args.half else onnx), **_weights(quality, chain[-1], int8, args.half)}
    _check_sizes(args.name, files, MOST_BYTES_HALF if args.half else MOST_BYTES)
    runtime = OrtRuntime(onnx["fp32.onnx"], threads=args.threads)
    shown = [fail_sheets.show(case, runtime) for case in fail_sheets.CASES]
    card = Card(
        schema=cards.SCHEMA, name=args.name, about=args.about, purpose=args.purpose,
        **_numbers(chain[-1].student), **_digests(files), **about_runs,
        convention=CONVENTION, quality=quality, lineage=_lineage(chain[-1], int8),
        fails=tuple(one.fail for one in shown), notes=(*past.notes, *args.note),
    )  # fmt: skip
    _put(args, card, files, fail_sheets.sheet(shown, args.name), present)
    return card


def _put(
    args: argparse.Namespace, card: Card, files: Mapping[str, bytes], sheet: bytes,
    present: Sequence[Path],
) -> None:  # fmt: skip
    """Write everything; `present` are the files of a model of that name that is replaced."""
    written = {args.box / f"{card.name}.{suffix}": content for suffix, content in files.items()}
    written[args.box / f"{card.name}.json"] = cards.dumps(card).encode()
    others = (p for p in args.box.glob("*.json") if p.stem != card.name)
    every = [card, *(cards.loads(p.read_text(encoding="utf-8"), p.name) for p in others)]
    written[args.docs / "models" / f"{card.name}-fails.png"] = sheet
    written[args.docs / "models.md"] = model_docs.page(every).encode()
    replace_all(written, [path for path in present if path not in written])


def _credited(runs: Sequence[FinishedRun], past: Past, args: argparse.Namespace) -> dict[str, Any]:
    """The sources of all pictures and the credits of all teachers: the union over the runs."""
    listed = model_run.read_sources(args.credits)
    found: dict[str, Source] = {source.source: source for source in past.trained_on}
    for run in runs:
        for source in model_run.trained_on(run, listed, args.data):
            known = found.get(source.source, source)
            found[source.source] = max(known, source, key=lambda s: s.tiles)
    credits = list(past.credits)
    for run in runs:
        credits += model_run.teacher_credits(run, args.box)
    return {"trained_on": tuple(found.values()), "credits": tuple(dict.fromkeys(credits))}


def _training(
    chain: Sequence[FinishedRun], int8: FinishedRun | None, past: Past, hardware: str
) -> tuple[TrainingRun, ...]:
    done = list(past.training)
    runs = [(run, "fp32") for run in chain] + ([(int8, "int8")] if int8 else [])
    for run, form in runs:
        start = f"run {len(done)}" if done else ""
        done.append(model_run.training_run(run, form, start, hardware))
    return tuple(done)


def _onnx(run: FinishedRun, int8: FinishedRun | None) -> dict[str, bytes]:
    """The ONNX files by suffix. Raises `BadModel` where they are not of one student."""
    if run.student.quant is not None:
        raise BadModel(f"{run.folder}: its student is int8; give the run before it, and --int8")
    files = {"fp32.onnx": to_onnx(run.student.graph, run.student.weights)}
    if int8 is not None:
        files["int8.ort.onnx"] = model_run.int8_file(int8, run)
    return files


def _weights(
    quality: Mapping[str, SetQuality], run: FinishedRun, int8: FinishedRun | None, half: bool
) -> dict[str, bytes]:
    """The checkpoints by suffix, with the figures in them."""
    metrics = {"quality": {name: dataclasses.asdict(q) for name, q in quality.items()}}
    files = {"safetensors": _packed(run.student, metrics, half)}
    if int8 is not None:
        files["int8.safetensors"] = _packed(int8.student, metrics)
    return files


def _rounded(run: FinishedRun) -> FinishedRun:
    """The same run with the student that float16 files give back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.safetensors"
        checkpoint.save(path, run.student, half=True)
        return dataclasses.replace(run, student=checkpoint.load(path))


def _packed(student: Checkpoint, metrics: dict[str, Any], half: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        checkpoint.save(path, dataclasses.replace(student, metrics=metrics), half=half)
        return path.read_bytes()


def _check_sizes(name: str, files: Mapping[str, bytes], most: int) -> None:
    for suffix, content in files.items():
        if len(content) > most:
            raise BadModel(
                f"{name}.{suffix} would have {len(content) / 1e6:.2f} MB, and a bundled file has "
                f"at most {most / 1e6:g} MB; train a narrower student, or give --half"
            )


def _numbers(student: Checkpoint) -> dict[str, Any]:
    graph = student.graph
    return {
        "params": counts.parameters(graph),
        "macs_320x180": counts.macs(graph, STATED[1], STATED[0]),
        "halo": halo(graph),
        "scale": graph.scale,
    }


def _digests(files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "file_bytes": {suffix: len(content) for suffix, content in files.items()},
        "sha256": {s: hashlib.sha256(content).hexdigest() for s, content in files.items()},
    }


def _lineage(run: FinishedRun, int8: FinishedRun | None) -> dict[str, dict[str, Any]]:
    """Hashes of what the networks were made from; the recipes stand in `training`."""
    forms = {"fp32": run, **({"int8": int8} if int8 else {})}
    return {
        form: {key: value for key, value in made.student.lineage.items() if key != "recipe"}
        for form, made in forms.items()
    }


def _limits(run: FinishedRun, int8: FinishedRun | None) -> tuple[str, ...]:
    gan = any(stage.kind == "gan" for stage in run.recipe.stages)
    of_int8 = (INT8_LIMIT.format(platform.machine()),) if int8 else ()
    return (*(GAN_LIMITS if gan else PSNR_LIMITS), *of_int8)


def measure(
    fp32: bytes, int8: bytes | None, folder: Path, threads: int = 1
) -> dict[str, SetQuality]:
    """Means of bicubic and of both networks on each set in `folder`; PSNR in dB.

    Raises `BadImage` when there is no set, or a picture of one is missing or damaged.
    """
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    names = sorted(found, key=lambda n: (cards.SETS.index(n) if n in cards.SETS else 9, n))
    if not names:
        raise BadImage(
            f"{folder}: no evaluation sets in it: one folder a set, HR/ and LRx4/ inside"
        )
    networks: dict[str, OrtRuntime | None] = {"": OrtRuntime(fp32, threads=threads)}
    networks["bicubic_"] = None
    if int8 is not None:
        networks["int8_"] = OrtRuntime(int8, threads=threads)
    quality = {}
    for name in names:
        figures: dict[str, float] = {}
        for prefix, network in networks.items():
            mean = evaluate(folder / name, network).mean
            figures[f"{prefix}psnr_y"] = round(mean.psnr_y, 3)
            figures[f"{prefix}ssim_y"] = round(mean.ssim_y, 4)
            figures[f"{prefix}psnr_rgb"] = round(mean.psnr_rgb, 3)
        if int8 is not None:
            figures["int8_loss_db"] = round(figures["psnr_y"] - figures["int8_psnr_y"], 3)
        quality[name] = SetQuality(**figures)
    return quality


def replace_all(files: Mapping[Path, bytes], obsolete: Iterable[Path] = ()) -> None:
    """Write `files` and remove `obsolete`: all of it, or nothing when any step fails.

    New content is written in full before the first file moves; what moved goes back after a
    failure. Only a process killed in the milliseconds of the moves leaves a mixture, which the
    card's hashes show. Raises `WriteFailed`.
    """
    targets = [*files, *obsolete]
    moved: list[tuple[Path, Path, bool]] = []
    try:
        with ExitStack() as stack:
            stages: dict[Path, Path] = {}
            for folder in {path.parent for path in targets}:
                folder.mkdir(parents=True, exist_ok=True)
                stage = tempfile.TemporaryDirectory(prefix=".add-", dir=folder)
                stages[folder] = Path(stack.enter_context(stage))
            for path, content in files.items():
                (stages[path.parent] / path.name).write_bytes(content)
            try:
                for path in targets:
                    old = stages[path.parent] / f"{path.name}.old"
                    moved.append((path, old, path.exists()))
                    if path.exists():
                        os.replace(path, old)
                    if path in files:
                        os.replace(stages[path.parent] / path.name, path)
            except BaseException:
                _restore(moved)
                raise
    except OSError as e:
        raise WriteFailed(f"cannot write {e.filename}: {e.strerror}; nothing was changed") from e


def _restore(moved: Sequence[tuple[Path, Path, bool]]) -> None:
    for path, old, existed in reversed(moved):
        if old.exists():
            os.replace(old, path)
        elif not existed:
            path.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say = parser.add_argument
    say("run", type=Path, help="finished run folder of the fp32 student")
    say("name", help="of the model")
    say("--int8", type=Path, help="run folder with a quantize stage that started from RUN")
    say("--earlier", type=Path, action="append", default=[],
        help="run that RUN started from; several in order, the oldest first; not needed for a "
        "bundled model")  # fmt: skip
    say("--about", required=True, help="the model in one line")
    say("--for", dest="purpose", required=True, help="what it is for, in a sentence or two")
    say("--eval", type=Path, required=True, help="folder of evaluation sets, HR/ and LRx4/ in each")
    say("--data", type=Path, help="where the training pictures are, if they were moved")
    say("--credits", type=Path, default=SOURCES, help="JSON list of training sources")
    say("--hardware", default="", help="what it was trained on, if not this machine")
    say("--limit", action="append", default=[], help="one more limit to state")
    say("--note", action="append", default=[], help="anything out of the ordinary")
    say("--threads", type=int, default=1, help="of ONNX Runtime while measuring")
    say("--box", type=Path, default=resources.zoo(), help="folder of bundled models")
    say("--docs", type=Path, default=Path(__file__).parents[1] / "docs", help="folder of models.md")
    say("--half", action="store_true", help="keep float16 weights alone, no ONNX files")
    say("-y", "--yes", action="store_true", help="replace a model of that name")
    return parser


if __name__ == "__main__":
    main()
