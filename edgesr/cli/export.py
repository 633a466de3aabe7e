"""`edgesr export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesr.errors import EdgeSRError, GateNotMet

if TYPE_CHECKING:
    from edgesr.bundle.manifest import Manifest


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
        str,
        typer.Option(
            "--precision",
            help="auto, fp32, fp16 or int8. auto: the device's; int8 where the model was trained "
            "for it or --calib is given.",
        ),
    ] = "auto",
    calib: Annotated[
        Path | None,
        typer.Option("--calib", help="Folder of photographs to find int8 scales on."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            min=0.0,
            help="What int8 may lose, dB of PSNR-Y; layers go back to fp16 until it holds; "
            "default: 0.1 with trained scales, 0.3 with --calib.",
        ),
    ] = None,
    sparsity: Annotated[
        str, typer.Option("--sparsity", help="auto, none or 2:4 (the model must have it).")
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", min=16, help="Side of the fixed input in pixels; default: the device's."
        ),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Photographs for golden tiles and gates; default: shipped."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: bundle-<model>-<target>.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="USER@BOARD",
            help="Copy the bundle there over ssh, build and verify it there, fetch the report.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Replace an older bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a bundle: ONNX files, golden tiles, builder and runner for a device."""
    from edgesr.bundle import manifest
    from edgesr.export import export_bundle
    from edgesr.progress import progress

    out = out or Path(f"bundle-{Path(model).stem}-{target}")
    _check(target, (model,) if no_teacher else (model, teacher), out, host)
    try:
        with progress(None, f"export {target}") as bar:
            export_bundle(
                model,
                teacher=None if no_teacher else teacher,
                target=target,
                out=out,
                precision=precision,
                sparsity=sparsity,
                tile=tile,
                photos=golden,
                calib=calib,
                max_drop_db=max_drop,
                yes=yes,
                log=bar.note,
            )
    except GateNotMet:
        _show(out, manifest.read(out), as_json)
        raise
    about = manifest.read(out)
    if not (as_json and host):
        _show(out, about, as_json)
    if calib is not None and about.int8 and about.int8["scales"] == "trained":
        typer.echo("edgesr: the model was trained with its int8 scales; --calib was not used",
                   err=True)  # fmt: skip
    if host is not None:
        _deploy(out, host, _facts(out, about) if as_json else None)


def _check(target: str, models: tuple[str, ...], out: Path, host: str | None) -> None:
    """What is mistyped is said before anything begins."""
    from edgesr import device
    from edgesr.models.find import check

    device.load(target)
    for name in models:
        check(name)
    if host is not None:
        from edgesr.remote import deploy

        deploy.check(out, host)


def _deploy(bundle: Path, host: str, facts: dict[str, Any] | None) -> None:
    """To the board; what was found there, and its exit code. JSON where there are `facts`."""
    from edgesr.remote.deploy import deploy

    try:
        report = deploy(bundle, host, say=lambda line: typer.echo(line, err=True))
    except EdgeSRError:
        typer.echo(f"edgesr: the bundle is in {bundle}; the same command with -y makes it again, "
                   f"the same bytes, and sends only what {host} has not", err=True)  # fmt: skip
        raise
    if facts is not None:
        typer.echo(json.dumps({**facts, "deployment": report.to_json()}, indent=1))
    else:
        typer.echo("\n".join(report.lines()))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _facts(path: Path, about: Manifest) -> dict[str, Any]:
    return {
        "bundle": str(path),
        "precision": about.precision,
        "gates_passed": about.gates_passed,
        "gates": list(about.gates),
        "int8": about.int8,
        "sparsity": about.sparsity,
    }


def _show(path: Path, about: Manifest, as_json: bool) -> None:
    """What was measured, a missed gate too."""
    if as_json:
        typer.echo(json.dumps(_facts(path, about), indent=1))
        return
    for gate in about.gates:
        verdict = "LOST" if gate["failures"] else "ok"
        psnr = f"{gate['psnr_db']:6.1f} dB" if "psnr_db" in gate else " " * 9
        drop = f", PSNR-Y {-gate['drop_db']:+.3f} dB" if "drop_db" in gate else ""
        typer.echo(f"{verdict:4} {psnr}  {gate['hop']}{drop}")
    for kept in (about.int8 or {}).get("repaired", ()):
        typer.echo(f"     '{kept['layer']}' was taken out of int8: {kept['why']}")
    for tensor, problem in (about.int8 or {}).get("suspects", {}).items():
        typer.echo(f"     scale of '{tensor}' looks wrong: {problem}")
    size = sum(f.bytes for f in about.files.values()) / 1e6
    typer.echo(
        f"{path}: {about.precision}, {size:.1f} MB; its README.md says what to do on the device"
    )
