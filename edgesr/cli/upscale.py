"""`edgesr upscale`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edgesr.cli import upscale_checks as checks


class Format(str, Enum):
    """Formats that `-f` names."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    tiff = "tiff"
    bmp = "bmp"
    avif = "avif"


_SIZE, _NETWORK, _MEMORY = "Size", "Network", "Memory"
_BATCH, _FILMS, _REPORTS = "Many pictures", "Films and live sources", "Reports"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Pictures, films, folders, patterns ('photos/**/*.jpg'), a live source, or - for "
        "standard input.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        help="Output file, folder, or - for standard output; default: NAME_x4.png beside it.",
    ),
]
OutFormat = Annotated[
    Format | None,
    typer.Option(
        "-f",
        "--format",
        metavar="|".join(Format),
        help="Of the pictures written; default: png.",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        help="Of JPEG, WebP and AVIF; default: 95.",
    ),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Overwrite what exists.")]
Scale = Annotated[
    float | None,
    typer.Option(
        "-s",
        "--scale",
        metavar="N",
        help="2, 3, 1.5, 8, 16 …; default: the network's own, 4.",
        rich_help_panel=_SIZE,
    ),
]
Width = Annotated[
    int | None,
    typer.Option("--width", min=1, help="Of the result in pixels.", rich_help_panel=_SIZE),
]
Height = Annotated[
    int | None,
    typer.Option("--height", min=1, help="Of the result in pixels.", rich_help_panel=_SIZE),
]
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="A name of `edgesr models`, or a file; default: balanced.",
        rich_help_panel=_NETWORK,
        autocompletion=checks.complete_model,
    ),
]
Denoise = Annotated[
    bool,
    typer.Option(
        "--denoise",
        help="Clean while enlarging: short for -m gan, made for noisy and JPEG-damaged "
        "photographs; it also invents detail.",
        rich_help_panel=_NETWORK,
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "-x",
        "--ensemble",
        help="Mean over the eight flips and turns: a little better, eight times the time.",
        rich_help_panel=_NETWORK,
    ),
]
RuntimeName = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="auto, ort, ort-cuda, ort-tensorrt or tensorrt: what runs it.",
        rich_help_panel=_NETWORK,
        autocompletion=checks.complete_runtime,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "-t",
        "--tile",
        metavar="auto|N",
        help="Side of a tile in pixels, 16 or more; the result is the same.",
        rich_help_panel=_MEMORY,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="What the process may take, as 512M or 1.5G; default: what is free.",
        rich_help_panel=_MEMORY,
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Refuse to read pictures of more, as 400M; default: 100M.",
        rich_help_panel=_MEMORY,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Skip what is done: outputs that are whole and newer than their input; go on with "
        "an interrupted film.",
        rich_help_panel=_BATCH,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only say what would be done; write nothing.", rich_help_panel=_BATCH
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="NAME",
        help="Encoder: libx264, libx265, libvpx-vp9, libsvtav1; default: by the suffix.",
        rich_help_panel=_FILMS,
    ),
]
Crf = Annotated[
    int | None,
    typer.Option(
        "--crf",
        min=0,
        max=63,
        help="Quality of the encoder, 0 the best; default: 17 for libx264.",
        rich_help_panel=_FILMS,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames", min=1, help="End a live source after so many.", rich_help_panel=_FILMS
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        "--seconds", min=0.1, help="End a live source after so many.", rich_help_panel=_FILMS
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Write a page with bicubic and result under a slider: compare.html beside the "
        "outputs, or the .html that is named behind it.",
        rich_help_panel=_REPORTS,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print a JSON object a line.", rich_help_panel=_REPORTS),
]


def upscale(
    inputs: Inputs,
    out: Out = None,
    fmt: OutFormat = None,
    quality: Quality = None,
    yes: Yes = False,
    scale: Scale = None,
    width: Width = None,
    height: Height = None,
    model: Model = None,
    denoise: Denoise = False,
    ensemble: Ensemble = False,
    runtime: RuntimeName = "auto",
    tile: Tile = "auto",
    max_memory: MaxMemory = None,
    max_pixels: MaxPixels = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    codec: Codec = None,
    crf: Crf = None,
    frames: Frames = None,
    seconds: Seconds = None,
    compare: Compare = False,
    as_json: AsJson = False,
) -> None:
    """Make pictures and films larger, four times or to any size, without seams."""
    from edgesr.cli import upscale_run as run

    asked = checks.Asked(
        inputs=inputs, out=out, fmt=fmt.value if fmt else None, quality=quality, yes=yes,
        scale=scale, width=width, height=height, model=model, denoise=denoise,
        ensemble=ensemble, runtime=runtime, tile=checks.tile(tile),
        max_bytes=checks.size("--max-memory", max_memory),
        max_pixels=checks.count("--max-pixels", max_pixels),
        resume=resume, dry_run=dry_run, codec=codec, crf=crf, frames=frames, seconds=seconds,
        compare=compare, as_json=as_json,
    )  # fmt: skip
    asked = checks.checked(asked)
    if asked.is_live:
        run.live(asked)
    elif asked.is_standard:
        run.standard(asked)
    elif dry_run:
        run.dry_run(asked)
    else:
        run.batch(asked)
