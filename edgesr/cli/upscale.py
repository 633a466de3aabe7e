"""`edgesr upscale`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesr.progress import Progress
    from edgesr.upscale import Failure, UpscaleResult


class Format(str, Enum):
    """Formats that `-f` names."""

    png = "png"
    jpg = "jpg"
    webp = "webp"


Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Pictures: PNG, JPEG, WebP, BMP, TIFF.")
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Output file or folder; default: IN_x4.png beside it."),
]
Model = Annotated[str, typer.Option("-m", "--model", help="Name of a bundled model, or a file.")]
Tile = Annotated[
    int | None,
    typer.Option("-t", "--tile", min=16, help="Side of a tile in pixels; default: automatic."),
]
OutFormat = Annotated[
    Format | None, typer.Option("-f", "--format", help="Output format; default: png.")
]
RuntimeName = Annotated[
    str,
    typer.Option("--runtime", help="auto, ort, ort-cuda, ort-tensorrt or tensorrt: what runs it."),
]
Quality = Annotated[int, typer.Option("--quality", min=1, max=100, help="Of JPEG and WebP.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Overwrite what exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def upscale(
    inputs: Inputs,
    out: Out = None,
    model: Model = "balanced",
    tile: Tile = None,
    fmt: OutFormat = None,
    runtime: RuntimeName = "auto",
    quality: Quality = 95,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make pictures four times larger, without seams."""
    from edgesr.upscale import Failure, Options, upscale_files

    many = len(inputs) > 1
    if many and out is not None and out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; several inputs need a folder", param_hint="-o")
    options = Options(
        out=out, tile=tile, fmt=fmt.value if fmt else None, quality=quality, yes=yes, many=many
    )
    done: list[UpscaleResult] = []
    failed: list[Failure] = []
    with _TileProgress() as progress:
        for outcome in upscale_files(inputs, options, model, progress.report, runtime=runtime):
            progress.close()
            if isinstance(outcome, Failure):
                failed.append(outcome)
                typer.echo(f"edgesr: {outcome.error}", err=True)
                continue
            done.append(outcome)
            if not as_json:
                typer.echo(_line(outcome))
    if as_json:
        typer.echo(json.dumps(_plain(done, failed), indent=2))
    if failed:
        raise typer.Exit(failed[0].error.exit_code if not many else 1)


def _line(r: UpscaleResult) -> str:
    size = f"{r.width}x{r.height} → {r.width * r.scale}x{r.height * r.scale}"
    return f"{r.output}  {size}  {r.total_s:.2f} s (network {r.network_s:.2f} s)"


def _plain(done: list[UpscaleResult], failed: list[Failure]) -> dict[str, Any]:
    results = [
        {
            "input": str(r.source),
            "output": str(r.output),
            "width": r.width * r.scale,
            "height": r.height * r.scale,
            "scale": r.scale,
            "network_s": r.network_s,
            "total_s": r.total_s,
        }
        for r in done
    ]
    return {
        "results": results,
        "failed": [{"input": str(f.source), "error": str(f.error)} for f in failed],
    }


class _TileProgress:
    """A bar on stderr for each picture of more than one tile."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> _TileProgress:
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar = None
        self._stack.__exit__(*error)

    def report(self, source: Path, done: int, total: int) -> None:
        from edgesr.progress import progress

        if total == 1:
            return
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(total, source.name))
        self._bar.advance(done - self._bar.done)

    def close(self) -> None:
        self._bar = None
        self._stack.close()
