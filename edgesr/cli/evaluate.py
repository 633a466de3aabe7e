"""`edgesr evaluate`."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgesr.evaluate import Evaluation, Scores


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Bundled model, file, or `bicubic`.")
    ],
    data: Annotated[
        Path, typer.Option("--data", help="Folder of originals, or with HR/ and LRx4/ in it.")
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N pictures.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option("-t", "--tile", min=16, help="Side of a tile in pixels; default: automatic."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """PSNR and SSIM of a model on a folder of pictures."""
    from dataclasses import replace

    from edgesr.evaluate import evaluate as run
    from edgesr.evaluate import find_pairs
    from edgesr.models.find import onnx_of
    from edgesr.progress import progress
    from edgesr.runtime.ort import OrtRuntime

    network = None if model == "bicubic" else OrtRuntime(onnx_of(model))
    with closing(network) if network else nullcontext() as runtime:
        scale = runtime.scale if runtime is not None else 4
        total = len(find_pairs(data, scale)[:limit])
        with progress(total, f"evaluate {model}") as bar:
            result = run(
                data,
                runtime,
                scale=scale,
                limit=limit,
                tile=tile,
                on_progress=lambda done, _: bar.advance(done - bar.done),
            )
    result = replace(result, model=model)
    typer.echo(json.dumps(result.to_json(), indent=2) if as_json else _table(result))


def _table(result: Evaluation) -> str:
    width = max(len(r.name) for r in result.rows) + 2
    width = max(width, len("picture") + 2)
    lines = [f"{'picture':<{width}}  PSNR-Y  SSIM-Y  PSNR-RGB  SSIM-RGB"]
    lines += [_scores(r.name, r.scores, width) for r in result.rows]
    lines.append(_scores(f"mean of {len(result.rows)}", result.mean, width))
    lines.append(f"{result.model}, x{result.scale}; {result.convention}")
    return "\n".join(lines)


def _scores(name: str, s: Scores, width: int) -> str:
    return (
        f"{name:<{width}}  {s.psnr_y:6.2f}  {s.ssim_y:6.4f}  {s.psnr_rgb:8.2f}  {s.ssim_rgb:8.4f}"
    )
