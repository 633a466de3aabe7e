"""`edgesr plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_WIDTH = 80  # columns where stdout is no terminal

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Bundled model, .safetensors, .pth or run.")
]
Target = Annotated[
    str, typer.Option("--target", help="The device; `edgesr devices` lists them.")
]  # fmt: skip
Image = Annotated[str, typer.Option("--image", metavar="WxH", help="Size of the picture going in.")]
Teacher = Annotated[str, typer.Option("--teacher", metavar="T", help="What to compare with.")]
NoTeacher = Annotated[bool, typer.Option("--no-teacher", help="Plan the student alone.")]
Wanted = Annotated[
    str, typer.Option("--precision", help="auto (the device's), fp16, fp32 or int8.")
]
Mode = Annotated[
    str | None,
    typer.Option("--mode", metavar="NAME", help="A power mode, as `devices show` lists them."),
]
TileSide = Annotated[
    int | None,
    typer.Option("--tile", metavar="N", min=16, help="Side of the window; default: the device's."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the plan as JSON, layer by layer.")]


def plan(
    model: Model = "balanced",
    target: Target = "jetson-orin",
    image: Image = "1920x1080",
    teacher: Teacher = "srgan",
    no_teacher: NoTeacher = False,
    precision: Wanted = "auto",
    mode: Mode = None,
    tile: TileSide = None,
    as_json: Json = False,
) -> None:
    """Estimate tiles, memory and time on a device, and what int8 and 2:4 can bring there."""
    from edgesr.plan.run import Request
    from edgesr.plan.run import plan as make

    width, height = _size(image)
    request = Request(
        model=model,
        target=target,
        width=width,
        height=height,
        teacher=None if no_teacher else teacher,
        precision=precision,
        mode=mode,
        tile=tile,
    )
    made = make(request)
    if as_json:
        typer.echo(json.dumps(made, indent=1, ensure_ascii=False))
    else:
        _print(made)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and max(len(width), len(height)) <= 9):
        raise typer.BadParameter(f"--image must look like 1920x1080, not '{text}'")
    return int(width), int(height)


def _print(made: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    for line in _head(made):
        console.print(line)
    table = Table(pad_edge=False)
    table.add_column("estimated")
    models = list(made["models"].values())
    labels = [model["name"] for model in models]
    if len(set(labels)) < len(labels):
        labels = list(made["models"])
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    for row in _rows(models):
        table.add_row(*row)
    console.print(table)
    for label, text in _verdicts(labels, models):
        _hang(console, label, text)
    _hang(console, "DLA: ", made["dla"])
    for note in (*made["notes"], *(note for model in models for note in model["notes"])):
        _hang(console, "· ", note)


def _verdicts(labels: list[str], models: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each topic once where all models have the same answer, else model by model."""
    for topic in models[0]["advice"]:
        answers = [model["advice"][topic] for model in models]
        if len(set(answers)) == 1:
            yield f"{topic}: ", answers[0]
            continue
        for label, answer in zip(labels, answers, strict=True):
            yield f"{topic}, {label}: ", answer


def _hang(console: Console, label: str, text: str) -> None:
    """The text behind its label, further lines indented by four."""
    import textwrap

    lines = textwrap.wrap(label + text, width=console.width, subsequent_indent="    ")
    console.print("\n".join(lines), soft_wrap=True)


def _head(made: dict[str, Any]) -> list[str]:
    image = made["image"]
    mode = f", mode {made['mode']}" if made["mode"] else ""
    clock = f", GPU at {made['gpu_mhz']} MHz" if made["gpu_mhz"] else ""
    outputs = sorted({model["scale"] for model in made["models"].values()})
    out = " or ".join(f"{image['width'] * s}×{image['height'] * s}" for s in outputs)
    return [
        f"{made['target']}: {made['title']}",
        f"{made['precision']}{mode}{clock}; {image['width']}×{image['height']} in, {out} out. "
        "All of it is estimated; nothing was run.",
    ]


def _rows(models: list[dict[str, Any]]) -> Iterator[list[str]]:
    figures = [model["figures"] for model in models]
    yield ["parameters", *(f"{m['parameters'] / 1e3:,.1f} k" for m in models)]
    yield ["window, halo", *(_tile(m) for m in models)]
    for title, key, show in (
        ("windows", "windows", "{:,}".format),
        ("pixels computed per pixel", "overlap", "{:.2f}".format),
        ("MACs of the picture", "macs", lambda value: f"{value / 1e9:,.1f} G"),
        ("largest live set", "live_bytes", _megabytes),
        ("weights", "weight_bytes", _megabytes),
        ("time, at least", "floor_ms", lambda value: f"{_short(value)} ms"),
        ("time, layer by layer", "layers_ms", lambda value: f"{_short(value)} ms"),
        ("  of it waiting for memory", "memory_bound_share", lambda v: f"{100 * v:.0f} %"),
        ("pictures a second, at most", "fps_at_most", _short),
    ):
        values = [f[key]["value"] for f in figures]
        yield [title, *("not known" if value is None else show(value) for value in values)]
        if key == "live_bytes":
            yield ["  reached at layer", *(m["live_set"]["at"] for m in models)]


def _tile(model: dict[str, Any]) -> str:
    tile = model["tile"]
    shape = f"{tile['width']}×{tile['height']}" if tile["fixed"] else f"≤ {tile['width']}"
    return f"{shape}, {model['halo']}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.1f} MB"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
