"""`edgesr bench`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesr.report import Report
    from edgesr.runtime.base import Runtime

_STDOUT = Path("-")
_PLAIN_WIDTH = 110  # columns where stdout is no terminal

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help="Students: names or files; default: balanced."),
]
Teacher = Annotated[
    str | None,
    typer.Option("--teacher", metavar="T", help="What they are compared with; default: srgan."),
]
Power = Annotated[
    bool, typer.Option("--power", help="Measure energy too, if this machine has a meter.")
]
RequirePower = Annotated[
    bool, typer.Option("--require-power", help="Measure energy; fail without a meter.")
]
Size = Annotated[str, typer.Option("--size", metavar="WxH", help="Input size in pixels.")]
Duration = Annotated[
    float,
    typer.Option("--duration", metavar="S", help="Seconds of timed calls, all models together."),
]
Quality = Annotated[
    Path | None,
    typer.Option("--quality", metavar="DIR", help="Folder of originals, for PSNR and SSIM."),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="F", help="Write the report as JSON; - prints only that."),
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", metavar="F", help="Write it as one HTML page.")
]
MdFile = Annotated[Path | None, typer.Option("--md", metavar="F", help="Write it as Markdown.")]
Replay = Annotated[
    Path | None,
    typer.Option("--replay", metavar="F", help="Measure nothing; show the report in this JSON."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Default: one for each physical core."),
]
RuntimeName = Annotated[
    str,
    typer.Option("--runtime", help="auto, ort, ort-cuda, ort-tensorrt or tensorrt: what runs it."),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Overwrite what exists.")]


def bench(
    models: Models = None,
    teacher: Teacher = None,
    power: Power = False,
    require_power: RequirePower = False,
    size: Size = "320x180",
    duration: Duration = 20.0,
    quality: Quality = None,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    md_file: MdFile = None,
    replay: Replay = None,
    threads: Threads = None,
    runtime: RuntimeName = "auto",
    yes: Yes = False,
) -> None:
    """Student against teacher: time, memory, energy and quality, interleaved in one run."""
    from edgesr.atomic import refuse_overwrite

    if replay is not None and models:
        raise typer.BadParameter("--replay measures nothing; name no models", param_hint="MODEL")
    if [json_file, html_file, md_file].count(_STDOUT) > 1:
        raise typer.BadParameter("only one of --json, --html and --md may print on stdout")
    for path in (json_file, html_file, md_file):
        if path is not None and path != _STDOUT:
            refuse_overwrite(path, yes)
    if replay is not None:
        from edgesr.report import read

        report = read(replay)
    else:
        report = _measure(
            size,
            runtime,
            models=tuple(models or ("balanced",)),
            teacher=teacher,
            duration_s=duration,
            power=power,
            require_power=require_power,
            quality=quality,
            threads=threads,
        )
    _write(report, json_file, html_file, md_file)


def _measure(size: str, runtime_name: str, **asked: Any) -> Report:
    from functools import partial

    from edgesr.bench import memory, subjects
    from edgesr.bench.config import BenchConfig, parse_size
    from edgesr.bench.run import Tools
    from edgesr.bench.run import bench as run
    from edgesr.errors import BadConfig
    from edgesr.evaluate import evaluate
    from edgesr.models.find import check
    from edgesr.runtime.open import check_runtime

    def score(
        folder: Path,
        runtime: Runtime | None,
        scale: int,
        on_progress: Callable[[int, int], None],
    ) -> dict[str, Any]:
        return evaluate(folder, runtime, scale=scale, on_progress=on_progress).to_json()

    try:
        width, height = parse_size(size)
        config = BenchConfig(width=width, height=height, **asked)
    except BadConfig as e:
        raise typer.BadParameter(str(e)) from e
    for name in config.names:
        check(name)
    check_runtime(runtime_name)
    tools = Tools(
        find=partial(subjects.find, runtime=runtime_name),
        memory=partial(memory.measure, runtime=runtime_name),
    )
    return run(config, score=score, tools=tools)


def _write(report: Report, json_file: Path | None, html: Path | None, md: Path | None) -> None:
    from edgesr.report import dumps, to_html, to_markdown, write

    forms = ((json_file, dumps), (html, to_html), (md, to_markdown))
    # Files first: a reader of stdout that goes away (`| head`) must not cost the run.
    for path, form in forms:
        if path is not None and path != _STDOUT:
            write(path, form(report))
            typer.echo(f"written: {path}", err=True)
    piped = [form for path, form in forms if path == _STDOUT]
    if piped:
        typer.echo(piped[0](report), nl=False)
    else:
        _show(report)


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    from edgesr.report import to_table
    from edgesr.report.rows import notes

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    console.print(to_table(report))
    console.print()
    for note in notes(report):
        console.print(Text(f"· {note}"))
