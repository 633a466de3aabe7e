"""`edgesr bench`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesr.cli import bench_output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.bench.album import Scored
    from edgesr.report import Report
    from edgesr.runtime.base import Runtime

_SIZE = "320x180"

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help="Students: names or files; default: balanced."),
]
Teacher = Annotated[
    str | None,
    typer.Option("--teacher", metavar="T", help="What they are compared with; default: srgan."),
]
Power = Annotated[
    bool,
    typer.Option(
        "--power", help="Measure energy too, if this machine has a meter.", rich_help_panel="Energy"
    ),
]
RequirePower = Annotated[
    bool,
    typer.Option(
        "--require-power", help="Measure energy; fail without a meter.", rich_help_panel="Energy"
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="Input size in pixels; default: 320x180; with --host the bundle's tile.",
        rich_help_panel="Timing",
    ),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration",
        metavar="S",
        help="Seconds of timed calls, all models together; default: 60.",
        rich_help_panel="Timing",
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Short for --duration 20.", rich_help_panel="Timing")
]
Publish = Annotated[
    bool,
    typer.Option(
        "--publish", help="Short for --duration 600 and --throughput.", rich_help_panel="Timing"
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="N",
        help="Start calls N times a second; default: back to back.",
        rich_help_panel="Timing",
    ),
]
Throughput = Annotated[
    bool | None,
    typer.Option(
        "--throughput/--no-throughput",
        help="Frames/s at batch 1, 2, 4, 8 and in 1 and 2 streams too, half as long again.",
        show_default=False,
        rich_help_panel="Timing",
    ),
]
LockClocks = Annotated[
    bool,
    typer.Option(
        "--lock-clocks",
        help="Hold CPU and GPU clocks at their highest meanwhile; root.",
        rich_help_panel="Timing",
    ),
]
Quality = Annotated[
    Path | None,
    typer.Option("--quality", metavar="DIR", help="Folder of originals, for PSNR and SSIM."),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="F",
        help="Write the report as JSON; - prints only that.",
        rich_help_panel="Reports",
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="F", help="Write it as one HTML page.", rich_help_panel="Reports"
    ),
]
MdFile = Annotated[
    Path | None,
    typer.Option("--md", metavar="F", help="Write it as Markdown.", rich_help_panel="Reports"),
]
CsvFile = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="F",
        help="Write every figure as CSV, one row for each model.",
        rich_help_panel="Reports",
    ),
]
CsvSamples = Annotated[
    Path | None,
    typer.Option(
        "--csv-samples",
        metavar="F",
        help="Write every timed call as CSV.",
        rich_help_panel="Reports",
    ),
]
Listed = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="LIST",
        help="`all`, or names with commas: a line for each, also for one that fails.",
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        metavar="F",
        help="Measure nothing; show the report in this JSON.",
        rich_help_panel="Reports",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Default: one for each physical core.",
        rich_help_panel="Timing",
    ),
]
RuntimeName = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="auto, ort, ort-cuda, ort-tensorrt or tensorrt: what runs it.",
        rich_help_panel="Timing",
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="USER@BOARD",
        help="Measure a bundle there, over ssh.",
        rich_help_panel="On a board",
    ),
]
BundleThere = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="DIR",
        help="With --host: its folder there.",
        rich_help_panel="On a board",
    ),
]
TeacherBundle = Annotated[
    str | None,
    typer.Option(
        "--teacher-bundle",
        metavar="DIR",
        help="With --host: a second bundle there, whose student is the teacher.",
        rich_help_panel="On a board",
    ),
]
Yes = Annotated[
    bool, typer.Option("-y", "--yes", help="Overwrite what exists.", rich_help_panel="Reports")
]


def bench(
    models: Models = None,
    teacher: Teacher = None,
    power: Power = False,
    require_power: RequirePower = False,
    size: Size = None,
    duration: Duration = None,
    quick: Quick = False,
    publish: Publish = False,
    fps: Fps = None,
    throughput: Throughput = None,
    lock_clocks: LockClocks = False,
    quality: Quality = None,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    md_file: MdFile = None,
    csv_file: CsvFile = None,
    csv_samples: CsvSamples = None,
    listed: Listed = None,
    replay: Replay = None,
    threads: Threads = None,
    runtime: RuntimeName = "auto",
    host: Host = None,
    bundle: BundleThere = None,
    teacher_bundle: TeacherBundle = None,
    yes: Yes = False,
) -> None:
    """Student against teacher: time, memory, energy and quality, interleaved in one run."""
    if host is None and (bundle or teacher_bundle):
        raise typer.BadParameter("--bundle and --teacher-bundle are folders on the --host")
    if replay is not None and (models or listed is not None):
        raise typer.BadParameter("--replay measures nothing; name no models", param_hint="MODEL")
    if models and listed is not None:
        raise typer.BadParameter("name models as arguments or with --models, not both")
    outputs = {
        "json": json_file,
        "html": html_file,
        "md": md_file,
        "csv": csv_file,
        "csv-samples": csv_samples,
    }
    bench_output.check(outputs, yes)
    if replay is not None:
        from edgesr.report import read

        report = read(replay)
    elif host is not None:
        _no_meaning_there(
            models=models or listed,
            teacher=teacher,
            quality=quality,
            throughput=throughput,
            lock_clocks=lock_clocks,
        )
        report = _measure_there(
            (host, bundle, teacher_bundle),
            size,
            runtime,
            duration_s=_seconds(duration, quick=quick, publish=publish),
            fps=fps,
            power=power,
            require_power=require_power,
            threads=threads,
        )
    else:
        report = _measure(
            size or _SIZE,
            runtime,
            models=tuple(models or ("balanced",)) if listed is None else _listed(listed, teacher),
            tolerant=listed is not None,
            teacher=teacher,
            duration_s=_seconds(duration, quick=quick, publish=publish),
            fps=fps,
            throughput=publish if throughput is None else throughput,
            lock_clocks=lock_clocks,
            power=power,
            require_power=require_power,
            quality=quality,
            threads=threads,
        )
    bench_output.put_out(report, outputs, replay)


def _listed(names: str, teacher: str | None) -> tuple[str, ...]:
    """The models of `--models`: `all` is every bundled one and its int8 form, less the teacher."""
    if names != "all":
        found = tuple(name.strip() for name in names.split(",") if name.strip())
        if not found:
            raise typer.BadParameter("--models: `all`, or names with commas between them")
        return found
    from edgesr.bench.config import DEFAULT_TEACHER
    from edgesr.models.find import describe, int8_name

    names_of_all = [name for m in describe() for name in (m.name, int8_name(m.name))]
    return tuple(n for n in names_of_all if n not in (None, teacher or DEFAULT_TEACHER))


def _seconds(duration: float | None, *, quick: bool, publish: bool) -> float:
    from edgesr.bench.config import DEFAULT_S, PUBLISH_S, QUICK_S

    if quick + publish + (duration is not None) > 1:
        raise typer.BadParameter("--quick, --publish and --duration: only one of them")
    if duration is not None:
        return duration
    return QUICK_S if quick else PUBLISH_S if publish else DEFAULT_S


def _measure(size: str, runtime_name: str, **asked: Any) -> Report:
    from functools import partial

    from edgesr.bench import memory, subjects
    from edgesr.bench.config import BenchConfig, parse_size
    from edgesr.bench.run import Tools
    from edgesr.bench.run import bench as run
    from edgesr.bench.whole import Upscale
    from edgesr.errors import BadConfig
    from edgesr.evaluate import evaluate, find_lpips
    from edgesr.models.find import check
    from edgesr.runtime.open import check_runtime
    from edgesr.upscaling.files import Options, upscale_array, upscale_file

    # Unchecked, since what the guards refuse may still be timed: networks that are not trained.
    def from_array(pixels: NDArray[Any], runtime: Runtime) -> NDArray[Any]:
        return upscale_array(pixels, runtime, check=False)

    def from_file(source: Path, runtime: Runtime, out: Path) -> object:
        return upscale_file(source, runtime, Options(out=out, yes=True, check=False))

    def score(
        folder: Path,
        runtime: Runtime | None,
        scale: int,
        *,
        perceptual: bool,
        on_progress: Callable[[int, int], None],
        on_picture: Callable[[Scored], None],
    ) -> dict[str, Any]:
        lpips, missing = find_lpips() if perceptual else (None, "")
        found = evaluate(
            folder,
            runtime,
            scale=scale,
            on_progress=on_progress,
            on_picture=on_picture,
            lpips=lpips,
        )
        return {**found.to_json(), **({"lpips_missing": missing} if missing else {})}

    try:
        width, height = parse_size(size)
        config = BenchConfig(width=width, height=height, **asked)
    except BadConfig as e:
        raise typer.BadParameter(str(e)) from e
    # With --models a name that is none has its line in the table too.
    for name in config.names[:1] if config.tolerant else config.names:
        check(name)
    check_runtime(runtime_name)
    tools = Tools(
        find=partial(subjects.find, runtime=runtime_name),
        memory=partial(memory.measure, runtime=runtime_name),
        upscale=Upscale(from_array, from_file),
    )
    return run(config, score=score, tools=tools)


def _no_meaning_there(**given: Any) -> None:
    """Refuse what a bundle on a board does not take."""
    names = {"models": "MODEL", "teacher": "--teacher", "quality": "--quality",
             "throughput": "--throughput", "lock_clocks": "--lock-clocks"}  # fmt: skip
    for name, value in given.items():
        if value:
            raise typer.BadParameter(
                f"{names[name]} does not go with --host: the bundle there has the networks; "
                "quality and throughput are measured here only, and clocks locked there by hand"
            )


def _measure_there(
    place: tuple[str, str | None, str | None], size: str | None, runtime: str, **asked: Any
) -> Report:
    from edgesr.bench.config import BenchConfig, parse_size
    from edgesr.bench.host.client import Target, bench_on
    from edgesr.errors import BadConfig
    from edgesr.progress import progress
    from edgesr.runtime.open import check_runtime

    try:
        width, height = parse_size(size or _SIZE)
        config = BenchConfig(width=width, height=height, **asked)
    except BadConfig as e:
        raise typer.BadParameter(str(e)) from e
    check_runtime(runtime)
    host, bundle, teacher_bundle = place
    target = Target(host, bundle, teacher_bundle, runtime, own_size=size is None)
    with progress(None, f"bench on {host}") as bar:
        return bench_on(target, config, bar.note)
