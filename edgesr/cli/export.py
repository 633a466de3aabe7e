"""`edgesr export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def export(
    target: Annotated[
        str, typer.Option("--target", help="The device; `edgesr devices` lists them.")
    ],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Bundled model, .safetensors, .pth or run.")
    ] = "balanced",
    teacher: Annotated[str, typer.Option("--teacher", help="What to compare with.")] = "srgan",
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Leave the teacher out.")
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", help="auto (the device's), fp16 or fp32.")
    ] = "auto",
    sparsity: Annotated[str, typer.Option("--sparsity", help="auto or none.")] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", min=16, help="Side of the fixed input in pixels; default: the device's."
        ),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Photographs for the golden tiles; default: shipped ones."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: bundle-<model>-<target>.")
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Replace an older bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a bundle: ONNX files, golden tiles, builder and runner for a device."""
    from edgesr import device
    from edgesr.export import export_bundle
    from edgesr.models.find import check
    from edgesr.progress import progress

    device.load(target)  # a mistyped name is said before anything begins
    for name in (model,) if no_teacher else (model, teacher):
        check(name)
    out = out or Path(f"bundle-{Path(model).stem}-{target}")
    with progress(None, f"export {target}") as bar:
        bundle = export_bundle(
            model,
            teacher=None if no_teacher else teacher,
            target=target,
            out=out,
            precision=precision,
            sparsity=sparsity,
            tile=tile,
            photos=golden,
            yes=yes,
            log=bar.note,
        )
    if as_json:
        facts = {"bundle": str(bundle.path), "gates": list(bundle.manifest.gates)}
        typer.echo(json.dumps(facts, indent=1))
        return
    for gate in bundle.manifest.gates:
        typer.echo(f"{gate['psnr_db']:6.1f} dB  {gate['hop']}")
    files = bundle.manifest.files.values()
    typer.echo(f"{bundle.path}: {sum(f.bytes for f in files) / 1e6:.1f} MB; its README.md says "
               "what to do on the device")  # fmt: skip
