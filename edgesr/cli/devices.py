"""`edgesr devices`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesr.device import DeviceProfile

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
    width = max(len(p.name) for p in profiles)
    for p in profiles:
        typer.echo(f"{p.name:<{width}}  {p.title}")


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


def _lines(profile: DeviceProfile) -> list[str]:
    lines = [f"{profile.name}: {profile.title}", f"boards: {', '.join(profile.boards)}", ""]
    for fact, value in profile.facts().items():
        lines += [f"{fact}: {_value(fact, value)}", f"    {profile.sources[fact]}"]
    lines += ["", "tiles: " + ", ".join(f"{t.width}×{t.height}" for t in profile.tiles)]
    for row in profile.jetpack:
        lines += [f"JetPack {row.version}: L4T {row.l4t}, CUDA {row.cuda}, "
                  f"TensorRT {row.tensorrt}, Python {row.python}", f"    {row.source}"]  # fmt: skip
    for power in profile.power:
        lines += [f"power of {power.boards}: {power.total} ({power.chip})", f"    {power.caveat}",
                  f"    {power.source}"]  # fmt: skip
    return [*lines, "", *profile.notes]


def _value(fact: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if fact == "memory_bytes":
        return f"{value / 2**30:g} GiB"
    if fact == "bandwidth_bytes_s":
        return f"{value / 1e9:g} GB/s"
    if fact.endswith("_ops_s"):
        return f"{value / 1e12:g} Tops/s"
    return str(value)
