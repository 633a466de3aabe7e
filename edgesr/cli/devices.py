"""`edgesr devices`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesr.device import DeviceProfile, JetPack, Mode, Power

_NARROWEST, _WIDEST = 60, 100  # columns; 80 where stdout is no terminal
_SOURCE = "    "  # what a source is indented by

devices = typer.Typer(help="The targets that export knows.", invoke_without_command=True)


@devices.callback()
def list_devices(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profiles as JSON.")] = False,
) -> None:
    """List the targets of export; `devices show NAME` says all about one."""
    if context.invoked_subcommand:
        return
    from edgesr import device

    profiles = [device.load(name) for name in device.names()]
    if as_json:
        typer.echo("[" + ",\n".join(p.to_json() for p in profiles) + "]")
        return
    width = max(len(p.name) for p in profiles) + 2
    for p in profiles:
        typer.echo(_wrapped(f"{p.name:<{width}}", p.title, " " * width))


@devices.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A target, as `devices` lists it.")],
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the profile as JSON.")
    ] = False,
) -> None:
    """What is known about a target, each fact with its source."""
    from edgesr import device

    profile = device.load(name)
    if as_json:
        typer.echo(profile.to_json())
        return
    for line in _lines(profile):
        typer.echo(line)


def _lines(profile: DeviceProfile) -> Iterator[str]:
    yield _wrapped(f"{profile.name}: ", profile.title)
    yield _wrapped("boards: ", ", ".join(profile.boards))
    yield ""
    for fact, value in profile.facts().items():
        yield _wrapped(f"{fact}: ", _value(fact, value))
        yield _wrapped(_SOURCE, profile.sources[fact], _SOURCE)
    if profile.dla:
        from edgesr.device import DLA_REFUSED

        yield _wrapped(_SOURCE, DLA_REFUSED, _SOURCE)
    yield "tiles: " + ", ".join(f"{t.width}×{t.height}" for t in profile.tiles)
    for title, blocks in (
        ("Power modes (nvpmodel; EdgeSR never changes one)", map(_mode, profile.modes)),
        ("JetPack", map(_jetpack, profile.jetpack)),
        ("Power rails", map(_power, profile.power)),
    ):
        lines = [line for block in blocks for line in block]
        if lines:
            yield from ("", title, *lines)
    if profile.notes:
        yield ""
    for note in profile.notes:
        yield _wrapped("· ", note, "  ")


def _mode(mode: Mode) -> Iterator[str]:
    facts = [] if mode.id is None else [f"number {mode.id}"]
    facts += ["the default"] if mode.default else []
    if mode.gpu_mhz:
        facts.append(f"GPU at {mode.gpu_mhz} MHz")
    elif not mode.note:
        facts.append("GPU clock not known")
    if mode.bandwidth_bytes_s:
        facts.append(_value("bandwidth_bytes_s", mode.bandwidth_bytes_s))
    facts += [mode.note] if mode.note else []
    yield _wrapped(f"{mode.name}: ", ", ".join(facts))
    yield _wrapped(_SOURCE, mode.source, _SOURCE)


def _jetpack(row: JetPack) -> Iterator[str]:
    yield _wrapped(
        f"{row.version}: ",
        f"TensorRT {row.tensorrt}, CUDA {row.cuda}, L4T {row.l4t}, Ubuntu {row.ubuntu}, "
        f"Python {row.python}",
    )
    yield _wrapped(_SOURCE, row.source, _SOURCE)


def _power(power: Power) -> Iterator[str]:
    yield _wrapped(f"{power.boards}: ", f"total = {power.total} ({power.chip})")
    yield _wrapped(_SOURCE, f"rails: {', '.join(power.rails)}", _SOURCE)
    if power.caveat:
        yield _wrapped(_SOURCE, power.caveat, _SOURCE)
    yield _wrapped(_SOURCE, power.source, _SOURCE)


def _wrapped(label: str, text: str, indent: str = "  ") -> str:
    """The text behind its label, further lines indented, as wide as the terminal allows."""
    import shutil

    width = min(max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST), _WIDEST)
    return "\n".join(textwrap.wrap(label + text, width=width, subsequent_indent=indent))


def _value(fact: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if fact == "memory_bytes":
        return f"{value / 2**30:g} GiB"
    if fact == "bandwidth_bytes_s":
        return f"{value / 1e9:g} GB/s"
    if fact == "gpu_mhz":
        return f"{value} MHz"
    if fact.endswith("_ops_s"):
        return f"{value / 1e12:.4g} Tops/s"
    return str(value)
